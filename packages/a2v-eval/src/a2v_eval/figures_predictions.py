"""Figures of what was found in recordings: the highest-ranked events of a class, and when events happen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .activity import HOUR_S, Activity
from .figure_style import (
    COLUMN_IN,
    FONT_PT,
    GREY,
    PAGE_IN,
    SMALL_PT,
    finished,
    mark_empty,
    new_figure,
    panels,
    shown,
)
from .figures_events import EVENT_COLOUR, draw_spectrogram

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STRIP_COLUMNS, STRIP_IN = 3, 1.3
CAPTION_LETTERS, ROW_LETTERS = 34, 22
NOT_RECORDED = "0.85"
PAGE_HIGH_IN = 8.0
MOST_CLASSES = 30
SHORTEST_SAMPLES = 16


class EventPanel(NamedTuple):
    """An event with what surrounds it. waveform: (N,) at `sample_rate` Hz, None where it cannot be read; its first
    sample is at `start_s`, seconds from the event's onset. duration_s: of the event. caption: a line each; the reason
    where there is no waveform, too."""

    waveform: np.ndarray | None
    sample_rate: float
    start_s: float
    duration_s: float
    caption: tuple[str, ...]
    problem: str = ""


def strip_figure(events: Sequence[EventPanel], width_s: float, context_s: float, title: str = "") -> Figure:
    """A spectrogram of each event, all `width_s` seconds wide, in rows of three; the event in the middle with at least
    `context_s` on both sides, or, where it is longer, its beginning. Time counts from the event's onset. ValueError
    without events.
    """
    if not events:
        raise ValueError("events: empty; should hold at least one")
    columns = min(len(events), STRIP_COLUMNS)
    rows = -(-len(events) // columns)
    figure = new_figure(COLUMN_IN if columns == 1 else PAGE_IN, rows * (STRIP_IN + 0.3) + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axis, event in zip(axes, events, strict=False):
        if event.waveform is None or len(event.waveform) < SHORTEST_SAMPLES:
            mark_empty(axis, shown(event.problem or "too short", CAPTION_LETTERS))
        else:
            draw_spectrogram(axis, event.waveform, event.sample_rate, event.start_s)
            axis.axvspan(0, event.duration_s, facecolor="none", edgecolor=EVENT_COLOUR, linewidth=0.8)
        middle_s = min(event.duration_s, width_s - 2 * context_s) / 2
        axis.set_xlim(middle_s - width_s / 2, middle_s + width_s / 2)
        axis.set_facecolor(NOT_RECORDED)
        axis.set_title("\n".join(shown(line, CAPTION_LETTERS) for line in event.caption), loc="left", fontsize=SMALL_PT)
        axis.set_ylabel("")
    highest_hz = max((event.sample_rate for event in events if event.waveform is not None), default=2000.0) / 2
    axes[0].set_ylim(0, highest_hz / 1000)
    for axis in axes[len(events) :]:
        axis.set_axis_off()
    figure.supxlabel("Time from the event's onset (s)", fontsize=FONT_PT)
    figure.supylabel("Frequency (kHz)", fontsize=FONT_PT)
    figure.suptitle(shown(title, 80), fontsize=FONT_PT)
    return finished(figure)


def activity_figure(activity: Activity, classes: Sequence[str], title: str = "") -> Figure:
    """Events of each class by row (day or recording) and time, white where there were none and grey where nothing was
    recorded. Only classes with events, the 30 that have most.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Patch

    totals_C = activity.counts.sum((0, 1))
    drawn = sorted(np.argsort(-totals_C, kind="stable")[:MOST_CLASSES][: int((totals_C > 0).sum())].tolist())
    rows = len(activity.rows)
    most_in = max(0.9, min(3.2, PAGE_HIGH_IN / -(-max(len(drawn), 1) // 5) - 0.5))
    height_in = float(np.clip(0.35 + 0.14 * rows, 0.9, most_in))
    figure, axes = panels(max(len(drawn), 1), height_in + 0.2, 0.9)
    scale, unit = _time_unit(activity)
    extent = (0, float(activity.edges_s[-1]) / scale, rows - 0.5, -0.5)
    norm = LogNorm(1, max(2, int(activity.counts.max(initial=0))))
    heard_RK = np.where(activity.recorded > 0, 1.0, np.nan)
    image = None
    for axis, class_ in zip(axes, drawn or [None], strict=True):
        axis.set_facecolor(NOT_RECORDED)
        axis.imshow(heard_RK, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto", interpolation="nearest")
        if class_ is None:
            mark_empty(axis, "no event")
            continue
        counts_RK = np.ma.masked_less(activity.counts[:, :, class_], 1)
        image = axis.imshow(
            counts_RK, norm=norm, cmap="viridis_r", extent=extent, aspect="auto", interpolation="nearest"
        )
        axis.set_title(f"{shown(classes[class_])} ({totals_C[class_]})", loc="left", fontsize=FONT_PT)
        if activity.by_day:
            axis.set_xticks(range(0, 25, 6))
    step = -(-rows // max(2, int(height_in / 0.16)))
    axes[0].set_yticks(range(0, rows, step), [_end(activity.rows[row]) for row in range(0, rows, step)])
    figure.supxlabel("Hour of the day" if activity.by_day else f"Time within the recording ({unit})", fontsize=FONT_PT)
    if image is not None:
        bar = figure.colorbar(image, ax=axes, location="right", fraction=0.03, pad=0.01, format="%d", aspect=25)
        bar.set_label("Events in an hour" if activity.by_day else f"Events in {_width(activity)}", fontsize=FONT_PT)
        bar.ax.minorticks_off()
    legend = {"nothing recorded": Patch(facecolor=NOT_RECORDED, edgecolor=GREY, linewidth=0.4)}
    return finished(figure, legend, title=shown(title, 90) or None)


def _end(name: str) -> str:
    """The end of a long name, where recordings differ."""
    return shown(name if len(name) <= ROW_LETTERS else f"…{name[1 - ROW_LETTERS :]}", ROW_LETTERS)


def _time_unit(activity: Activity) -> tuple[float, str]:
    """Seconds of the unit in which time is drawn, and its name."""
    end_s = activity.edges_s[-1]
    if activity.by_day or end_s > 2 * HOUR_S:
        return HOUR_S, "h"
    return (60, "min") if end_s > 120 else (1, "s")


def _width(activity: Activity) -> str:
    width_s = float(activity.edges_s[1])
    if width_s >= HOUR_S:
        return f"{width_s / HOUR_S:g} h"
    return f"{width_s / 60:g} min" if width_s >= 60 else f"{width_s:g} s"
