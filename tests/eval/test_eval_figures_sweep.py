"""Figures of sweeps: every trial is drawn where its values are, with the spread that it has."""

from __future__ import annotations

import numpy as np
import pytest
from a2v_eval.figures import TrialPoint, parameter_figure, variant_figure
from matplotlib.axes import Axes

LABELS = {"p": "mask probability", "w": "window (s)"}
GRID = [TrialPoint({"p": p, "w": w}, 0.5 + 0.1 * p - w, 0.02) for p in (0.1, 0.4, 0.9) for w in (0.05, 0.1)]


def series(axis: Axes, label: str) -> np.ndarray:
    """(n, 2) the points that are drawn under a legend's entry."""
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    line = handles[label][0] if isinstance(handles[label], tuple) else handles[label]
    return np.column_stack([line.get_xdata(), line.get_ydata()]).astype(float)


def bars(axis: Axes) -> list[np.ndarray]:
    return [np.array(path.vertices)[:, 1] for c in axis.collections for path in c.get_paths()]


def test_a_panel_for_each_parameter_with_the_slice_through_the_best_trial():
    figure = parameter_figure(GRID, LABELS, "strict")
    left, right = figure.axes
    assert (left.get_xlabel(), right.get_xlabel()) == ("mask probability", "window (s)")
    assert left.get_ylabel() == "AP micro (strict protocol)" and right.get_ylabel() == ""
    best = 0.5 + 0.1 * 0.9 - 0.05
    for axis, x in ((left, 0.9), (right, 0.05)):
        np.testing.assert_allclose(series(axis, "best trial"), [[x, best]])
    np.testing.assert_allclose(
        series(left, "all else as in the best"), [[p, 0.5 + 0.1 * p - 0.05] for p in (0.1, 0.4, 0.9)]
    )
    np.testing.assert_allclose(series(left, "other trials"), [[p, 0.5 + 0.1 * p - 0.1] for p in (0.1, 0.4, 0.9)])
    assert len(series(right, "other trials")) == 4
    np.testing.assert_allclose(sorted(np.ptp(bar) for bar in bars(left))[-3:], 0.04)  # two standard deviations
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["0.1", "0.4", "0.9"]


def test_words_truth_and_none_stand_side_by_side_and_magnitudes_on_a_logarithmic_axis():
    points = [
        TrialPoint({"model": name, "rate": rate, "on": on}, 0.1 * n, None)
        for n, (name, rate, on) in enumerate([("tiny", 1e-5, True), ("small", 1e-4, False), (None, 1e-3, True)])
    ]
    model, rate, on = parameter_figure(points, {"model": "model", "rate": "rate", "on": "on"}, "paper").axes
    assert [tick.get_text() for tick in model.get_xticklabels()] == ["tiny", "small", "none"]
    assert [tick.get_text() for tick in on.get_xticklabels()] == ["yes", "no"]
    assert rate.get_xscale() == "log" and model.get_xscale() == "linear"


def test_a_pruned_trial_is_drawn_hollow_and_is_never_the_best():
    points = [TrialPoint({"p": 0.1}, 0.4, 0.1), TrialPoint({"p": 0.2}, 0.9, None, whole=False)]
    (axis,) = parameter_figure(points, {"p": "p"}, "paper").axes
    np.testing.assert_allclose(series(axis, "best trial"), [[0.1, 0.4]])
    np.testing.assert_allclose(series(axis, "pruned"), [[0.2, 0.9]])


def test_variants_from_top_to_bottom_with_what_each_gained():
    figure = variant_figure(
        ["baseline", "layout", "broken", "all"], [0.3, 0.55, None, 0.9], [0.02, 0.03, None, 0.01], "paper"
    )
    (axis,) = figure.axes
    texts = [text.get_text() for text in axis.texts]
    assert texts == ["0.30", "0.55 (+0.25)", " no score", "0.90 (+0.35)"]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["baseline", "layout", "broken", "all"]
    top, bottom = axis.get_ylim()[1], axis.get_ylim()[0]
    assert top < bottom  # the first row is above
    line = axis.lines[0]
    np.testing.assert_allclose(np.column_stack([line.get_xdata(), line.get_ydata()]), [[0.3, 0], [0.55, 1], [0.9, 3]])


def test_nothing_to_draw_is_said_so():
    with pytest.raises(ValueError, match="at least one trial"):
        parameter_figure([], LABELS, "paper")
    with pytest.raises(ValueError, match="at least one variant"):
        variant_figure([], [], [], "paper")
