"""Figures: what is drawn equals the numbers, and nothing that a journal would send back. No pixels are compared."""

import subprocess
import sys

import numpy as np
import pytest
from a2v_eval import EVENT, LABEL, evaluate, find_events
from a2v_eval.curves import precision_recall_curves
from a2v_eval.figure_style import COLUMN_IN, PAGE_IN, shown
from a2v_eval.figures import (
    Level,
    ap_per_class_figure,
    attention_figure,
    confusion_figure,
    filters_figure,
    fullest_stretch,
    likelihood_figure,
    masks_figure,
    precision_recall_figure,
    save,
    threshold_figure,
)
from a2v_eval.thresholds import ThresholdScores
from eval_drawn import complaints, drawn_texts

pytestmark = pytest.mark.slow

NAMES = ["cc", "sn", "never"]
MANY = [f"class{number}" for number in range(40)]
# one, twelve and forty classes; names that are very long, of other scripts, or look like matplotlib's own signs
CLASSES = {
    "one": ["call"],
    "forty": MANY,
    "long": [f"Luscinia megarhynchos, song of the second half of the night, type {n}" for n in range(5)],
    "other scripts": ["Rotkehlchen-Ärger", "соловей", "αηδόνι", "ナイチンゲール", "夜莺", "עִבְרִית"],
    "signs": ["$x_1", "a$b$c", "_hidden", "per cent %", "back\\slash", "{brace}^2", " "],
}


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


def folds_of(quality, protocol, seeds=(0, 1, 2)):
    found = [evaluate(recordings(seed, quality=quality), NAMES, 100) for seed in seeds]
    return [precision_recall_curves(fold, protocol) for fold in found], found


def panels(figure):
    return [axis for axis in figure.axes if axis.axison]


def legend_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def steps_area(line):
    x, y = line.get_data()
    assert line.get_drawstyle() == "steps-pre" and x[0] == 0
    return np.sum(np.diff(x) * y[1:])


@pytest.mark.parametrize("protocol", ["paper", "strict"])
def test_precision_recall_draws_folds_and_mean_with_their_ap(protocol):
    good, good_folds = folds_of(0.8, protocol)
    worse, _ = folds_of(0.4, protocol)
    figure = precision_recall_figure({"good": good, "worse": worse}, NAMES, protocol)
    assert [axis.get_title(loc="left") for axis in panels(figure)] == [*NAMES, "all classes (micro)"]
    prefix = "strict/" if protocol == "strict" else ""
    for axis, name in zip(panels(figure), [*NAMES, "micro"], strict=True):
        if name == "never":
            assert len(axis.lines) == 0 and [t.get_text() for t in axis.texts] == ["no labels"]
            continue
        assert len(axis.lines) == 8  # three folds and their mean, of two variants
        ap = [fold.metrics()[f"{prefix}AP/{name}"] for fold in good_folds]
        areas = [steps_area(line) for line in axis.lines[:4]]
        np.testing.assert_allclose(areas, [*ap, np.mean(ap)])
        said = [text.get_text() for text in axis.get_legend().get_texts()]
        assert said[0] == f"{np.mean(ap):.2f} ± {np.std(ap, ddof=1):.2f}" and len(said) == 2
        colours = {line.get_color() for line in axis.lines}
        styles = {line.get_linestyle() for line in (axis.lines[3], axis.lines[7])}
        assert len(colours) == 2 and len(styles) == 2  # told apart without colour too
    assert figure.get_supxlabel() == "Recall" and figure.get_supylabel() == "Precision"
    assert legend_of(figure) == ["good", "worse"] and protocol in figure.legends[0].get_title().get_text()
    assert "3 folds" in figure.legends[0].get_title().get_text()
    assert complaints(figure) == []


def test_precision_recall_of_one_fold_and_of_none():
    folds, _ = folds_of(0.8, "strict", seeds=[0])
    figure = precision_recall_figure({"one": folds}, NAMES, "strict")
    assert len(figure.axes[0].lines) == 1 and "±" not in figure.axes[0].get_legend().get_texts()[0].get_text()
    for nothing in ({}, {"one": []}):
        with pytest.raises(ValueError, match="variants: empty"):
            precision_recall_figure(nothing, NAMES, "strict")


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
    assert complaints(figure) == []


