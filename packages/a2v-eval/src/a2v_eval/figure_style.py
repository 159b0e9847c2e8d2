"""What all figures share: sizes, fonts, colours, names, legends. Drawn without pyplot and its global state.

Figures have the size at which a journal prints them, one column (8.5 cm) or a page (17.8 cm) wide, and no letter is
below 7 pt there. Colours are those of Okabe and Ito, which colour-blind readers can tell apart; what differs in
colour differs in line style or marker too.
"""

from __future__ import annotations

import os
import secrets
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 2)), (0, (8, 2)))
MARKERS = "osD^vPX"
GREY = "0.4"
COLUMN_IN, PAGE_IN = 8.5 / 2.54, 17.8 / 2.54
FONT_PT, SMALL_PT = 8, 7
DPI = 300
LETTER_IN = 0.062  # width of a letter at SMALL_PT
MOST_CLASSES = 100  # in one figure: more would be too large a picture to be looked at, or to be drawn at all
LONGEST_NAME, LONGEST_LEGEND = 18, 36


def save(figure: Figure, path: str | Path, dpi: int = DPI) -> None:
    """Write the figure, whole or not at all; the ending names the format (png, pdf, svg)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        with quiet_fonts():
            figure.savefig(aside, dpi=dpi)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def quiet_fonts() -> Iterator[None]:
    """While drawing: no warning for each letter of a script that no installed font has (it is drawn as a box)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def clock_axis(axis: Axes, start_s: float, end_s: float) -> str:
    """Ticks of an x axis of seconds as players show them where it ends after the first minute; returns the unit that
    they have: s, mm:ss or h:mm:ss."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    if end_s <= 60:
        return "s"
    steps_s = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200)
    step_s = next((step_s for step_s in steps_s if end_s - start_s <= 10 * step_s), 3600)
    hours = end_s >= 3600

    def clock(second: float, _: int) -> str:
        minutes, rest = divmod(round(max(second, 0)), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"

    axis.xaxis.set_major_locator(MultipleLocator(step_s))
    axis.xaxis.set_major_formatter(FuncFormatter(clock))
    return "h:mm:ss" if hours else "mm:ss"


def new_figure(width_in: float, height_in: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03)
    figure = Figure(figsize=(width_in, height_in), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def panels(count: int, height_in: float, header_in: float) -> tuple[Figure, list[Axes]]:
    """A figure with `count` small panels in rows that share their axes, and room for a legend above all.

    One column wide for up to two panels, else a page, with up to 4 or 5 in a row, or 6 where there are more than 25.
    """
    columns = count if count <= 4 else 6 if count > 25 else min((4, 5), key=lambda n: (-count % n, n))
    rows = -(-count // columns)
    figure = new_figure(COLUMN_IN if columns <= 2 else PAGE_IN, height_in * rows + header_in)
    axes = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel())
    for index, axis in enumerate(axes):
        # numbers under every panel that is the lowest of its column, also above an empty place
        axis.tick_params(labelbottom=index + columns >= count)
        if index >= count:
            axis.set_axis_off()
    return figure, axes[:count]


def finished(figure: Figure, legend: Mapping[str, Artist] | None = None, title: str | None = None) -> Figure:
    """Sizes of ticks and frames, and one legend for all axes, above them."""
    for axis in figure.axes:
        axis.tick_params(labelsize=SMALL_PT, width=0.6, length=2.5, pad=2)
        for spine in axis.spines.values():
            spine.set_linewidth(0.6)
    if legend or title:
        names = [shown(name, LONGEST_LEGEND) for name in legend or {}]
        box = figure.legend(
            list((legend or {}).values()), names, loc="outside upper center", ncols=_columns(figure, names),
            frameon=False, title=title, fontsize=FONT_PT, columnspacing=1.2, handlelength=2.2, borderaxespad=0.1,
        )  # fmt: skip
        box.get_title().set(fontsize=FONT_PT, multialignment="center")
    return figure


def _columns(figure: Figure, names: Sequence[str]) -> int:
    """As many entries of a legend as fit beside each other."""
    widths_in = [letters(name) * LETTER_IN * FONT_PT / SMALL_PT + 0.55 for name in names]
    if sum(widths_in) <= figure.get_figwidth():
        return max(1, len(names))
    return max(1, int(figure.get_figwidth() / max(widths_in)))


def handles_of(axes: Sequence[Axes]) -> dict[str, Artist]:
    """Legend entries of some axes, each name once."""
    found: dict[str, Artist] = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    return found


def line_style(order: int) -> dict[str, Any]:
    """Colour and line of the n-th of several runs."""
    return {"color": COLOURS[order % len(COLOURS)], "linestyle": LINES[order % len(LINES)]}


def shown(name: str, longest: int = LONGEST_NAME) -> str:
    """A name as it is drawn: the middle of a long one left out, and nothing read as mathematics or as hidden."""
    if len(name) > longest:
        head = (longest - 1) * 2 // 3
        name = f"{name[:head]}…{name[head + 1 - longest :]}"
    name = " ".join(name.split()).replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name  # matplotlib hides what starts with _


def letters(name: str) -> int:
    """Its width in Latin letters: those of East Asian scripts are twice as wide."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in name)


def mark_empty(axis: Axes, text: str) -> None:
    """Say in the middle of an axis why nothing is drawn there."""
    axis.text(0.5, 0.5, text, ha="center", va="center", color=GREY, fontsize=SMALL_PT, transform=axis.transAxes)
