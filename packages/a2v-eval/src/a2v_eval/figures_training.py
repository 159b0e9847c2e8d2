"""Figure of trainings: AP on validation recordings against the processor time that it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .figure_style import COLUMN_IN, FONT_PT, MARKERS, finished, handles_of, line_style, mark_empty, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = Sequence[Sequence[float | None]]


def training_figure(curves: Mapping[str, Sequence[Curve]]) -> Figure:
    """Strict AP (micro) against seconds of the processor; a colour for each model, a line for each of its trainings.

    curves  model -> trainings -> points (seconds, AP; None where it is undefined, which leaves a gap).
    Raises ValueError without models.
    """
    if not curves:
        raise ValueError("curves: empty; should hold at least one model")
    figure = new_figure(COLUMN_IN, 2.4)
    axis = figure.subplots()
    drawn = False
    for order, (name, trainings) in enumerate(curves.items()):
        for number, curve in enumerate(trainings):
            points_N2 = curve_points(curve)
            drawn |= bool(np.isfinite(points_N2[:, 1]).any())
            axis.plot(
                points_N2[:, 0], points_N2[:, 1], marker=MARKERS[order % len(MARKERS)], markersize=3, linewidth=1,
                label=name if number == 0 else None, **line_style(order),
            )  # fmt: skip
    return with_ap_axes(figure, axis, "Processor time (s)", "Strict AP on valid (micro)", drawn)


def curve_points(curve: Curve) -> np.ndarray:
    """(N, 2), NaN where AP is undefined."""
    return np.array([[np.nan if value is None else value for value in point] for point in curve], float).reshape(-1, 2)


def with_ap_axes(figure: Figure, axis: Axes, x: str, y: str, drawn: bool) -> Figure:
    """A figure of AP against what it cost, with axes from 0 and a legend; drawn: whether any AP is defined."""
    axis.set_xlim(left=0)
    axis.set_ylim(0, 1)
    axis.set_xlabel(x, fontsize=FONT_PT)
    axis.set_ylabel(y, fontsize=FONT_PT)
    if not drawn:
        mark_empty(axis, "AP is undefined")
    return finished(figure, handles_of([axis]))
