"""Figure of which class is taken for which. C classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .confusion import row_shares
from .figure_style import (
    COLUMN_IN,
    FONT_PT,
    LETTER_IN,
    MOST_CLASSES,
    PAGE_IN,
    SMALL_PT,
    finished,
    letters,
    new_figure,
    shown,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

BESIDE, WITH_NUMBERS = 12, 20  # classes up to which two panels fit beside each other, and numbers into cells
NUMBER_IN, ROW_IN, BARE_IN = 0.22, 0.17, 0.125  # a cell with a number is so wide and high; one without


def confusion_figure(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Events labelled (rows) against events predicted (columns), as `confusion` counts them.

    counts   (C + 1, C + 1): the last column counts missed labels, the last row false predictions.

    Panel a has the counts, panel b the share of a class's labels that each cell is, in %; the shade is that share in
    both. Of more than 100 classes those with fewer labels are put together as one. False predictions have no labels to
    be a share of. Beyond 20 classes numbers do not fit into cells: then the
    shares alone are drawn. ValueError for counts of another shape.
    """
    size = len(classes) + 1
    if counts.shape != (size, size):
        raise ValueError(f"counts: shape {counts.shape} should be ({size}, {size}), one more than classes")
    if len(classes) > MOST_CLASSES:
        counts, classes = _most_frequent(counts, classes)
        size = len(classes) + 1
    shares = np.vstack([row_shares(counts), np.full(size, np.nan)])
    if len(classes) > WITH_NUMBERS:
        return _shares_only(shares, counts, classes)
    beside = len(classes) <= BESIDE
    names_in = _names_in(classes)
    width = (2 * size if beside else size) * NUMBER_IN + names_in + 0.5
    height = size * ROW_IN + names_in + 0.5
    figure = new_figure(COLUMN_IN if width <= COLUMN_IN else PAGE_IN, height if beside else 2 * height)
    rows, columns = (1, 2) if beside else (2, 1)
    left, right = figure.subplots(rows, columns, sharex=not beside, sharey=beside)
    for axis, title, texts in (
        (left, "a  Events", [[_short(n) for n in row] for row in counts]),
        (right, "b  % of labels", [[_percent(share) for share in row] for row in shares]),
    ):
        _draw(axis, shares, classes)
        axis.set_title(title, loc="left", fontsize=FONT_PT)
        _write(axis, texts, shares, counts)
    left.set_ylabel("Labelled", fontsize=FONT_PT)
    if not beside:
        right.set_ylabel("Labelled", fontsize=FONT_PT)
    for axis in (left, right) if beside else (right,):
        axis.set_xlabel("Predicted", fontsize=FONT_PT)
    return finished(figure)


def _most_frequent(counts: np.ndarray, classes: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The classes with the most labels, in their order, and one of all the others."""
    order = np.argsort(-counts[:-1].sum(axis=1), kind="stable")
    kept = np.sort(order[: MOST_CLASSES - 1])
    rest = np.sort(order[MOST_CLASSES - 1 :])

    def pooled(values: np.ndarray) -> np.ndarray:
        return np.vstack([values[kept], values[rest].sum(axis=0, keepdims=True), values[-1:]])

    return pooled(pooled(counts).T).T, [*(classes[number] for number in kept), f"{len(rest)} others"]


def _shares_only(shares: np.ndarray, counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """Shares as shades, the number of labels behind each class's name."""
    size = len(shares)
    figure = new_figure(max(PAGE_IN, size * BARE_IN + 2.5), size * BARE_IN + _names_in(classes) + 0.5)
    axis = figure.subplots()
    image = _draw(axis, shares[:-1], classes)
    totals = counts[:-1].sum(axis=1)
    names = [f"{shown(name)} ({total})" for name, total in zip(classes, totals, strict=True)]
    axis.set_yticks(range(size - 1), names)
    axis.set_xlabel("Predicted", fontsize=FONT_PT)
    axis.set_ylabel("Labelled (number of labels)", fontsize=FONT_PT)
    bar = figure.colorbar(image, ax=axis, fraction=0.03, pad=0.01)
    bar.set_label("Share of the labels", fontsize=FONT_PT)
    return finished(figure)


def _names_in(classes: Sequence[str]) -> float:
    """Inches of the longest name."""
    return LETTER_IN * max(letters(name) for name in ("missed", *(shown(name) for name in classes)))


def _draw(axis: Axes, shares: np.ndarray, classes: Sequence[str]) -> AxesImage:
    names = [shown(name) for name in classes]
    from matplotlib import colormaps

    shades = colormaps["Blues"].with_extremes(bad="0.93")  # grey: a share of nothing
    image = axis.imshow(np.ma.masked_invalid(shares), cmap=shades, vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(names) + 1), [*names, "missed"], rotation=90)
    axis.set_yticks(range(len(shares)), [*names, "false"][: len(shares)])
    # what is no class stands apart
    axis.axvline(len(names) - 0.5, color="0.3", linewidth=0.8)
    if len(shares) > len(names):
        axis.axhline(len(names) - 0.5, color="0.3", linewidth=0.8)
    return image


def _write(axis: Axes, texts: list[list[str]], shares: np.ndarray, counts: np.ndarray) -> None:
    """Numbers into the cells that have any events, and onto the diagonal."""
    for row, cells in enumerate(texts):
        for column, text in enumerate(cells):
            on_diagonal = row == column < len(counts) - 1
            if text and (counts[row, column] or on_diagonal):
                colour = "white" if shares[row, column] > 0.55 else "black"
                axis.text(column, row, text, ha="center", va="center", fontsize=SMALL_PT, color=colour)


def _percent(share: float) -> str:
    """Whole percents; what is neither none nor all is not rounded to it."""
    if np.isnan(share):
        return ""
    if 0 < share < 0.005:
        return "<1"
    return ">99" if 0.995 <= share < 1 else f"{100 * share:.0f}"


def _short(count: int) -> str:
    """At most four characters: 987, 1.2k, 12k, 1.2M."""
    for factor, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= 0.9995 * factor:
            return f"{count / factor:.1f}{unit}" if count < 9.95 * factor else f"{count / factor:.0f}{unit}"
    return str(count)