def threshold_scores(classes, empty=(), unfound=()):
    rng = np.random.default_rng(0)
    grid = np.round(np.arange(0.05, 1, 0.05), 2)
    predicted = np.sort(rng.integers(0, 90, (len(classes), len(grid))))[:, ::-1]
    hits = (predicted * rng.random(len(classes))[:, None] * 0.5).astype(int)
    hits[list(unfound)] = 0
    labelled = np.full(len(classes), 40)
    labelled[list(empty)] = 0
    return ThresholdScores(tuple(classes), grid, hits * (labelled[:, None] > 0), predicted, labelled)


def test_thresholds_are_marked_where_f1_is_highest():
    scores = threshold_scores(["cc", "sn", "never", "unfound"], empty=[2], unfound=[3])
    figure = threshold_figure(scores)
    cc, sn, never, unfound = figure.axes
    for number, axis in enumerate((cc, sn)):
        np.testing.assert_array_equal(axis.lines[0].get_ydata(), scores.f1[number])
        (x,), (y,) = axis.lines[3].get_data()
        assert y == np.nanmax(scores.f1[number]) and x == scores.best()[scores.classes[number]]
        assert f"F1 {y:.2f} at {x:g}" in [t.get_text() for t in axis.texts]
    assert [t.get_text() for t in never.texts] == ["no labels"] and len(never.lines) == 0
    assert len(unfound.lines) == 3 and [t.get_text() for t in unfound.texts] == ["nothing found"]
    assert legend_of(figure) == ["F1", "precision", "recall", "chosen: highest F1"]
    assert "likelihood" in figure.get_supxlabel() and "strict" in figure.get_supylabel()
    assert complaints(figure) == []


def confusion_counts(n, seed=0, most=60):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most, (n + 1, n + 1)) * (rng.random((n + 1, n + 1)) < 0.3)
    counts[np.arange(n), np.arange(n)] += most
    counts[n, n] = 0
    return counts


def test_confusion_has_counts_and_shares():
    counts = np.array([[90, 10, 0], [0, 1, 1233], [7, 0, 0]])
    figure = confusion_figure(counts, ["cc", "sn"])
    left, right = figure.axes
    assert {t.get_text() for t in left.texts} == {"90", "10", "1", "1.2k", "7"}
    assert sorted(t.get_text() for t in right.texts) == ["10", "90", "<1", ">99"]  # false ones are a share of nothing
    assert [t.get_text() for t in left.get_xticklabels()] == ["cc", "sn", "missed"]
    assert [t.get_text() for t in left.get_yticklabels()] == ["cc", "sn", "false"]
    assert left.get_ylabel() == "Labelled" and left.get_xlabel() == "Predicted" == right.get_xlabel()
    np.testing.assert_allclose(left.images[0].get_array()[:2], [[0.9, 0.1, 0], [0, 1 / 1234, 1233 / 1234]])
    assert left.images[0].get_array().mask[2].all() and figure.get_figwidth() == COLUMN_IN
    assert complaints(figure) == []
    with pytest.raises(ValueError, match=r"counts: shape \(3, 3\) should be \(4, 4\)"):
        confusion_figure(counts, ["cc", "sn", "ld"])


def test_confusion_of_many_classes_shows_shares_alone_with_the_number_of_labels():
    counts = confusion_counts(40)
    figure = confusion_figure(counts, MANY)
    axis, bar = figure.axes
    assert len(axis.texts) == 0 and len(axis.get_yticklabels()) == 40
    assert axis.get_yticklabels()[3].get_text() == f"class3 ({counts[3].sum()})"
    assert "Share of the labels" in bar.get_ylabel()


def stretch(classes, seed=0, duration_s=4.0, events=8):
    """Waveform, likelihoods and labels of `classes`, all of them somewhere."""
    rng = np.random.default_rng(seed)
    likelihood_TC = (0.1 * rng.random((int(duration_s * 100), len(classes)))).astype(np.float32)
    rows = []
    for number in range(max(events, len(classes)) if events else 0):
        onset = rng.uniform(0, duration_s - 0.5)
        rows.append((number % len(classes), onset, onset + rng.uniform(0.05, 0.4)))
        likelihood_TC[int(onset * 100) : int(rows[-1][2] * 100), number % len(classes)] = rng.uniform(0.2, 0.9)
    return rng.normal(size=int(duration_s * 8000)), likelihood_TC, np.array(rows, LABEL)


