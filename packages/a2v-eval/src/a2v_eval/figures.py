"""Figures of an evaluation, for a journal's column and for MLflow. Drawn without pyplot and its global state.

Each returns a matplotlib Figure; `save` writes it. Colours are those of Okabe and Ito, which colour-blind
readers can tell apart; runs differ in line style too. T frames, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .events import Protocol
from .scores import precision_recall_curve
from .summary import metric_name, spread

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .evaluation import Evaluation

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vPX"
LABEL_COLOUR, EVENT_COLOUR = COLOURS[0], COLOURS[1]
COLUMN_IN, PAGE_IN = 3.5, 7.2
FONT_PT = 8


def save(figure: Figure, path: str | Path, dpi: int = 200) -> None:
    """Write the figure; the ending names the format (png, pdf, svg)."""
    figure.savefig(path, dpi=dpi)


def precision_recall_figure(runs: Mapping[str, Evaluation], protocol: Protocol) -> Figure:
    """Precision against recall, one panel per class and one for all classes pooled; one line per run.

    A class without labels has no curve, and its panel says so. Under `strict` a curve ends where recall ends:
    labels that no event matches are never recalled.
    """
    if not runs:
        raise ValueError("runs: empty; should name at least one evaluation")
    panels = [*next(iter(runs.values())).classes, "micro"]
    columns = min((4, 5), key=lambda n: (-len(panels) % n, n)) if len(panels) > 4 else len(panels)
    rows = -(-len(panels) // columns)
    figure = _figure(min(PAGE_IN, 1.75 * columns + 0.4), 1.55 * rows + 0.7)
    axes = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel())
    for index, (axis, name) in enumerate(zip(axes, panels, strict=False)):
        axis.set_title("all (micro)" if name == "micro" else name, loc="left", fontsize=FONT_PT)
        axis.set(xlim=(0, 1.01), ylim=(0, 1.03))
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axis.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        axis.grid(alpha=0.25, linewidth=0.5)
        for order, (run, evaluation) in enumerate(runs.items()):
            _draw_curve(axis, evaluation, protocol, name, run, order, len(runs))
        if not axis.lines:
            axis.text(0.5, 0.5, "no labels", ha="center", va="center", color="0.4", fontsize=FONT_PT)
        # numbers under every panel that is the lowest of its column, also above an empty place
        axis.tick_params(labelbottom=index + columns >= len(panels))
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    figure.supxlabel("Recall", fontsize=FONT_PT)
    figure.supylabel("Precision", fontsize=FONT_PT)
    return _finished(figure, axes[: len(panels)], f"{protocol} protocol; numbers are average precision")


def ap_per_class_figure(
    variants: Mapping[str, Sequence[Mapping[str, float]]], classes: Sequence[str], protocol: Protocol
) -> Figure:
    """AP per class: each fold as a small point, the mean as a large one with its standard deviation.

    variants   name -> the metrics of its folds, as `Evaluation.metrics` gives them. Classes that no fold
               defines are marked 'no labels'; the last two columns are the macro mean and the micro average.
    """
    names = [*classes, "macro", "micro"]
    figure = _figure(min(PAGE_IN, max(COLUMN_IN, 0.45 * len(names) + 1.2)), 2.9)
    axis = figure.subplots()
    width = 0.7 / max(len(variants), 1)
    for index, (variant, folds) in enumerate(variants.items()):
        colour = COLOURS[index % len(COLOURS)]
        marker = MARKERS[index % len(MARKERS)]
        axis.plot([], [], marker, color=colour, markersize=4.5, label=variant)
        for position, name in enumerate(names):
            key = metric_name(protocol, "AP", name)
            values = [fold[key] for fold in folds if key in fold]
            if not values:
                continue
            mean, std, _ = spread(values)
            x = position + (index - (len(variants) - 1) / 2) * width
            folds_x = [x - 0.2 * width] * len(values)
            axis.plot(folds_x, values, "o", color=colour, markersize=2, alpha=0.6, clip_on=False)
            middle = x + 0.2 * width
            axis.errorbar(middle, mean, yerr=std, fmt="none", ecolor=colour, capsize=2, elinewidth=1)
            axis.plot([middle], [mean], marker, color=colour, markersize=4.5, clip_on=False)
    defined = {name for folds in variants.values() for fold in folds for name in fold}
    for position, name in enumerate(names):
        if metric_name(protocol, "AP", name) not in defined:
            axis.text(
                position,
                0.02,
                "no labels",
                rotation=90,
                ha="center",
                va="bottom",
                color="0.4",
                fontsize=FONT_PT,
            )
    axis.axvline(len(classes) - 0.5, color="0.7", linewidth=0.8)
    axis.set(ylim=(0, 1.02), xlim=(-0.6, len(names) - 0.4))
    axis.set_ylabel(f"AP ({protocol} protocol)", fontsize=FONT_PT)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axis.grid(axis="y", alpha=0.25, linewidth=0.5)
    return _finished(figure, [axis])


def likelihood_figure(
    waveform: np.ndarray,
    sample_rate: float,
    likelihood_TC: np.ndarray,
    frame_rate: float,
    labels: np.ndarray,
    predictions: np.ndarray,
    classes: Sequence[str],
    threshold: float | Sequence[float] = 0.15,
    start_s: float = 0.0,
    end_s: float | None = None,
    title: str = "",
) -> Figure:
    """A recording from `start_s` to `end_s`: spectrogram, and under it one lane per class that has something
    to
    show (a label, a prediction, or a likelihood above the threshold) with its likelihood, labels and
    predictions.

    waveform     (samples,) at `sample_rate` Hz. likelihood_TC at `frame_rate` Hz from the same start.
    labels       structured array with `class`, `onset_s`, `offset_s`; predictions likewise (EVENT from
                 `find_events`). threshold: one, or one per class.
    """
    duration_s = len(waveform) / sample_rate
    end_s = duration_s if end_s is None else min(end_s, duration_s)
    if not 0 <= start_s < end_s:
        raise ValueError(f"start_s: {start_s} should be at least 0 and before {end_s:.2f} s")
    thresholds_C = np.broadcast_to(np.asarray(threshold, dtype=float), (len(classes),))
    first, last = int(start_s * frame_rate), max(int(end_s * frame_rate), int(start_s * frame_rate) + 1)
    part_TC = likelihood_TC[first:last]
    spans = [
        table[(table["offset_s"] > start_s) & (table["onset_s"] < end_s)] for table in (labels, predictions)
    ]
    busy_C = part_TC.max(axis=0, initial=0) > thresholds_C
    for table in spans:
        busy_C[table["class"]] = True
    lanes = np.flatnonzero(busy_C)
    height = 2.0 + 0.42 * max(len(lanes), 1) + 0.7
    figure = _figure(PAGE_IN, height)
    ratios = [2.0, 0.42 * max(len(lanes), 1)]
    spectrum, below = figure.subplots(2, 1, sharex=True, height_ratios=ratios)
    _draw_spectrogram(spectrum, waveform, sample_rate, start_s, end_s)
    spectrum.set_title(title, fontsize=FONT_PT + 1, loc="left")
    time_s = (first + np.arange(len(part_TC)) + 0.5) / frame_rate
    for lane, class_ in enumerate(lanes):
        of_class = [table[table["class"] == class_] for table in spans]
        _draw_lane(below, len(lanes) - 1 - lane, time_s, part_TC[:, class_], thresholds_C[class_], *of_class)
    below.set_yticks(
        [len(lanes) - 1 - lane + 0.4 for lane in range(len(lanes))], [classes[int(c)] for c in lanes]
    )
    below.tick_params(axis="y", length=0)
    below.set(ylim=(0, max(len(lanes), 1)), xlim=(start_s, end_s))
    below.set_xlabel("Time (s)", fontsize=FONT_PT)
    if not len(lanes):
        below.text(
            (start_s + end_s) / 2,
            0.5,
            "no label, no event",
            ha="center",
            va="center",
            color="0.4",
            fontsize=FONT_PT,
        )
    return _finished(figure, [below])


def _draw_curve(
    axis: Axes, run: Evaluation, protocol: Protocol, name: str, label: str, order: int, n_runs: int
) -> None:
    """One run's curve, as steps whose area is AP, and AP itself in the run's colour above the panel."""
    scores = run.scores(protocol)
    of = scores.of(name)
    if not of.positives:
        return
    entries = run.entries(protocol)
    if name != "micro":
        entries = entries[entries["class"] == run.classes.index(name)]
    precision, recall, _ = precision_recall_curve(entries["target"], entries["likelihood"], of.positives)
    colour = COLOURS[order % len(COLOURS)]
    x, y = np.r_[0.0, recall], np.r_[precision[:1], precision] if len(precision) else [0.0]
    line = LINES[order % len(LINES)]
    axis.plot(x, y, drawstyle="steps-pre", label=label, color=colour, linestyle=line, linewidth=1.2)
    right = 1 - 0.24 * (n_runs - 1 - order)
    if n_runs <= 3:
        text = f"{of.ap:.2f}".removeprefix("0")
        axis.text(right, 1.05, text, transform=axis.transAxes, color=colour, fontsize=FONT_PT - 1, ha="right")


def _draw_spectrogram(
    axis: Axes, waveform: np.ndarray, sample_rate: float, start_s: float, end_s: float
) -> None:
    from scipy.signal import spectrogram

    part = np.asarray(waveform[int(start_s * sample_rate) : int(end_s * sample_rate)], dtype=np.float64)
    width = min(2 ** int(np.ceil(np.log2(0.02 * sample_rate))), len(part))
    hop = max(width // 8, len(part) // 3000, 1)
    frequency, _, power = spectrogram(part, sample_rate, nperseg=width, noverlap=width - min(hop, width))
    level_db = 10 * np.log10(np.maximum(power, 1e-20))
    # the background stays light: white is where most of the picture lies
    bottom, top = np.percentile(level_db, [40, 99.8])
    extent = (start_s, end_s, 0, frequency[-1] / 1000)
    image = axis.imshow(level_db, origin="lower", aspect="auto", extent=extent, cmap="gray_r")
    image.set_clim(bottom, max(top, bottom + 20))
    axis.set_ylabel("Frequency (kHz)", fontsize=FONT_PT)
    image.set_rasterized(True)


def _draw_lane(
    axis: Axes,
    base: int,
    time_s: np.ndarray,
    likelihood_T: np.ndarray,
    threshold: float,
    labels: np.ndarray,
    predictions: np.ndarray,
) -> None:
    """Likelihood from `base` to `base` + 0.56, and above it a bar per prediction and a bar per label."""
    scale = 0.56
    names = ["likelihood", "threshold", "prediction", "label"] if base == 0 else [None] * 4
    axis.axhline(base, color="0.85", linewidth=0.6)
    axis.fill_between(time_s, base, base + scale * likelihood_T, color="0.55", linewidth=0, label=names[0])
    axis.axhline(base + scale * threshold, color="0.2", linewidth=0.6, linestyle=":", label=names[1])
    bars = ((predictions, EVENT_COLOUR, 0.61, names[2]), (labels, LABEL_COLOUR, 0.76, names[3]))
    for table, colour, height, name in bars:
        widths = [(row["onset_s"], row["offset_s"] - row["onset_s"]) for row in table]
        axis.broken_barh(widths, (base + height, 0.12), facecolors=colour, linewidth=0, label=name)


def _figure(width_in: float, height_in: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _finished(figure: Figure, axes: Sequence[Axes], title: str | None = None) -> Figure:
    """Tick sizes, and one legend for all axes above them."""
    handles: dict[str, Artist] = {}
    for axis in figure.axes:
        axis.tick_params(labelsize=FONT_PT, width=0.6)
        for spine in axis.spines.values():
            spine.set_linewidth(0.6)
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if not handles:
        return figure
    legend = figure.legend(
        handles=list(handles.values()),
        labels=list(handles),
        loc="outside upper center",
        ncols=min(4, max(len(handles), 1)),
        frameon=False,
        title=title,
        fontsize=FONT_PT,
    )
    legend.get_title().set_fontsize(FONT_PT)
    return figure
