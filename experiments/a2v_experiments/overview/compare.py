"""`a2v experiment compare`: runs side by side - what differs in their configuration, their scores, paired tests.

A side is an experiment's run, a trial of a sweep, or one finetuning. Its scores are those of its folds, one finetune
run for each seed, label share and fold. What is tested against what stands in compare_tests.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from a2v_eval.effects import Cells
from a2v_eval.summary import Spread, summarise
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ..basics.errors import FAILED, UserError
from ..stages.seeds import over_seeds
from ..store import lookup
from ..store.links import VIEW
from ..store.tags import COMMIT, FOLD, LABEL_SHARE, STAGE, SWEEP, VARIANT, input_mark

STAGES = ("experiment", "trial", "finetune")
RUN_ID = re.compile(r"[0-9a-f]{4,32}")
# parameters that say which parts of an experiment run, not what they are; a fold's own stand beside it
PARTS = ("folds.run", "folds.label_shares", "folds.refit")
TAGS = {input_mark("data"): "recordings and labels", COMMIT: "commit"}


@dataclass(frozen=True)
class Side:
    """One of what is compared. letter: A, B, ...; seeds: seed (None where its recipe has no `seeds`) -> label share ->
    fold -> its finetune run; config: parameters of the experiment or trial that it is, or belongs to."""

    letter: str
    name: str
    run: Run
    seeds: Mapping[int | None, Mapping[float, Mapping[int, Run]]]
    config: Mapping[str, str]

    @property
    def shares(self) -> list[float]:
        """Label shares of which there are folds."""
        return list(dict.fromkeys(share for by_share in self.seeds.values() for share in by_share))

    def fold_runs(self, share: float) -> list[Run]:
        """Of all seeds."""
        return [run for by_share in self.seeds.values() for run in by_share.get(share, {}).values()]

    @property
    def all_folds(self) -> list[Run]:
        return [run for share in self.shares for run in self.fold_runs(share)]

    def folds(self, share: float) -> list[int]:
        """Numbers of the folds that any seed has."""
        return sorted({fold for by_share in self.seeds.values() for fold in by_share.get(share, {})})

    def scores(self, share: float) -> list[dict[str, float]]:
        """Metrics of its folds, each the mean over seeds, in the order of the folds."""
        folds = self.folds(share)
        by_seed = {
            seed: {share: [metrics(by_share[share][fold]) if fold in by_share[share] else {} for fold in folds]}
            for seed, by_share in self.seeds.items()
            if share in by_share
        }
        return over_seeds(by_seed)[share] if by_seed else []

    def cells(self, share: float, metric: str) -> Cells:
        """Seed -> fold -> score, of those that define it."""
        return {
            seed: {fold: found[metric] for fold, run in by_share[share].items() if metric in (found := metrics(run))}
            for seed, by_share in self.seeds.items()
            if share in by_share
        }


def metrics(run: Run) -> dict[str, float]:
    """A fold's scores, without those of its training."""
    found = lookup.defined_metrics(run)
    return {name: value for name, value in found.items() if "/" in name and not name.startswith(("system/", "labels/"))}


def sides(client: MlflowClient, names: Sequence[str]) -> list[Side]:
    """What the names mean, each with its folds. A name: an experiment (its newest finished run), EXPERIMENT:VARIANT,
    or a run id or its beginning, of an experiment, a trial or a finetuning. A sweep stands for its finished trials.
    Raises UserError for what is unknown, not unique, named twice or without scores, and for fewer than two."""
    runs: list[tuple[str, Run]] = []
    for name in names:
        run = resolve(client, name)
        runs += _trials(client, name, run) if SWEEP in run.data.tags else [(name, run)]
    found: list[Side] = []
    for number, (name, run) in enumerate(runs):
        twice = next((side for side in found if side.run.info.run_id == run.info.run_id), None)
        if twice:
            raise UserError(f"{name}: is the same run as {twice.name} ({run.info.run_id}); name two different ones")
        found.append(side_of(client, _letter(number), name, run))
    if len(found) < 2:
        raise UserError(f"{names[0]}: one run alone; name at least two to compare")
    return found


def _trials(client: MlflowClient, name: str, sweep: Run) -> list[tuple[str, Run]]:
    """Finished trials of a sweep, in the order in which they started."""
    trials = lookup.trials_of(client).get(sweep.info.run_id, [])
    finished = [(name, run) for run in trials if run.info.status == "FINISHED"]
    if not finished:
        raise UserError(f"{name}: is a sweep, and none of its {len(trials)} trials is finished", FAILED)
    return finished


