"""Which texts of a figure lie on each other, or reach beyond it."""

import warnings

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def _boxes(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is drawn and where; ticks outside their axis' view are not."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.canvas.draw()
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high:
                    hidden |= {tick.label1, tick.label2}
    texts = [text for text in figure.findobj(Text) if text not in hidden]
    found = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_visible()]
    return [(text, box) for text, box in found if text.strip() and box.width > 0]


def texts_overlap(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes overlap, over the whole figure."""
    boxes = [(text, box.shrunk(0.9, 0.8)) for text, box in _boxes(figure)]
    return [(a, b) for place, (a, p) in enumerate(boxes) for b, q in boxes[place + 1 :] if p.overlaps(q)]


def outside(figure: Figure) -> list[str]:
    """Texts that reach beyond the figure's edge."""
    edge = figure.bbox.padded(1)
    return [
        text
        for text, box in _boxes(figure)
        if not (edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1)
    ]
