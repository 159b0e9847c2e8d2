"""The stages of an experiment: prepare -> folds -> pretrain -> finetune (fold x label share), with its evaluation.

Each is a function of its configuration and of its inputs' results; each looks itself up in the tracking store by
fingerprint before it runs, and its outputs are artifacts of its run. Only the packed corpus is too big for that: it
lies under WORK/corpora/FINGERPRINT, and its run holds its statistics.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from a2v_data.corpus import Corpus
from a2v_data.folds import Folds
from a2v_data.manifests import read_manifests, write_manifests
from a2v_eval.evaluation import EvaluationConfig
from a2v_eval.fitting import fit_events
from a2v_model.plugins import allowed

from ..basics.errors import FAILED, UserError, naming_full_disk
from ..recipe.plugins import plugins_for
from ..recipe.sections import Recipe
from ..store import lookup
from ..store.claims import owner_of
from ..store.logged_models import MODEL
from ..store.tags import (
    BACKBONE,
    CORPUS,
    FOLD,
    HAS_MODEL,
    LABEL_SHARE,
    LOGGED,
    MODEL_RUN,
    SEED,
    START,
    START_RUN,
    TRAINING,
    TRAINING_IDENTITY,
)
from ..store.tracking import scratch
from ..training import checkpoints
from ..training.probe_recordings import probe_of
from ..training.probe_report import PROBE, probe_summary
from ..training.spec import HeardCorpus, TrainingSpec, part
from ..training.tasks import build_task
from ..training.validation_report import summary
from ..training.watching import watching
from ..training.workers import Looked, run_training
from .backbones import Backbone
from .datasets import dataset, datasets_heard, datasets_of
from .evaluation import Crossed, evaluate_model
from .heard import HEARD, heard_json
from .mixture import Mixture
from .packing import Origin, corpus_folder, packed
from .specs import StageSpec
from .splits import checked, grouping, held_out, of_share, split
from .stage import WAIT_S, Context, Result, run_stage
from .walk import Step


def check_source(recipe: Recipe) -> None:
    """Raise UserError or ValueError where a folder of the recipe, its audio or its annotations are not there."""
    from a2v_data.sources import open_source

    for key, data in recipe.corpora.items():
        if data.source == "synthetic":
            continue
        source = Path(data.source)
        if not source.is_dir():
            raise UserError(f"{key}.source: {source}: no such folder")
        open_source(source, data.annotations)


def prepare(context: Context, spec: StageSpec, source: Origin) -> tuple[Result, Corpus]:
    """Recordings and annotations become one packed store. spec: `data_spec` of the source."""
    from a2v_data.stats import corpus_statistics

    folder = corpus_folder(context.work, spec.fingerprint)

    def work(run_id: str) -> None:
        if context.store.reuse.forces("prepare"):
            shutil.rmtree(folder, ignore_errors=True)
        corpus = packed(source, spec, context.work)
        for problem in corpus.problems:
            context.say(f"  left out: {problem}")
        for notice in (line for line in corpus.notices if line != corpus.meta.get("unheard")):  # the advice has it
            context.say(f"  {notice}")
        statistics = corpus_statistics(corpus)
        context.store.log_json(run_id, statistics, "statistics.json")
        context.store.log_inputs(run_id, [dataset(corpus, source.named, "corpus")])
        context.store.tag(run_id, CORPUS, str(folder))
        numbers = {key: value for key, value in statistics.items() if isinstance(value, int | float)}
        context.store.log_metrics(run_id, numbers)

    result = run_stage(context, spec, {}, work, {"source": source.named})
    # packed again where this machine has not got it
    return result, packed(source, spec, context.work, result.fingerprint)


def make_folds(context: Context, spec: StageSpec, data: Result, corpus: Corpus) -> tuple[Result, Folds]:
    """The recipe's folds of the labelled recordings, or its hold-out, as MeerKAT's manifests. spec: `folds_spec`."""

    def work(run_id: str) -> None:
        folds = split(context.recipe, corpus)
        for notice in folds.notices:
            context.say(f"  {notice}")
        with scratch() as aside:
            write_manifests(folds, corpus, Path(aside) / "manifest")
            context.store.log_folder(run_id, Path(aside) / "manifest", "manifest")

    result = run_stage(context, spec, {"data": data}, work)
    found = read_manifests(Path(context.store.fetch(result.run_id, "manifest", context.work)), corpus)
    return result, checked(context.recipe, found)


def pretrain(
    context: Context,
    spec: StageSpec,
    heard: Mixture,
    labelled: Corpus,
    folds: Folds | None = None,
) -> Result:
    """Self-supervised training on the recordings that it may hear; its model is the artifact `model`.

    spec: `pretrain_spec` of what it hears. labelled: the corpus of `data`, and its folds, if there are some; a probe
    hears recordings of it.
    """
    recipe = context.recipe
    # what it cannot be done with is refused here, before anything is trained
    probe, probed = probe_of(recipe, labelled, folds, grouping(recipe.folds))

    def work(run_id: str) -> None:
        if probe:
            context.store.name_classes(run_id, labelled.classes)
        for notice in (*heard.told(), *heard.notices, *([probed] if probed else [])):
            context.say(f"  {notice}")
        context.store.log_json(run_id, heard.heard_json(), HEARD)
        context.store.log_inputs(run_id, datasets_heard(heard))
        first, several = heard.parts[0], len(heard.parts) > 1
        corpora = [HeardCorpus(corpus=one.folder, recordings=one.names, share=one.share) for one in heard.parts]
        training = TrainingSpec(
            corpus=first.folder, recordings=first.names, corpora=tuple(corpora if several else ()),
            segment_s=recipe.pretrain_source.segment_s, model=recipe.model, pretrain=recipe.pretrain, probe=probe,
            plugins=tuple(plugins_for(recipe, "pretrain")),
        )  # fmt: skip
        _train(context, training, run_id, spec, "pretraining")

    result = run_stage(context, spec, {}, work)
    if probe and result.reused and PROBE not in context.store.run(result.run_id).data.metrics:
        context.say("  it has no probe, as it ran without pretrain.probe; another pretrain.seed pretrains with one")
    return result


def _train(
    context: Context, spec: TrainingSpec, run_id: str, stage: StageSpec, label: str, looked: Looked | None = None
) -> None:
    """Train, log the model folder as the run's artifact, then drop the checkpoints."""
    import torch
    from a2v_model import Detector, save_model
    from safetensors.torch import load_file

    from ..pyfunc import log_detector

    if lookup.has_model(context.store.run(run_id)):
        return
    storage, name = context.work / "checkpoints", stage.storage
    if context.store.reuse.trains(stage.stage):
        shutil.rmtree(storage / name, ignore_errors=True)
    _say_where_it_goes_on(context, run_id, checkpoints.newest(storage / name), spec.end)
    with watching(context.store, run_id, label, spec.end, context.say):
        last = run_training(spec, context.recipe.ray, storage, name, context.store.uri, run_id, looked)
    state = checkpoints.read_state(last)
    for ended in (summary(state, spec.end), probe_summary(state)):
        if ended:
            context.say(f"  {ended}")
    model = build_task(spec, torch.device("cpu")).model
    model.load_state_dict(load_file(checkpoints.final_weights(last)))
    updates = state.get("best_update") or state["updates"]
    provenance = {"run_id": run_id, "updates": updates, "experiment": context.recipe.name}
    with scratch() as aside:
        folder = Path(aside) / MODEL
        with naming_full_disk(Path(aside)):
            save_model(model, folder, provenance, spec.plugins)
        if isinstance(model, Detector):
            log_detector(context.store, run_id, model, folder)
        else:
            context.store.log_folder(run_id, folder, MODEL)
    context.store.tag(run_id, HAS_MODEL, LOGGED)
    shutil.rmtree(storage / name, ignore_errors=True)


