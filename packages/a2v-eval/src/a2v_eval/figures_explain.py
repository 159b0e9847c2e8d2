"""Figures that explain a model: what its Sinc filters pass, where its attention looks (paper, figures 5 and 6), and
what its masks hide.

F frequencies, N samples, T frames, R rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .figure_style import (
    COLOURS,
    COLUMN_IN,
    FONT_PT,
    GREY,
    SMALL_PT,
    finished,
    handles_of,
    line_style,
    mark_empty,
    new_figure,
    shown,
)
from .figures_events import draw_event_lanes, draw_spectrogram, lane_heights, within

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

LOWEST_DB = -60.0
DRAWN_FRAMES = 600
SHORT_NAME, LONGEST_TITLE = 12, 40
DRAWN_LENGTHS = 0.99  # of all spans or gaps; the longest few would squeeze the others together
CAUTION = "Attention is not by itself an explanation: it shows where\nthe model looks, not why it decides as it does."


class Level(NamedTuple):
    """A line of `filters_figure`: `level_db` (F,) at `frequency_hz` (F,)."""

    frequency_hz: np.ndarray
    level_db: np.ndarray


def filters_figure(lines: dict[str, Level], title: str = "") -> Figure:
    """Levels in dB over frequency in kHz, each relative to its own maximum: name -> line, in drawing order.

    Made for the cumulative frequency response of learned Sinc filters beside their mel initialisation and the mean
    spectrum of the recordings. ValueError without lines.
    """
    if not lines:
        raise ValueError("lines: empty; should name at least one")
    figure = new_figure(COLUMN_IN, 2.7)
    axis = figure.subplots()
    levels = [line.level_db - line.level_db.max() for line in lines.values()]
    for order, (name, line, level_db) in enumerate(zip(lines, lines.values(), levels, strict=True)):
        width = 1.0 if order else 1.8  # so that the first is seen even under another that is the same
        axis.plot(line.frequency_hz / 1000, level_db, label=name, linewidth=width, **line_style(order))
    lowest = min(float(level_db.min()) for level_db in levels)
    axis.set_ylim(max(LOWEST_DB, np.floor(lowest / 5) * 5 - 1), 1.5)
    axis.set_xlim(0, max(line.frequency_hz[-1] for line in lines.values()) / 1000)
    axis.set_xlabel("Frequency (kHz)", fontsize=FONT_PT)
    axis.set_ylabel("Level (dB re maximum)", fontsize=FONT_PT)
    axis.set_title(_lines(title), loc="left", fontsize=FONT_PT)
    axis.grid(alpha=0.25, linewidth=0.5)
    return finished(figure, handles_of([axis]))


def attention_figure(
    attention_TT: np.ndarray,
    frame_rate: float,
    waveform: np.ndarray,
    sample_rate: float,
    labels: np.ndarray,
    predictions: np.ndarray,
    classes: Sequence[str],
    start_s: float = 0.0,
    title: str = "",
) -> Figure:
    """Four rows over the same time: spectrogram; labels and predictions; attention that each frame receives; and the
    map of which frame (vertical) looks at which (horizontal). Below it stands that attention is no explanation.

    attention_TT   rows sum to 1, at `frame_rate` Hz; drawn times T, so that 1 is what even attention would give.
    The rest as for `likelihood_figure`, all on the recording's clock. ValueError for a map that is not square.
    """
    frames = len(attention_TT)
    if attention_TT.shape != (frames, frames) or not frames:
        raise ValueError(f"attention: shape {attention_TT.shape} should be square, (frames, frames)")
    end_s = start_s + len(waveform) / sample_rate
    labels, predictions = (within(table, start_s, end_s) for table in (labels, predictions))
    lanes = np.union1d(labels["class"], predictions["class"]).astype(int)
    heights = [0.9, lane_heights(len(lanes))[1], 0.6, 2.5]
    figure = new_figure(COLUMN_IN, sum(heights) + 1.45)
    spectrum, events, received, map_ = figure.subplots(4, 1, sharex=True, height_ratios=heights)
    draw_spectrogram(spectrum, waveform, sample_rate, start_s)
    spectrum.set_title(_lines(title), loc="left", fontsize=FONT_PT)
    draw_event_lanes(events, labels, predictions, lanes, [shown(classes[lane], SHORT_NAME) for lane in lanes])
    relative_TT = attention_TT * frames
    time_s = start_s + (np.arange(frames) + 0.5) / frame_rate
    received.plot(time_s, relative_TT.mean(axis=0), linewidth=0.7, color=COLOURS[2])
    received.axhline(1, color="0.4", linewidth=0.6, linestyle=":")
    received.set_ylim(bottom=0)
    received.set_ylabel("Attention\nreceived", fontsize=FONT_PT)
    _draw_map(figure, map_, relative_TT, start_s, start_s + frames / frame_rate)
    map_.set_xlim(start_s, end_s)
    map_.set_xlabel("Time of the attended frame (s)", fontsize=FONT_PT)
    map_.set_ylabel("Time of the attending frame (s)", fontsize=FONT_PT)
    figure.align_ylabels()
    figure.supxlabel(CAUTION, fontsize=SMALL_PT, color=GREY)
    return finished(figure, handles_of([events]))


def masks_figure(
    spans: np.ndarray, gaps: np.ndarray, example_RT: np.ndarray, frame_rate: float | None = None, title: str = ""
) -> Figure:
    """Some rows of a mask, and how long its masked spans and the visible gaps between them are.

    spans, gaps   how many there are of each length: index = frames. Drawn as shares of all, up to the length that 99 %
                  do not exceed. example_RT: bool, True = masked. frame_rate: Hz, for lengths in ms.
    ValueError for an example without frames or a mask without spans.
    """
    if not example_RT.size or not spans.sum():
        raise ValueError("mask: has no masked span; should have at least one, and rows of frames as an example")
    figure = new_figure(COLUMN_IN, 4.8)
    rows, of_spans, of_gaps = figure.subplots(3, 1, height_ratios=[0.7, 1.4, 1.4])
    extent = (0, example_RT.shape[1], len(example_RT), 0)
    rows.imshow(example_RT, cmap=_two_colours(COLOURS[0]), vmin=0, vmax=1, aspect="auto", extent=extent,
                interpolation="nearest", rasterized=True)  # fmt: skip
    rows.set_yticks([])
    rows.set_ylabel(f"{len(example_RT)} rows", fontsize=FONT_PT)
    rows.set_xlabel("Frame (coloured: masked)", fontsize=FONT_PT)
    rows.set_title(_lines(title), loc="left", fontsize=FONT_PT)
    unit = f"frames of {1000 / frame_rate:.3g} ms" if frame_rate else "frames"
    for axis, counts, name, colour in (
        (of_spans, spans, "masked span", COLOURS[0]), (of_gaps, gaps, "visible gap", COLOURS[1]),
    ):  # fmt: skip
        axis.set_xlabel(f"Length of a {name} ({unit})", fontsize=FONT_PT)
        axis.set_ylabel(f"Share of {name.split()[1]}s (%)", fontsize=FONT_PT)
        if not counts.sum():
            mark_empty(axis, "none")
            axis.set(xticks=[], yticks=[])
            continue
        _draw_lengths(axis, counts, colour)
    figure.align_ylabels()
    return finished(figure)


def _draw_lengths(axis: Axes, counts: np.ndarray, colour: str) -> None:
    """Shares of all lengths as bars, with the mean as a line, and in words what is drawn."""
    from matplotlib.ticker import MaxNLocator

    reached = np.cumsum(counts) / counts.sum()
    last = int(np.searchsorted(reached, DRAWN_LENGTHS))
    lengths = np.arange(1, last + 1)
    shares = 100 * counts[1 : last + 1] / counts.sum()
    axis.bar(lengths, shares, width=0.9, color=colour)
    mean, median = np.arange(len(counts)) @ counts / counts.sum(), int(np.searchsorted(reached, 0.5))
    axis.axvline(mean, color="0.2", linewidth=0.8, linestyle="--")
    axis.set_xlim(0.4, max(last, 4) + 0.6)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    said = f"mean {mean:.3g} (line), median {median}, longest {len(counts) - 1}"
    axis.set_title(said, loc="right", fontsize=SMALL_PT, pad=3)


def _two_colours(masked: str) -> ListedColormap:
    from matplotlib.colors import ListedColormap

    return ListedColormap(["1", masked])


def _lines(title: str) -> str:
    """Each line of a title as far as a column reaches."""
    return "\n".join(shown(line, LONGEST_TITLE) for line in title.splitlines())


def _draw_map(figure: Figure, axis: Axes, relative_TT: np.ndarray, start_s: float, end_s: float) -> None:
    """The map on a logarithmic scale, since ALiBi lets attention fall off exponentially with distance."""
    from matplotlib.colors import LogNorm

    small = _block_means(relative_TT, -(-len(relative_TT) // DRAWN_FRAMES))
    top = float(np.percentile(small, 99.9))
    norm = LogNorm(vmin=max(top / 1000, float(np.percentile(small, 2)), 1e-6), vmax=max(top, 1e-5), clip=True)
    extent = (start_s, end_s, end_s, start_s)
    image = axis.imshow(small, norm=norm, cmap="cividis", aspect="auto", extent=extent, rasterized=True)
    bar = figure.colorbar(
        image, ax=axis, location="bottom", pad=0.02, fraction=0.04, aspect=35, format=lambda value, _: f"{value:g}"
    )
    bar.ax.minorticks_off()
    bar.set_label("Attention × number of frames\n(1: the same to all frames)", fontsize=FONT_PT)


def _block_means(values: np.ndarray, block: int) -> np.ndarray:
    """Means over block x block cells, so that what is drawn smaller than it is stays true; the rest at the end too."""
    starts = np.arange(0, len(values), block)
    sums = np.add.reduceat(np.add.reduceat(values, starts, axis=0), starts, axis=1)
    sizes = np.diff(np.append(starts, len(values)))
    return sums / np.outer(sizes, sizes)
