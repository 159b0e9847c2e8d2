"""The table of the paper's first result: AP per class for each share of the labels, with sample sizes (spec 9)."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from .events import PROTOCOLS, Protocol
from .summary import UNDEFINED_MARK, Spread, Summary, aligned, metric_name

TRAIN_LABELS, VALIDATION_LABELS, EVALUATION_LABELS = "labels/train", "labels/validation", "labels/evaluation"
"""Prefixes of the metrics that hold sample sizes: labels of a class in the recordings that were trained on, in those
that were held out of them for validation (where some were), and in the evaluation recordings."""


def share_rows(shares: Mapping[float, Summary], classes: Sequence[str]) -> list[dict[str, Any]]:
    """One row per protocol, class (then macro and micro) and label share, in full precision; None where undefined.

    shares  label share -> summary over its folds, see `summarise`. Sample sizes are means and sample standard
            deviations over the folds of `labels/train/CLASS`, `labels/validation/CLASS` and `labels/evaluation/CLASS`,
            for micro sums of the means.
    """
    rows = []
    for protocol in PROTOCOLS:
        for name in (*classes, "macro", "micro"):
            for share, summary in sorted(shares.items()):
                ap = summary.get(metric_name(protocol, "AP", name))
                rows.append(
                    {
                        "protocol": protocol,
                        "class": name,
                        "label_share": share,
                        "AP_mean": ap.mean if ap else None,
                        "AP_std": ap.std if ap else None,
                        "folds": ap.n if ap else 0,
                        **_sizes(summary, name, classes),
                    }
                )
    return rows


def share_csv(shares: Mapping[float, Summary], classes: Sequence[str]) -> str:
    """`share_rows` as CSV, empty where undefined."""
    rows = share_rows(shares, classes)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def share_text(shares: Mapping[float, Summary], classes: Sequence[str], protocol: Protocol) -> str:
    """Class x label share as aligned text: AP and labels to learn from, mean ± standard deviation over folds."""
    ordered = sorted(shares.items())
    rows = [["", *(cell for share, _ in ordered for cell in ("", f"{100 * share:g} % of labels")), ""]]
    rows.append(["class", *(cell for _ in ordered for cell in ("train", f"AP {protocol}")), "evaluation"])
    for name in (*classes, "macro", "micro"):
        row = [name]
        for _, summary in ordered:
            found = summary.get(metric_name(protocol, "AP", name))
            row += [_shown(summary, TRAIN_LABELS, name, classes), str(found) if found else UNDEFINED_MARK]
        rows.append([*row, _shown(ordered[-1][1], EVALUATION_LABELS, name, classes)])
    lines = aligned(rows)
    rule = "─" * max(len(line) for line in lines)
    lines = [*lines[:2], rule, *lines[2:-2], rule, *lines[-2:]]
    folds = max((spread.n for summary in shares.values() for spread in summary.values()), default=0)
    notes = [f"{protocol} protocol, mean ± standard deviation over {folds} folds, of AP and of numbers of labels"]
    if any(UNDEFINED_MARK in row for row in rows):
        notes.append(f"{UNDEFINED_MARK} undefined: no labels of that class, so not part of the macro mean")
    return "\n".join([*lines, *notes])


def _sizes(summary: Summary, name: str, classes: Sequence[str]) -> dict[str, float | None]:
    """Sample sizes of one row of `share_rows`: mean and sample standard deviation over folds."""
    sizes: dict[str, float | None] = {}
    for part, prefix in (("train", TRAIN_LABELS), ("validation", VALIDATION_LABELS), ("evaluation", EVALUATION_LABELS)):
        found = _of(summary, prefix, name, classes)
        sizes[f"{part}_labels"] = sum(spread.mean for spread in found) if found else None
        sizes[f"{part}_labels_std"] = found[0].std if name in classes and found else None
    return sizes


def _of(summary: Summary, prefix: str, name: str, classes: Sequence[str]) -> list[Spread]:
    """Numbers of labels of a class; for micro of all of them, for macro none."""
    if name == "macro":
        return []
    found = (summary.get(f"{prefix}/{one}") for one in (classes if name == "micro" else [name]))
    return [spread for spread in found if spread is not None]


def _shown(summary: Summary, prefix: str, name: str, classes: Sequence[str]) -> str:
    """As the paper's table of sample sizes has them; of all classes only the mean, since their deviations depend on one
    another."""
    found = _of(summary, prefix, name, classes)
    mean = f"{sum(spread.mean for spread in found):.0f}" if found else ""
    std = found[0].std if name in classes and found else None
    return mean if std is None else f"{mean} ± {std:.1f}"
