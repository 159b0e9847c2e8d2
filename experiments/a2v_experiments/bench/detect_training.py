"""Training within a budget of processor time: what an update costs here, how many fit, and the training itself.

The processor's seconds of this process are what counts (`time.process_time`), with one thread, so that what else the
machine does changes little. Within the budget: reading, pretraining, finetuning, validation. Not in it: packing, the
measuring of an update's cost on a copy of the task that is thrown away, scoring.
"""

from __future__ import annotations

import math
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from a2v_model import Detector, save_model, threads
from safetensors.torch import load_file

from ..basics.errors import UserError
from ..recipe.trainings import LoopConfig
from ..recipe.validating import ValidationConfig
from ..training import checkpoints
from ..training.group import Group
from ..training.loop import train
from ..training.spec import TrainingSpec
from ..training.tasks import build_task
from ..training.validation import Look
from ..training.validation_report import METRIC

VALIDATIONS = 5  # of a training
VALIDATED_SHARE = 0.2  # of the budget, at most; fewer validations where they take longer
MARGIN = 0.93  # of the budget is planned: an update's cost changes by some percent, and the schedule should end
FEWEST_UPDATES = 10
PROBE_SHARE, PROBE_UPDATES = 0.05, (8, 200)  # of the budget, and at least and at most so many
WARMING_UP = 2  # first updates that are not typical


@dataclass(frozen=True)
class Budget:
    """seconds: of the processor. Pretraining takes so many updates, or a share of the seconds, or is not done."""

    seconds: float
    pretrain_updates: int | None = None
    pretrain_share: float | None = None


@dataclass(frozen=True)
class Cost:
    """Seconds of the processor: to build the task, for an update, and for a validation (0 for a pretraining)."""

    building_s: float
    update_s: float
    validation_s: float = 0.0


@dataclass
class Trained:
    """A detector and what it took. planned: updates of its schedule; updates: those that fitted.

    curve: (seconds of the processor, strict AP micro on valid or None); log: (update, metrics) of the loop.
    """

    model: Detector
    planned: int
    updates: int = 0
    best_update: int = 0
    pretrain_updates: int = 0
    cpu_s: float = 0.0
    pretrain_cpu_s: float = 0.0
    validation_cpu_s: float = 0.0
    measuring_cpu_s: float = 0.0
    peak_gib: float = 0.0
    curve: list[tuple[float, float | None]] = field(default_factory=list)
    log: list[tuple[int, dict[str, float]]] = field(default_factory=list)


def train_within(budget: Budget, finetune: TrainingSpec, pretrain: TrainingSpec | None) -> Trained:
    """Train a detector within the budget, after a pretraining if there is one, and choose its weights on valid.

    Raises UserError where the budget is too small.
    """
    with threads(1), tempfile.TemporaryDirectory(prefix="a2v-bench-") as scratch:
        begun = time.process_time()
        cost = measure(finetune, budget.seconds)
        pretrain_cost = measure(pretrain, budget.seconds) if pretrain else None
        measuring_s = time.process_time() - begun
        pretrain_updates = _pretrain_updates(budget, pretrain_cost)
        expected_s = pretrain_cost.building_s + pretrain_updates * pretrain_cost.update_s if pretrain_cost else 0.0
        plan(budget.seconds, budget.seconds - expected_s, cost)  # refused before anything is trained
        _forget_peak()
        begun = time.process_time()
        if pretrain and pretrain_cost:
            finetune = finetune.model_copy(update={"backbone": _pretrain(pretrain, pretrain_updates, Path(scratch))})
        pretrained_s = time.process_time() - begun if pretrain else 0.0
        updates, every = plan(budget.seconds, budget.seconds - pretrained_s, cost)
        trained = _finetune(with_schedule(finetune, updates, every), begun, budget.seconds, cost, Path(scratch))
        return replace(
            trained, pretrain_updates=pretrain_updates, pretrain_cpu_s=pretrained_s, measuring_cpu_s=measuring_s
        )


def measure(spec: TrainingSpec, budget_s: float) -> Cost:
    """What a training costs here, from a few real updates, and a validation, of a copy."""
    begun = time.process_time()
    task = build_task(spec, torch.device("cpu"))
    building_s = time.process_time() - begun
    most = WARMING_UP + PROBE_UPDATES[1]
    changes = {"updates": most, "log_every": 1, "checkpoint_every": most + 1}
    if spec.finetune is not None:
        task.validation = None  # and with everything trained, which is what costs most
        task.model.config = task.model.config.model_copy(update={"head_only_updates": 0})
    times: list[float] = []

    def enough() -> bool:
        return len(times) >= WARMING_UP + PROBE_UPDATES[0] and times[-1] - times[0] > PROBE_SHARE * budget_s

    train(
        task, spec.loop.model_copy(update=changes), Group(), None, lambda update, found: times.append(_now()),
        lambda update, write: None, lambda: [], enough,
    )  # fmt: skip
    update_s = statistics.median(after - before for before, after in pairwise(times[WARMING_UP - 1 :]))
    if spec.finetune is None:
        return Cost(building_s, update_s)
    begun = _now()
    task.score(task.model)
    return Cost(building_s, update_s, _now() - begun)


