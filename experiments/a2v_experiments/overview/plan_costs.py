"""How long a plan takes and how much disk it needs, from a few training steps and one inference batch measured here.

time   updates x (micro-batches of one worker x seconds of a micro-batch + seconds of the rest of an update), and
       windows of the evaluation recordings x seconds of a window, on noise of the right size, and the seconds of
       scoring them; the same for the validation recordings, as often as they are looked at. Packing and the summary
       are not counted; the start of Ray's workers and a fold's figures are, with what they took on two cores.
disk   corpora that are not packed yet, the checkpoints that a training keeps while it runs, and every model.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from a2v_data.scheduling import cores
from a2v_eval.any_class import one_class_config
from a2v_eval.energy import energy_likelihood
from a2v_eval.evaluation import evaluate
from a2v_eval.events import columns_of
from a2v_eval.fitting import fit_events
from a2v_eval.labels import LABEL
from a2v_model import Detector, Pretrainer, autocast, own_threads, threads
from a2v_model.config import FinetuneConfig, PretrainConfig
from a2v_model.sizes import sizes_only

from ..recipe.folds import PARTS
from ..recipe.sections import Recipe
from ..recipe.trainings import FinetuneStage, PretrainStage
from ..stages import packing
from ..stages.evaluation import Collectors, pooling_settings
from ..stages.specs import data_name
from ..training.loop import TrainingStep
from ..training.noise import CLASSES, step_on_noise, wait_for
from ..training.spec import part
from .plan import Planned
from .plan_audio import Audio, audio_of

WORKERS_START_S = 22.0  # until the first update: two Ray workers on two idle cores; 44 s were seen on busy ones
FIGURES_S = 5.0  # a fold's figures and confidence intervals: 4.4 s in one run of quickstart, on two busy cores
HELD_FRAMES = 8  # a likelihood stays about the same
SCORED_S = 60.0  # noise that scoring is measured on
LABEL_S = 0.2
TRAININGS = ("pretrain", "inner", "finetune", "refit")
INFERENCE_BATCH = 16  # windows, as in evaluation
QUICK_S = 2.0  # a step of 2 segments that takes longer is not measured with more
TIMED = 3  # steps, after one that is not timed
BYTES = 4  # of a float32
# what changes the arithmetic and the memory of a step little or not at all
NO_COST = {
    "updates", "micro_batches", "optimizer", "log_every", "checkpoint_every", "seed", "ema_start", "ema_end",
    "ema_updates", "random_offset", "sampling", "augment", "head_only_updates", "head_prior",
    "weight_average", "validation",
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Bytes of one training: the checkpoint, the model that it leaves."""

    checkpoint: int
    model: int


@dataclass(frozen=True)
class StepTime:
    """Seconds of a micro-batch, of it while only the head learns (None: it always learns all), and of an update's
    rest. segments: in the micro-batch that was measured; of larger ones, the time is extrapolated."""

    micro_s: float
    head_micro_s: float | None
    update_s: float
    segments: int


def sizes_of(planned: Planned) -> Sizes:
    """From the shapes alone; no memory is taken for weights."""
    recipe = planned.recipe
    with sizes_only():
        model = _model(recipe, planned.stage)
    if isinstance(model, Detector) and recipe.finetune is not None:
        model.set_trainable(recipe.finetune.head_only_updates)
    weights = sum(value.numel() for value in model.state_dict().values())
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    more = 0
    if planned.stage != "pretrain" and recipe.finetune is not None:  # the average and the best weights
        more = bool(recipe.finetune.weight_average) + (recipe.finetune.validation is not None)
    return Sizes(BYTES * ((1 + more) * weights + 2 * trained), BYTES * weights)  # AdamW keeps two moments


def _model(recipe: Recipe, stage: str) -> Pretrainer | Detector:
    if stage == "pretrain":
        assert recipe.pretrain is not None
        return Pretrainer(recipe.model, part(recipe.pretrain, PretrainConfig))
    assert recipe.finetune is not None
    return Detector(recipe.model, part(recipe.finetune, FinetuneConfig), CLASSES)