def _letter(number: int) -> str:
    """A, B, ... Z, A1, B1, ..."""
    return chr(ord("A") + number % 26) + (str(number // 26) if number >= 26 else "")


def resolve(client: MlflowClient, name: str) -> Run:
    """The run that a name means (see `sides`). Raises UserError."""
    known = lookup.experiment_names(client)
    experiment, colon, variant = name.partition(":")
    ids = [key for key, value in known.items() if value == experiment]
    if ids:
        runs = [run for run in lookup.of_stage(client, "experiment") if run.info.experiment_id in ids]
        if colon:
            runs = [run for run in runs if run.data.tags.get(VARIANT) == variant]
        finished = [run for run in runs if run.info.status == "FINISHED"]
        if finished:
            return finished[0]
        what = f"{len(runs)} run(s), none of them finished; name one by its id" if runs else "no run of that kind"
        raise UserError(f"{name}: {what} (`a2v experiment list` shows them)")
    if not RUN_ID.fullmatch(name):
        raise UserError(f"{name}: no experiment of that name and no run id of 4 to 32 characters; {_known(known)}")
    runs = [run for run in lookup.search(client, f"attributes.run_id LIKE '{name}%'") if STAGE in run.data.tags]
    if not runs:
        raise UserError(f"{name}: no run whose id begins like that; `a2v experiment list` shows them")
    usable = [run for run in runs if run.data.tags[STAGE] in STAGES]
    if len(usable) > 1:
        some = ", ".join(run.info.run_id for run in usable[:3])
        raise UserError(f"{name}: is the beginning of {len(usable)} run ids ({some}); give more characters")
    if not usable:
        stage = runs[0].data.tags[STAGE]
        raise UserError(
            f"{name}: is a run of the stage {stage!r}; only experiments, trials and finetunings have scores"
        )
    return usable[0]


def _known(known: dict[str, str]) -> str:
    names = sorted(known.values())
    return f"experiments here: {', '.join(names)}" if names else "the store has none"


def side_of(client: MlflowClient, letter: str, name: str, run: Run) -> Side:
    """What a run is compared as. Raises UserError where it has no scores."""
    if run.data.tags[STAGE] == "finetune":
        share, fold = float(run.data.tags[LABEL_SHARE]), int(run.data.tags[FOLD])
        seeds: Mapping[int | None, Mapping[float, Mapping[int, Run]]] = {None: {share: {fold: run}}}
        parent = client.get_run(run.data.tags[MLFLOW_PARENT_RUN_ID])
        own = {"fold": str(fold), "label_share": f"{share:g}"}
        config = {**{key: value for key, value in parent.data.params.items() if key not in PARTS}, **own}
    else:
        ids = lookup.seed_runs(run)
        every = [run_id for shares in ids.values() for by_fold in shares.values() for run_id in by_fold.values()]
        runs = lookup.by_id(client, every)
        seeds = {
            seed: {share: {fold: runs[by_fold[fold]] for fold in sorted(by_fold)} for share, by_fold in shares.items()}
            for seed, shares in ids.items()
        }
        config = dict(run.data.params)
    side = Side(letter, name, run, seeds, config)
    if not any(metrics(fold) for fold in side.all_folds):
        status = run.info.status
        hint = "wait for its first fold" if status == "RUNNING" else "the same `a2v experiment run` goes on with it"
        raise UserError(f"{name}: run {run.info.run_id} ({status}) has no scores yet; {hint}", FAILED)
    return side


def differences(found: Sequence[Side]) -> dict[str, list[str | None]]:
    """Parameter -> its value on each side (None: it has none), for those that are not the same on all sides.

    Whether the recordings or their labels, and the code, are the same is part of it. Where experiments stand beside
    single folds, which folds each is about is told by its scores.
    """
    mixed = len({side.run.data.tags[STAGE] == "finetune" for side in found}) > 1
    left_out = {"fold", "label_share", *PARTS} if mixed else set()
    keys = dict.fromkeys(key for side in found for key in side.config if key not in left_out)
    table = {key: [side.config.get(key) for side in found] for key in keys}
    for tag, label in TAGS.items():
        marks = [_of_folds(side, tag) for side in found]
        table[label] = [mark and mark[:12] for mark in marks]
    return {key: values for key, values in table.items() if len(set(values)) > 1}


def _of_folds(side: Side, tag: str) -> str | None:
    """A tag that all folds of a side share; its values, where they do not."""
    values = sorted({run.data.tags.get(tag, "") for run in side.all_folds})
    return ", ".join(values) or None


def shares_together(found: Sequence[Side]) -> list[tuple[float, ...]]:
    """Which label share of each side stands beside which: equal ones, or the only ones where each side has one."""
    if all(len(side.shares) == 1 for side in found):
        return [tuple(side.shares[0] for side in found)]
    shares = sorted({share for side in found for share in side.shares}, reverse=True)
    return [(share,) * len(found) for share in shares]


def summaries(found: Sequence[Side], shares: tuple[float, ...]) -> dict[str, dict[str, Spread]]:
    """Letter -> metric -> mean and standard deviation over its folds, of the sides that have folds of their share."""
    folds = {side.letter: side.scores(share) for side, share in zip(found, shares, strict=True)}
    return {letter: summarise(scores) for letter, scores in folds.items() if scores}


def ui_link(found: Sequence[Side], address: str, folds: bool) -> str:
    """MLflow's compare view: of the sides' runs, or of their folds (the same metric names, so they line up)."""
    runs = [run for side in found for run in (side.all_folds if folds else [side.run])]
    ids = list(dict.fromkeys(run.info.run_id for run in runs))
    experiments = list(dict.fromkeys(run.info.experiment_id for run in runs))
    query = "&".join(
        f"{key}={quote(json.dumps(value, separators=(',', ':')))}"
        for key, value in (("runs", ids), ("experiments", experiments))
    )
    return f"{address.rstrip('/')}/#/compare-runs?{query}&{VIEW}"
