"""This project's detector and a supervised peer, trained with the same processor time on the same recordings.

Both go through the same loop, sampling, augmentation, validation and scoring; what differs is the model, with what its
preset says of training. Each training is a run in MLflow, below one for the call.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a2v_data.corpus import Corpus
from a2v_data.recording_names import RecordingNames
from a2v_data.sources import open_source
from a2v_eval.evaluation import EvaluationConfig

from ..basics.errors import UserError
from ..basics.fingerprint import fingerprint
from ..recipe.event_classes import check_event_classes
from ..recipe.sections import Recipe
from ..stages.backbones import find_backbone
from ..stages.packing import origin_of
from ..stages.specs import data_spec
from ..stages.stage import Context, ending
from ..stages.stages import fitted, prepare
from ..store.metric_log import MetricLog
from ..store.tracking import Store
from ..training.spec import TrainingSpec, part
from ..training.validation_report import METRIC
from .detect_recipe import Asked, Pair, pair_of
from .detect_report import ROLES, difference_of, machine, role_of
from .detect_scores import WITHOUT, Scored, Windows, score, without_streams
from .detect_training import Budget, Trained, train_within
from .splits import Splits, read_splits, sizes, with_labels

EXPERIMENT = "bench-detect"


@dataclass(frozen=True)
class Bench:
    """What is measured. share_seed: draws the share of labelled recordings. command: as it was typed."""

    folder: Path
    asked: Asked
    budget: Budget
    seeds: Sequence[int] = (0,)
    share_seed: int = 0
    command: str = ""


@dataclass(frozen=True)
class Checked:
    """A bench of which the folder and the recipes are good."""

    bench: Bench
    pair: Pair
    splits: Splits


def check(bench: Bench) -> Checked:
    """Read the recipes and the splits. Raises UserError or ValueError; nothing is written."""
    pair = pair_of(bench.asked, bench.folder)
    if bench.budget.pretrain_updates is not None and bench.budget.pretrain_share is not None:
        raise UserError("--pretrain-updates and --pretrain-share exclude each other: give one of the two")
    source = open_source(bench.folder, pair.a2v.data.annotations)
    return Checked(bench, pair, read_splits(bench.folder, RecordingNames(source.audio_folder, source.names)))


def measure_detectors(checked: Checked, work: Path, store: Store, say: Callable[[str], None]) -> dict[str, Any]:
    """Train and score both models with each seed; everything that is found, as JSON data.

    `a2v` and `peer` have means over seeds by their MLflow names, `interval_95`, `curve` and `runs`, one for each seed.
    """
    bench, pair = checked.bench, checked.pair
    parent = _begin(store, f"{bench.folder.resolve().name} {bench.budget.seconds:g} s", _described(bench, pair), None)
    with ending(store, parent):
        backbone = find_backbone(pair.a2v, work, store.uri)
        context = Context(pair.a2v, store, work, parent, say)
        origin = origin_of(pair.a2v.data, work)
        _, corpus = prepare(context, data_spec(pair.a2v.data, origin.fingerprint), origin)
        for recipe in (pair.a2v, pair.peer):
            check_event_classes(recipe, corpus.classes)
        splits = with_labels(checked.splits, corpus, bench.asked.share, bench.share_seed)
        pair = Pair(fitted(pair.a2v, corpus, splits.train), fitted(pair.peer, corpus, splits.train))
        models = {"a2v": bench.asked.preset or pair.a2v.name, "peer": bench.asked.peer}
        runs: dict[str, list[dict[str, Any]]] = {role: [] for role in ROLES}
        for seed in bench.seeds:
            for role in ROLES:  # in turn, so that a change of the machine's speed meets both
                recipe = getattr(pair, role)
                start = str(backbone.folder.resolve()) if backbone and role == "a2v" else None
                specs = specs_of(recipe, corpus, splits, seed, start)
                name = f"{role} seed {seed}"
                run_id = _begin(store, name, _config(bench, recipe, role, seed), parent)
                with ending(store, run_id):
                    told = _one(bench.budget, recipe, corpus, splits, specs, (store, run_id, name), say)
                runs[role].append(told | {"model": models[role], "seed": seed})
        found: dict[str, Any] = {
            **{role: role_of(runs[role]) for role in ROLES},
            "difference": difference_of(runs["a2v"], runs["peer"]),
            "machine": machine(),
            "command": bench.command,
            "folder": str(bench.folder),
            "seeds": list(bench.seeds),
            "share": bench.asked.share,
            "budget_cpu_seconds": bench.budget.seconds,
            "splits": sizes(splits, corpus),
            "backbone": bench.asked.backbone,
            "mlflow": {"experiment": EXPERIMENT, "run": parent},
        }
        _log_call(store, parent, found)
    return found


def specs_of(
    recipe: Recipe, corpus: Corpus, splits: Splits, seed: int, backbone: str | None
) -> tuple[TrainingSpec, TrainingSpec | None]:
    """The finetuning, and the pretraining if there is one: on all train recordings of a segment or more."""
    assert recipe.finetune is not None
    common: dict[str, Any] = {
        "corpus": str(corpus.folder.resolve()), "segment_s": recipe.data.segment_s, "model": recipe.model,
    }  # fmt: skip
    finetune = TrainingSpec(
        **common, recordings=splits.train, classes=list(corpus.classes), backbone=backbone, validation=splits.valid,
        finetune=recipe.finetune.model_copy(update={"seed": seed}), overlap_s=recipe.evaluate.overlap_s,
        scoring=part(recipe.evaluate, EvaluationConfig),
    )  # fmt: skip
    if recipe.pretrain is None:
        return finetune, None
    segment_s = recipe.data.segment_s
    numbers = dict(zip(splits.heard, corpus.indices(splits.heard), strict=True))
    heard = [name for name, number in numbers.items() if not corpus.is_shorter(number, segment_s)]
    if not heard:
        raise UserError(f"data.segment_s = {recipe.data.segment_s}: no train recording is that long; shorten it")
    stage = recipe.pretrain.model_copy(update={"seed": seed})
    return finetune, TrainingSpec(**common, recordings=heard, pretrain=stage)


def _one(
    budget: Budget,
    recipe: Recipe,
    corpus: Corpus,
    splits: Splits,
    specs: tuple[TrainingSpec, TrainingSpec | None],
    run: tuple[Store, str, str],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """One training with its scores, logged to its run; what is told of it."""
    assert recipe.finetune is not None
    store, run_id, name = run
    trained = train_within(budget, *specs)
    windows = Windows(recipe.data.segment_s, recipe.evaluate.overlap_s, recipe.finetune.precision)
    settings = part(recipe.evaluate, EvaluationConfig)
    scored = score(trained.model, corpus, (splits.valid, splits.test), windows, settings)
    numbers = scored.metrics | _costs(trained, scored)
    if recipe.model.streams:  # what it is worth on recordings that lack them
        deaf = score(without_streams(trained.model), corpus, (splits.valid, splits.test), windows, settings)
        numbers |= {f"{WITHOUT}{name}": value for name, value in deaf.metrics.items()}
    _log_run(store, run_id, trained, scored, numbers)
    ap = numbers.get("strict/AP/micro")
    say(
        f"{name}: {trained.updates} of {trained.planned} updates in {trained.cpu_s:.1f} CPU-s, strict AP on test"
        f" {'undefined' if ap is None else format(ap, '.3f')}, run {run_id}"
    )
    if trained.updates < trained.planned:
        say(f"{name}: the budget ended before the schedule; the machine was slower than when it was measured")
    return {
        "numbers": numbers,
        "curve": [list(point) for point in trained.curve],
        "events": scored.chosen.events.model_dump(mode="json"),
        "run": run_id,
    }


def _costs(trained: Trained, scored: Scored) -> dict[str, float]:
    return {
        "cpu_seconds": trained.cpu_s,
        "pretraining_cpu_seconds": trained.pretrain_cpu_s,
        "validation_cpu_seconds": trained.validation_cpu_s,
        "measuring_cpu_seconds": trained.measuring_cpu_s,
        "scoring_cpu_seconds_per_audio_second": scored.cpu_s_per_s,
        "parameters": float(sum(parameter.numel() for parameter in trained.model.parameters())),
        "updates": float(trained.updates),
        "schedule_share": trained.updates / trained.planned,
        "best_update": float(trained.best_update),
        "pretrain_updates": float(trained.pretrain_updates),
        "peak_memory_gib": trained.peak_gib,
    }


def _log_run(store: Store, run_id: str, trained: Trained, scored: Scored, numbers: dict[str, float]) -> None:
    """The loop's metrics by update, the learning curve by seconds of the processor, the scores and costs."""
    log = MetricLog(store.uri, run_id, [])
    for update, metrics in trained.log:
        log.add(update, {name: value for name, value in metrics.items() if not name.startswith("validation/")})
    log.close()
    for cpu_s, ap in trained.curve:
        if ap is not None:
            store.log_metrics(run_id, {METRIC: ap}, round(cpu_s))
    store.log_metrics(run_id, numbers, trained.updates)
    store.log_json(run_id, scored.record, "evaluation.json")
    store.log_json(run_id, scored.chosen.model_dump(mode="json"), "chosen.json")


