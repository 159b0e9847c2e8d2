"""What `a2v bench detect` says: means and intervals over seeds, the JSON, the table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ..store.environment import describe_environment
from .machine import processor_name

ROLES = ("a2v", "peer")
Numbers = Mapping[str, float]
ROWS = {
    "strict/AP/micro": "strict AP, micro", "strict/AP/macro": "strict AP, macro",
    "strict/mAP/micro": "strict mAP, micro (IoU 0.1 to 0.9)", "strict/F1/micro": "strict F1",
    "strict/precision/micro": "strict precision", "strict/recall/micro": "strict recall",
    "strict/found/micro": "calls found", "strict/predicted/micro": "calls predicted",
    "strict/labelled/micro": "calls labelled", "AP/micro": "paper AP, micro", "AP/macro": "paper AP, macro",
    "F1/micro": "paper F1", "cpu_seconds": "CPU-s of training", "pretraining_cpu_seconds": "  of them pretraining",
    "validation_cpu_seconds": "  of them validation", "measuring_cpu_seconds": "CPU-s to measure an update, beside",
    "scoring_cpu_seconds_per_audio_second": "CPU-s to search a second of audio", "parameters": "parameters",
    "pretrain_updates": "updates of pretraining", "updates": "updates",
    "schedule_share": "share of the schedule done", "best_update": "chosen update",
    "peak_memory_gib": "peak memory in training (GiB)",
}  # fmt: skip


def mean_of(runs: Sequence[Numbers]) -> dict[str, float]:
    """Mean of every number that each run has."""
    return {name: statistics.fmean(run[name] for run in runs) for name in runs[0] if all(name in run for run in runs)}


def interval_of(values: Sequence[float]) -> list[float] | None:
    """95 % confidence interval of the mean by Student's t; None of fewer than two values."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return [mean - half, mean + half]


def mean_curve(curves: Sequence[Sequence[Sequence[float | None]]]) -> list[list[float | None]]:
    """Point by point over seeds, as far as all have one: [seconds, AP]; AP None where one is undefined."""
    points = []
    for several in zip(*curves, strict=False):
        seconds, scores = zip(*several, strict=True)
        undefined = any(score is None for score in scores)
        points.append([statistics.fmean(seconds), None if undefined else statistics.fmean(scores)])
    return points


def role_of(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One model over all seeds, for JSON. A run: `numbers`, `curve` and whatever else is told of it."""
    numbers: list[Numbers] = [run["numbers"] for run in runs]
    means = mean_of(numbers)
    return {
        "model": runs[0]["model"],
        **means,
        "curve": mean_curve([run["curve"] for run in runs]),
        "interval_95": {name: interval_of([run[name] for run in numbers]) for name in means},
        "runs": [{**run["numbers"], **{key: run[key] for key in run if key != "numbers"}} for run in runs],
    }


def difference_of(own: Sequence[Mapping[str, Any]], peer: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """a2v minus peer of every strict AP, mAP and F1 mean, seed by seed: mean and 95 % interval."""
    names = [name for name in ROWS if name.startswith(("strict/AP", "strict/mAP", "strict/F1"))]
    found = {}
    for name in names:
        pairs = [(one["numbers"].get(name), other["numbers"].get(name)) for one, other in zip(own, peer, strict=True)]
        values = [a - b for a, b in pairs if a is not None and b is not None]
        if len(values) == len(pairs):
            found[name] = {"mean": statistics.fmean(values), "interval_95": interval_of(values)}
    return found


def machine() -> dict[str, Any]:
    """The processor and what else the numbers depend on."""
    known = describe_environment()
    return {
        "processor": processor_name(),
        **{key: known[key] for key in ("machine", "system", "cpu_cores", "memory_gib", "python")},
        "torch": known["packages"]["torch"],
        "threads": 1,
    }


def text_of(found: Mapping[str, Any]) -> str:
    """The table: mean, and each seed where there are several; then each class's strict AP and labelled calls."""
    seeds = found["seeds"]
    several = len(seeds) > 1
    columns: list[tuple[str, Mapping[str, Any]]] = [(f"{role} {found[role]['model']}", found[role]) for role in ROLES]
    for number, seed in enumerate(seeds if several else []):
        columns += [(f"{role} seed {seed}", found[role]["runs"][number]) for role in ROLES]
    classes = sorted(
        name.removeprefix("strict/labelled/") for name in found["a2v"]
        if name.startswith("strict/labelled/") and not name.endswith("/micro")
    )  # fmt: skip
    rows = dict(ROWS) | {f"strict/AP/{name}": f"strict AP, {name}" for name in classes}
    table = [["", *[label for label, _ in columns]]]
    for name, label in rows.items():
        values = [numbers.get(name) for _, numbers in columns]
        if any(value is not None for value in values):
            table.append([label, *[shown(value) for value in values]])
    widths = [max(len(row[number]) for row in table) for number in range(len(table[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *[cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]])
        for row in table
    ]
    for name, difference in found["difference"].items():
        lines += _difference_line(name, difference) if several else []
    return "\n".join(lines)


def _difference_line(name: str, difference: Mapping[str, Any]) -> list[str]:
    low, high = difference["interval_95"]
    return [f"{ROWS[name]}: a2v - peer {difference['mean']:+.3f} (95 % over seeds {low:+.3f} to {high:+.3f})"]


def shown(value: float | None) -> str:
    """A number of the table."""
    if value is None:
        return "-"
    if float(value).is_integer() and value != 1:
        return f"{value:,.0f}"
    return f"{value:.3f}" if 0.01 <= abs(value) < 10 else f"{value:.3g}"