def test_likelihood_figure_has_three_rows_on_the_recordings_clock():
    waveform, likelihood_TC, labels = stretch(["cc", "sn", "never"][:2])
    likelihood_TC = np.pad(likelihood_TC, ((0, 0), (0, 1)))
    labels["onset_s"] += 100
    labels["offset_s"] += 100
    events = find_events(likelihood_TC, 100)
    events["onset_s"] += 100
    events["offset_s"] += 100
    outside = np.array([(2, 20, 21), (2, 104.1, 105)], LABEL)
    figure = likelihood_figure(
        waveform, 8000, likelihood_TC, 100, np.concatenate([labels, outside]), events, NAMES, start_s=100, title="one"
    )
    spectrum, tracks, lanes, bar = figure.axes
    assert spectrum.get_xlim() == tracks.get_xlim() == lanes.get_xlim() == (100, 104)
    assert spectrum.get_ylim() == (0, 4) and spectrum.get_ylabel() == "Frequency (kHz)"
    assert spectrum.images[0].get_extent() == [100, 104, 0, 4] and "dB" in bar.get_ylabel()
    for axis in (tracks, lanes):  # only classes that have something to show
        assert [t.get_text() for t in axis.get_yticklabels()] == ["cc", "sn"]
    assert "(mm:ss)" in lanes.get_xlabel() and "0 to 1" in tracks.get_ylabel()
    boxes = {(p.get_x(), round(p.get_x() + p.get_width(), 9)) for p in spectrum.patches}
    assert boxes == {(row["onset_s"], round(row["offset_s"], 9)) for row in labels}
    first = tracks.lines[0].get_xydata()  # cc is on top: its likelihood, from the base of its lane
    np.testing.assert_allclose(first[:, 0], 100 + (np.arange(400) + 0.5) / 100)
    np.testing.assert_allclose(first[:, 1], 1 + 0.92 * likelihood_TC[:, 0], rtol=1e-6)
    for kind, table in (("label", labels), ("prediction", events)):
        bars = [path.get_extents() for c in lanes.collections if c.get_label() == kind for path in c.get_paths()]
        drawn = sorted((round(bar.x0, 6), round(bar.x1, 6)) for bar in bars)
        assert drawn == sorted((round(row["onset_s"], 6), round(row["offset_s"], 6)) for row in table)
    assert set(legend_of(figure)) == {"likelihood", "threshold", "label", "prediction"}
    assert complaints(figure) == []
    assert {"01:40", "01:42", "01:44"} <= {text.get_text() for text in drawn_texts(figure)}


def test_the_fullest_stretch():
    """Of 10 s of 100 s: four labels from 52 s, of two classes, go before five of one class; never past the end."""
    one = [(0, 20 + n, 20.5 + n) for n in range(5)]
    two = [(n % 2, 52 + n, 52.5 + n) for n in range(4)]
    assert fullest_stretch(np.array(one + two, LABEL), 100, 10) == 51
    assert fullest_stretch(np.array(one, LABEL), 100, 10) == 19
    assert fullest_stretch(np.array([(0, 98, 99)], LABEL), 100, 10) == 90
    assert fullest_stretch(np.array([(0, 1, 2)], LABEL), 4, 10) == 0 == fullest_stretch(np.zeros(0, LABEL), 100, 10)


def test_small_likelihoods_are_still_to_be_seen():
    likelihood_TC = np.full((400, 1), 0.04, np.float32)
    figure = likelihood_figure(
        np.random.default_rng(0).normal(size=32000), 8000, likelihood_TC, 100, np.zeros(0, LABEL), np.zeros(0, EVENT),
        ["cc"], threshold=0.02,
    )  # fmt: skip
    tracks = figure.axes[1]
    assert "0 to 0.1" in tracks.get_ylabel() and tracks.lines[0].get_ydata().max() == pytest.approx(0.92 * 0.4)