def _log_call(store: Store, run_id: str, found: dict[str, Any]) -> None:
    for role in ROLES:
        means = {name: value for name, value in found[role].items() if isinstance(value, float)}
        store.log_metrics(run_id, {f"{role}/{name}": value for name, value in means.items()})
    store.log_json(run_id, found, "result.json")
    store.log_figure(run_id, curves_of(found), "curves.png")


def curves_of(found: dict[str, Any]) -> Any:
    """The figure: AP on valid against seconds of the processor, of both, a line for each seed."""
    from a2v_eval.figures import training_figure

    curves = {f"{role} ({found[role]['model']})": [run["curve"] for run in found[role]["runs"]] for role in ROLES}
    return training_figure(curves)


def _begin(store: Store, name: str, config: dict[str, Any], parent: str | None) -> str:
    """A run of its own: a measurement is never taken from an earlier one."""
    mark = fingerprint("bench", {"call": uuid.uuid4().hex})
    return store.begin("bench-detect", mark, name, config, {}, parent)


def _described(bench: Bench, pair: Pair) -> dict[str, Any]:
    return {
        "command": bench.command, "folder": bench.folder.resolve().name, "recipe": pair.a2v.name,
        "cpu_seconds": bench.budget.seconds, "share": bench.asked.share, "share_seed": bench.share_seed,
        "seeds": list(bench.seeds), "peer": bench.asked.peer, "preset": bench.asked.preset,
    }  # fmt: skip


def _config(bench: Bench, recipe: Recipe, role: str, seed: int) -> dict[str, Any]:
    parts = {"data", "model", "backbone", "pretrain", "finetune", "evaluate"}
    about = {"role": role, "seed": seed, "share": bench.asked.share, "cpu_seconds": bench.budget.seconds}
    return about | recipe.model_dump(mode="json", include=parts)