class Clock:
    """Measures steps of the recipes' models, each kind once. note(line) is told what is measured."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note
        self.steps: dict[str, StepTime] = {}
        self.windows: dict[str, float] = {}
        self.scores: dict[str, float] = {}

    def training_s(self, planned: Planned) -> float:
        """Seconds of a training's updates that are left."""
        if not planned.updates:
            return 0.0
        recipe = planned.recipe
        stage = recipe.pretrain if planned.stage == "pretrain" else recipe.finetune
        assert stage is not None
        segment_s = (recipe.pretrain_source if planned.stage == "pretrain" else recipe.data).segment_s
        step = self.step(planned, stage, segment_s)
        workers = max(recipe.ray.num_workers, 1)
        rounds = -(-stage.micro_batches // workers) * stage.segments / step.segments * crowding(recipe)
        head = 0
        if isinstance(stage, FinetuneStage) and step.head_micro_s is not None:
            head = max(0, stage.head_only_updates - (stage.updates - planned.updates))
            head = min(head, planned.updates)
        all_s = (planned.updates - head) * (rounds * step.micro_s + step.update_s)
        head_s = head * (rounds * (step.head_micro_s or 0.0) + step.update_s)
        return all_s + head_s + (WORKERS_START_S if recipe.ray.num_workers else 0.0)

    def update_s(self, planned: Planned) -> float:
        """Seconds of one more update of a training, after those of the head alone."""
        recipe = planned.recipe
        many = 1000 + (recipe.finetune.head_only_updates if recipe.finetune is not None else 0)
        few, more = (self.training_s(with_updates(planned, updates)) for updates in (many, many + 1))
        return more - few

    def evaluation_s(self, planned: Planned, audio: Audio) -> float:
        """Seconds of inference on one fold's evaluation recordings, of scoring them and of drawing figures."""
        evaluated = planned.recipe.folds.evaluated_share
        held_s = audio.labelled_s * evaluated
        if planned.stage == "inner":  # a part of the training recordings
            held_s = audio.labelled_s * (1 - evaluated) * (planned.share or 1.0) / PARTS
        return self.inference_s(planned, held_s) + held_s * self.scoring(planned.recipe) + FIGURES_S

    def validation_s(self, planned: Planned, audio: Audio) -> float:
        """Seconds of the validations that a finetuning has left, and of choosing thresholds on their recordings. With
        patience there may be fewer."""
        recipe = planned.recipe
        inner = planned.stage == "inner"
        share = 1 / PARTS if inner else recipe.validated_share
        if recipe.finetune is None or share is None:
            return 0.0
        trained_s = audio.labelled_s * (1 - recipe.folds.evaluated_share) * (planned.share or 1.0)
        held_s = trained_s * share
        looks = validations(recipe.finetune, planned.updates) + (not inner)  # thresholds
        return looks * (self.inference_s(planned, held_s) + held_s * self.scoring(recipe, whole=False))

    def inference_s(self, planned: Planned, heard_s: float) -> float:
        """Seconds of inference on so many seconds of recordings."""
        recipe = planned.recipe
        return heard_s / (recipe.data.segment_s - recipe.evaluate.overlap_s) * self.window(planned)

    def step(self, planned: Planned, stage: PretrainStage | FinetuneStage, segment_s: float) -> StepTime:
        recipe = planned.recipe
        key = f"{recipe.model.model_dump_json()} {stage.model_dump_json(exclude=NO_COST)} {segment_s} {_place(planned)}"
        if key not in self.steps:
            kind = "pretraining" if isinstance(stage, PretrainStage) else "finetuning"
            self.note(f"measuring a step of {kind}")
            with threads(_training_threads(planned)):
                self.steps[key] = measure_step(recipe, stage, segment_s)
        return self.steps[key]

    def window(self, planned: Planned) -> float:
        recipe = planned.recipe
        key = f"{recipe.model.model_dump_json()} {recipe.data.segment_s} {_place(planned)}"
        if key not in self.windows:
            self.note("measuring inference")
            with threads(_thread_count(planned)):
                self.windows[key] = measure_window(recipe)
        return self.windows[key]

    def scoring(self, recipe: Recipe, whole: bool = True) -> float:
        """Seconds for a second of recordings; few enough to be measured for each recipe anew, but not for each fold."""
        key = f"{recipe.model.front_end.model_dump_json()} {recipe.evaluate.model_dump_json()} {whole}"
        if key not in self.scores:
            self.note("measuring scoring")
            self.scores[key] = measure_scoring(recipe, whole)
        return self.scores[key]


def validations(stage: FinetuneStage, left: int) -> int:
    """How often a finetuning with so many updates left validates: every so many updates, and at the end."""
    if stage.validation is None or not left:
        return 0
    every = stage.validation.every
    return -(-stage.updates // every) - (stage.updates - left) // every


def with_updates(planned: Planned, updates: int) -> Planned:
    """The training as if its recipe gave it so many updates and none were done."""
    stage = planned.recipe.pretrain if planned.stage == "pretrain" else planned.recipe.finetune
    assert stage is not None
    section = "pretrain" if planned.stage == "pretrain" else "finetune"
    changed = {section: stage.model_copy(update={"updates": updates})}
    return replace(planned, recipe=planned.recipe.model_copy(update=changed), updates=updates)


def measure_step(recipe: Recipe, stage: PretrainStage | FinetuneStage, segment_s: float) -> StepTime:
    """Median times of a micro-batch and of the rest of an update, on the device that training would use here."""
    device = device_of(recipe)
    all_learns = stage.head_only_updates if isinstance(stage, FinetuneStage) else 0
    few = min(stage.segments, 2)
    step = step_on_noise(recipe.model, stage, few, segment_s, device)
    step(all_learns)
    probe = _seconds(partial(step, all_learns), device)
    if few < stage.segments and probe < QUICK_S:
        few = stage.segments
        step = step_on_noise(recipe.model, stage, few, segment_s, device)
        step(all_learns)
    micro, rest = _timed(step, all_learns, device)
    head = _timed(step, 0, device)[0] if all_learns else None
    return StepTime(micro, head, rest, few)


def _timed(step: TrainingStep, update: int, device: torch.device) -> tuple[float, float]:
    """Median seconds of a micro-batch of such an update and of the update's rest."""
    step.task.begin_update(update)
    micro = []
    rest = []
    for number in range(TIMED):
        micro.append(_seconds(partial(step.micro_batch, update, number), device))
        rest.append(_seconds(partial(step.finish, update), device))
    return statistics.median(micro), statistics.median(rest)


def measure_window(recipe: Recipe) -> float:
    """Seconds of inference for one window of a recording."""
    assert recipe.finetune is not None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # evaluation is the driver's
    model = _model(recipe, "finetune").to(device).eval()
    samples = round(recipe.data.segment_s * recipe.model.front_end.sample_rate)
    wave = torch.randn(2, samples, device=device)

    def infer(wave_BN: torch.Tensor) -> None:
        assert recipe.finetune is not None
        with torch.inference_mode(), autocast(recipe.finetune.precision, device):
            model(wave_BN)

    infer(wave)
    few = _seconds(partial(infer, wave), device)
    if few > QUICK_S:
        return few / len(wave)
    batch = torch.randn(INFERENCE_BATCH, samples, device=device)
    infer(batch)
    return _seconds(partial(infer, batch), device) / INFERENCE_BATCH


def measure_scoring(recipe: Recipe, whole: bool = True) -> float:
    """Seconds of scoring for a second of recordings, on noise: the model, and the energy threshold beside it; not
    whole: what a validation has of it."""
    frame_rate, sample_rate = recipe.model.front_end.frame_rate, recipe.model.front_end.sample_rate
    rng = np.random.default_rng(0)
    frames = round(SCORED_S * frame_rate)
    settings = one_class_config(recipe.evaluate)  # what is given per class is for names that are not known here
    if recipe.evaluate.fit_events:
        fitted = fit_events(settings.events, {CLASSES[0]: np.array([LABEL_S])}, CLASSES)
        settings = settings.model_copy(update={"events": fitted})
    columns = columns_of(settings.events, len(CLASSES))
    coarse = rng.uniform(0, 1, (frames // HELD_FRAMES + 1, columns)) ** 4  # most likelihoods are low
    likelihood_TC = coarse.repeat(HELD_FRAMES, 0)[:frames].astype(np.float32)
    labels = np.zeros(round(SCORED_S), LABEL)
    labels["class"], labels["onset_s"] = rng.integers(0, len(CLASSES), len(labels)), np.arange(len(labels))
    labels["offset_s"] = labels["onset_s"] + LABEL_S
    wave = rng.normal(size=round(SCORED_S * sample_rate)).astype(np.float32)
    started = time.perf_counter()
    if not whole:
        evaluate([(likelihood_TC, labels)], CLASSES, frame_rate, settings).metrics()
        return (time.perf_counter() - started) / SCORED_S
    collected = Collectors.of(CLASSES, frame_rate, settings)
    collected.add(likelihood_TC, labels)
    collected.by_class.evaluation().metrics()
    loudness_T = energy_likelihood(wave, sample_rate, frame_rate)
    pooling = pooling_settings(settings)
    evaluate([(loudness_T[:, None].repeat(len(CLASSES), 1), labels)], CLASSES, frame_rate, pooling).metrics()
    return (time.perf_counter() - started) / SCORED_S


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    wait_for(device)
    started = time.perf_counter()
    work()
    wait_for(device)
    return time.perf_counter() - started


def device_of(recipe: Recipe) -> torch.device:
    """Where training would run: workers use a GPU only if the recipe says so."""
    uses = torch.cuda.is_available() and (recipe.ray.num_workers == 0 or recipe.ray.use_gpu)
    return torch.device("cuda" if uses else "cpu")


def crowding(recipe: Recipe) -> float:
    """How much slower a worker is where there are more of them than this machine's cores carry; on a cluster, 1."""
    if recipe.ray.address is not None or recipe.ray.use_gpu or not recipe.ray.num_workers:
        return 1.0
    return max(1.0, recipe.ray.num_workers * recipe.ray.cpus_per_worker / cores())


def _place(planned: Planned) -> str:
    return f"{device_of(planned.recipe)} {_thread_count(planned)}"


def _thread_count(planned: Planned) -> int:
    """Threads that one worker computes with; Ray gives it, and a trial's process, as many as it has CPUs."""
    ray = planned.recipe.ray
    alone = planned.trial is None and not ray.num_workers
    return torch.get_num_threads() if alone else max(1, int(ray.cpus_per_worker))


def _training_threads(planned: Planned) -> int:
    """Threads that training computes with: in this process, fewer where the model is small."""
    if planned.recipe.ray.num_workers:
        return _thread_count(planned)
    with sizes_only():
        model = _model(planned.recipe, planned.stage)
    return min(_thread_count(planned), own_threads(model, device_of(planned.recipe)))


def packed(data: Planned, work: Path) -> bool:
    """Whether the corpus of a data stage lies packed in the work folder."""
    return data.mark.known and (packing.corpus_folder(work, data.mark.fingerprint) / "corpus.json").is_file()


def disk_bytes(planned: Sequence[Planned], work: Path, at_once: int) -> dict[str, int]:
    """What a plan leaves (models, corpora) and what it needs meanwhile (checkpoints), bytes. at_once: trials."""
    trainings = [one for one in planned if one.works and one.stage in TRAININGS and one.updates]
    sizes = [(one, sizes_of(one)) for one in trainings]
    kept = 3 if any(one.recipe.ray.num_workers for one in trainings) else 2  # the newest are kept while one is written
    checkpoints = max((size.checkpoint for _, size in sizes), default=0) * kept * at_once
    corpora: dict[str, int] = {}
    for one in planned:
        if one.stage != "prepare":
            continue
        data = next(data for key, data in one.recipe.corpora.items() if data_name(key) == one.name)
        if not packed(one, work):
            audio_s = audio_of(data, work, None).total_s
            corpora[one.mark.fingerprint] = round(audio_s * data.sample_rate * 2)
            if data.source == "synthetic" and not packing.synthetic_folder(data, work).is_dir():
                corpora[f"{one.mark.fingerprint} source"] = round(audio_s * 8000 * 2)
    return {
        "corpora": sum(corpora.values()),
        "checkpoints": checkpoints,
        "models": sum(s.model * one.times for one, s in sizes),
    }
