"""Figures of a corpus and of a recording, for a journal's column. Drawn without pyplot and its global state.

Each returns a matplotlib Figure; `save` writes it. Colours are those of Okabe and Ito, which colour-blind readers can
tell apart. Names from files are drawn as they are, never read as formulas. C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from a2v_data.storage import replaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"
COLUMN_IN, PAGE_IN = 3.5, 7.2
FONT_PT = 7
FORMATS = (".png", ".pdf", ".svg")
MOST_CLASSES = 150  # of a figure; it grows with them
MOST_OVERLAPPING = 14  # classes of the overlap panel: more would not be legible


def check_format(path: Path) -> Path:
    """The path of a figure that is yet to be drawn; `ValueError` for another format, or where the file exists."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: a figure's name ends with {', '.join(FORMATS)}")
    if path.exists():
        raise ValueError(f"{path}: exists already; name a new file or remove this one first")
    return path


def save(figure: Figure, path: Path, dpi: int = 250) -> Path:
    """Write a figure, whole or not at all; the ending names the format (png, pdf, svg). Raises as `check_format`."""
    path = check_format(path)
    with replaced(path) as aside, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in a script without a font
        figure.savefig(aside, dpi=dpi, format=path.suffix[1:].lower())
    return path


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure with a canvas of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish(figure: Figure) -> Figure:
    """Sizes of ticks and lines."""
    for axis in figure.axes:
        axis.tick_params(labelsize=FONT_PT, width=0.5, which="both")
        for spine in axis.spines.values():
            spine.set_linewidth(0.5)
    return figure


STEPS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800)
HOURS_S = (3600, 7200, 10_800, 21_600, 43_200, 86_400)
MOST_TICKS = 10


def clock(seconds: float, hours: bool = False, decimals: int | None = None) -> str:
    """A time as players and annotation programs show it: mm:ss, or h:mm:ss from an hour on, with a fraction if it has
    one. hours: also before that; decimals: so many, whatever it has."""
    digits = 3 if decimals is None else decimals
    whole, fraction = divmod(round(seconds * 10**digits), 10**digits)
    rest = f".{fraction:0{digits}d}" if digits else ""
    rest = rest.rstrip("0").rstrip(".") if decimals is None else rest
    minutes, second = divmod(whole, 60)
    if hours or minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}{rest}"
    return f"{minutes:02d}:{second:02d}{rest}"


def clock_axis(axis: Axes, start_s: float, end_s: float) -> str:
    """Ticks at round times on an x axis of seconds, named as `clock` does; returns how they read: mm:ss or h:mm:ss."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    steps = (*STEPS_S, *HOURS_S)
    step_s = next((step for step in steps if (end_s - start_s) / step <= MOST_TICKS), steps[-1])
    decimals = next((digits for digits in range(4) if abs(step_s * 10**digits - round(step_s * 10**digits)) < 1e-9), 3)
    hours = end_s >= 3600
    axis.xaxis.set_major_locator(MultipleLocator(step_s))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda second, _: clock(max(second, 0.0), hours, decimals)))
    return "h:mm:ss" if hours else "mm:ss"


def lane_names(axis: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Class names along the y axis, without ticks, shortened where they are very long."""
    axis.set_yticks(places, [_short(name) for name in names], fontsize=FONT_PT)
    axis.tick_params(axis="y", length=0, which="both")
    for label in axis.get_yticklabels():
        label.set_parse_math(False)


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


