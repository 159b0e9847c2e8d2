"""The stages of an experiment: prepare -> folds -> pretrain -> finetune (fold x label share) -> evaluate.

Each is a function of its configuration and of its inputs' results; each looks itself up in the tracking store by
fingerprint before it runs, and its outputs are artifacts of its run. Only the packed corpus is too big for that: it
lies under WORK/corpora/FINGERPRINT, and its run holds its index and statistics.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import FAILED, UserError
from .fingerprint import fingerprint
from .progress import bar, watching
from .recipe import Recipe
from .tasks import TrainingSpec, build_task
from .tracking import Store, fetch, scratch
from .workers import run_training


@dataclass(frozen=True)
class Context:
    """What every stage needs: the recipe, the store, the work folder, the parent run, and where to say things."""

    recipe: Recipe
    store: Store
    work: Path
    parent: str
    say: Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """A stage that is done: its fingerprint, its run, and whether an earlier call had run it."""

    fingerprint: str
    run_id: str
    reused: bool


def run_stage(
    context: Context,
    stage: str,
    name: str,
    config: dict[str, Any],
    inputs: list[str],
    work: Callable[[str], None],
    tags: dict[str, str] | None = None,
) -> Result:
    """Find a finished run with this fingerprint, or run `work(run_id)` in a child run. Says which."""
    mark = fingerprint(stage, config, *inputs)
    found = context.store.find(stage, mark)
    if found:
        context.say(f"{name}: reused, run {found.info.run_id}")
        return Result(mark, found.info.run_id, True)
    tags = {"variant": context.recipe.variant, **(tags or {})}
    run_id = context.store.begin(stage, mark, name, config, tags, context.parent)
    context.say(f"{name}: run {run_id}")
    with ending(context.store, run_id):
        work(run_id)
    return Result(mark, run_id, False)


@contextmanager
def ending(store: Store, run_id: str) -> Iterator[None]:
    """The run reads FINISHED, KILLED (Ctrl-C) or FAILED, whatever happens inside."""
    try:
        yield
    except KeyboardInterrupt:
        store.finish(run_id, "KILLED")
        raise
    except BaseException:
        store.finish(run_id, "FAILED")
        raise
    store.finish(run_id)


def check_source(recipe: Recipe) -> None:
    """Raise UserError or ValueError where the recipe's folder, its audio or its annotations are not there."""
    from a2v_data.sources import open_source

    source = recipe.data.source
    if source == "synthetic":
        return
    if not Path(source).is_dir():
        raise UserError(f"data.source: {source}: no such folder")
    open_source(Path(source))


def prepare(context: Context) -> tuple[Result, Path]:
    """Recordings and annotations, or the synthetic corpus, become one packed store; returns its folder."""
    from a2v_data.corpus import Corpus
    from a2v_data.prepare import PrepareConfig, source_fingerprint
    from a2v_data.prepare import prepare as prepare_corpus
    from a2v_data.stats import corpus_statistics

    data = context.recipe.data
    config = data.model_dump(mode="json", include=set(PrepareConfig.model_fields))
    source = _synthesise(context) if data.source == "synthetic" else Path(data.source)
    origin = source_fingerprint(source, cache=context.work / "content-hashes.json")
    mark = fingerprint("prepare", config, origin)
    folder = context.work / "corpora" / mark[:16]

    def work(run_id: str) -> None:
        if not (folder / "corpus.json").is_file():
            for left in folder.parent.glob(f".{folder.name}.partial-*"):  # of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            with bar("recordings", 0, "files") as shown:
                corpus = prepare_corpus(source, folder, PrepareConfig(**config), progress=_advance(shown))
        corpus = Corpus.open(folder)
        for problem in corpus.problems:
            context.say(f"  left out: {problem}")
        statistics = corpus_statistics(corpus)
        context.store.log_json(run_id, statistics, "statistics.json")
        context.store.tag(run_id, "a2v.corpus", str(folder))
        numbers = {key: value for key, value in statistics.items() if isinstance(value, int | float)}
        context.store.log_metrics(run_id, numbers)

    if context.store.find("prepare", mark) and not (folder / "corpus.json").is_file():
        context.say("data: the packed corpus is gone from this machine; preparing it again")
        work(context.store.find("prepare", mark).info.run_id)  # type: ignore[union-attr]
    result = run_stage(context, "prepare", "data", config, [origin], work, {"source": data.source})
    return result, folder


def _advance(shown: Any) -> Callable[[int, int], None]:
    def advance(done: int, total: int) -> None:
        shown.total = total
        shown.update(done - shown.n)

    return advance


def _synthesise(context: Context) -> Path:
    from a2v_data.synth import synthesise

    config = context.recipe.data.synthetic
    folder = context.work / f"synthetic-{config.minutes:g}min-seed{config.seed}"
    if not folder.exists():
        with bar("synthesising", 0, "segments") as shown:
            synthesise(folder, config.minutes, config.seed, progress=_advance(shown))
    return folder