def plan(budget_s: float, left_s: float, cost: Cost) -> tuple[int, int]:
    """(updates that fit into what is left of the budget, updates between two validations).

    Raises UserError where they are too few to learn from.
    """
    validations = VALIDATIONS
    if cost.validation_s > 0:
        validations = min(VALIDATIONS, max(1, int(VALIDATED_SHARE * left_s / cost.validation_s)))
    beside_s = cost.building_s + validations * cost.validation_s
    updates = int((MARGIN * left_s - beside_s) / cost.update_s)
    if updates < FEWEST_UPDATES:
        needed = (FEWEST_UPDATES * cost.update_s + cost.building_s + cost.validation_s) / MARGIN + budget_s - left_s
        raise UserError(
            f"--cpu-seconds {budget_s:g}: leaves {left_s:.3g} s for finetuning, where an update takes"
            f" {cost.update_s:.2g} s and a validation {cost.validation_s:.2g} s here; give {math.ceil(needed)} or more"
        )
    return updates, -(-updates // validations)


def with_schedule(spec: TrainingSpec, updates: int, every: int) -> TrainingSpec:
    """The finetuning with so many updates; warm-up and head-only updates are at most a fifth of them each, and
    patience does not end what the budget ends."""
    assert spec.finetune is not None
    stage = spec.finetune
    fifth = updates // 5
    changes = {
        "updates": updates,
        "validation": ValidationConfig(every=every),
        "optimizer": warming_up(stage, fifth),
        "head_only_updates": min(stage.head_only_updates, fifth),
        "checkpoint_every": updates + 1,
    }
    return spec.model_copy(update={"finetune": stage.model_copy(update=changes)})


def warming_up(stage: LoopConfig, most: int) -> Any:
    """A stage's optimiser with at most so many updates of warm-up."""
    settings = stage.optimizer
    return settings.model_copy(update={"warmup_updates": min(settings.warmup_updates, most)})


def _pretrain_updates(budget: Budget, cost: Cost | None) -> int:
    if cost is None:
        return 0
    if budget.pretrain_updates is not None:
        return budget.pretrain_updates
    seconds = (budget.pretrain_share or 0.0) * budget.seconds
    updates = int((MARGIN * seconds - cost.building_s) / cost.update_s)
    if updates < 1:
        raise UserError(f"pretraining: no update fits into {seconds:.3g} s; one takes {cost.update_s:.2g} s here")
    return updates


def _pretrain(spec: TrainingSpec, updates: int, scratch: Path) -> str:
    """Pretrain; the folder of the model."""
    assert spec.pretrain is not None
    stage = spec.pretrain
    changes = {"updates": updates, "optimizer": warming_up(stage, updates // 5), "checkpoint_every": updates + 1}
    spec = spec.model_copy(update={"pretrain": stage.model_copy(update=changes)})
    task = build_task(spec, torch.device("cpu"))
    train(task, spec.loop, Group(), None, lambda update, found: None, lambda update, write: None, lambda: [])
    folder = scratch / "pretrained"
    save_model(task.model, folder, {"updates": updates})
    return str(folder)


def _finetune(spec: TrainingSpec, begun: float, budget_s: float, cost: Cost, scratch: Path) -> Trained:
    task = build_task(spec, torch.device("cpu"))
    found = Trained(task.model, spec.loop.updates)
    score = task.validation.score

    def timed(model: Detector) -> Look:
        started = _now()
        try:
            return score(model)
        finally:
            found.validation_cpu_s += _now() - started

    def log(update: int, metrics: dict[str, float]) -> None:
        if any(name.startswith("validation/") for name in metrics):
            found.curve.append((_now() - begun, metrics.get(METRIC)))
        found.log.append((update, metrics))

    def spent() -> bool:
        found.updates += 1
        return _now() - begun + cost.update_s > budget_s

    task.validation.score = timed
    written: list[Callable[[Path], None]] = []
    train(task, spec.loop, Group(), None, log, lambda update, write: written.append(write), lambda: [], spent)
    found.cpu_s, found.peak_gib = _now() - begun, _peak_gib()
    last = keep_final_weights(task, written, scratch)
    found.best_update = checkpoints.read_state(last).get("best_update") or found.updates
    return found


def keep_final_weights(task: Any, written: Sequence[Callable[[Path], None]], scratch: Path) -> Path:
    """Give a task's model the weights that the loop's own rule says are the model; the folder of its last checkpoint.
    written: what the loop was asked to save, see `train`."""
    last = scratch / "last"
    written[-1](last)
    task.model.load_state_dict(load_file(checkpoints.final_weights(last)))
    return last


def _now() -> float:
    return time.process_time()


def _forget_peak() -> None:
    """Begin to measure the most resident memory anew, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_gib() -> float:
    """The most resident memory of this process since `_forget_peak`, or else in its whole life."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**20
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
