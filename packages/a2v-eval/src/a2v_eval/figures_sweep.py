"""Figures of a sweep: AP against each parameter that was tried, or of one variant after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .events import Protocol
from .figure_style import (
    COLOURS,
    COLUMN_IN,
    FONT_PT,
    GREY,
    PAGE_IN,
    SMALL_PT,
    finished,
    handles_of,
    letters,
    new_figure,
    shown,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOG_FROM = 20  # largest over smallest value from which an axis is logarithmic
MOST_TICKS = 6
BEST, SLICE, OTHERS = "best trial", "all else as in the best", "other trials"


@dataclass(frozen=True)
class TrialPoint:
    """One trial's AP: mean over its folds, and their standard deviation (None for one fold).

    values   parameter -> value, a number, text, truth value or None. whole: False for a trial that was pruned.
    """

    values: Mapping[str, Any]
    mean: float
    std: float | None
    whole: bool = True


def parameter_figure(
    points: Sequence[TrialPoint],
    labels: Mapping[str, str],
    protocol: Protocol,
    what: str = "micro",
    best: int | None = None,
) -> Figure:
    """AP against each parameter, a panel each.

    labels   parameter -> what stands below its axis, with the unit. In each panel the trials that differ from the best
             one in this parameter only are joined, with the standard deviation over folds as bars; all other trials
             are faint points, those that were pruned hollow.
    best     which point is the best trial, where another score than this AP says so; None: the whole one with the
             highest mean.

    Raises ValueError without points or parameters.
    """
    if not points or not labels:
        raise ValueError("points and labels: at least one trial and one parameter are needed")
    columns = min(len(labels), 3)
    rows = -(-len(labels) // columns)
    width = COLUMN_IN if columns == 1 else PAGE_IN * (columns + 0.25) / 3.25
    figure = new_figure(width, 2.1 * rows + 0.45)
    axes = list(figure.subplots(rows, columns, sharey=True, squeeze=False).ravel())
    highest = max((p for p in points if p.whole), key=lambda p: p.mean, default=max(points, key=lambda p: p.mean))
    best_point = highest if best is None else points[best]
    for number, axis in enumerate(axes):
        if number >= len(labels):
            axis.set_axis_off()
    for axis, (name, label) in zip(axes, labels.items(), strict=False):
        _parameter_panel(axis, points, best_point, name)
        axis.set_xlabel(shown(label, 60), fontsize=FONT_PT)
        axis.grid(axis="y", alpha=0.25, linewidth=0.5)
    low = min(p.mean - (p.std or 0) for p in points)
    high = max(p.mean + (p.std or 0) for p in points)
    room = max(0.02, 0.08 * (high - low))
    for axis in axes[: len(labels) : columns]:
        axis.set_ylabel(f"AP {what} ({protocol} protocol)", fontsize=FONT_PT)
    axes[0].set_ylim(max(0, low - room), min(1.02, high + room))
    several = any(p.std is not None for p in points)
    return finished(figure, handles_of(axes[: len(labels)]), "bars: standard deviation over folds" if several else None)


def _parameter_panel(axis: Axes, points: Sequence[TrialPoint], best: TrialPoint, name: str) -> None:
    places, ticks = _places(axis, [point.values.get(name) for point in points])
    others = [number for number, point in enumerate(points) if not _slice(point, best, name)]
    joined = sorted((number for number in range(len(points)) if number not in others), key=lambda n: places[n])
    for whole in (True, False):
        chosen = [number for number in others if points[number].whole == whole]
        if chosen:
            axis.plot(
                [places[n] for n in chosen], [points[n].mean for n in chosen], "s", color=GREY, markersize=3, alpha=0.4,
                markerfacecolor=GREY if whole else "none", label=OTHERS if whole else "pruned", zorder=2,
            )  # fmt: skip
    if len(joined) > 1:
        axis.errorbar(
            [places[n] for n in joined], [points[n].mean for n in joined],
            yerr=[points[n].std or 0.0 for n in joined], fmt="o-", color=COLOURS[0], markersize=4, linewidth=1.1,
            elinewidth=0.9, capsize=2.5, label=SLICE, zorder=3,
        )  # fmt: skip
    place = places[list(points).index(best)]
    bar = None if len(joined) > 1 else best.std
    axis.errorbar(
        [place], [best.mean], yerr=bar, fmt="D", color=COLOURS[1], markersize=5, elinewidth=0.9, capsize=2.5,
        label=BEST, zorder=4,
    )  # fmt: skip
    if ticks is not None:
        axis.set_xticks(*ticks)


def _slice(point: TrialPoint, best: TrialPoint, name: str) -> bool:
    """Whether a trial has the best one's values but for this parameter."""
    rest = (point.values.keys() | best.values.keys()) - {name}
    return point.whole and all(point.values.get(other) == best.values.get(other) for other in rest)