def make_folds(context: Context, data: Result, corpus_folder: Path) -> tuple[Result, list[dict[str, Any]]]:
    """Stratified folds by recording, with few-shot subsets: returns [{train: {share: names}, evaluation: names}]."""
    from a2v_data.corpus import Corpus
    from a2v_data.folds import label_share, write_manifests
    from a2v_data.folds import make_folds as stratify

    settings = context.recipe.folds
    config = settings.model_dump(mode="json", exclude={"run"})

    def work(run_id: str) -> None:
        corpus = Corpus.open(corpus_folder)
        folds = stratify(corpus, settings.count, settings.seed)
        for notice in folds.notices:
            context.say(f"  {notice}")
        table = [
            {
                "train": {str(share): label_share(fold, share, settings.seed).train for share in settings.label_shares},
                "evaluation": fold.evaluation,
            }
            for fold in folds
        ]
        with scratch() as aside:
            write_manifests(folds, corpus, Path(aside) / "manifest")
            context.store.log_folder(run_id, Path(aside) / "manifest", "manifest")
        context.store.log_json(run_id, table, "folds.json")

    result = run_stage(context, "folds", "folds", config, [data.fingerprint], work)
    return result, context.store.read_json(result.run_id, "folds.json")


def pretrain(context: Context, data: Result, corpus_folder: Path) -> Result | None:
    """Self-supervised training on every recording of the corpus; its model is the artifact `model`."""
    recipe = context.recipe
    if recipe.pretrain is None:
        return None
    from a2v_data.corpus import Corpus

    config = _training_config(recipe, "pretrain")

    def work(run_id: str) -> None:
        names = [recording.name for recording in Corpus.open(corpus_folder).recordings]
        spec = TrainingSpec(
            corpus=str(corpus_folder.resolve()), recordings=names, segment_s=recipe.data.segment_s, model=recipe.model,
            pretrain=recipe.pretrain,
        )
        _train(context, spec, run_id, "pretrain", fingerprint("pretrain", config, data.fingerprint), "pretraining")

    return run_stage(context, "pretrain", "pretrain", config, [data.fingerprint], work)


def _training_config(recipe: Recipe, stage: str) -> dict[str, Any]:
    """What a training's result depends on. How often it logs and saves is not part of it."""
    settings = getattr(recipe, stage)
    return {
        "segment_s": recipe.data.segment_s,
        "model": recipe.model.model_dump(mode="json"),
        stage: settings.model_dump(mode="json", exclude={"log_every", "checkpoint_every"}),
    }


def _train(context: Context, spec: TrainingSpec, run_id: str, stage: str, mark: str, label: str) -> None:
    """Train, log the model folder as the run's artifact, then drop the checkpoints."""
    import torch
    from a2v_model import save_model
    from safetensors.torch import load_file

    if context.store.client.get_run(run_id).data.tags.get("a2v.model") == "logged":
        return
    segments = spec.loop.updates * spec.loop.segments * spec.loop.micro_batches
    context.store.tag(run_id, "audio_seconds", f"{segments * spec.segment_s:g}")
    storage = context.work / "checkpoints"
    name = f"{stage}-{mark[:16]}"
    with watching(context.store, run_id, label, spec.loop.updates):
        last = run_training(spec, context.recipe.ray, storage, name, context.store.uri, run_id)
    model = build_task(spec, torch.device("cpu")).model
    model.load_state_dict(load_file(last / "model.safetensors"))
    made_by = {"run_id": run_id, "fingerprint": mark, "experiment": context.recipe.name}
    with scratch() as aside:
        save_model(model, Path(aside) / "model", {**made_by, "updates": spec.loop.updates})
        context.store.log_folder(run_id, Path(aside) / "model", "model")
    context.store.tag(run_id, "a2v.model", "logged")
    shutil.rmtree(storage / name, ignore_errors=True)


def finetune(
    context: Context, corpus_folder: Path, folds: Result, pretrained: Result | None, table: list[dict[str, Any]],
    fold: int, share: float,
) -> Result:
    """Finetune on one fold and evaluate on its evaluation recordings, in the same run.

    With another evaluation of a model that is there already, only the evaluation runs, in a run of its own.
    """
    recipe = context.recipe
    source = pretrained.fingerprint if pretrained else "random weights"
    config = {**_training_config(recipe, "finetune"), "fold": fold, "label_share": share}
    trained_mark = fingerprint("finetune", config, folds.fingerprint, source)
    scoring = recipe.evaluate.model_dump(mode="json")
    variant = "" if recipe.variant == "default" else f" {recipe.variant}"
    name = f"finetune fold {fold}" + (f" labels {share:g}" if share != 1 else "") + variant
    tags = {"fold": str(fold), "label_share": f"{share:g}", "variant": recipe.variant, "a2v.training": trained_mark}

    def train(run_id: str) -> None:
        backbone = fetch(context.store.uri, pretrained.run_id, "model") if pretrained else None
        spec = TrainingSpec(
            corpus=str(corpus_folder.resolve()), recordings=table[fold]["train"][str(share)],
            segment_s=recipe.data.segment_s, model=recipe.model, finetune=recipe.finetune,
            classes=_classes(corpus_folder), backbone=backbone,
        )
        _train(context, spec, run_id, "finetune", trained_mark, name)

    def work(run_id: str) -> None:
        from .evaluation import evaluate_model

        other = context.store.trained(trained_mark)
        if other and other != run_id:
            context.say(f"  its model: reused, run {other}")
            context.store.tag(run_id, "a2v.model_run", other)
        else:
            train(run_id)
        evaluate_model(context, run_id, other or run_id, corpus_folder, table[fold]["evaluation"])

    whole = {**config, "evaluate": scoring}
    return run_stage(context, "finetune", name, whole, [folds.fingerprint, source], work, tags)


def _classes(corpus_folder: Path) -> list[str]:
    classes: list[str] = json.loads((corpus_folder / "corpus.json").read_text(encoding="utf-8"))["classes"]
    if not classes:
        raise UserError("the corpus has no labelled event: finetuning needs some; check annotations.csv", FAILED)
    return classes
