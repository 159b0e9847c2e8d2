"""Models of experiments in MLflow's registry: registered with their scores, promoted beside the present champion's."""

from __future__ import annotations

import re
from dataclasses import dataclass

from a2v_eval.summary import UNDEFINED_MARK, Spread, summarise
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from ..basics.errors import UserError
from ..basics.tables import text_table
from ..recipe.sections import Recipe
from ..stages.experiment import Outcome
from ..store.registry import CANDIDATE, CHAMPION, champion_of, register, version_of
from ..store.tags import LABEL_SHARE, PRETRAINED, SCORED_BY, VARIANT, input_mark
from ..store.tracking import Store
from .compare import Side, side_of
from .compare_report import tests_text
from .compare_tests import Baseline, pairings

RANKED_BY = ("strict/mAP/micro", "presence/mAP/micro")  # the first that a version has says which one is better
TOLD = re.compile(r"(strict/|presence/)?(mAP|AP|F1|precision|recall)/(micro|macro)")
BESIDE = ("strict/AP/micro", "strict/AP/macro", "strict/F1/micro", "presence/AP/micro", "presence/AP/macro")
CALLED = {"A": "candidate", "B": "champion"}


def register_outcome(store: Store, name: str, outcome: Outcome, recipe: Recipe) -> str:
    """The experiment's or trial's final model as a version of `name`; returns a line that says so. The version has the
    scores (mean over folds, `_std` their deviation) as tags, and the run that they are of."""
    share = max(outcome.models) if outcome.models else None
    run_id = outcome.best_model or store.run(outcome.run_id).data.tags.get(PRETRAINED)
    if run_id is None:
        raise UserError(f"--register {name}: the experiment left no model")
    tags = {SCORED_BY: outcome.run_id, "experiment": recipe.name, VARIANT: recipe.variant}
    if share is not None:
        spreads = summarise(outcome.scores[share])
        tags |= {LABEL_SHARE: f"{share:g}", **_score_tags(spreads)}
    what = "pretrained" if share is None else "trained on all labels" if outcome.refit else "of the first fold that ran"
    version = register(store.client, name, run_id, tags, f"{recipe.name}, {recipe.variant}: {what}")
    return f"registered as version {version} of {name}, {what}: models:/{name}@{CANDIDATE}"


def _score_tags(spreads: dict[str, Spread]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for key, spread in spreads.items():
        if TOLD.fullmatch(key):
            tags[key] = f"{spread.mean:.6g}"
            if spread.std is not None:
                tags[f"{key}_std"] = f"{spread.std:.6g}"
    return tags


@dataclass(frozen=True)
class Promotion:
    """What is known of a version that is to be the champion. version: its number; lines: its scores, beside the present
    champion's where there is one; against: why it needs force, None where nothing speaks against it."""

    version: str
    lines: list[str]
    against: str | None


def look_at(client: MlflowClient, name: str, version: str | None, metric: str | None) -> Promotion:
    """The version (None: the candidate) beside the champion. metric: says which is better (None: the first of RANKED_BY
    that it has). Raises UserError where there is no such version."""
    new = version_of(client, name, version)
    old = champion_of(client, name)
    number = str(new.version)
    if old is not None and str(old.version) == number:
        return Promotion(number, [f"version {number} of {name} is the champion already"], None)
    candidate = _side(client, "A", new)
    if old is None:
        lines = [f"version {number} of {name}, the first champion", *_table([candidate], metric)]
        return Promotion(number, lines, None)
    lines = [f"version {number} of {name} beside the champion, version {old.version}"]
    champion = _side(client, "B", old)
    against = _incomparable(candidate, champion)
    lines += _table([candidate, champion], metric)
    if against is not None:
        return Promotion(number, lines, f"they cannot be compared: {against}")
    assert not isinstance(candidate, str) and not isinstance(champion, str)
    key = metric or next((one for one in RANKED_BY if one in _means(candidate)), RANKED_BY[0])
    scores = [_means(side).get(key) for side in (candidate, champion)]
    if scores[0] is None or scores[1] is None:
        return Promotion(number, lines, f"they cannot be compared: not both have {key}")
    shares = (_share(candidate), _share(champion))
    baseline = Baseline(candidate, "", own_scores=False)
    paired = pairings([candidate, champion], shares, list(dict.fromkeys([key, *BESIDE])), baseline)
    if any(pair.tests for pair in paired):
        lines += ["", *tests_text(paired, CALLED)]
    better = scores[0].mean >= scores[1].mean
    worse = f"its {key} is {scores[0].mean:.3f}, the champion's {scores[1].mean:.3f}, over the same folds"
    return Promotion(number, lines, None if better else worse)


def promote(client: MlflowClient, name: str, version: str) -> str:
    """Make it the champion; returns a line that says so."""
    client.set_registered_model_alias(name, CHAMPION, version)
    return f"version {version} is the champion now: models:/{name}@{CHAMPION}"


def _side(client: MlflowClient, letter: str, version: ModelVersion) -> Side | str:
    """What the version's scores are of; a line where there are none."""
    run_id, share = version.tags.get(SCORED_BY), version.tags.get(LABEL_SHARE)
    named = f"version {version.version}"
    if run_id is None or share is None:
        return f"{named} has no scores"
    try:
        side = side_of(client, letter, named, client.get_run(run_id))
    except (MlflowException, UserError):
        return f"the runs of {named}'s scores are gone"
    seeds = {
        seed: {float(share): shares[float(share)]} for seed, shares in side.seeds.items() if float(share) in shares
    }
    if not seeds:
        return f"the runs of {named}'s scores are gone"
    return Side(letter, named, side.run, seeds, side.config)


def _share(side: Side) -> float:
    return side.shares[0]


def _means(side: Side) -> dict[str, Spread]:
    return summarise(side.scores(_share(side)))


def _incomparable(candidate: Side | str, champion: Side | str) -> str | None:
    """Why the scores of two versions do not stand beside one another."""
    for side in (candidate, champion):
        if isinstance(side, str):
            return side
    assert not isinstance(candidate, str) and not isinstance(champion, str)
    a, b = (side.fold_runs(_share(side)) for side in (candidate, champion))
    for mark, what in (("data", "recordings or labels are"), ("folds", "folds are")):
        marks = [{run.data.tags.get(input_mark(mark)) for run in runs} for runs in (a, b)]
        if marks[0] != marks[1]:
            return f"their {what} not the same"
    numbers = [side.folds(_share(side)) for side in (candidate, champion)]
    if numbers[0] != numbers[1]:
        return f"one has the folds {_numbers(numbers[0])}, the other {_numbers(numbers[1])}"
    counted = [side.config.get("evaluate.iou_threshold") for side in (candidate, champion)]
    return None if counted[0] == counted[1] else f"evaluate.iou_threshold is {counted[0]} and {counted[1]}"


def _numbers(folds: list[int]) -> str:
    return ", ".join(map(str, folds))


def _table(sides: list[Side | str], metric: str | None) -> list[str]:
    """A row for each score, a column for each version that has some."""
    known = [side for side in sides if not isinstance(side, str)]
    told = [side for side in sides if isinstance(side, str)]
    means = [_means(side) for side in known]
    keys = dict.fromkeys([*([metric] if metric else []), *RANKED_BY, *BESIDE])
    rows = [
        [key, *(str(mean[key]) if key in mean else UNDEFINED_MARK for mean in means)]
        for key in keys
        if any(key in mean for mean in means)
    ]
    head = ["mean ± std over folds", *(f"{side.name}, {CALLED[side.letter]}" for side in known)]
    return [*([text_table(head, rows)] if rows else []), *told]