def test_likelihood_figure_of_nothing_and_of_wrong_shapes(tmp_path):
    nothing = (np.zeros(0, LABEL), np.zeros(0, EVENT))
    for waveform in (np.zeros(32000), np.random.default_rng(0).normal(size=32000), np.ones(5)):
        figure = likelihood_figure(waveform, 8000, np.zeros((400, 3), np.float32), 100, *nothing, NAMES)
        assert all("no label, no event" in [t.get_text() for t in axis.texts] for axis in figure.axes[1:3])
        assert complaints(figure) == []
    with pytest.raises(ValueError, match=r"likelihoods of shape \(400, 3\): should be"):
        likelihood_figure(waveform, 8000, np.zeros((400, 3)), 100, *nothing, NAMES[:2])
    with pytest.raises(ValueError, match="waveform of 0 samples"):
        likelihood_figure(waveform[:0], 8000, np.zeros((400, 3)), 100, *nothing, NAMES)


def test_filters_are_drawn_relative_to_their_maxima():
    frequency_hz = np.linspace(0, 4000, 101)
    lines = {
        "learned Sinc filters": Level(frequency_hz, -0.001 * frequency_hz + 7),
        "mean spectrum of the recordings": Level(frequency_hz[::2], -20 - 0.01 * frequency_hz[::2]),
    }
    figure = filters_figure(lines)
    (axis,) = figure.axes
    np.testing.assert_allclose(axis.lines[0].get_xydata(), np.c_[frequency_hz / 1000, -0.001 * frequency_hz])
    np.testing.assert_allclose(axis.lines[1].get_ydata()[:2], [0, -0.8])
    assert axis.get_xlabel() == "Frequency (kHz)" and "dB" in axis.get_ylabel() and axis.get_xlim() == (0, 4)
    assert legend_of(figure) == list(lines) and figure.get_figwidth() == COLUMN_IN
    assert len({line.get_linestyle() for line in axis.lines}) == 2
    assert complaints(figure) == []
    with pytest.raises(ValueError, match="lines: empty"):
        filters_figure({})


