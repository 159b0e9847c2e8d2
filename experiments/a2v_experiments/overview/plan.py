"""What a recipe would run: every stage, looked up in the tracking store by its fingerprint. Nothing is run or written.

A fingerprint needs its inputs' content. Where that is not there yet (a synthetic corpus that is not made, recordings
that are not packed here: a pretraining knows the packed audio) a stand-in takes its place, which still tells stages
that trials share from those that they do not, and the stage is `unknown`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from a2v_data.corpus import Corpus
from a2v_data.folds import Folds
from mlflow import MlflowClient
from mlflow.entities import Run

from ..basics.errors import UserError
from ..basics.fingerprint import fingerprint
from ..models import is_uri
from ..recipe.files import RecipeFile
from ..recipe.sections import DataConfig, Recipe
from ..recipe.sweep import Range, SweepConfig
from ..stages import packing, splits, stages
from ..stages.backbones import find_backbone, named_start
from ..stages.mixture import Mixture, mixture_of
from ..stages.reused import mark_of, why_not_reused
from ..stages.specs import StageSpec, experiment_spec, given_folds
from ..stages.walk import Step, walk
from ..store import lookup
from ..store.claims import owner_is_gone
from ..store.reuse import AS_USUAL, Reuse
from ..sweep.trials import Trial, trial, trials_of
from ..training import checkpoints

# reused: a finished run is there; shared: an earlier stage of this plan is the same; continues: a stopped run goes on;
# busy: another process runs it, which is waited for; evaluates: its model is there, only its evaluation runs;
# runs; unknown: runs, unless a finished run turns out to have its fingerprint
State = Literal["reused", "shared", "continues", "busy", "evaluates", "runs", "unknown"]
WORKING: tuple[State, ...] = ("continues", "evaluates", "runs", "unknown")


@dataclass(frozen=True)
class Mark:
    """A fingerprint, or a stand-in where it cannot be known yet."""

    fingerprint: str
    known: bool


@dataclass(frozen=True)
class Planned:
    """One stage of one trial (`trial` None: the recipe itself). updates: those that a training still has to make;
    recipe: with the settings of its label share; times: how many such there are, of trials that are not known yet."""

    trial: str | None
    stage: str
    name: str
    state: State
    mark: Mark
    run_id: str | None
    updates: int
    recipe: Recipe
    share: float | None = None
    times: int = 1

    @property
    def works(self) -> bool:
        return self.state in WORKING


@dataclass(frozen=True)
class Plan:
    """Every stage in the order in which `run` comes to them. finished: the run that is the whole experiment already.
    heard: what its first pretraining hears, as far as that is known."""

    stages: list[Planned]
    finished: str | None
    notes: list[str]
    heard: Mixture | None = None


def make_plan(file: RecipeFile, work: Path, client: MlflowClient | None, uri: str, reuse: Reuse = AS_USUAL) -> Plan:
    """client: the store's, None where there is no store yet. Raises UserError or ValueError as `run` would."""
    recipe = file.resolve()
    planner = _Planner(client, work, uri, reuse)
    if recipe.sweep is None:
        stages.check_source(recipe)
        found = planner.stages(recipe, None)
        return Plan(found, planner.finished, list(dict.fromkeys(planner.notes)), planner.heard)
    trials = trials_of(file)
    chosen = trials or [_stand_in(file, recipe.sweep)]
    planned: list[Planned] = []
    for one in chosen:
        stages.check_source(one.recipe)
        planned += planner.stages(one.recipe, one.name)
    if not trials:
        assert recipe.sweep.trials is not None
        planned = _repeated(planned, recipe.sweep, recipe.sweep.trials)
        planner.notes.append(
            f"optuna chooses the {recipe.sweep.trials} trials one after the other: one stands for all of them, with the"
            " first values of every parameter; trials that are finished already are not taken off"
        )
    if recipe.sweep.pruning is not None:
        planner.notes.append("pruning stops trials early, which ones is not known: time and updates are the most")
    return Plan(planned, None, list(dict.fromkeys(planner.notes)), planner.heard)


def _stand_in(file: RecipeFile, sweep: SweepConfig) -> Trial:
    """A trial with the first value of every list and the low end of every range."""
    first = {
        key: choice.ends[0] if isinstance(choice, Range) else choice[0] for key, choice in sweep.parameters.items()
    }
    return replace(trial(file, first), name="any trial")


