"""The figure of a corpus: what is drawn equals the numbers, texts do not overlap, whatever the corpus."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from a2v_data.figures import check_format, save, statistics_figure
from a2v_data.folds import make_folds
from a2v_data.listing import SourceListing
from a2v_data.stats import corpus_statistics, fold_statistics
from data_listings import listing
from figure_texts import outside, texts_overlap

pytestmark = pytest.mark.slow


def corpus_of(classes: int, events: int, names: list[str] | None = None) -> SourceListing:
    """`events` events of the first class, fewer of each further one, at random times of 50 recordings."""
    rng = np.random.default_rng(0)
    names = names or [f"class_{number:02d}" for number in range(classes)]
    rows = []
    for number in range(classes):
        for _ in range(int(np.ceil(events * np.exp(-number / 5)))):
            onset = rng.uniform(0, 9)
            rows.append((int(rng.integers(50)), number, onset, onset + rng.lognormal(-2, 0.6)))
    return listing([12.0] * 50, names, rows)


def panels(figure):  # type: ignore[no-untyped-def]
    return {axis.get_xlabel().partition(" (")[0]: axis for axis in figure.axes}


def test_what_is_drawn_is_what_was_counted() -> None:
    found = corpus_statistics(corpus_of(5, 80), not_vocal=["class_01"])
    figure = statistics_figure(found, "five")
    shown = panels(figure)
    rows = found["per_class"].values()
    assert [label.get_text() for label in shown["Events"].get_yticklabels()] == list(found["per_class"])
    assert list(shown["Events"].lines[0].get_xdata()) == [row["events"] for row in rows]
    assert list(shown["Total duration"].lines[0].get_xdata()) == [row["seconds"] for row in rows]
    assert list(shown["Length"].lines[0].get_xdata()) == [row["median_s"] for row in rows]
    assert all(shown[name].get_xscale() == "log" for name in ("Events", "Total duration", "Length"))
    widths = [bar.get_width() for bar in shown["Share of the labelled time"].patches]
    assert widths == [100 * found["share_any"], 100 * found["share_vocal"]]
    image = shown["overlapped by"].images[0].get_array()
    order = [label.get_text() for label in shown["overlapped by"].get_yticklabels()]
    row = found["overlaps"][0]
    for one, other, count in zip(row["classes"], row["classes"][::-1], row["events"], strict=True):
        drawn = image[order.index(one), order.index(other)]
        assert drawn == pytest.approx(100 * count / found["per_class"][one]["events"])
    assert {axis.get_xlabel() for axis in figure.axes} >= {"Events", "Total duration (s)", "Length (s)"}


@pytest.mark.parametrize("classes, events", [(3, 40), (40, 2000), (2, 0)])
def test_folds_have_a_panel_of_their_own(classes: int, events: int) -> None:
    corpus = corpus_of(classes, events)
    found = corpus_statistics(corpus)
    found["folds"] = fold_statistics(corpus, make_folds(corpus, 5, 0))
    figure = statistics_figure(found, "with folds")
    axis = panels(figure)["Events evaluated in each of 5 folds"]
    names = [label.get_text() for label in axis.get_yticklabels()]
    drawn = np.array([line.get_xdata() for line in axis.lines[:5]])
    if events:
        wanted = [
            [100 * fold["evaluation"]["events"][name] / found["per_class"][name]["events"] for name in names]
            for fold in found["folds"]
        ]
        assert np.allclose(drawn, wanted) and np.allclose(drawn.sum(0), 100)
        assert list(axis.lines[5].get_xdata()) == pytest.approx([20, 20])
    assert texts_overlap(figure) == [] and outside(figure) == []


@pytest.mark.parametrize("classes, events", [(1, 1), (1, 200), (3, 20), (12, 3000), (40, 2000), (4, 0), (0, 0)])
def test_texts_stay_apart(classes: int, events: int, tmp_path: Path) -> None:
    figure = statistics_figure(corpus_statistics(corpus_of(classes, events)), "a corpus")
    assert texts_overlap(figure) == [] and outside(figure) == []
    assert figure.get_figwidth() == 3.5  # a journal's column
    assert save(figure, tmp_path / "one.png").stat().st_size > 5000


def test_no_events_are_said_to_be_none() -> None:
    for classes, said in ((2, ["none"] * 6), (0, ["no events"] * 3)):
        figure = statistics_figure(corpus_statistics(corpus_of(classes, 0)))
        texts = [text.get_text() for axis in figure.axes for text in axis.texts]
        assert [text for text in texts if text in ("none", "no events")] == said
        assert "no two classes overlap" in texts


def test_names_are_no_formulas_and_long_ones_are_shortened(tmp_path: Path) -> None:
    names = ["$\\frac{", "very_long_name_of_a_class_indeed", "狐獴"]
    figure = statistics_figure(corpus_statistics(corpus_of(3, 300, names)), "$x^")
    save(figure, tmp_path / "names.png")
    drawn = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert drawn == ["$\\frac{", "very_long_name_of…", "狐獴"] and texts_overlap(figure) == []


def test_hours_where_seconds_would_be_too_many() -> None:
    corpus = listing([20_000.0], ["rain"], [(0, 0, 0.0, 18_000.0)])
    axis = panels(statistics_figure(corpus_statistics(corpus)))["Total duration"]
    assert axis.get_xlabel() == "Total duration (h)" and list(axis.lines[0].get_xdata()) == [5.0]


def test_files_of_figures(tmp_path: Path) -> None:
    figure = statistics_figure(corpus_statistics(corpus_of(1, 3)))
    for name in ("deep/one.png", "one.svg", "one.pdf"):
        save(figure, tmp_path / name)
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match=r"one\.svg: exists already"):
        check_format(tmp_path / "one.svg")
    with pytest.raises(ValueError, match=r"one\.docx: a figure's name ends with \.png, \.pdf, \.svg"):
        check_format(tmp_path / "one.docx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "one.pdf", "one.svg"]


def test_pyplot_and_its_state_stay_out() -> None:
    code = (
        "import sys; import a2v_data.figures as f, a2v_data.preview; assert 'matplotlib' not in sys.modules;"
        "f.new_figure(1, 1).canvas.draw(); print('matplotlib.pyplot' in sys.modules)"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert seen.strip() == "False"
