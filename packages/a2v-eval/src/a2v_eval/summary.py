"""Metrics of several folds as mean and spread, and the tables to show them (spec section 9's layout)."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .events import PROTOCOLS, Protocol

UNDEFINED_MARK = "–"


class Spread(NamedTuple):
    """Mean and sample standard deviation (n - 1 below the fraction) over the n folds that define a metric.

    `std` is None for one fold: one number has no spread.
    """

    mean: float
    std: float | None
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.std is None else f"{self.mean:.2f} ± {self.std:.2f}"


Summary = Mapping[str, Spread]


def summarise(folds: Sequence[Mapping[str, float]]) -> dict[str, Spread]:
    """Per metric name, its spread over the folds in which it is defined. A metric that is undefined in a fold
    is
    absent there (see `Evaluation.metrics`), and `n` says in how many it was defined."""
    names = dict.fromkeys(name for fold in folds for name in fold)
    return {name: spread([fold[name] for fold in folds if name in fold]) for name in names}


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation. ValueError without values."""
    if not len(values):
        raise ValueError("values: none given; a mean needs at least one")
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(float(np.mean(values)), std, len(values))


def metric_name(protocol: Protocol, score: str, of: str) -> str:
    """The name under which `Evaluation.metrics` has a score: `AP/cc` for paper, `strict/AP/cc` for strict."""
    return f"{'strict/' if protocol == 'strict' else ''}{score}/{of}"


def text_table(
    variants: Mapping[str, Summary], classes: Sequence[str], labels: Mapping[str, int] | None = None
) -> str:
    """Class x AP in both protocols as aligned text, mean ± standard deviation over folds.

    variants   name -> summary: one for a single model, more to set them side by side ('energy' beside a
               model).
    labels     class -> number of labels, for a column of sample sizes.
    The last two rows are the macro mean (over the classes that have labels) and the micro average.
    """
    first = ["class", *(["labels"] if labels is not None else [])]
    alone = len(variants) == 1
    rows = [[*first, *((f"AP {p}" if alone else p) for _ in variants for p in PROTOCOLS)]]
    for name in (*classes, "macro", "micro"):
        counts = [str(labels.get(name, ""))] if labels is not None else []
        found = [s.get(metric_name(p, "AP", name)) for s in variants.values() for p in PROTOCOLS]
        rows.append([name, *counts, *(UNDEFINED_MARK if cell is None else str(cell) for cell in found)])
    if not alone:  # the variants' names stand above their two protocols
        blank = [""] * len(first)
        rows.insert(
            0, [*blank, *(name if p == PROTOCOLS[-1] else "" for name in variants for p in PROTOCOLS)]
        )
    lines = aligned(rows)
    rule = "─" * max(len(line) for line in lines)
    head = 1 if alone else 2
    lines = [*lines[:head], rule, *lines[head:-2], rule, *lines[-2:]]
    return "\n".join([*lines, *_footnotes(variants, classes, rows)])


def csv_table(variants: Mapping[str, Summary], classes: Sequence[str]) -> str:
    """The same numbers in full precision, one line per variant, protocol and class; empty where undefined."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["variant", "protocol", "class", "AP_mean", "AP_std", "folds"])
    for variant, summary in variants.items():
        for protocol in PROTOCOLS:
            for name in (*classes, "macro", "micro"):
                found = summary.get(metric_name(protocol, "AP", name))
                values = ["", "", 0] if found is None else ["" if v is None else v for v in found]
                writer.writerow([variant, protocol, name, *values])
    return out.getvalue()


def aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _footnotes(variants: Mapping[str, Summary], classes: Sequence[str], rows: list[list[str]]) -> list[str]:
    """How many folds, which classes are in fewer of them, and what the dash means."""
    found = {
        name: summary[key].n
        for summary in variants.values()
        for name in (*classes, "micro")
        for key in (metric_name("strict", "AP", name),)
        if key in summary
    }
    folds = max(found.values(), default=0)
    notes = [f"AP: mean ± standard deviation over {folds} folds" if folds > 1 else "AP of one fold"]
    fewer = [f"{name} ({n})" for name, n in found.items() if n < folds]
    if fewer:
        notes.append(f"labelled in fewer folds: {', '.join(fewer)}")
    if any(UNDEFINED_MARK in row for row in rows):
        notes.append(f"{UNDEFINED_MARK} undefined: no labels of that class, so not part of the macro mean")
    return notes
