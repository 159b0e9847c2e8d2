"""Figures of a stretch of a recording: spectrogram, likelihoods, labels and predictions, on the recording's clock.

N samples, T frames, C classes. Labels and predictions are structured arrays with `class`, `onset_s` and `offset_s`
(LABEL, EVENT). All times are seconds from the start of the recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .figure_style import (
    COLOURS,
    FONT_PT,
    LETTER_IN,
    PAGE_IN,
    SMALL_PT,
    clock_axis,
    finished,
    handles_of,
    letters,
    mark_empty,
    new_figure,
    shown,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

LABEL_COLOUR, EVENT_COLOUR = COLOURS[0], COLOURS[1]
DYNAMIC_DB = 60.0  # of a spectrogram's grey scale, at most
TOPS = (0.1, 0.2, 0.5, 1.0)  # of the likelihoods' lanes
MANY_LANES = 16
MOST_LANES = 50
NAME_ROWS, LONGEST_TITLE = 3, 80


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
    title: str = "",
) -> Figure:
    """Three rows over time: spectrogram with a box for each label; likelihood of each class; predictions and labels.

    waveform        (N,) at `sample_rate` Hz, the stretch to draw; its first sample is at `start_s` on the recording's
                    clock. likelihood_TC begins there too, at `frame_rate` Hz.
    labels, predictions   on the recording's clock; what lies outside the stretch is left out.
    threshold       that of the events, one or one per class; a dotted line.

    Only classes are drawn that have something to show: a label, a prediction, or a likelihood above the threshold; at
    most 50 of them.
    Raises ValueError for an empty waveform or likelihoods that do not fit the classes.
    """
    if len(waveform) == 0 or likelihood_TC.ndim != 2 or likelihood_TC.shape[1] != len(classes):
        raise ValueError(
            f"waveform of {len(waveform)} samples, likelihoods of shape {likelihood_TC.shape}: should be at least one"
            f" sample and (frames, {len(classes)} classes)"
        )
    end_s = start_s + len(waveform) / sample_rate
    thresholds_C = np.broadcast_to(np.asarray(threshold, dtype=float), (len(classes),))
    labels, predictions = (within(table, start_s, end_s) for table in (labels, predictions))
    busy_C = likelihood_TC.max(axis=0, initial=0) > thresholds_C
    busy_C[labels["class"]] = busy_C[predictions["class"]] = True
    lanes = np.flatnonzero(busy_C)
    if len(lanes) > MOST_LANES:  # those with events, then those of the highest likelihood
        shown_C = np.bincount(np.concatenate([labels["class"], predictions["class"]]), minlength=len(classes)) > 0
        rank = np.argsort(-(shown_C + likelihood_TC.max(axis=0, initial=0))[lanes], kind="stable")
        lanes = np.sort(lanes[rank[:MOST_LANES]])
    heights = [1.35, *lane_heights(len(lanes))]
    figure = new_figure(PAGE_IN, sum(heights) + 0.95 + 0.12 * NAME_ROWS)
    spectrum, tracks, events = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    image = draw_spectrogram(spectrum, waveform, sample_rate, start_s)
    figure.colorbar(image, ax=spectrum, pad=0.01, fraction=0.02).set_label("Level (dB re maximum)", fontsize=FONT_PT)
    rows = draw_label_boxes(spectrum, labels, classes, end_s - start_s)
    spectrum.set_title(shown(title, LONGEST_TITLE), loc="left", fontsize=FONT_PT, pad=3 + 9 * rows)
    time_s = start_s + (np.arange(len(likelihood_TC)) + 0.5) / frame_rate
    names = [shown(classes[int(lane)]) for lane in lanes]
    _draw_tracks(tracks, time_s, likelihood_TC[:, lanes], thresholds_C[lanes], names)
    draw_event_lanes(events, labels, predictions, lanes, names)
    events.set_xlim(start_s, end_s)
    unit = clock_axis(events, start_s, end_s)
    events.set_xlabel(f"Time from the start of the recording ({unit})", fontsize=FONT_PT)
    figure.align_ylabels()
    return finished(figure, handles_of([tracks, events]))


def within(table: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    """The events that overlap a stretch."""
    return table[(table["offset_s"] > start_s) & (table["onset_s"] < end_s)]


def fullest_stretch(labels: np.ndarray, duration_s: float, length_s: float) -> float:
    """Where a stretch of `length_s` seconds begins that has most labels, of most classes: the first such, a tenth of it
    before a label where the recording allows; 0 without labels."""
    last_s = max(0.0, duration_s - length_s)
    starts_s = np.unique(np.clip(labels["onset_s"] - 0.1 * length_s, 0.0, last_s))
    counts = []
    for start_s in starts_s.tolist():
        inside = within(labels, start_s, start_s + length_s)
        counts.append((len(np.unique(inside["class"])), len(inside)))
    return float(starts_s[counts.index(max(counts))]) if counts else 0.0


def lane_heights(lanes: int) -> tuple[float, float]:
    """Inches of all lanes of likelihoods, and of all those of events: as much as many of them leave, and as the names
    of the axes need."""
    likelihood_in, event_in = (0.28, 0.19) if lanes <= MANY_LANES else (0.17, 0.15)
    return max(1.0, lanes * likelihood_in), max(0.5, lanes * event_in)


def draw_spectrogram(axis: Axes, waveform: np.ndarray, sample_rate: float, start_s: float) -> AxesImage:
    """Levels in dB relative to the loudest, dark where it is loud. Windows of about 20 ms."""
    from scipy.signal import spectrogram

    part = np.asarray(waveform, dtype=np.float64)
    width = min(2 ** int(np.ceil(np.log2(0.02 * sample_rate))), len(part))
    hop = min(max(width // 8, len(part) // 3000, 1), width)
    frequency, _, power = spectrogram(part, sample_rate, nperseg=width, noverlap=width - hop)
    level_db = 10 * np.log10(np.maximum(power, 1e-20))
    level_db -= level_db.max()
    extent = (start_s, start_s + len(part) / sample_rate, 0, frequency[-1] / 1000)
    image = axis.imshow(level_db, origin="lower", aspect="auto", extent=extent, cmap="gray_r", rasterized=True)
    # the background stays light: white is where most of the picture lies
    bottom = max(np.percentile(level_db, 40), -DYNAMIC_DB)
    image.set_clim(min(bottom, -20), 0)
    axis.set_ylabel("Frequency (kHz)", fontsize=FONT_PT)
    return image


def draw_label_boxes(axis: Axes, labels: np.ndarray, classes: Sequence[str], duration_s: float) -> int:
    """A box around each label, and its class above where there is room; returns the rows of names."""
    for onset_s, offset_s in sorted({(float(row["onset_s"]), float(row["offset_s"])) for row in labels}):
        axis.axvspan(onset_s, offset_s, facecolor="none", edgecolor=LABEL_COLOUR, linewidth=0.8)
    width_s = LETTER_IN * duration_s / (PAGE_IN - 1.3)
    start_s, end_s = axis.get_images()[0].get_extent()[:2]
    reach = [-np.inf] * NAME_ROWS
    used = 0
    for row in np.sort(labels, order="onset_s"):
        name = shown(classes[int(row["class"])])
        middle = (max(row["onset_s"], start_s) + min(row["offset_s"], end_s)) / 2
        half = (letters(name) + 1) / 2 * width_s
        free = next((place for place in range(NAME_ROWS) if reach[place] <= middle - half), None)
        if free is None or middle - half < start_s - 5 * width_s or middle + half > end_s + 5 * width_s:
            continue
        reach[free] = middle + half
        used = max(used, free + 1)
        axis.annotate(
            name, (middle, 1), (0, 2 + 9 * free), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="center", va="bottom", fontsize=SMALL_PT, color=LABEL_COLOUR,
        )  # fmt: skip
    return used


def draw_event_lanes(
    axis: Axes, labels: np.ndarray, predictions: np.ndarray, lanes: Sequence[int] | np.ndarray, names: Sequence[str]
) -> None:
    """One lane for each class of `lanes`, the first on top: a bar per label, and under it one per prediction. names: as
    they are drawn."""
    for table, colour, low, high, kind in (
        (labels, LABEL_COLOUR, 0.54, 0.84, "label"),
        (predictions, EVENT_COLOUR, 0.16, 0.46, "prediction"),
    ):
        for lane, class_ in enumerate(lanes):
            base = len(lanes) - 1 - lane
            rows = table[table["class"] == class_]
            widths = [(row["onset_s"], row["offset_s"] - row["onset_s"]) for row in rows]
            if widths:
                axis.broken_barh(
                    widths, (base + low, high - low), facecolors=colour, edgecolors=colour, linewidth=0.4, label=kind
                )
    _name_lanes(axis, names, "Events")


def _draw_tracks(
    axis: Axes, time_s: np.ndarray, likelihood_TL: np.ndarray, thresholds_L: np.ndarray, names: Sequence[str]
) -> None:
    """Each class's likelihood in a lane of its own, all on one scale that the axis names."""
    highest = likelihood_TL.max(initial=0)
    top = next((value for value in TOPS if value >= highest), TOPS[-1])
    scale = 0.92 / top
    for lane in range(len(names)):
        base = len(names) - 1 - lane
        label = ("likelihood", "threshold") if lane == 0 else (None, None)
        height = base + scale * likelihood_TL[:, lane]
        axis.fill_between(time_s, base, height, color="0.55", linewidth=0, label=label[0])
        axis.plot(time_s, height, color="0.2", linewidth=0.5)
        if thresholds_L[lane] <= top:
            line = base + scale * thresholds_L[lane]
            axis.axhline(line, color=COLOURS[1], linewidth=0.8, linestyle=":", label=label[1])
    _name_lanes(axis, names, f"Likelihood\n(lane: 0 to {top:g})")


def _name_lanes(axis: Axes, names: Sequence[str], label: str) -> None:
    count = len(names)
    axis.set_yticks([count - 0.5 - lane for lane in range(count)], names)
    axis.set_ylim(0, max(count, 1))
    axis.set_ylabel(label, fontsize=FONT_PT)
    axis.hlines(range(1, count), 0, 1, transform=axis.get_yaxis_transform(), color="0.85", linewidth=0.5)
    if not count:
        mark_empty(axis, "no label, no event")