def _say_where_it_goes_on(context: Context, run_id: str, checkpoint: Path | None, updates: int) -> None:
    """Of a training that was stopped: from which update, and how many later ones the store has that were not saved."""
    state = checkpoints.read_state(checkpoint) if checkpoint else {"updates": 0}
    done = state["updates"]
    logged = int(context.store.run(run_id).data.metrics.get("update", 0))
    lost = f"; {logged - done} updates after it were not saved" if logged > done else ""
    if (done or lost) and not checkpoints.is_finished(state, updates):
        context.say(f"  going on from update {done} ({'checkpoint' if done else 'the start'}){lost}")


def fitted(recipe: Recipe, corpus: Corpus, names: list[str]) -> Recipe:
    """With `evaluate.fit_events`, the recipe with the event settings that the labels of its training recordings ask
    for; else, and where all of these are labelled as a whole only, the recipe as it is."""
    if not recipe.evaluate.fit_events or all(name in corpus.weak for name in names):
        return recipe
    labels = np.concatenate([corpus.labels(recording) for recording in corpus.indices(names)])
    durations_s = {
        name: (labels["offset_s"] - labels["onset_s"])[labels["class"] == number]
        for number, name in enumerate(corpus.classes)
    }
    events = fit_events(recipe.evaluate.events, durations_s, corpus.classes)
    return recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"events": events})})