def _places(axis: Axes, values: Sequence[Any]) -> tuple[list[float], tuple[list[float], list[str]] | None]:
    """Where values stand on the axis: numbers where they are, on a logarithmic one if they span magnitudes; all else
    side by side in the order in which they come. And the ticks, where they are few enough to be the values."""
    distinct = list(dict.fromkeys(values))
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in distinct):
        axis.set_xlim(-0.5, len(distinct) - 0.5)
        names = [shown(_word(value)) for value in distinct]
        return [float(distinct.index(value)) for value in values], ([float(n) for n in range(len(distinct))], names)
    numbers = sorted(float(value) for value in distinct)
    if numbers[0] > 0 and numbers[-1] / numbers[0] >= LOG_FROM:
        axis.set_xscale("log")
    if len(numbers) > MOST_TICKS:
        return [float(value) for value in values], None
    axis.minorticks_off()
    return [float(value) for value in values], (numbers, [f"{number:g}" for number in numbers])


def _word(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def variant_figure(
    names: Sequence[str], means: Sequence[float | None], stds: Sequence[float | None], protocol: Protocol,
    what: str = "micro",
) -> Figure:  # fmt: skip
    """AP of variants in their order, a row each, with the standard deviation over folds; and what each gained over the
    one above it. A variant without scores (None) has a row that says so. Raises ValueError without variants."""
    if not names:
        raise ValueError("names: empty; at least one variant is needed")
    figure = new_figure(COLUMN_IN, 0.2 * len(names) + 0.75)
    axis = figure.subplots()
    known = [
        (row, mean, std or 0.0) for row, (mean, std) in enumerate(zip(means, stds, strict=True)) if mean is not None
    ]
    rows, values, bars = ([item[part] for item in known] for part in range(3))
    highest = max((mean + std for _, mean, std in known), default=1.0)
    right = min(1.0, 1.15 * highest) if highest > 0 else 1.0
    axis.plot(values, rows, "-", color=COLOURS[0], linewidth=0.8, alpha=0.5)
    axis.errorbar(values, rows, xerr=bars, fmt="o", color=COLOURS[0], markersize=4, elinewidth=0.9, capsize=2)
    before = None
    for row, mean in enumerate(means):
        if mean is None:
            axis.text(0.0, row, " no score", va="center", color=GREY, fontsize=SMALL_PT)
            continue
        gain = "" if before is None else f" ({round(mean - before, 2) + 0.0:+.2f})"  # + 0.0: no -0.00
        axis.annotate(
            f"{mean:.2f}{gain}", (1, row), (3, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
            va="center", fontsize=SMALL_PT,
        )  # fmt: skip
        before = mean
    axis.set(xlim=(0, right), ylim=(len(names) - 0.5, -0.5))
    longest = 30 if max(letters(name) for name in names) > 18 else 18
    axis.set_yticks(range(len(names)), [shown(name, longest) for name in names])
    axis.set_xlabel(f"AP {what} ({protocol} protocol)", fontsize=FONT_PT)
    axis.grid(axis="x", alpha=0.25, linewidth=0.5)
    several = any(std is not None for std in stds)
    title = "bars: standard deviation over folds\nin brackets: against the row above" if several else None
    return finished(figure, None, title)
