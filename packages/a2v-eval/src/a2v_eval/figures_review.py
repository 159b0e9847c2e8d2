"""Figure of a review: how good a detector is against how many clips were looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .figure_style import COLUMN_IN, FONT_PT, MARKERS, finished, handles_of, line_style, mark_empty, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float | None]]


def review_figure(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """Strict AP (micro) on test against the clips that were looked at: of each way to choose clips the mean over seeds,
    and thin lines for each of them.

    curves  way -> seeds -> points (clips, AP; None where it is undefined, which leaves a gap); the mean has the points
            that all seeds have.
    Raises ValueError without ways.
    """
    if not curves:
        raise ValueError("curves: empty; should hold at least one way to choose clips")
    figure = new_figure(COLUMN_IN, 2.4)
    axis = figure.subplots()
    drawn = False
    for order, (name, seeds) in enumerate(curves.items()):
        points = [_points(curve) for curve in seeds]
        style = line_style(order)
        for each_N2 in points:
            drawn |= bool(np.isfinite(each_N2[:, 1]).any())
            axis.plot(each_N2[:, 0], each_N2[:, 1], linewidth=0.5, alpha=0.5, **style)
        both = min((len(each_N2) for each_N2 in points), default=0)
        if both:
            mean_N2 = np.mean([each_N2[:both] for each_N2 in points], axis=0)
            axis.plot(
                mean_N2[:, 0], mean_N2[:, 1], marker=MARKERS[order % len(MARKERS)], markersize=3.5, linewidth=1.4,
                label=name, **style,
            )  # fmt: skip
    axis.set_xlim(left=0)
    axis.set_ylim(0, 1)
    axis.set_xlabel("Clips looked at", fontsize=FONT_PT)
    axis.set_ylabel("Strict AP on test (micro)", fontsize=FONT_PT)
    if not drawn:
        mark_empty(axis, "AP is undefined")
    return finished(figure, handles_of([axis]))


def _points(curve: Curve) -> np.ndarray:
    """(N, 2), NaN where AP is undefined."""
    return np.array([[clips, np.nan if ap is None else ap] for clips, ap in curve], float).reshape(-1, 2)
