"""Figure of a review: how good a detector is against how many clips were looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .figure_style import COLUMN_IN, MARKERS, line_style, new_figure
from .figures_training import Curve, curve_points, with_ap_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        points = [curve_points(curve) for curve in seeds]
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
    return with_ap_axes(figure, axis, "Clips looked at", "Strict AP on test (micro)", drawn)