def finetune(
    context: Context, step: Step[Any], corpus: Corpus, folds: Folds, crossed: Callable[[], Crossed] | None = None
) -> Result:
    """Finetune on one fold and evaluate on its evaluation recordings, in the same run.

    context: with the step's recipe. It starts from the input `pretrain`: a pretraining, a model that was there, or
    random weights. With another evaluation of a model that is there already, only the evaluation runs, in a run of its
    own. crossed(): what inner folds chose, where they do.
    """
    recipe, stage, start = context.recipe, step.spec, step.inputs.get("pretrain")
    assert step.fold is not None and step.share is not None
    whole = folds[step.fold]
    chosen = of_share(recipe, whole, step.share)
    looked = partial(context.looked, step.seed, step.fold, step.share) if context.looked else None

    def work(run_id: str) -> None:
        context.store.name_classes(run_id, corpus.classes)
        held = held_out(recipe, corpus, chosen.train)
        for notice in held.notices:
            context.say(f"  {notice}")
        names, validation = held.train, held.validation or []
        of = {"training": names, "validation": validation, "evaluation": chosen.evaluation}
        context.store.log_inputs(run_id, datasets_of(corpus, recipe.data.source, **of))
        given = crossed() if crossed else None
        ends = given.updates if given else None
        model_run = detector(context, stage, run_id, corpus, start, names, validation, looked, ends)
        scored = replace(context, recipe=fitted(recipe, corpus, names))
        evaluate_model(scored, run_id, model_run, corpus, chosen, validation, given)
        if context.chain is not None:
            context.store.log_metrics(run_id, context.chain.metrics)

    seed = {} if step.seed is None else {SEED: str(step.seed)}
    tags = {FOLD: str(step.fold), LABEL_SHARE: f"{step.share:g}", **seed, **detector_tags(context, stage, start)}
    return run_stage(context, stage, step.inputs, work, tags)


def detector_tags(context: Context, stage: StageSpec, start: Result | Backbone | None) -> dict[str, str]:
    """What a detector's run is tagged with, whatever it is trained on."""
    assert stage.training is not None
    tags = {TRAINING: stage.training, TRAINING_IDENTITY: stage.training.identity}
    tags |= context.chain.tags if context.chain else {}
    if not isinstance(start, Backbone):
        return tags
    if not start.goes_on:
        return {**tags, BACKBONE: start.source}
    return {**tags, START: start.source, **({START_RUN: start.run_id} if start.run_id else {})}


def detector(
    context: Context,
    stage: StageSpec,
    run_id: str,
    corpus: Corpus,
    start: Result | Backbone | None,
    names: list[str],
    validation: list[str],
    looked: Looked | None = None,
    ends: int | None = None,
) -> str:
    """Train a detector on the recordings of these names. Returns the run that holds the model: this one, or that of
    the same training with another evaluation. looked: see `run_training`; ends: see `TrainingSpec`. Raises
    UserError where nothing is labelled.
    """
    recipe, trained = context.recipe, stage.training
    assert trained is not None
    model_run = context.store.trained(trained, stage.stage)
    told = ""
    while model_run is None and (other := context.store.training_before(trained, run_id)):
        if owner_of(other) != told:
            told = owner_of(other)
            context.say(f"  its model: process {told} is training it (run {other.info.run_id}); waiting for it")
        time.sleep(WAIT_S)
        model_run = context.store.trained(trained, stage.stage)
    if model_run and model_run != run_id:
        context.say(f"  its model: reused, run {model_run}")
        context.store.tag(run_id, MODEL_RUN, model_run)
        return model_run
    if not corpus.classes:
        raise UserError("the corpus has no labelled event, finetuning needs some: check annotations", FAILED)
    spec = TrainingSpec(
        corpus=str(corpus.folder.resolve()), recordings=names, segment_s=recipe.data.segment_s,
        model=recipe.model, finetune=recipe.finetune, classes=list(corpus.classes),
        backbone=_folder_of(context, start), keep_head=isinstance(start, Backbone) and start.goes_on,
        validation=validation, overlap_s=recipe.evaluate.overlap_s,
        scoring=part(fitted(recipe, corpus, names).evaluate, EvaluationConfig), ends=ends,
        plugins=tuple(plugins_for(recipe, "finetune", "evaluate")), allow_plugins=allowed(),
    )  # fmt: skip
    context.store.log_json(run_id, heard_json(corpus, [*names, *validation]), HEARD)
    _train(context, spec, run_id, stage, stage.name, looked)
    return run_id


def _folder_of(context: Context, start: Result | Backbone | None) -> str | None:
    """Where the weights lie that finetuning starts from."""
    if isinstance(start, Backbone):
        return str(start.folder.resolve())
    return context.store.fetch(start.run_id, "model", context.work) if start else None