@pytest.mark.parametrize("frames", [100, 1300])
def test_attention_is_drawn_on_the_same_clock(frames):
    """A map that looks at one frame only: everything that is received is received there."""
    map_TT = np.full((frames, frames), 0.5 / (frames - 1))
    map_TT[:, frames // 4] = 0.5
    waveform = np.random.default_rng(0).normal(size=16000)
    labels = np.array([(0, 10.2, 10.4)], LABEL)
    figure = attention_figure(
        map_TT, frames / 2, waveform, 8000, labels, np.zeros(0, EVENT), ["cc"], start_s=10, title="a\nmean"
    )
    spectrum, events, received, map_, bar = figure.axes
    assert all(axis.get_xlim() == (10, 12) for axis in (spectrum, events, received, map_))
    x, y = received.lines[0].get_data()
    assert x[np.argmax(y)] == pytest.approx(10 + 2 * (frames // 4 + 0.5) / frames)
    assert y.max() == pytest.approx(0.5 * frames) and y.mean() == pytest.approx(1)
    shown_TT = map_.images[0].get_array()
    block = -(-frames // 600)
    np.testing.assert_allclose(
        shown_TT[:5, 0], np.mean([map_TT[0, j] for j in range(block)]) * frames
    )  # means of blocks, not one of their values
    assert map_.images[0].get_extent() == [10, 12, 12, 10] and len(shown_TT) == -(-frames // block)
    assert "(s)" in map_.get_xlabel() and "(s)" in map_.get_ylabel() and "Attention" in bar.get_xlabel()
    assert legend_of(figure) == ["label"]  # what there is none of has no entry
    assert any("not by itself an explanation" in text.get_text() for text in drawn_texts(figure))
    assert complaints(figure) == []
    with pytest.raises(ValueError, match=r"shape \(2, 3\) should be square"):
        attention_figure(np.ones((2, 3)), 100, waveform, 8000, labels, labels, ["cc"])


@pytest.mark.parametrize("kind", CLASSES)
def test_any_classes_can_be_drawn(kind, tmp_path):
    """Every figure that shows classes, with these classes, some of them without events, is fit to print."""
    classes = CLASSES[kind]
    waveform, likelihood_TC, labels = stretch(classes)
    found = evaluate([(likelihood_TC, labels)], classes, 100)
    curves = precision_recall_curves(found, "strict")
    events = find_events(likelihood_TC, 100)
    some = labels[labels["class"] < 6]
    rows = np.full((30, 30), 1 / 30)
    figures = {
        "curves": precision_recall_figure({"model": [curves, curves], "$a$ energy": [curves]}, classes, "strict"),
        "ap": ap_per_class_figure({"model": [found.metrics()], "_energy": [found.metrics()]}, classes, "paper"),
        "thresholds": threshold_figure(threshold_scores(classes, empty=[len(classes) - 1])),
        "confusion": confusion_figure(confusion_counts(len(classes), most=2000), classes),
        "likelihood": likelihood_figure(waveform, 8000, likelihood_TC, 100, labels, events, classes, title=classes[0]),
        "attention": attention_figure(rows, 7.5, waveform, 8000, some, events[:0], classes, title=shown(classes[0])),
    }
    for name, figure in figures.items():
        assert [said for said in complaints(figure) if "in wide" not in said or kind != "forty"] == [], name
    save(figures["confusion"], tmp_path / "confusion.png", 100)
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    drawn = [text.get_text() for text in drawn_texts(figures["confusion"])]
    assert all(any(shown(name) in text for text in drawn) for name in classes if name.strip())


def test_names_as_they_are_drawn():
    assert shown("close call") == "close call" and shown("a" * 18) == "a" * 18
    long = shown("Luscinia megarhynchos 12")
    assert len(long) == 18 and long.startswith("Luscinia me") and "…" in long and long.endswith("hos 12")
    assert shown("$5") == r"\$5" and shown("_x").strip() == "_x" and not shown("_x").startswith("_")
    assert shown("two\nlines\tand tabs") == "two lines and tabs"


def test_figures_are_saved_whole_or_not_at_all(tmp_path):
    figure = filters_figure({"a": Level(np.arange(9.0), np.arange(9.0))})
    for ending in ("png", "pdf", "svg"):
        save(figure, tmp_path / "deep" / f"figure.{ending}")
    with pytest.raises(ValueError, match="not supported"):
        save(figure, tmp_path / "deep" / "figure.doc")
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["figure.pdf", "figure.png", "figure.svg"]
    assert pytest.approx(8.5) == COLUMN_IN * 2.54 and PAGE_IN > 2 * COLUMN_IN


def test_pyplot_and_its_state_stay_out():
    code = (
        "import sys; from a2v_eval.figures import ap_per_class_figure as f;"
        "assert 'matplotlib' not in sys.modules; f({'x': [{'AP/a': .5}]}, ['a'], 'paper').canvas.draw();"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert seen.strip() == "False"


@pytest.mark.parametrize("frame_rate, unit", [(200.0, "frames of 5 ms"), (None, "frames")])
def test_masks_are_drawn_as_rows_and_as_shares_of_each_length(frame_rate, unit):
    spans = np.zeros(181, dtype=int)
    spans[[1, 2, 3, 180]] = 100, 600, 299, 1  # one in a thousand is very long
    gaps = np.array([0, 3, 1])
    example_RT = np.arange(60).reshape(3, 20) % 3 > 0
    figure = masks_figure(spans, gaps, example_RT, frame_rate, "p = 0.75, l = 2\n92.7 % masked")
    rows, of_spans, of_gaps = figure.axes
    np.testing.assert_array_equal(rows.images[0].get_array(), example_RT)
    assert [round(bar.get_height(), 6) for bar in of_spans.patches] == [10, 60, 29.9]
    assert [bar.get_height() for bar in of_gaps.patches] == [75, 25]
    assert of_spans.lines[0].get_xdata()[0] == pytest.approx(2.377)
    assert of_spans.get_title(loc="right") == "mean 2.38 (line), median 2, longest 180"
    assert f"({unit})" in of_gaps.get_xlabel()
    assert complaints(figure) == []


def test_masks_without_a_gap_or_a_span():
    figure = masks_figure(np.array([0, 0, 4]), np.zeros(1, dtype=int), np.ones((1, 2), dtype=bool))
    assert [text.get_text() for text in figure.axes[2].texts] == ["none"] and complaints(figure) == []
    with pytest.raises(ValueError, match="no masked span"):
        masks_figure(np.zeros(3, dtype=int), np.zeros(3, dtype=int), np.zeros((1, 2), dtype=bool))