def statistics_figure(statistics: Mapping[str, Any], title: str = "") -> Figure:
    """The numbers of `stats.corpus_statistics`: events, total duration and length of each class; sparsity; overlaps.

    With those of `stats.fold_statistics` as `folds`, also how each class is spread over their evaluation recordings.
    Classes are sorted by their number of events, at most the first 150 are drawn. Length: the median as a bar, a thick
    line from the 25 % to the 75 % quantile, a thin one from 5 % to 95 %.
    """
    classes = statistics["per_class"]
    names = sorted(classes, key=lambda name: (-classes[name]["events"], name))
    if left := len(names[MOST_CLASSES:]):
        names = names[:MOST_CLASSES]
        title = f"{title}{': ' if title else ''}without {left} classes that have fewer events"
    overlapping = _most_overlapping(statistics)
    upper = 0.135 * max(len(names), 4) + 0.42
    share = 0.75 if statistics["not_vocal"] else 0.62
    # Below the overlaps stand their classes' names, upright, at about 0.065 inches a character.
    names_in = 0.065 * max(map(len, map(_short, overlapping)), default=0)
    lower = 0.135 * max(len(overlapping), 4) + names_in + 0.5 if overlapping else 0.3
    heights = [upper, share, lower]
    if statistics.get("folds"):
        heights.append(upper + 0.2)
    figure = new_figure(COLUMN_IN, sum(heights))
    parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights)  # typed as one, an array of several
    if title:
        figure.suptitle(title, fontsize=FONT_PT + 1, parse_math=False)
    _draw_classes(parts[0].subplots(1, 3, sharey=True), classes, names)
    _draw_sparsity(parts[1].subplots(), statistics)
    _draw_overlaps(parts[2].subplots(), statistics, overlapping)
    if statistics.get("folds"):
        _draw_folds(parts[3].subplots(), statistics, names)
    return finish(figure)


def _draw_folds(axis: Axes, statistics: Mapping[str, Any], names: Sequence[str]) -> None:
    """The share of each class's events that each fold evaluates, one circle a fold; a line where all are even."""
    folds = [fold["evaluation"]["events"] for fold in statistics["folds"]]
    total = [statistics["per_class"][name]["events"] for name in names]
    present = [row for row in range(len(names)) if total[row]]
    for events in folds:
        shares = [100 * events[names[row]] / total[row] for row in present]
        axis.plot(shares, present, "o", color=BLUE, markersize=3.5, markerfacecolor="none", markeredgewidth=0.8)
    evaluated = [sum(events[names[row]] for row in present for events in folds), sum(total)]
    if present:
        axis.axvline(100 * evaluated[0] / evaluated[1] / len(folds), color=ORANGE, linewidth=0.8, zorder=0)
    axis.set_xlim(left=0)
    axis.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axis.grid(axis="y", color="0.9", linewidth=0.4)
    axis.set_xlabel(f"Events evaluated in each of {len(folds)} folds (%)", fontsize=FONT_PT)
    lane_names(axis, range(len(names)), names)


