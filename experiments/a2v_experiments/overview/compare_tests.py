"""What `a2v experiment compare` tests: the best side, or one that is named, against each other one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from a2v_eval.comparison import MOST_FOLDS, paired_test
from a2v_eval.effects import ALPHA, Cells, Effect, against_all, cells_of_both
from a2v_eval.summary import metric_name
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ..basics.errors import UserError
from ..recipe.folds import USUAL_SHARE
from ..store.tags import BEST_RUN, CHOSEN_BY, STAGE, VARIANT, input_mark
from ..sweep.cells import OTHER_FOLDS
from ..training.validation_report import VALIDATION
from .compare import Side, shares_together

RANKED_BY = ("strict/mAP/micro", metric_name("strict", "AP", "micro"), "presence/mAP/micro", "AP/micro")


@dataclass(frozen=True)
class Baseline:
    """What the others are tested against. by: the metric by which it is the best, empty where it was named; own_scores:
    whether the scores that are tested have chosen it."""

    side: Side
    by: str
    own_scores: bool


@dataclass(frozen=True)
class Test:
    """One metric of two sides. p_adjusted: of the effect, after Holm over all sides; p_sign_flips: over folds, each the
    mean over seeds, and the smallest that it can be; None for other than 2 to 20 folds."""

    metric: str
    effect: Effect
    p_adjusted: float | None
    p_sign_flips: float | None
    smallest_p: float | None

    @property
    def tie(self) -> bool:
        return self.p_adjusted is None or self.p_adjusted >= ALPHA

    def plain(self) -> dict[str, Any]:
        own = {key: value for key, value in asdict(self).items() if key != "effect"}
        return {**own, **asdict(self.effect), "tie": self.tie}


@dataclass(frozen=True)
class Pairing:
    """Side `first`, the baseline, against `second`, their label shares, and the tests over the folds and seeds that
    both have; where there can be none, `tests` is empty and `reason` says why."""

    first: str
    second: str
    shares: tuple[float, float]
    folds: list[int]
    tests: list[Test]
    reason: str

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "tests": [test.plain() for test in self.tests]}


def baseline_of(client: MlflowClient, found: Sequence[Side], named: str | None, chosen: Sequence[str]) -> Baseline:
    """The side that a name means, else the best one: of trials of one sweep the one that the sweep chose, else that
    with the highest mean over folds and label shares of the first metric in `chosen`, or of what sweeps rank by.
    Raises UserError for a name that no side has, or several."""
    if named is not None:
        return Baseline(_named(found, named), "", False)
    parents = {side.run.data.tags.get(MLFLOW_PARENT_RUN_ID) if _is_trial(side) else None for side in found}
    parent = next(iter(parents)) if len(parents) == 1 else None
    if parent and not chosen:
        tags = client.get_run(parent).data.tags
        best = next((side for side in found if side.run.info.run_id == tags.get(BEST_RUN)), None)
        if best is not None and CHOSEN_BY in tags:
            return Baseline(best, tags[CHOSEN_BY], not tags[CHOSEN_BY].startswith(VALIDATION))
    there = {name for side in found for share in side.shares for fold in side.scores(share) for name in fold}
    metric = next((name for name in (*chosen, *RANKED_BY) if name in there), min(there))
    together = [shares for shares in shares_together(found) if _all_have(found, shares)] or shares_together(found)[:1]

    def score(number: int) -> float:
        means = [_mean(found[number], shares[number], metric) for shares in together]
        return float(np.mean(means)) if means else -np.inf

    return Baseline(found[max(range(len(found)), key=score)], metric, True)


def _is_trial(side: Side) -> bool:
    return bool(side.run.data.tags[STAGE] == "trial")


def _all_have(found: Sequence[Side], shares: Sequence[float]) -> bool:
    return all(share in side.shares for side, share in zip(found, shares, strict=True))


def _mean(side: Side, share: float, metric: str) -> float:
    known = [fold[metric] for fold in side.scores(share) if metric in fold]
    return float(np.mean(known)) if known else -np.inf


def _named(found: Sequence[Side], name: str) -> Side:
    exact = [side for side in found if name in (side.letter, side.run.info.run_id)]
    alike = [
        side
        for side in found
        if name in (side.name, side.run.data.tags.get(VARIANT), side.run.info.run_name)
        or (len(name) >= 4 and side.run.info.run_id.startswith(name))
    ]
    those = exact or alike
    if len(those) == 1:
        return those[0]
    letters = ", ".join(f"{side.letter} ({side.run.data.tags.get(VARIANT) or side.name})" for side in found)
    what = f"means {len(those)} of what is compared" if those else "is none of what is compared"
    raise UserError(f"--baseline {name}: {what}; give one of the letters: {letters}")


def pairings(
    found: Sequence[Side], shares: tuple[float, ...], tested: Sequence[str], baseline: Baseline
) -> list[Pairing]:
    """The baseline against each other side that has folds of its label share; none where the baseline has none."""
    there = [(side, share) for side, share in zip(found, shares, strict=True) if share in side.shares]
    first = next((place for place, (side, _) in enumerate(there) if side is baseline.side), None)
    if first is None:
        return []
    k_folds = made(baseline.side, len(there[first][0].folds(there[first][1])))
    tests: dict[int, list[Test]] = {place: [] for place in range(len(there))}
    splits: dict[str, int] = {}
    for metric in tested:
        cells = [_apart(side, share, metric, splits) for side, share in there]
        for one in against_all(cells, first, k_folds, chosen_by_these=baseline.own_scores):
            if one.effect.over != "nothing":
                flips = _sign_flips(cells[first], cells[one.second])
                tests[one.second].append(Test(metric, one.effect, one.p, *flips))
    return [_pairing(there[first], other, tests[place]) for place, other in enumerate(there) if place != first]


def _pairing(first: tuple[Side, float], second: tuple[Side, float], tests: list[Test]) -> Pairing:
    (a, share_a), (b, share_b) = first, second
    both = sorted(set(a.folds(share_a)) & set(b.folds(share_b)))
    splits = [
        {run.data.tags.get(input_mark("folds")) for run in one.fold_runs(share)} for one, share in (first, second)
    ]
    reason = ""
    if splits[0] != splits[1]:
        reason = "their folds are not the same recordings, so folds cannot be paired"
    elif not tests and len(both) < 2:
        reason = f"a test needs at least 2 folds (or seeds) that both have, they have {len(both)}"
    elif not tests:
        reason = "no metric is defined in 2 folds of both"
    return Pairing(a.letter, b.letter, (share_a, share_b), both, [] if splits[0] != splits[1] else tests, reason)


def _apart(side: Side, share: float, metric: str, splits: dict[str, int]) -> Cells:
    """A side's cells, with other numbers for folds of other recordings than those of the first side."""
    marks = {run.data.tags.get(input_mark("folds"), "") for run in side.fold_runs(share)}
    split = splits.setdefault(" ".join(sorted(marks)), len(splits))
    return {
        seed: {fold + OTHER_FOLDS * split: score for fold, score in folds.items()}
        for seed, folds in side.cells(share, metric).items()
    }


def made(side: Side, folds: int) -> float:
    """How many folds the recordings were split into."""
    config = side.config
    if config.get("folds.scheme") == "shuffle":
        return 1 / float(config.get("folds.evaluation_share", USUAL_SHARE))
    return max(2.0, float(config.get("folds.count", folds)))


def _sign_flips(first: Cells, second: Cells) -> tuple[float | None, float | None]:
    one_SF, other_SF = cells_of_both(first, second)
    if not 2 <= one_SF.shape[1] <= MOST_FOLDS:
        return None, None
    test = paired_test(one_SF.mean(axis=0).tolist(), other_SF.mean(axis=0).tolist())
    return test.p_sign_flips, test.smallest_p
