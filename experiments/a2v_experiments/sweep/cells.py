"""Scores of a sweep's trials, fold by fold, from the store."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from a2v_eval.effects import Cells
from mlflow import MlflowClient
from mlflow.entities import Run

from ..store import lookup
from ..store.tags import input_mark

OTHER_FOLDS = 10_000  # what is added to folds of another split, so that they are not taken for the same ones
# scores that are undefined where nothing is predicted, though there are labels; all others only where there are none
NEEDS_CALLS = re.compile(r"(^|/)precision(/|$)|^(validation/|any_class/)*m?AP(/|$)")
Parts = dict[int | None, dict[int, list[float | None]]]  # seed -> fold -> score of each label share, if it is defined


def fold_scores(client: MlflowClient, trials: Sequence[str], metric: str, shares: Sequence[float]) -> list[Cells]:
    """Of each trial, given by its run id, seed -> fold -> the metric's mean over label shares, where all of them define
    it. Folds of other recordings than the first trial's have other numbers."""
    return [
        {seed: {fold: mean for fold, one in folds.items() if (mean := _mean(one)) is not None}
         for seed, folds in parts.items()}
        for parts in _parts(client, trials, metric, shares)
    ]  # fmt: skip


def ranked_scores(
    client: MlflowClient, trials: Sequence[str], metric: str, shares: Sequence[float]
) -> dict[str, float]:
    """Of the trials in which the metric is undefined where another trial defines it, in the same fold with the same
    seed and label share, the mean with 0 there: where a trial predicts nothing, precision is undefined, and AP under
    `paper` too, and it is not the better for the easy folds that are left. Trials without any score are left out."""
    if not NEEDS_CALLS.search(metric):
        return {}
    every = _parts(client, trials, metric, shares)
    cells = [
        {(seed, fold, place): score for seed, folds in parts.items() for fold, scores in folds.items()
         for place, score in enumerate(scores)}
        for parts in every
    ]  # fmt: skip
    known = {key for one in cells for key, score in one.items() if score is not None}
    found = {}
    for run_id, one in zip(trials, cells, strict=True):
        lacks = [key for key, score in one.items() if score is None and key in known]
        if lacks and any(score is not None for score in one.values()):
            counted = {key: score or 0.0 for key, score in one.items() if score is not None or key in known}
            of_shares = [[score for key, score in counted.items() if key[2] == place] for place in range(len(shares))]
            if all(of_shares):
                found[run_id] = float(np.mean([_over_folds(counted, place) for place in range(len(shares))]))
    return found


def _over_folds(counted: Mapping[tuple[int | None, int, int], float], place: int) -> float:
    """Mean over folds of the mean over seeds, as the trial's run has it."""
    by_fold: dict[int, list[float]] = {}
    for (_, fold, share), score in counted.items():
        if share == place:
            by_fold.setdefault(fold, []).append(score)
    return float(np.mean([np.mean(scores) for scores in by_fold.values()]))


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if len(known) == len(scores) else None


def _parts(client: MlflowClient, trials: Sequence[str], metric: str, shares: Sequence[float]) -> list[Parts]:
    there = lookup.by_id(client, trials)
    ids = [lookup.seed_runs(there[run_id]) if run_id in there else {} for run_id in trials]
    wanted = [
        run_id for one in ids for by_share in one.values() for folds in by_share.values() for run_id in folds.values()
    ]
    runs = lookup.by_id(client, wanted)
    splits: dict[str, int] = {}
    return [{seed: _of_seed(by_share, runs, metric, shares, splits) for seed, by_share in one.items()} for one in ids]


def _of_seed(
    by_share: Mapping[float, Mapping[int, str]],
    runs: Mapping[str, Run],
    metric: str,
    shares: Sequence[float],
    splits: dict[str, int],
) -> dict[int, list[float | None]]:
    found = {}
    for fold in sorted(set.union(*(set(folds) for folds in by_share.values())) if by_share else set()):
        those = [runs.get(by_share.get(share, {}).get(fold, "")) for share in shares]
        first = next((run for run in those if run is not None), None)
        if first is not None:
            split = splits.setdefault(first.data.tags.get(input_mark("folds"), ""), len(splits))
            found[fold + OTHER_FOLDS * split] = [
                None if run is None else lookup.defined_metrics(run).get(metric) for run in those
            ]
    return found
