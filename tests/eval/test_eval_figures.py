"""Figures: what is drawn equals the numbers, axes are labelled, texts do not overlap, no global state."""

import subprocess
import sys

import numpy as np
import pytest
from a2v_eval import EVENT, LABEL, evaluate, find_events
from a2v_eval.figures import ap_per_class_figure, likelihood_figure, precision_recall_figure, save

NAMES = ["cc", "sn", "never"]


def recordings(seed, n=8, quality=0.8):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        likelihood_TC = (rng.random((400, 3)) * 0.1).astype(np.float32)
        rows = []
        for c in range(2):
            for slot in range(3):
                start = 20 + slot * 130 + int(rng.integers(0, 60))
                rows.append((c, start / 100, (start + 40) / 100))
                if rng.random() < quality:
                    likelihood_TC[start : start + 40, c] = rng.random()
                else:
                    likelihood_TC[start + 50 : start + 80, c] = rng.random()
        yield likelihood_TC, np.array(rows, LABEL)


def texts_overlap(figure) -> list[tuple[str, str]]:
    """Pairs of visible texts whose boxes overlap, over the whole figure."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    from matplotlib.text import Text

    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    boxes = []
    for text in texts:
        # a tick's label is drawn only where its axis shows it
        box = text.get_window_extent(renderer)
        if text.get_rotation() % 90 == 0 and box.width > 0:
            boxes.append((text.get_text(), box.shrunk(0.9, 0.9)))
    shown = [(s, b) for s, b in boxes if b.x0 >= 0 and b.y0 >= 0]
    return [(a, b) for i, (a, p) in enumerate(shown) for b, q in shown[i + 1 :] if p.overlaps(q) and a != b]


@pytest.mark.parametrize("protocol", ["paper", "strict"])
def test_area_under_the_drawn_steps_is_ap(protocol):
    runs = {
        "good": evaluate(recordings(0), NAMES, 100),
        "worse": evaluate(recordings(1, quality=0.4), NAMES, 100),
    }
    figure = precision_recall_figure(runs, protocol)
    panels = [a for a in figure.axes if a.axison]
    assert [a.get_title(loc="left") for a in panels] == [*NAMES, "all (micro)"]
    for panel, name in zip(panels, [*NAMES, "micro"], strict=True):
        for line, run in zip(panel.lines, runs.values(), strict=False):
            x, y = line.get_data()
            assert line.get_drawstyle() == "steps-pre"
            prefix = "strict/" if protocol == "strict" else ""
            assert np.sum(np.diff(x) * y[1:]) == pytest.approx(run.metrics()[f"{prefix}AP/{name}"], abs=1e-9)
        assert len(panel.lines) == (0 if name == "never" else 2)
    assert "no labels" in [t.get_text() for t in panels[2].texts]
    assert figure.get_supxlabel() == "Recall" and figure.get_supylabel() == "Precision"
    assert texts_overlap(figure) == []


def test_ap_per_class_draws_folds_means_and_spread():
    variants = {
        "animal2vec": [evaluate(recordings(s), NAMES, 100).metrics() for s in range(3)],
        "energy": [evaluate(recordings(s, quality=0.2), NAMES, 100).metrics() for s in range(3)],
    }
    figure = ap_per_class_figure(variants, NAMES, "strict")
    (axis,) = figure.axes
    drawn = np.concatenate([line.get_ydata() for line in axis.lines])
    for folds in variants.values():
        values = [fold["strict/AP/cc"] for fold in folds]
        for value in (*values, np.mean(values), np.mean(values) + np.std(values, ddof=1)):
            assert np.isclose(drawn, value).any()
    assert [t.get_text() for t in axis.get_xticklabels()] == [*NAMES, "macro", "micro"]
    assert "strict" in axis.get_ylabel() and "no labels" in [t.get_text() for t in axis.texts]
    assert texts_overlap(figure) == []


def test_likelihood_figure_shows_only_lanes_with_something_in_them(tmp_path):
    likelihood_TC, labels = next(iter(recordings(0)))
    waveform = np.random.default_rng(0).normal(size=32000)
    events = find_events(likelihood_TC, 100)
    figure = likelihood_figure(waveform, 8000, likelihood_TC, 100, labels, events, NAMES, title="one")
    spectrum, lanes = figure.axes
    assert [t.get_text() for t in lanes.get_yticklabels()] == ["cc", "sn"]
    assert spectrum.get_ylabel() == "Frequency (kHz)" and lanes.get_xlabel() == "Time (s)"
    assert lanes.get_xlim() == (0, 4) and spectrum.get_ylim() == (0, 4)
    assert {t.get_text() for t in figure.legends[0].get_texts()} == {
        "likelihood",
        "threshold",
        "prediction",
        "label",
    }
    assert texts_overlap(figure) == []
    save(figure, tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 10_000


def test_likelihood_figure_of_nothing_and_of_a_wrong_range():
    likelihood_TC = np.zeros((400, 3), np.float32)
    nothing = (np.zeros(0, LABEL), np.zeros(0, EVENT))
    waveform = np.random.default_rng(0).normal(size=32000)
    figure = likelihood_figure(waveform, 8000, likelihood_TC, 100, *nothing, NAMES, start_s=1, end_s=2)
    assert "no label, no event" in [t.get_text() for t in figure.axes[1].texts]
    with pytest.raises(ValueError, match="start_s: 5"):
        likelihood_figure(waveform, 8000, likelihood_TC, 100, *nothing, NAMES, start_s=5)
    with pytest.raises(ValueError, match="runs: empty"):
        precision_recall_figure({}, "strict")


def test_pyplot_and_its_state_stay_out():
    code = (
        "import sys; from a2v_eval.figures import ap_per_class_figure as f;"
        "assert 'matplotlib' not in sys.modules; f({'x': [{'AP/a': .5}]}, ['a'], 'paper').canvas.draw();"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert seen.strip() == "False"
