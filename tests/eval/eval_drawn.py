"""What a reader sees of a figure: the texts that are drawn, and what is wrong with them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from a2v_eval.figure_style import COLUMN_IN, PAGE_IN, quiet_fonts
from matplotlib.figure import Figure
from matplotlib.text import Text


def drawn_texts(figure: Figure) -> list[Text]:
    """Exactly the texts that a drawing of the figure puts down: no tick labels beyond an axis, nothing hidden."""
    found: dict[int, Text] = {}
    draw: Callable[..., Any] = Text.draw

    def watched(self: Text, renderer: Any, *rest: Any, **named: Any) -> Any:
        if self.get_visible() and self.get_text().strip():
            found[id(self)] = self
        return draw(self, renderer, *rest, **named)

    with pytest.MonkeyPatch.context() as patch, quiet_fonts():
        patch.setattr(Text, "draw", watched)
        figure.canvas.draw()
    return list(found.values())


def complaints(figure: Figure) -> list[str]:
    """What a journal would send back: letters below 7 pt, texts over each other or cut off, axes without a name, a
    width that is neither a column nor a page, and what matplotlib warns of."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        texts = drawn_texts(figure)
        texts = drawn_texts(figure)  # the layout has settled
    said = [f"warning: {w.message}" for w in warned]
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts if text.get_rotation() % 90 == 0]
    said += [f"{t.get_text()!r} of {t.get_fontsize()} pt" for t in texts if t.get_fontsize() < 7]
    said += [
        f"{name!r} is cut off"
        for name, box in boxes
        if box.x0 < -1 or box.y0 < -1 or box.x1 > figure.bbox.x1 + 1 or box.y1 > figure.bbox.y1 + 1
    ]
    shrunk = [(name, box.shrunk(0.9, 0.75)) for name, box in boxes if box.width > 1]  # letters fill less than a line
    said += [f"{a!r} over {b!r}" for i, (a, p) in enumerate(shrunk) for b, q in shrunk[i + 1 :] if p.overlaps(q)]
    if not any(abs(figure.get_figwidth() - width) < 1e-6 for width in (COLUMN_IN, PAGE_IN)):
        said.append(f"{figure.get_figwidth()} in wide")
    return said
