"""What `a2v bench review` says: a row for each arm, seed and round, and how many random clips are worth as much."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from ..basics.tables import csv_text, text_table
from .review import RANDOM, Looked

Curve = list[tuple[float, float | None]]
HEAD = ["arm", "seed", "round", "clips", "minutes", "labels", "classes", "strict AP", "strict mAP", "CPU-s"]


def rows_of(found: Sequence[Looked]) -> list[list[str]]:
    """The cells of HEAD, by arm, seed and round."""
    arms = list(dict.fromkeys(one.arm for one in found))
    ordered = sorted(found, key=lambda one: (arms.index(one.arm), one.seed, one.round))
    return [
        [
            one.arm, str(one.seed), str(one.round), str(one.clips), f"{one.minutes:.2f}", str(one.labels),
            str(one.classes), _score(one.ap), _score(one.map), f"{one.cpu_s:.1f}",
        ]
        for one in ordered
    ]  # fmt: skip


def curves_of(found: Sequence[Looked]) -> dict[str, list[Curve]]:
    """Arm -> seeds -> (clips, strict AP), for the figure."""
    curves: dict[str, dict[int, Curve]] = {}
    for one in sorted(found, key=lambda one: one.round):
        curves.setdefault(one.arm, {}).setdefault(one.seed, []).append((one.clips, one.ap))
    return {arm: [curve for _, curve in sorted(by_seed.items())] for arm, by_seed in curves.items()}


def mean_curve(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """(clips, mean AP) over seeds, of the rounds in which all seeds have an AP."""
    points = []
    for several in zip(*curves, strict=False):
        scores = [ap for _, ap in several if ap is not None]
        if len(scores) == len(several):
            points.append((statistics.fmean(clips for clips, _ in several), statistics.fmean(scores)))
    return points


def clips_for(curve: Sequence[tuple[float, float]], ap: float) -> float:
    """How many clips a curve needs for an AP: the first at which its best so far has it, straight lines between points;
    infinite where it never has."""
    before: tuple[float, float] | None = None
    for clips, best in _rising(curve):
        if best >= ap:
            if before is None or best == before[1]:
                return clips
            return before[0] + (clips - before[0]) * (ap - before[1]) / (best - before[1])
        before = clips, best
    return math.inf


def _rising(curve: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    best, points = -math.inf, []
    for clips, ap in curve:
        best = max(best, ap)
        points.append((clips, best))
    return points


def worth(found: Sequence[Looked]) -> dict[str, list[dict[str, float | None]]]:
    """Of every arm but the random one, after each round: clips, mean AP, how many random clips have that AP (None: more
    than were looked at) and how many times as many that are."""
    curves = {arm: mean_curve(several) for arm, several in curves_of(found).items()}
    random = curves.get(RANDOM, [])
    told: dict[str, list[dict[str, float | None]]] = {}
    for arm, curve in curves.items():
        if arm == RANDOM:
            continue
        told[arm] = []
        for clips, ap in curve[1:]:
            needed = clips_for(random, ap)
            times = needed / clips
            known = math.isfinite(needed)
            told[arm].append(
                {"clips": clips, "ap": ap, "random": needed if known else None, "times": times if known else None}
            )
    return told


def text_of(found: Sequence[Looked]) -> str:
    """The table, means over seeds, and what suggested clips are worth."""
    lines = [text_table(HEAD, rows_of(found)), ""]
    curves = {arm: mean_curve(several) for arm, several in curves_of(found).items()}
    clips = sorted({point[0] for curve in curves.values() for point in curve})
    of = {arm: dict(curve) for arm, curve in curves.items()}
    rows = [[f"{n:g}", *(_score(of[arm].get(n)) for arm in of)] for n in clips]
    lines += ["mean strict AP over seeds", text_table(["clips", *of], rows)]
    most = max((point[0] for point in curves.get(RANDOM, [])), default=0)
    for arm, points in worth(found).items() if RANDOM in curves else ():
        lines.append("")
        for point in points:
            needed, times = point["random"], point["times"]
            as_many = f"{needed:.0f} ({times:.1f} times as many)" if needed and times else f"more than {most:g}"
            lines.append(f"{point['clips']:g} {arm} clips: AP {point['ap']:.3f}, as {as_many} at random")
    return "\n".join(lines)


def table_csv(found: Sequence[Looked]) -> str:
    """All rows as CSV."""
    head = [name.replace(" ", "_").replace("-", "_").lower() for name in HEAD]
    return csv_text([dict(zip(head, row, strict=True)) for row in rows_of(found)])


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