def _repeated(planned: list[Planned], sweep: SweepConfig, trials: int) -> list[Planned]:
    """Stages that every trial has for itself; they share data, folds, and a pretraining that no parameter touches."""
    touched = {key.split(".")[0] for key in sweep.parameters}
    pretrains = touched & {"pretrain", "model", "data", "pretrain_data"}
    alone = {"finetune", "inner"} | ({"pretrain"} if pretrains else set())
    return [_whatever_found(one, trials) if one.stage in alone else one for one in planned]


def _whatever_found(one: Planned, trials: int) -> Planned:
    """A stage of every trial, as long as it is of a trial with other values than the one that was looked up."""
    stage = one.recipe.pretrain if one.stage == "pretrain" else one.recipe.finetune
    assert stage is not None
    state: State = "runs" if one.state == "runs" else "unknown"
    return replace(one, state=state, run_id=None, updates=stage.updates, times=trials)


class _Planner:
    """Looks up the stages of one recipe after another."""

    def __init__(self, client: MlflowClient | None, work: Path, uri: str, reuse: Reuse) -> None:
        self.client, self.work, self.uri, self.reuse = client, work, uri, reuse
        self.seen: set[str] = set()
        self.origins: dict[str, Mark] = {}
        self.finished: str | None = None
        self.notes: list[str] = []
        self.splits: dict[str, Folds] = {}
        self.heard: Mixture | None = None

    def stages(self, recipe: Recipe, trial: str | None) -> list[Planned]:
        sources = self.sources(recipe)
        done: list[Planned] = []

        def hear(fold: int | None, data: Mark, heard: Sequence[Mark], folds: Mark | None) -> Mark:
            by_folds = recipe.folds.decides_pretraining or fold is not None
            return self.audio(recipe, data, heard, folds if by_folds else None, fold)

        def look(step: Step[Mark]) -> Mark:
            new_folds = any(one.stage == "folds" and one.mark.known and one.state != "reused" for one in done)
            done.append(self.look(step, trial, new_folds))
            return done[-1].mark

        walk(recipe, sources, hear, look, in_trial=trial is not None)
        if recipe.crosses:
            self.notes.append(
                "a fold's own training ends where its inner ones were best: its time and updates are the most"
            )
        if trial is None:
            self.whole(recipe, list(sources.values()))
        return done

    def look(self, step: Step[Mark], trial: str | None, new_folds: bool) -> Planned:
        """The stage's state; the first trial that works on it is the one that the others share it with."""
        spec, recipe = step.spec, step.recipe
        mark = Mark(spec.fingerprint, all(one.known for one in step.inputs.values()))
        training = recipe.pretrain if spec.stage == "pretrain" else recipe.finetune if spec.training else None
        state, run, left = self.state(spec, mark.known, training.updates if training else 0)
        if mark.fingerprint in self.seen and state not in ("reused", "busy"):
            state, run, left = "shared", None, 0
        elif state == "unknown" and spec.stage in ("finetune", "inner") and new_folds:
            state = "runs"  # without folds there is no finetuning on them, whatever it starts from
        self.seen.add(mark.fingerprint)
        run_id = run.info.run_id if run else None
        if state == "reused" and run is not None:
            mark = replace(mark, fingerprint=mark_of(run, spec.fingerprint))
        elif mark.known and state in WORKING and self.client is not None:
            self.notes += [f"{spec.name}: {why}"] if (why := why_not_reused(self.client, spec)) else []
        return Planned(trial, spec.stage, spec.name, state, mark, run_id, left, recipe, step.share)

    def state(self, spec: StageSpec, known: bool, updates: int) -> tuple[State, Run | None, int]:
        """State, the run that it is about, and updates left."""
        if self.client is None:
            return "runs", None, updates
        if not known:
            return "unknown", None, updates
        attempts = lookup.attempts(self.client, spec.stage, spec.fingerprint, self.reuse)
        finished = lookup.find(self.client, spec.stage, spec.fingerprint, self.reuse)
        if finished is not None:
            return "reused", finished, 0
        run = attempts[0] if attempts else None
        if run is not None and run.info.status == "RUNNING" and not owner_is_gone(run):
            return "busy", run, 0
        trained = lookup.trained(self.client, spec.training, spec.stage, self.reuse) if spec.training else None
        if trained or (run is not None and lookup.has_model(run)):
            return "evaluates", self.client.get_run(trained) if trained else run, 0
        if run is None:
            return "runs", None, updates
        newest = checkpoints.newest(self.work / "checkpoints" / spec.storage)
        state = checkpoints.read_state(newest) if newest else {"updates": 0}
        return "continues", run, 0 if checkpoints.is_finished(state, updates) else updates - state["updates"]

    def sources(self, recipe: Recipe) -> dict[str, Mark]:
        """What the recipe is made from, in the order of `graph.Sources.fingerprints`."""
        given = given_folds(recipe)
        found = {
            **{key: self.origin(data) for key, data in recipe.corpora.items()},
            "backbone": self.backbone(recipe),
            "manifests": Mark(given, True) if given else None,
        }
        return {name: mark for name, mark in found.items() if mark}

    def origin(self, data: DataConfig) -> Mark:
        """Fingerprint of everything in the source."""
        stand_in = fingerprint("source", data.model_dump(mode="json", include={"source", "synthetic", "annotations"}))
        if stand_in not in self.origins:
            self.origins[stand_in] = self._origin(data, stand_in)
        return self.origins[stand_in]

    def _origin(self, data: DataConfig, stand_in: str) -> Mark:
        if self.client is None:  # nothing to be found, so there is no need to read every file
            return Mark(stand_in, False)
        if data.source == "synthetic" and not packing.synthetic_folder(data, self.work).is_dir():
            self.notes.append("the synthetic corpus is not made yet: what the store has of it cannot be told")
            return Mark(stand_in, False)
        return Mark(packing.origin_of(data, self.work, keep=self.work.is_dir()).fingerprint, True)

    def audio(self, recipe: Recipe, data: Mark, heard: Sequence[Mark], folds: Mark | None, fold: int | None) -> Mark:
        """Fingerprint of the audio that pretraining hears. heard: the corpora that it is of; folds: where it depends on
        them."""
        marks = {recipe.data_key: data, **dict(zip(recipe.heard_corpora, heard, strict=True))}
        folders = {key: packing.corpus_folder(self.work, mark.fingerprint) for key, mark in marks.items()}
        known = all(mark.known for mark in marks.values())
        if known and all((folder / "corpus.json").is_file() for folder in folders.values()):
            corpora = {key: Corpus.open(folder) for key, folder in folders.items()}
            split = self.split(recipe, folds, corpora[recipe.data_key]) if folds else None
            found = mixture_of(recipe, corpora, split, fold)
            self.heard = self.heard or found
            return Mark(found.fingerprint, True)
        if self.client is not None and known:
            self.notes.append(
                "the recordings are not packed in this work folder: whether a pretraining on the same audio is there"
                " is known once they are"
            )
        of = {"of": heard[0].fingerprint}
        if len(heard) > 1:
            of["others"] = " ".join(mark.fingerprint for mark in heard[1:])
        if folds:
            of |= {"without": folds.fingerprint, "fold": str(fold)}
        return Mark(fingerprint("audio", of), False)

    def split(self, recipe: Recipe, folds: Mark, corpus: Corpus) -> Folds:
        """The folds, made once: of a large corpus that takes a while."""
        if folds.fingerprint not in self.splits:
            self.splits[folds.fingerprint] = splits.split(recipe, corpus)
        return splits.checked(recipe, self.splits[folds.fingerprint])

    def backbone(self, recipe: Recipe) -> Mark | None:
        """Fingerprint of the model to start from; one in MLflow is fetched and dropped again."""
        named = named_start(recipe)
        if named is None:
            return None
        key, source = named
        if is_uri(source) and self.client is None:
            raise UserError(f"{key}: {source}: there is no tracking store to fetch it from")
        with tempfile.TemporaryDirectory(prefix="a2v-") as aside:
            found = find_backbone(recipe, Path(aside), self.uri)
        assert found is not None
        return Mark(found.fingerprint, True)

    def whole(self, recipe: Recipe, sources: Sequence[Mark]) -> None:
        """Note the finished run of the whole experiment."""
        if self.client is None or not all(source.known for source in sources):
            return
        spec = experiment_spec(recipe, [source.fingerprint for source in sources])
        found = lookup.find(self.client, spec.stage, spec.fingerprint, self.reuse)
        self.finished = found.info.run_id if found else None
