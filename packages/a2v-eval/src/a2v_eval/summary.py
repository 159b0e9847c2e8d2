"""Metrics of several folds as mean and spread, and the tables to show them (spec section 9's layout)."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .events import PROTOCOLS, Protocol

UNDEFINED_MARK = "–"
STRICT_FIRST: tuple[Protocol, ...] = ("strict", "paper")
"""The order in which tables show the protocols: what is really found, then what published tables count."""
CALLS = ("found", "predicted", "labelled")
WIDTH = 100
NAMED = 12  # classes in one note
FLATTERING, UNFOUND = 0.5, 0.2


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
    variants: Mapping[str, Summary],
    classes: Sequence[str],
    labels: Mapping[str, int] | None = None,
    calls_of: str | None = None,
    calls_at: str | None = None,
) -> str:
    """Class x AP in both protocols as aligned text, strict first, mean ± standard deviation over folds.

    variants   name -> summary: one for a single model, more to set them side by side ('energy' beside a
               model).
    labels     class -> number of labels, for a column of sample sizes.
    calls_of   the variant whose found, predicted and labelled calls (`Evaluation.call_counts`) and F1 stand beside AP;
               of runs that have no counts they are left out. Such a table stays narrower than `WIDTH`: variants that
               do not fit beside each other stand below each other.
    calls_at   where these were counted, for the note below the table; None: at the evaluation's threshold.
    The last two rows are the macro mean (over the classes that have labels) and the micro average. Below the table
    stands what numbers are of, and where `paper` flatters.
    """
    if calls_of is not None and not any(key.startswith("strict/found/") for key in variants[calls_of]):
        calls_of = None
    rows = _rows(variants, classes, labels, calls_of)
    tables = ["\n".join(_ruled(rows, 1 if len(variants) == 1 else 2))]
    if calls_of is not None and len(variants) > 1 and max(map(len, tables[0].split("\n"))) >= WIDTH:
        tables = []
        for name, summary in variants.items():
            own = _rows({name: summary}, classes, labels, name if name == calls_of else None)
            tables.append("\n".join([name, *_ruled(own, 1)]))
    notes = _footnotes(variants, classes, rows)
    if calls_of is not None:
        at = calls_at or "the evaluation's threshold"
        notes.append(f"found, predicted, labelled: calls under strict at {at}, of all folds")
    for name, summary in variants.items():
        if calls_of in (None, name):
            of = f"{name}: " if calls_of is None and len(variants) > 1 else ""
            notes += [of + note for note in _flattery(summary, classes)]
    return "\n".join(["\n\n".join(tables), *notes])


def _rows(
    variants: Mapping[str, Summary],
    classes: Sequence[str],
    labels: Mapping[str, int] | None,
    calls_of: str | None,
) -> list[list[str]]:
    """Header (two rows for several variants), classes, macro, micro."""
    first = ["class", *(["labels"] if labels is not None else [])]
    first += [*CALLS, "F1"] if calls_of is not None else []
    alone = len(variants) == 1
    rows = [[*first, *((f"AP {p}" if alone else p) for _ in variants for p in STRICT_FIRST)]]
    for name in (*classes, "macro", "micro"):
        cells = [str(labels.get(name, ""))] if labels is not None else []
        cells += _calls(variants[calls_of], name) if calls_of is not None else []
        found = [s.get(metric_name(p, "AP", name)) for s in variants.values() for p in STRICT_FIRST]
        rows.append([name, *cells, *(UNDEFINED_MARK if cell is None else str(cell) for cell in found)])
    if not alone:  # the variants' names stand above their two protocols
        names = [name if p == STRICT_FIRST[-1] else "" for name in variants for p in STRICT_FIRST]
        rows.insert(0, [*([""] * len(first)), *names])
    return rows


def _calls(summary: Summary, name: str) -> list[str]:
    """Found, predicted and labelled calls of all folds, and the mean of F1."""
    counts = [summary.get(f"strict/{what}/{name}") for what in CALLS]
    f1 = summary.get(metric_name("strict", "F1", name))
    shown = ["" if count is None else f"{count.mean * count.n:.0f}" for count in counts]
    return [*shown, UNDEFINED_MARK if f1 is None else f"{f1.mean:.2f}"]


def _ruled(rows: list[list[str]], head: int) -> list[str]:
    """Aligned, with rules below the header and above macro and micro."""
    lines = aligned(rows)
    rule = "─" * max(len(line) for line in lines)
    return [*lines[:head], rule, *lines[head:-2], rule, *lines[-2:]]


def paper_flatters(paper: Mapping[str, float | None], strict: Mapping[str, float | None]) -> list[str]:
    """Of names -> AP under either protocol those for which `paper` says something good (0.5 or more) and `strict` finds
    next to nothing (below 0.2)."""
    return [
        name
        for name, ap in paper.items()
        if ap is not None and ap >= FLATTERING and (own := strict.get(name)) is not None and own < UNFOUND
    ]


def flattery_note(names: Sequence[str], why: str) -> list[str]:
    """What to say below a table of those names, if there are any."""
    left = len(names) - NAMED
    shown = ", ".join(names[:NAMED]) + (f" and {left} more" if left > 0 else "")
    return [f"paper flatters {shown}, of which strict AP is below {UNFOUND:g}: {why}"] if names else []


def _flattery(summary: Summary, classes: Sequence[str]) -> list[str]:
    def of(protocol: Protocol) -> dict[str, float | None]:
        found = {name: summary.get(metric_name(protocol, "AP", name)) for name in (*classes, "micro")}
        return {name: None if ap is None else ap.mean for name, ap in found.items()}

    why = "any overlap counts and missed labels enter with their own likelihood"
    return flattery_note(paper_flatters(of("paper"), of("strict")), why)


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
    rows = [[cell.replace("\n", "\\n") for cell in row] for row in rows]  # a class's name is one line
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
        left = len(fewer) - NAMED
        shown = ", ".join(fewer[:NAMED]) + (f" and {left} more" if left > 0 else "")
        notes.append(f"labelled in fewer folds: {shown}")
    if any(UNDEFINED_MARK in row for row in rows):
        notes.append(f"{UNDEFINED_MARK} undefined: no labels of that class, so not part of the macro mean")
    return notes
