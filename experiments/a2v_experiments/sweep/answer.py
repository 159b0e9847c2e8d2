"""What a sweep found out: which value of each parameter wins, and whether that is more than chance.

Trials are chosen by `score_name` and tested by the sweep's metric in the folds; only finished ones count, as pruned
ones have fewer folds. What is tested, and how, stands in `a2v_eval.effects` and `a2v_eval.parameter_effects`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from a2v_eval.effects import Cells, Compared, against_all
from a2v_eval.parameter_effects import ParameterEffect, TrialScores, Unpaired, parameter_effects, unpaired_effects
from mlflow import MlflowClient

from ..recipe.sections import Recipe
from .cells import OTHER_FOLDS, fold_scores
from .rows import Row, best_of
from .trial import score_name
from .trials import shown

LONGEST_VALUE = 40
LEARNED = 0.05  # a score below which nothing was learned that could be better or worse
AS_IT_IS = "as in the recipe"


@dataclass(frozen=True)
class Answer:
    """A sweep's answer.

    metric: what is tested; chosen_by: the score that chose the best trial. names: of the finished trials with scores,
    in order, means: of their metric; best: place of the best among them, rest: it against each other one. parameters:
    where combinations match, unpaired: where they were drawn. folds, seeds: that trials were compared over. left_out:
    trial -> its status, of those that do not count. notes: what is to be known of all this.
    """

    experiment: str
    metric: str
    chosen_by: str
    names: list[str]
    run_ids: list[str]
    means: list[float]
    best: int | None
    rest: list[Compared]
    parameters: list[ParameterEffect]
    unpaired: list[Unpaired]
    folds: int
    seeds: int
    left_out: dict[str, str]
    notes: list[str]

    @property
    def on_validation(self) -> bool:
        """Whether the best trial was chosen on recordings that it is not tested on."""
        return self.chosen_by != self.metric

    @property
    def tied(self) -> list[str]:
        """Trials that nothing tells from the best one."""
        return [self.names[one.second] for one in self.rest if one.tie]

    @property
    def apart(self) -> list[str]:
        """Trials that have no fold with the best one in common."""
        compared = {one.second for one in self.rest}
        return [name for place, name in enumerate(self.names) if place not in (self.best, *compared)]


def answer_from(client: MlflowClient, recipe: Recipe, rows: Sequence[Row]) -> Answer:
    """The answer of a sweep from what the store has of its trials."""
    assert recipe.sweep is not None
    finished = [row for row in rows if row.status == "finished"]
    scores = fold_scores(client, [row.run_id for row in finished], recipe.sweep.metric, recipe.folds.label_shares)
    return answer_of(recipe, rows, {row.run_id: cells for row, cells in zip(finished, scores, strict=True)})


def answer_of(recipe: Recipe, rows: Sequence[Row], scores: Mapping[str, Cells]) -> Answer:
    """The answer of a sweep. recipe: the sweep's; scores: of each finished trial, by its run id, see `fold_scores`."""
    sweep, shares = recipe.sweep, recipe.folds.label_shares
    assert sweep is not None
    k_folds = 1 / recipe.folds.evaluated_share
    chosen_by = score_name(recipe)
    counted = [row for row in rows if row.status == "finished" and any(scores.get(row.run_id, {}).values())]
    cells = [scores[row.run_id] for row in counted]
    best_row = best_of(counted, chosen_by, shares)
    best = next((place for place, row in enumerate(counted) if row is best_row), None)
    rest = [] if best is None else against_all(cells, best, k_folds, chosen_by_these=chosen_by == sweep.metric)
    trials = [TrialScores(_values(recipe, row, rows), one) for row, one in zip(counted, cells, strict=True)]
    matched = sweep.search == "grid"
    folds = sorted({fold for one in cells for by_fold in one.values() for fold in by_fold})
    return Answer(
        recipe.name,
        sweep.metric,
        chosen_by,
        [row.name for row in counted],
        [row.run_id for row in counted],
        [trial.mean for trial in trials],
        best,
        rest,
        parameter_effects(trials, k_folds) if matched else [],
        [] if matched else unpaired_effects(trials),
        len({fold % OTHER_FOLDS for fold in folds}),
        max((len(one) for one in cells), default=0),
        {row.name: row.status for row in rows if row.run_id not in {one.run_id for one in counted}},
        _notes(recipe, folds, [trial.mean for trial in trials]),
    )


def _values(recipe: Recipe, row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """What a trial has for each key that any trial changes; of a variant that leaves one alone, what the recipe has."""
    keys = dict.fromkeys(key for one in rows for key in one.parameters)
    tree = recipe.model_dump(mode="json")
    return {key: row.parameters[key] if key in row.parameters else _at(tree, key) for key in keys}


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(tree, dict) or part not in tree:
            return AS_IT_IS
        tree = tree[part]
    return AS_IT_IS if isinstance(tree, dict) else tree


def _notes(recipe: Recipe, folds: Sequence[int], means: Sequence[float]) -> list[str]:
    assert recipe.sweep is not None
    notes = []
    if means and max(means) < LEARNED:
        notes.append(f"no trial finds its calls, as no score is above {max(means):.3f}: what differs says nothing")
    if len(means) > 1 and len({fold // OTHER_FOLDS for fold in folds}) > 1:
        notes.append("trials whose data differ have other folds: they are not compared with one another")
    if recipe.sweep.search == "optuna":
        notes.append("Optuna chose values by the scores of earlier trials, so p of its parameters are a rough guide")
    return notes


def told(value: Any) -> str:
    """A value of a parameter, short enough for a line."""
    text = shown(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def to_json(answer: Answer) -> dict[str, Any]:
    """Plain data, numbers in full."""
    names = answer.names
    return {
        "experiment": answer.experiment,
        "metric": answer.metric,
        "chosen_by": answer.chosen_by,
        "folds": answer.folds,
        "seeds": answer.seeds,
        "best": None if answer.best is None else names[answer.best],
        "tied": answer.tied if answer.best is not None else [],
        "trials": [
            {"trial": name, "run_id": run_id, "mean": mean}
            for name, run_id, mean in zip(names, answer.run_ids, answer.means, strict=True)
        ],
        "best_against": [{"trial": names[one.second], **_compared(one)} for one in answer.rest],
        "parameters": [
            {
                "key": one.key,
                "best": one.values[0].value,
                "tied": one.tied,
                "combinations": one.combinations,
                "values": [asdict(value) for value in one.values],
                "compared": [
                    {"first": one.values[pair.first].value, "second": one.values[pair.second].value, **_compared(pair)}
                    for pair in one.compared
                ],
            }
            for one in answer.parameters
        ],
        "unpaired": [{**asdict(one), "tie": one.tie} for one in answer.unpaired],
        "left_out": answer.left_out,
        "notes": answer.notes,
    }


def _compared(one: Compared) -> dict[str, Any]:
    return {**asdict(one.effect), "p_adjusted": one.p, "tie": one.tie}