def _draw_classes(axes: Sequence[Axes], classes: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> None:
    events, total, length = axes
    rows = range(len(names))
    present = [row for row in rows if classes[names[row]]["events"]]
    seconds = [classes[names[row]]["seconds"] for row in present]
    hours = max(seconds, default=0) > 10_000
    in_hours = [value / 3600 for value in seconds]
    for axis, values, label in (
        (events, [classes[names[row]]["events"] for row in present], "Events"),
        (total, in_hours if hours else seconds, f"Total duration ({'h' if hours else 's'})"),
    ):
        axis.plot(values, present, "o", color=BLUE, markersize=3, zorder=3)
        _log_axis(axis, values, label)
    spans = [classes[names[row]]["quantiles_s"] for row in present]
    for low, high, width in (("0.05", "0.95", 0.8), ("0.25", "0.75", 2.4)):
        length.hlines(present, [q[low] for q in spans], [q[high] for q in spans], color=BLUE, linewidth=width)
    length.plot([q["0.5"] for q in spans], present, "|", color=ORANGE, markersize=6, markeredgewidth=1.3, zorder=3)
    _log_axis(length, [q[key] for q in spans for key in ("0.05", "0.95")], "Length (s)")
    for axis in axes:
        axis.set_ylim(max(len(names), 1) - 0.4, -0.6)
        axis.grid(axis="y", color="0.9", linewidth=0.4)
        for row in set(rows) - set(present):
            axis.text(0.5, row, "none", transform=axis.get_yaxis_transform(), ha="center", va="center",
                      color="0.4", fontsize=FONT_PT - 1)  # fmt: skip
        if not names:
            axis.text(0.5, 0.5, "no events", transform=axis.transAxes, ha="center", va="center",
                      color="0.4", fontsize=FONT_PT)  # fmt: skip
    lane_names(events, list(rows), names)


def _log_axis(axis: Axes, values: Sequence[float], label: str) -> None:
    """A logarithmic x axis over whole decades with a few labelled ones, whatever the values."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    axis.set_xlabel(label, fontsize=FONT_PT)
    if not values:
        axis.set_xticks([])
        return
    low, high = np.floor(np.log10(min(values))), np.ceil(np.log10(max(values)))
    high = max(high, low + 1)
    axis.set_xscale("log")
    axis.set_xlim(10 ** (low - 0.15), 10 ** (high + 0.15))
    step = max(int(np.ceil((high - low) / 3)), 1)
    axis.xaxis.set_major_locator(FixedLocator([10.0**power for power in np.arange(low, high + 1, step)]))
    plain = low >= -3 and high <= 3
    axis.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}" if plain else f"$10^{{{round(np.log10(value))}}}$")
    )
    axis.xaxis.set_minor_locator(LogLocator(subs=range(1, 10) if high - low <= 3 else [1.0], numticks=20))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(axis="x", color="0.9", linewidth=0.4)


def _draw_sparsity(axis: Axes, statistics: Mapping[str, Any]) -> None:
    """Shares of the labelled time as bars on a common axis in per cent."""
    vocal = "vocalisation" if statistics["not_vocal"] else None
    rows = [("any event", 100 * statistics["share_any"], GREY)]
    if vocal:  # without a class that is none, both bars would be the same
        rows.append((vocal, 100 * statistics["share_vocal"], BLUE))
    for row, (_, share, colour) in enumerate(rows):
        axis.barh(row, share, height=0.6, color=colour)
        axis.text(share, row, f" {share:.3g} %", va="center", fontsize=FONT_PT)
    axis.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=FONT_PT)
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlim(0, max(1.25 * max(share for _, share, _ in rows), 0.1))
    axis.set_xlabel("Share of the labelled time (%)", fontsize=FONT_PT)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _most_overlapping(statistics: Mapping[str, Any]) -> list[str]:
    """Classes that overlap others, those first that do so for longest; in the order of their number of events."""
    seconds: dict[str, float] = {}
    for row in statistics["overlaps"]:
        for name in row["classes"]:
            seconds[name] = seconds.get(name, 0.0) + row["seconds"]
    most = sorted(seconds, key=lambda name: -seconds[name])[:MOST_OVERLAPPING]
    return sorted(most, key=lambda name: (-statistics["per_class"][name]["events"], name))


def _draw_overlaps(axis: Axes, statistics: Mapping[str, Any], names: Sequence[str]) -> None:
    """Which share of the row's events an event of the column's class overlaps, in per cent."""
    if not names:
        axis.text(0.5, 0.5, "no two classes overlap", transform=axis.transAxes, ha="center", va="center",
                  color="0.4", fontsize=FONT_PT)  # fmt: skip
        axis.set_axis_off()
        return
    share_CC = np.zeros((len(names), len(names)))
    for row in statistics["overlaps"]:
        if set(row["classes"]) <= set(names):
            first, second = (names.index(name) for name in row["classes"])
            for one, other, count in ((first, second, row["events"][0]), (second, first, row["events"][1])):
                share_CC[one, other] = 100 * count / statistics["per_class"][names[one]]["events"]
    shown_CC = np.where(share_CC > 0, share_CC, np.nan)
    image = axis.imshow(shown_CC, cmap="cividis_r", vmin=0, vmax=max(float(share_CC.max()), 1), aspect="auto")
    lane_names(axis, range(len(names)), names)
    axis.set_xticks(range(len(names)), [_short(name) for name in names], rotation=90, fontsize=FONT_PT)
    for label in axis.get_xticklabels():
        label.set_parse_math(False)
    axis.tick_params(axis="x", length=0)
    left = len({name for row in statistics["overlaps"] for name in row["classes"]}) - len(names)
    axis.set_xlabel("overlapped by" + (f" (and {left} classes less)" if left else ""), fontsize=FONT_PT)
    bar = axis.figure.colorbar(image, ax=axis, pad=0.02, aspect=15)
    bar.set_label("Share of the row's\nevents (%)", fontsize=FONT_PT)
    bar.outline.set_linewidth(0.5)
