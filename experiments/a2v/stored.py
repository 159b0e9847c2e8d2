"""What a tracking store holds of one experiment: its trials, folds, scores, models and corpus."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from a2v_data.corpus import Corpus as Packed
from a2v_experiments.basics.errors import FAILED, UserError
from a2v_experiments.models import load_model
from a2v_experiments.store import lookup
from a2v_experiments.store.database import default_uri
from a2v_experiments.store.logged_models import MODEL, local_place
from a2v_experiments.store.reading import existing_client
from a2v_experiments.store.tags import BEST_TRIAL, CORPUS, STAGE, SWEEP, TRIAL, having, input_run
from a2v_model import Detector, Pretrainer
from a2v_model import load_model as load_folder
from mlflow import MlflowClient
from mlflow.entities import Run

Scores = dict[int | None, dict[float, dict[int, dict[str, float]]]]  # seed -> label share -> fold -> metrics


def reader(work: Path, tracking_uri: str | None) -> MlflowClient:
    """A client of the store. Raises UserError where there is none."""
    client = existing_client(work, tracking_uri)
    if client is None:
        raise UserError(f"{tracking_uri or work}: no tracking store here; run a recipe first")
    return client


class Stored:
    """One experiment's run as it stands at the first look; make another one to look again."""

    def __init__(self, work: Path, tracking_uri: str | None, run_id: str) -> None:
        self.work, self.uri = work, tracking_uri or default_uri(work)
        self.client = reader(work, tracking_uri)
        self.run = self.client.get_run(run_id)

    @cached_property
    def trials(self) -> dict[str, Run] | None:
        """Name -> run of a sweep's trials, in the order in which they started; None: there is no sweep."""
        if SWEEP not in self.run.data.tags:
            return None
        runs = lookup.children(self.client, self.run.info.run_id, having(STAGE, "trial"))
        return {run.data.tags[TRIAL]: run for run in runs}

    def trial(self, name: str | None) -> Run:
        """The run with the folds: the experiment's own, of a sweep a trial's, the best one where none is named."""
        run_id = self.run.info.run_id
        if self.trials is None:
            if name is not None:
                raise UserError(f"trial={name!r}: run {run_id} has no sweep, so it has no trials")
            return self.run
        name = name or self.run.data.tags.get(BEST_TRIAL)
        if name not in self.trials:
            known = ", ".join(map(repr, self.trials))
            what = "no trial is finished" if name is None else f"no trial {name!r}; there are {known}"
            raise UserError(f"run {run_id}: {what}", FAILED)
        return self.trials[name]

    def fold(self, run: Run, fold: int | None = None, seed: int | None = None, share: float | None = None) -> Run:
        """The run of a finetuning; None: of the first seed, the largest label share, the first fold."""
        seeds = {known: shares for known, shares in lookup.seed_runs(run).items() if any(shares.values())}
        if not seeds:
            raise UserError(f"run {run.info.run_id}: no fold is done", FAILED)
        shares = _chosen(seeds, seed, "seed", next(iter(seeds)))
        folds = _chosen(shares, share, "share", max(share for share, folds in shares.items() if folds))
        return self.client.get_run(_chosen(folds, fold, "fold", min(folds, default=None)))

    def metrics(self, run: Run) -> Scores:
        """Scores and sample sizes of every fold that is done."""
        seeds = lookup.seed_runs(run)
        wanted = [run_id for shares in seeds.values() for folds in shares.values() for run_id in folds.values()]
        runs = lookup.by_id(self.client, wanted)
        return {
            seed: {
                share: {fold: _scores(runs[run_id]) for fold, run_id in sorted(folds.items()) if run_id in runs}
                for share, folds in shares.items()
            }
            for seed, shares in seeds.items()
        }

    def load(self, run_id: str) -> Detector | Pretrainer:
        """The model of a training's run."""
        place = local_place(self.client, run_id, MODEL)
        if place is not None and place.is_dir():
            return load_folder(place)
        return load_model(f"runs:/{run_id}/{MODEL}", self.uri)

    @contextmanager
    def fetched(self, run_id: str, name: str) -> Iterator[Path]:
        """The local path of an artifact, for as long as the block runs."""
        place = local_place(self.client, run_id, name)
        if place is not None and place.exists():
            yield place
            return
        with tempfile.TemporaryDirectory(prefix="a2v-") as aside:
            yield Path(self.client.download_artifacts(run_id, name, aside))

    def packed(self, finetuning: Run) -> Packed:
        """The packed store that a finetuning read; the work folder may have been moved since."""
        data = self.client.get_run(finetuning.data.tags[input_run("data")])
        folder = Path(data.data.tags[CORPUS])
        here = self.work / "corpora" / folder.name
        return Packed.open(here if here.is_dir() else folder)


def _scores(run: Run) -> dict[str, float]:
    found = lookup.defined_metrics(run)
    return {name: value for name, value in found.items() if "/" in name and not name.startswith("system/")}


def _chosen(there: Mapping[Any, Any], wanted: Any, what: str, usual: Any) -> Any:
    if wanted is None and usual in there:
        return there[usual]
    if wanted not in there:
        known = ", ".join(str(one) for one in there if one is not None)
        raise UserError(
            f"{what}={wanted!r}: is not there; " + (f"there are {known}" if known else f"it has no {what}s")
        )
    return there[wanted]
