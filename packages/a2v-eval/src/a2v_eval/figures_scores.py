"""Figures of scores: precision-recall curves, AP per class, F1 over thresholds.

Variants are what one compares (models, shares of labels, runs); each has one or more folds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from .curves import MICRO, Curve, mean_curve
from .events import Protocol
from .figure_style import (
    COLOURS,
    COLUMN_IN,
    FONT_PT,
    GREY,
    MARKERS,
    MOST_CLASSES,
    PAGE_IN,
    SMALL_PT,
    finished,
    handles_of,
    line_style,
    mark_empty,
    new_figure,
    panels,
    shown,
)
from .summary import metric_name, spread
from .thresholds import ThresholdScores

UPRIGHT = 40  # classes whose names fit beside each other

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Presence = Literal["presence"]


def precision_recall_figure(
    variants: Mapping[str, Sequence[Mapping[str, Curve]]], classes: Sequence[str], protocol: Protocol | Presence
) -> Figure:
    """Precision against recall, one panel per class and one for all classes pooled (micro).

    variants   name -> its folds, each class -> Curve (`precision_recall_curves`). Of several folds each is a thin line
               and their mean (`mean_curve`) a thick one. The legend of a panel gives AP, mean ± standard deviation
               over the folds that define it.

    protocol   what the curves are of; 'presence': of recordings, not of events.

    A class without labels has no curve, and its panel says so. Of more than 100 classes those with the highest AP are
    drawn. Raises ValueError without variants or folds.
    """
    if not variants or not all(variants.values()):
        raise ValueError("variants: empty; should name at least one, each with at least one fold")
    left = max(0, len(classes) - MOST_CLASSES)
    if left:
        classes = _best(classes, [{of: fold[of].ap for of in fold} for fold in next(iter(variants.values()))])
    names = [*classes, MICRO]
    narrow = len(names) <= 2
    figure, axes = panels(len(names), 1.3 + 0.125 * len(variants), 0.75 + (0.16 * len(variants) if narrow else 0))
    for axis, name in zip(axes, names, strict=True):
        title = "all classes (micro)" if name == MICRO else shown(name)
        _score_axis(axis, title, header_rows=len(variants))
        for order, folds in enumerate(variants.values()):
            _draw_curves(axis, [fold[name] for fold in folds if name in fold], order)
        if axis.lines:
            axis.legend(
                loc="lower left", bbox_to_anchor=(-0.02, 1.0), fontsize=SMALL_PT, frameon=False, handlelength=1.8,
                handletextpad=0.4, borderaxespad=0, labelspacing=0.1, borderpad=0.2,
            )  # fmt: skip
        else:
            mark_empty(axis, "no labels")
    figure.supxlabel("Recall", fontsize=FONT_PT)
    figure.supylabel("Precision", fontsize=FONT_PT)
    most = max(len(folds) for folds in variants.values())
    over = "" if most == 1 else f",{chr(10) if narrow else ' '}mean ± standard deviation over {most} folds (thin lines)"
    some = f"\n{_without(left)}" if left else ""
    legend = {name: _line(order) for order, name in enumerate(variants)}
    of = "presence per recording" if protocol == "presence" else f"{protocol} protocol"
    return finished(figure, legend, f"{of}; numbers are average precision{over}{some}")


def _without(left: int) -> str:
    return f"the {MOST_CLASSES} classes of the highest AP, without {left} others"


def _best(classes: Sequence[str], aps: Sequence[Mapping[str, float]]) -> list[str]:
    """The `MOST_CLASSES` with the highest AP in any of the folds, in their order."""
    highest = {name: max((ap[name] for ap in aps if name in ap), default=-1.0) for name in classes}
    kept = set(sorted(classes, key=lambda name: -highest[name])[:MOST_CLASSES])
    return [name for name in classes if name in kept]


def ap_per_class_figure(
    variants: Mapping[str, Sequence[Mapping[str, float]]], classes: Sequence[str], protocol: Protocol
) -> Figure:
    """AP per class: each fold as a small point, the mean as a large one with its standard deviation.

    variants   name -> the metrics of its folds, as `Evaluation.metrics` gives them. Classes that no fold defines are
               marked 'no labels'; the last two columns are the macro mean and the micro average.

    More than 40 classes stand below each other, macro and micro first, and without the marks.
    """
    names = [*classes, "macro", "micro"]
    if len(classes) > UPRIGHT:
        return _ap_lying(variants, names, protocol)
    width = COLUMN_IN if len(names) * max(len(variants), 1) <= 12 else PAGE_IN
    figure = new_figure(width, 2.5)
    axis = figure.subplots()
    step = 0.7 / max(len(variants), 1)
    size = 4.0 if len(names) * len(variants) <= 45 else 2.5
    for index, (variant, folds) in enumerate(variants.items()):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        axis.plot([], [], marker, color=colour, markersize=size, label=variant)
        for position, name in enumerate(names):
            key = metric_name(protocol, "AP", name)
            values = [fold[key] for fold in folds if key in fold]
            if values:
                place = position + (index - (len(variants) - 1) / 2) * step
                _draw_spread(axis, place, 0.2 * step, values, colour, marker, size)
    defined = {name for folds in variants.values() for fold in folds for name in fold}
    for position, name in enumerate(names):
        if metric_name(protocol, "AP", name) not in defined:
            axis.text(
                position, 0.02, "no labels", rotation=90, ha="center", va="bottom", color=GREY, fontsize=SMALL_PT
            )  # fmt: skip
    axis.axvline(len(classes) - 0.5, color="0.7", linewidth=0.8)
    axis.set(ylim=(0, 1.02), xlim=(-0.6, len(names) - 0.4))
    axis.set_ylabel(f"AP ({protocol} protocol)", fontsize=FONT_PT)
    steep = 90 if len(names) > 24 else 45
    axis.set_xticks(
        range(len(names)), [shown(name) for name in names],
        rotation=steep, ha="right", va="center" if steep == 90 else "top", rotation_mode="anchor",
    )  # fmt: skip
    axis.grid(axis="y", alpha=0.25, linewidth=0.5)
    several = any(len(folds) > 1 for folds in variants.values())
    return finished(figure, handles_of([axis]), "mean ± standard deviation; small: single folds" if several else None)


def _ap_lying(
    variants: Mapping[str, Sequence[Mapping[str, float]]], names: Sequence[str], protocol: Protocol
) -> Figure:
    """The same with a row for each class, whose names can so be read; of more than 100 those with the highest AP."""
    classes, prefix = names[:-2], metric_name(protocol, "AP", "")
    if left := max(0, len(classes) - MOST_CLASSES):
        first = next(iter(variants.values()), [])
        classes = _best(classes, [{key.removeprefix(prefix): value for key, value in fold.items()} for fold in first])
    rows = [*names[-2:], *classes]
    figure = new_figure(COLUMN_IN, 0.13 * len(rows) + 0.8)
    axis = figure.subplots()
    step = 0.7 / max(len(variants), 1)
    for index, (variant, folds) in enumerate(variants.items()):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        axis.plot([], [], marker, color=colour, markersize=3, label=variant)
        keys = [metric_name(protocol, "AP", name) for name in rows]
        found = {row: [fold[key] for fold in folds if key in fold] for row, key in enumerate(keys)}
        there = {row: spread(values) for row, values in found.items() if values}
        places = np.array(list(there)) + (index - (len(variants) - 1) / 2) * step
        single = [(value, place) for values, place in zip(filter(None, found.values()), places, strict=True)
                  for value in values if len(values) > 1]  # fmt: skip
        if single:
            axis.plot(*zip(*single, strict=True), "o", color=colour, markersize=1.2, alpha=0.6)
        spans = [one.std or 0.0 for one in there.values()]
        axis.errorbar([one.mean for one in there.values()], places, xerr=spans, fmt=marker, color=colour, markersize=3,
                      elinewidth=0.8)  # fmt: skip
    axis.axhline(1.5, color="0.7", linewidth=0.8)
    axis.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.6))
    axis.set_xlabel(f"AP ({protocol} protocol)", fontsize=FONT_PT)
    axis.set_yticks(range(len(rows)), [shown(name) for name in rows])
    axis.grid(alpha=0.25, linewidth=0.5)
    several = any(len(folds) > 1 for folds in variants.values())
    notes = [
        *(["mean ± standard deviation; small: single folds"] if several else []),
        *([_without(left)] if left else []),
    ]
    return finished(figure, handles_of([axis]), "\n".join(notes) or None)


def threshold_figure(
    scores: ThresholdScores, chosen: Mapping[str, float] | None = None, of: Literal["strict"] | Presence = "strict"
) -> Figure:
    """F1, precision and recall against the threshold, one panel per class, with the chosen threshold marked.

    chosen   class -> threshold; default `scores.best()`. A class without labels has no curve, and its panel says so;
             one of which no label is found at any threshold has no mark. Of more than 100 classes those with the most
             labels are drawn.
    of       what was counted: events under `strict`, or recordings.
    """
    chosen = scores.best() if chosen is None else chosen
    most = np.argsort(-np.asarray(scores.labelled), kind="stable")[:MOST_CLASSES]
    left = len(scores.classes) - len(most)
    figure, axes = panels(len(most), 1.55, 0.6)
    for axis, number in zip(axes, sorted(most.tolist()), strict=True):
        name = scores.classes[number]
        _score_axis(axis, shown(name), header_rows=1)
        if not scores.labelled[number]:
            mark_empty(axis, "no labels")
            continue
        for order, label in enumerate(("F1", "precision", "recall")):
            values = getattr(scores, label.lower())[number]
            width = 1.4 if label == "F1" else 0.9
            axis.plot(scores.thresholds, values, label=label, linewidth=width, **line_style(order))
        if name in chosen:
            f1 = float(scores.f1[number, np.argmin(np.abs(scores.thresholds - chosen[name]))])
            mark = "chosen: highest F1"
            axis.plot(chosen[name], f1, "o", color=COLOURS[0], markersize=4.5, clip_on=False, zorder=5, label=mark)
            _header(axis, f"F1 {f1:.2f} at {chosen[name]:g}", COLOURS[0])
        else:
            _header(axis, "nothing found", GREY)
    figure.supxlabel("Threshold on the pooled likelihood", fontsize=FONT_PT)
    counted = "presence per recording" if of == "presence" else "strict protocol"
    figure.supylabel(f"Score ({counted})", fontsize=FONT_PT)
    title = f"the {MOST_CLASSES} classes with the most labels, without {left} others" if left else None
    return finished(figure, handles_of(axes), title)


def _line(order: int) -> Artist:
    from matplotlib.lines import Line2D

    return Line2D([], [], linewidth=1.3, **line_style(order))


def _score_axis(axis: Axes, title: str, header_rows: int) -> None:
    """A panel from 0 to 1 both ways; between it and its title is room for some rows of small text."""
    axis.set_title(title, loc="left", fontsize=FONT_PT, pad=4 + 8 * header_rows)
    axis.set(xlim=(0, 1.01), ylim=(0, 1.03))
    axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axis.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axis.grid(alpha=0.25, linewidth=0.5)


def _header(axis: Axes, text: str, colour: str) -> None:
    axis.annotate(
        text, (0, 1), (0, 1.5), xycoords="axes fraction", textcoords="offset points", color=colour, fontsize=SMALL_PT,
        va="bottom",
    )  # fmt: skip


def _draw_curves(axis: Axes, curves: Sequence[Curve], order: int) -> None:
    """The folds of one variant and their mean, as steps whose area is AP, which is the mean's label."""
    if not curves:
        return
    style = line_style(order)
    if len(curves) > 1:
        for curve in curves:
            axis.plot(*_steps(curve), drawstyle="steps-pre", color=style["color"], linewidth=0.5, alpha=0.5)
    ap = str(spread([curve.ap for curve in curves]))
    axis.plot(*_steps(mean_curve(curves)), drawstyle="steps-pre", label=ap, linewidth=1.3, **style)


def _steps(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Points for `steps-pre`, beginning at recall 0."""
    if not len(curve.recall):
        return np.zeros(1), np.zeros(1)
    return np.r_[0.0, curve.recall], np.r_[curve.precision[:1], curve.precision]


def _draw_spread(
    axis: Axes, place: float, aside: float, values: Sequence[float], colour: str, marker: str, size: float
) -> None:
    """Folds as points left of `place`, mean and standard deviation right of it."""
    mean, std, _ = spread(values)
    axis.plot([place - aside] * len(values), values, "o", color=colour, markersize=size / 2, alpha=0.6, clip_on=False)
    axis.errorbar(place + aside, mean, yerr=std, fmt="none", ecolor=colour, capsize=2, elinewidth=1)
    axis.plot([place + aside], [mean], marker, color=colour, markersize=size, clip_on=False)
