"""`a2v experiment rerun`: the recipe of a run as the store keeps it, and whether the scores are the same again."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from a2v_data.documents import reason
from a2v_model.plugins import ALLOW, allowed
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ..basics.errors import FAILED, UserError
from ..recipe.files import RecipeFile, Scale
from ..recipe.written import PLUGINS, RECIPE, read_written
from ..store import lookup
from ..store.environment import origin
from ..store.tags import COMMIT, DIRTY, FOLDER, SCALE, STAGE, TRIAL

SHORT = 8  # characters of a commit


@dataclass(frozen=True)
class Kept:
    """What is repeated. run: the experiment or trial; file: its recipe; folder: where its relative paths start, as it
    was on the machine that ran it."""

    run: Run
    file: RecipeFile
    folder: Path | None


def kept_recipe(client: MlflowClient, name: str) -> Kept:
    """The recipe of a run: of a stage, that of the experiment or trial that ran it.

    name: a run id, or a beginning of one. Raises UserError where there is no such run or it keeps no recipe.
    """
    run = asked = _run(client, name)
    while run.data.tags[STAGE] not in ("experiment", "trial"):
        above = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
        if above is None:
            raise UserError(f"{name}: is a run of {run.data.tags[STAGE]!r}, which has no recipe of its own")
        run = client.get_run(above)
    run_id = run.info.run_id
    told = f"recipe of run {run_id}"
    with tempfile.TemporaryDirectory(prefix="a2v-") as aside:
        there = {item.path for item in client.list_artifacts(run_id)}
        if RECIPE not in there:
            raise UserError(
                f"{asked.info.run_id}: run {run_id} keeps no {RECIPE}: it was made by an older a2v; run the recipe"
                " that it was made from"
            )
        try:
            path = Path(client.download_artifacts(run_id, RECIPE, aside))
            if PLUGINS in there:
                client.download_artifacts(run_id, PLUGINS, aside)
        except (MlflowException, OSError) as error:
            raise UserError(f"{told} cannot be read: {reason(str(error))}", FAILED) from None
        file = read_written(path, told, cast("Scale | None", run.data.tags.get(SCALE)))
    if file.plugins and not allowed():
        raise UserError(
            f"run {run_id} brings code of its own: look at its artifacts in {PLUGINS}/, then allow it with"
            f" --allow-plugins or {ALLOW}=1"
        )
    folder = run.data.tags.get(FOLDER)
    return Kept(run, file, Path(folder) if folder else None)


def _run(client: MlflowClient, name: str) -> Run:
    quoted = name.replace("'", "").replace("%", "")
    found = [run for run in lookup.search(client, f"attributes.run_id LIKE '{quoted}%'") if STAGE in run.data.tags]
    if len(found) != 1:
        what = f"is the beginning of {len(found)} run ids; give more characters" if found else "no run has this id"
        raise UserError(f"{name}: {what} (`a2v experiment list` shows them)")
    return found[0]


def commit_note(run: Run) -> str | None:
    """One line where the code at hand may be another than that of the run; None where both are one clean commit."""
    then, now = (_commit(tags) for tags in (run.data.tags, origin()))
    if then == now and "with" not in then:
        return None
    if then == now:
        return f"run {run.info.run_id} was made at {then}, as this is: whether the changes are the same is not known"
    return f"run {run.info.run_id} was made at {then}, this is {now}: its scores may come out otherwise"


def _commit(tags: Mapping[str, str]) -> str:
    if COMMIT not in tags:
        return "an unknown commit"
    return f"commit {tags[COMMIT][:SHORT]}" + (" with uncommitted changes" if tags.get(DIRTY) == "true" else "")


def scores_again(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """One line: whether the scores (`..._mean`, `..._std`) of a run are those of another one."""
    scores = [name for name in before if name.endswith(("_mean", "_std")) and name in after]
    if not scores:
        return "there are no scores to compare"
    worst = max(scores, key=lambda name: abs(before[name] - after[name]))
    if before[worst] == after[worst]:
        return f"all {len(scores)} scores are equal"
    changed = sum(before[name] != after[name] for name in scores)
    return (
        f"{changed} of {len(scores)} scores are others, most of all {worst}: {before[worst]:.6g} then,"
        f" {after[worst]:.6g} now"
    )


def scores_of(client: MlflowClient, run: Run) -> dict[str, float]:
    """Scores of an experiment or trial; of a sweep those of its trials, each under its trial's name."""
    found = lookup.defined_metrics(run)
    for trial in lookup.children(client, run.info.run_id, f"tags.`{STAGE}` = 'trial'"):
        name = trial.data.tags.get(TRIAL, "")
        found |= {f"{name}: {key}": value for key, value in lookup.defined_metrics(trial).items()}
    return found
