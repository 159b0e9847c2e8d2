"""Figures of a review: precision over thresholds, and the probability of being right over likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from .calibration import Calibration
from .figure_style import (
    COLOURS,
    FONT_PT,
    GREY,
    MOST_CLASSES,
    SMALL_PT,
    finished,
    handles_of,
    mark_empty,
    panels,
    shown,
)
from .stratified import PrecisionCurve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT_IN = 1.5


def precision_figure(curves: Mapping[str, PrecisionCurve], chosen: Mapping[str, float], wanted: float) -> Figure:
    """For each class the estimated precision of the events that reach a threshold, with its 95 % interval; a line at
    the threshold that was chosen for the wanted precision. Where a band of likelihood was not judged, only a thin line
    of what is known of the others. Raises ValueError without classes."""
    figure, axes = panels(len(_some(curves)), HEIGHT_IN, _header_in(curves))
    for axis, (name, curve) in zip(axes, list(curves.items())[:MOST_CLASSES], strict=True):
        axis.set_title(shown(name), fontsize=FONT_PT, pad=3)
        known = [(at, one) for at, one in zip(curve.thresholds, curve.shares, strict=True) if one is not None]
        if not known:
            mark_empty(axis, "nothing judged")
            continue
        at = [threshold for threshold, _ in known]
        share, lower, upper = np.array([(one.estimate, one.lower, one.upper) for _, one in known]).T
        whole = np.array([one.covered == 1 for _, one in known])
        if not whole.all():
            axis.plot(at, share, color=GREY, linewidth=0.8, linestyle="-.", label="of a part of the events")
        share, lower, upper = (np.where(whole, values, np.nan) for values in (share, lower, upper))
        if whole.any():
            axis.fill_between(
                at, lower, upper, color=COLOURS[0], alpha=0.2, linewidth=0, step="mid", label="95 % interval"
            )
            axis.plot(at, share, color=COLOURS[0], linewidth=1, label="precision")
        axis.axhline(wanted, color=GREY, linewidth=0.6, linestyle=":", label=f"wanted, {wanted:g}")
        if name in chosen:
            axis.axvline(chosen[name], color=COLOURS[1], linewidth=0.8, linestyle="--", label="threshold for it")
    for axis in axes:
        axis.set_xlim(0, 1)
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axis.set_ylim(0, 1.03)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    figure.supxlabel("Threshold on the likelihood of an event", fontsize=FONT_PT)
    figure.supylabel("Share that is right", fontsize=FONT_PT)
    return finished(figure, handles_of(axes))


def calibration_figure(
    found: Mapping[str, Calibration | str], judged: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Figure:
    """For each class the probability of being right over likelihood, with its 95 % interval, and the judged events as
    marks, right ones above and wrong ones below. judged: class -> likelihood (n,), right (n,)."""
    figure, axes = panels(len(_some(found)), HEIGHT_IN, _header_in(found))
    grid = np.linspace(0.005, 0.995, 199)
    for axis, (name, curve) in zip(axes, list(found.items())[:MOST_CLASSES], strict=True):
        axis.set_title(shown(name), fontsize=FONT_PT, pad=3)
        likelihood, right = judged[name]
        for verdict, height, colour in (("right", 1.04, COLOURS[2]), ("wrong", -0.04, COLOURS[1])):
            there = likelihood[right == (verdict == "right")]
            axis.plot(
                there, np.full(len(there), height), "|", color=colour, markersize=4, markeredgewidth=0.7, label=verdict
            )
        if isinstance(curve, str):
            axis.text(0.5, 0.5, curve.replace("; ", "\n"), ha="center", va="center", color=GREY, fontsize=SMALL_PT)
            continue
        lower, upper = curve.interval(grid)
        axis.fill_between(grid, lower, upper, color=COLOURS[0], alpha=0.2, linewidth=0, label="95 % interval")
        axis.plot(grid, curve.probability(grid), color=COLOURS[0], linewidth=1, label="probability")
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, linestyle=":", label="as the likelihood says")
    for axis in axes:
        axis.set_xlim(0, 1)
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axis.set_ylim(-0.1, 1.1)
        axis.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    figure.supxlabel("Likelihood", fontsize=FONT_PT)
    figure.supylabel("Probability of being right", fontsize=FONT_PT)
    return finished(figure, handles_of(axes))


def _header_in(of: Mapping[str, object]) -> float:
    """Room for the legend: in one column its entries stand below each other."""
    return 0.35 if len(of) > 2 else 0.9


def _some(of: Mapping[str, object]) -> range:
    if not of:
        raise ValueError("classes: empty; should hold at least one")
    return range(min(len(of), MOST_CLASSES))
