"""An experiment in Python: what would run, the run, and what it left in MLflow as tables and models."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from a2v_experiments.basics.errors import UserError

from .recipe import Recipe
from .telling import in_one_line, work_folder

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import pandas
    from a2v_model import Detector, Pretrainer
    from mlflow.entities import Run

    from .corpus import Corpus
    from .scores import Scored
    from .stored import Stored

STOPPED = "stopped; the same call goes on from the last checkpoint"


@dataclass(frozen=True)
class Result:
    """What `Experiment.run` ends with: the run in MLflow, the table that the command line prints, the name of a sweep's
    best trial, and its trials that failed, with the reason. A notebook shows the table."""

    run_id: str
    table: str
    best: str | None = None
    failed: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        lines = [f"failed: {name}: {reason}" for name, reason in self.failed.items()]
        if self.failed:
            lines.append("the same call runs what is missing")
        return "\n".join([self.table, *lines])


class Experiment:
    """A recipe in a work folder and a tracking store.

    What is run is looked up in the store: the same recipe in the same work folder is never computed twice, whether the
    command line or Python ran it. `recipe` is None where an experiment was opened that keeps none, or brings code
    of its own that nobody allowed.
    """

    def __init__(
        self,
        recipe: Recipe | str | os.PathLike[str],
        work: str | os.PathLike[str] | None = None,
        tracking_uri: str | None = None,
    ) -> None:
        """recipe: a `Recipe`, or what `Recipe.load` takes. work: folder for corpora, checkpoints and the store (None:
        A2V_WORK, else a2v-runs). tracking_uri: MLflow's store (None: MLFLOW_TRACKING_URI, else sqlite in `work`).
        Nothing is read or written. Raises UserError for what is wrong in the recipe."""
        self.recipe: Recipe | None = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
        self._place(work, tracking_uri)
        self._run_id: str | None = None
        self._why = ""

    def _place(self, work: str | os.PathLike[str] | None, tracking_uri: str | None) -> None:
        self.work = work_folder(work)
        self.tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None

    @classmethod
    def open(cls, name: str, work: str | os.PathLike[str] | None = None, tracking_uri: str | None = None) -> Experiment:
        """What was run earlier. name: an experiment (its newest finished run), EXPERIMENT:VARIANT, or the beginning of
        the run id of an experiment or trial, finished or not. Raises UserError for a name that the store does not know.
        """
        experiment = cls.__new__(cls)
        experiment._place(work, tracking_uri)
        with in_one_line():
            from a2v_experiments.overview.compare import resolve
            from a2v_experiments.overview.rerun import kept_recipe
            from a2v_experiments.store.tags import STAGE

            from .stored import reader

            client = reader(experiment.work, experiment.tracking_uri)
            run = resolve(client, name)
            if run.data.tags[STAGE] == "finetune":
                parent = run.data.tags.get("mlflow.parentRunId")
                raise UserError(f"{name}: is one fold of an experiment; open that, run {parent}")
            try:
                experiment.recipe = Recipe(kept_recipe(client, run.info.run_id).file)
            except UserError as error:
                experiment.recipe, experiment._why = None, str(error)
        experiment._run_id = str(run.info.run_id)
        return experiment

    @property
    def run_id(self) -> str:
        """The run in MLflow that holds the summary. Raises UserError before `run`."""
        if self._run_id is None:
            raise UserError("not run yet: call run(), which reuses what is done, or Experiment.open(NAME)")
        return self._run_id

    def plan(self, measure: bool = True) -> pandas.DataFrame:
        """Every stage that `run` comes to: (trial,) stage, name, state, updates that are left, seconds, label_share,
        run_id. Nothing is run.

        state: runs, continues, evaluates (its model is there), reused, shared (with an earlier row), busy, or unknown
        (its inputs are not there yet). measure: time a few training steps here; without it seconds are NaN. What cannot
        be known yet stands in the table's attrs["notes"].
        """
        recipe = self._recipe()
        with in_one_line(), self._tracking():
            import pandas as pd
            from a2v_experiments.overview.plan import make_plan
            from a2v_experiments.overview.plan_report import costs_of
            from a2v_experiments.store.database import default_uri
            from a2v_experiments.store.reading import existing_client

            client = existing_client(self.work, self.tracking_uri)
            planned = make_plan(recipe.file, self.work, client, self.tracking_uri or default_uri(self.work))
            costs = costs_of(planned, recipe.resolved, self.work, measure)
        rows = [
            {
                "trial": one.trial, "stage": one.stage, "name": one.name, "state": one.state,
                "updates": one.updates * one.times, "seconds": seconds, "label_share": one.share, "run_id": one.run_id,
            }
            for one, seconds in zip(planned.stages, costs.seconds, strict=True)
        ]  # fmt: skip
        table = pd.DataFrame(rows).astype({"seconds": float, "label_share": float})
        table.attrs["notes"] = planned.notes
        return table if recipe.resolved.sweep else table.drop(columns="trial")

    def run(
        self, say: Callable[[str], None] | None = print, trust_code: bool = False, force: Sequence[str] = ()
    ) -> Result:
        """Run every stage, or reuse it; returns when the summary is in MLflow.

        say(line) is told what happens; None: nothing is said but the progress bars of long work. Interrupted (Ctrl-C,
        or a notebook's stop button) the current update is finished and saved, runs read KILLED in MLflow, and the same
        call goes on from there. Trials of a sweep that fail are in the result. trust_code: what was made by other code
        is reused too; force: stages that run again, with what follows from them (prepare, folds, pretrain, finetune,
        evaluate, refit). Raises UserError.
        """
        recipe, tell = self._recipe(), say or _silent
        with in_one_line(), self._tracking():
            from a2v_experiments.store.reuse import Reuse
            from a2v_experiments.sweep.start import run_recipe

            reuse = Reuse.of(trust_code, list(force))
            try:
                ran = run_recipe(recipe.file, self.work, self.tracking_uri, tell, reuse)
            except KeyboardInterrupt:
                tell(STOPPED)
                raise
        self._run_id = ran.run_id
        best = ran.best.recipe.variant if ran.best else None
        return Result(ran.run_id, ran.table, best, dict(ran.failed))

    def scores(self) -> pandas.DataFrame:
        """Every score of every fold that is done, one a row: (trial,) label_share, (seed,) fold, class, protocol,
        metric, value.

        class: a class, micro or macro; '' for scores of no class (any_class/F1, timestep/F1). protocol: strict, paper,
        or '' where there is none. metric: AP, mAP, F1, precision, recall, calls found, predicted and labelled,
        energy/AP of the baseline, sample sizes (labels/train). What is undefined in a fold has no row. The columns
        trial and seed are there where the recipe has a sweep, or seeds.
        """
        from .scores import scores_table

        return scores_table(self._scored())

    def summary(self) -> pandas.DataFrame:
        """Scores over folds and seeds, one a row: (trial,) label_share, class, protocol, metric, mean, std_folds (of
        the means over seeds), std_seeds (of the means over folds), folds, seeds. These are the `_mean`, `_std` and
        `_seed_std` of the run in MLflow; a deviation of one value is NaN."""
        from .scores import summary_table

        return summary_table(self._scored())

    def trials(self, metric: str | None = None) -> pandas.DataFrame:
        """The trials of a sweep in the order in which they started: trial, a column for each parameter, status, folds
        done, score, run_id. metric: what the score is of (None: what the sweep compares by), mean over folds and label
        shares. Raises UserError where there is no sweep."""
        with in_one_line():
            import pandas as pd
            from a2v_experiments.store.lookup import metrics_of, seed_runs
            from a2v_experiments.store.tags import FOLDS_DONE, PARAMETERS
            from a2v_experiments.sweep.rows import status_of
            from a2v_experiments.sweep.trial import score_of_run

            stored = self._stored()
            if stored.trials is None:
                raise UserError(f"run {self.run_id}: has no sweep, so it has no trials")
            by = metric or self._compared_by(stored.run)
            rows = []
            for name, run in stored.trials.items():
                shares = list(next(iter(seed_runs(run).values()), {}))
                rows.append(
                    {
                        "trial": name, **json.loads(run.data.tags[PARAMETERS]), "status": status_of(run),
                        "folds": int(run.data.tags[FOLDS_DONE]), "score": score_of_run(metrics_of(run), by, shares),
                        "run_id": run.info.run_id,
                    }
                )  # fmt: skip
            table = pd.DataFrame(rows, columns=None if rows else ["trial", "status", "folds", "score", "run_id"])
            table = table.astype({"score": float})
            table.attrs["metric"] = by
            return table

    def model(
        self, fold: int | None = None, seed: int | None = None, share: float | None = None, trial: str | None = None
    ) -> Detector | Pretrainer:
        """A trained model, for `predict` and `embed`.

        fold: of which fold (None: the model that was trained on all labels where the recipe wants one, else the first
        fold's). seed, share: None for the first seed and the largest label share. trial: of a sweep, None for the best
        one. Of an experiment that only pretrains, that model. Raises UserError for what is not there.
        """
        with in_one_line():
            from a2v_experiments.store.lookup import model_run, refit_run
            from a2v_experiments.store.tags import PRETRAINED

            stored = self._stored()
            run = stored.trial(trial)
            if PRETRAINED in run.data.tags:
                return stored.load(run.data.tags[PRETRAINED])
            refit = refit_run(run)
            if refit and fold is None and seed is None and share is None:
                return stored.load(refit)
            return stored.load(model_run(stored.fold(run, fold, seed, share)))

    def corpus(self) -> Corpus:
        """The packed recordings with their labels; before `run` they are packed first. Raises UserError where they lie
        on another machine."""
        from .corpus import Corpus, packed_of

        with in_one_line():
            if self._run_id is None:
                return Corpus(packed_of(self._recipe().resolved.data, self.work))
            stored = self._stored()
            return Corpus(stored.packed(stored.fold(stored.trial(None))))

    def events(
        self,
        fold: int | None = None,
        seed: int | None = None,
        share: float | None = None,
        trial: str | None = None,
        **settings: Any,
    ) -> pandas.DataFrame:
        """What a fold's model finds in the recordings that it is evaluated on: recording, onset_s, offset_s, label,
        likelihood, threshold; `corpus().labels` has what is there. Computed here, one recording after another.

        fold, seed, share, trial: as in `model`, but None is the first fold; settings: as in `predict`. Raises UserError
        for what is not there.
        """
        with in_one_line():
            from a2v_data.manifests import read_manifests
            from a2v_experiments.predict.api import as_detector, event_table, events_of_waveform
            from a2v_experiments.predict.settings import settings_for
            from a2v_experiments.store.lookup import model_run
            from a2v_experiments.store.tags import FOLD, input_run

            from .corpus import Corpus

            stored = self._stored()
            run = stored.fold(stored.trial(trial), fold, seed, share)
            corpus = Corpus(stored.packed(run))
            with stored.fetched(run.data.tags[input_run("folds")], "manifest") as manifest:
                folds = {one.index: one for one in read_manifests(manifest, corpus.packed)}
            model = as_detector(stored.load(model_run(run)), f"run {run.info.run_id}")
            chosen, _ = settings_for(model, **settings)
            found = [
                (name, events_of_waveform(model, corpus.waveform(name), corpus.rate(name), chosen))
                for name in folds[int(run.data.tags[FOLD])].evaluation
            ]
            return event_table(model, chosen, found).rename(columns={"file": "recording"})

    def __repr__(self) -> str:
        what = self.recipe.name if self.recipe else f"run {self._run_id}"
        return f"Experiment({what!r}, work={os.path.relpath(self.work)!r})"

    def _tracking(self) -> AbstractContextManager[None]:
        """MLflow is told of this store in the block, and of what it knew before after it: other experiments, and what
        else a notebook does with MLflow, are not to go here."""
        from a2v_experiments.models import tracking
        from a2v_experiments.store.database import default_uri

        return tracking(self.tracking_uri or default_uri(self.work))

    def _recipe(self) -> Recipe:
        if self.recipe is None:
            raise UserError(f"opened without its recipe: {self._why}")
        return self.recipe

    def _stored(self) -> Stored:
        from .stored import Stored

        return Stored(self.work, self.tracking_uri, self.run_id)

    def _compared_by(self, run: Run) -> str:
        """What a sweep's trials are compared by."""
        from a2v_experiments.recipe.sweep import SweepConfig
        from a2v_experiments.store.tags import CHOSEN_BY
        from a2v_experiments.sweep.trial import score_name

        if self.recipe is not None and self.recipe.resolved.sweep is not None:
            return score_name(self.recipe.resolved)
        default = str(SweepConfig.model_fields["metric"].default)
        return str(run.data.tags.get(CHOSEN_BY) or run.data.params.get("sweep.metric") or default)

    def _scored(self) -> list[Scored]:
        from .scores import Scored

        with in_one_line():
            stored = self._stored()
            if stored.trials is None:
                return [Scored(None, stored.metrics(stored.run))]
            return [Scored(name, stored.metrics(run)) for name, run in stored.trials.items()]


def _silent(line: str) -> None:
    """What is said where nothing is to be said."""
