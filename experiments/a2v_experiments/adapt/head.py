"""Training of a head on kept features: plain PyTorch, seconds to minutes on one processor.

A stretch of T frames is a row of a batch; half of the stretches hold an event, rare classes more often than they are
there (`a2v_data.sampling`). The loss is binary cross entropy; what is validated and kept is an average of the weights.

B stretches, T frames, D features, C classes.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from a2v_data.corpus import Corpus
from a2v_data.sampling import SamplingConfig, draw_segments
from a2v_data.training_part import TrainingPart
from a2v_eval.evaluation import EvaluationConfig, evaluate
from a2v_model import Detector, own_threads, threads, weight_decay_groups
from a2v_model.config import AnyFrontEnd
from a2v_model.heads import TemporalHead, apply_head
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..recipe.trainings import OptimizerConfig
from ..training.average import Average
from ..training.group import Group
from ..training.loop import learning_rate, seed_dropout
from ..training.validation import Look, Validation, best_of, validation_events
from .features import Features

FRAMES_AT_ONCE = 50_000  # of a recording, whose likelihoods are computed
MEASURED_UPDATES = 8
MOMENT_FRAMES = 200_000
RATES = {"linear": 1e-2, "temporal": 3e-3}  # learning rates of heads, on standardised features


@dataclass(frozen=True)
class HeadTraining:
    """updates at most, fewer where `minutes` would be over (only then does the result depend on the machine's speed);
    stretches of stretch_s seconds in an update; looks: validations; patience: of them without a new best, after which
    training ends; average: decay of the weights' average."""

    updates: int = 2000
    minutes: float = 5.0
    stretches: int = 32
    stretch_s: float = 1.0
    learning_rate: float = RATES["linear"]
    weight_decay: float = 0.01
    average: float = 0.99
    looks: int = 20
    patience: int = 8
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """How a training went: updates done, the one whose weights were kept, strict AP micro there (None: undefined)."""

    updates: int
    best_update: int
    best_ap: float | None
    seconds: float


Log = Callable[[int, dict[str, float]], None]


class Stretches:
    """Draws batches of stretches from the recordings to train on; a pure function of the seed and the update."""

    def __init__(
        self, features: Mapping[int, Features], corpus: Corpus, train: list[int], front_end: AnyFrontEnd,
        training: HeadTraining,
    ) -> None:  # fmt: skip
        corpus = corpus.timed_at(front_end.sample_rate)  # features have that grid, whatever rate they were heard at
        self.features, self.corpus, self.front_end, self.training = features, corpus, front_end, training
        self.part = TrainingPart(corpus, train)
        self.frames = max(1, round(training.stretch_s * front_end.frame_rate))

    def draw(self, update: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features (B, T, D), targets (B, T, C) and which frames are of the recording, bool (B, T)."""
        stride, count = self.front_end.stride, self.training.stretches
        rng = np.random.default_rng([self.training.seed, 4, update])
        segments = draw_segments(self.part, self.frames * stride, stride, count, SamplingConfig(), rng)
        first_B = np.minimum(
            segments["start"] // stride,
            [max(len(self.features[number]) - self.frames, 0) for number in segments["recording"].tolist()],
        )
        segments["start"] = first_B * stride  # one that ends with its recording may not have been on a frame
        dim = self.features[int(segments["recording"][0])].shape[1]
        x_BTD = np.zeros((count, self.frames, dim), np.float16)
        valid_BT = np.zeros((count, self.frames), bool)
        for row, (recording, first) in enumerate(zip(segments["recording"].tolist(), first_B.tolist(), strict=True)):
            found_TD = self.features[recording][first : first + self.frames]
            x_BTD[row, : len(found_TD)], valid_BT[row, : len(found_TD)] = found_TD, True
        target_BTC = self.corpus.targets(segments, self.front_end.frame_rate, self.frames)
        return torch.from_numpy(x_BTD).float(), torch.from_numpy(target_BTC), torch.from_numpy(valid_BT)


class _Standardised(nn.Module):
    """The first layer of a head on features of mean 0 and variance 1: what it learns with is well conditioned, what it
    computes is what `layer` does at first, or, where that is `new`, what it would on such features. `folded` is a layer
    that computes the same."""

    mean: Tensor
    spread: Tensor

    def __init__(self, layer: nn.Linear, mean_D: Tensor, spread_D: Tensor, dropout: float, new: bool) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("mean", mean_D)
        self.register_buffer("spread", spread_D)
        weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
        self.weight = nn.Parameter(weight if new else weight * spread_D)
        self.bias = nn.Parameter(bias if new else bias + weight @ mean_D)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.dropout((x - self.mean) / self.spread), self.weight, self.bias)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        layer = nn.Linear(self.weight.shape[1], self.weight.shape[0])
        layer.weight.copy_(self.weight / self.spread)
        layer.bias.copy_(self.bias - layer.weight @ self.mean)
        return layer


def train_head(
    detector: Detector, features: Mapping[int, Features], corpus: Corpus, train: list[int], scored: list[int],
    scoring: EvaluationConfig, training: HeadTraining, new: bool = True,
    log: Log = lambda update, metrics: None, progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trained:  # fmt: skip
    """Train the detector's head, on the CPU; it has the best weights afterwards.

    features: of the recordings to train on and those that are scored to choose the best weights. scoring: of these
    scores. new: the head has learned nothing yet. log(update, metrics) is called at every look, progress(done, total)
    after every update. Raises ValueError where there is no recording to train on.
    """
    front_end = detector.model_config.front_end
    stretches = Stretches(features, corpus, train, front_end, training)
    start = copy.deepcopy(detector.head).cpu()
    temporal = start if isinstance(start, TemporalHead) else None
    first = start.project if isinstance(start, TemporalHead) else start
    assert isinstance(first, nn.Linear), "adapted heads are built in"
    mean_D, spread_D = moments(features, train, temporal.norm if temporal else nn.Identity())
    standardised = _Standardised(first, mean_D, spread_D, detector.config.head_dropout, new)
    head: nn.Module = standardised
    if temporal is not None:
        temporal.project, head = standardised, temporal  # type: ignore[assignment]  # it takes the layer's place

    def score(of: nn.Module) -> Look:
        found = ((head_likelihoods(of.eval(), features[number]), corpus.truth(number)) for number in scored)
        settings = scoring.model_copy(update={"events": validation_events(scoring.events)})
        return Look(evaluate(found, corpus.classes, front_end.frame_rate, settings))

    began = time.perf_counter()
    with threads(own_threads(head, torch.device("cpu"))):
        updates = planned_updates(copy.deepcopy(head), stretches, training)
        validation = Validation(score, max(1, math.ceil(updates / training.looks)), training.patience)
        done = _train(head, stretches, replace(training, updates=updates), validation, log, progress)
    head.load_state_dict(validation.best)
    if temporal is not None:
        temporal.project = standardised.folded()
    trained = temporal or standardised.folded()
    detector.head.load_state_dict(trained.state_dict())
    best_update, best_ap = best_of(validation.history)
    return Trained(done, best_update, best_ap, time.perf_counter() - began)


def head_likelihoods(head: nn.Module, features_TD: Features) -> NDArray[np.float32]:
    """Likelihoods (T, C) of a recording by its features; those next to a border of blocks see beyond it."""
    parts, margin = [], 16
    with torch.inference_mode():
        for first in range(0, len(features_TD), FRAMES_AT_ONCE):
            low, last = max(first - margin, 0), min(first + FRAMES_AT_ONCE, len(features_TD))
            block_TD = torch.from_numpy(np.array(features_TD[low : last + margin], np.float32))
            parts.append(apply_head(head, block_TD[None])[0, first - low : last - low].sigmoid().numpy())
    likelihood_TC: NDArray[np.float32] = np.concatenate(parts)
    return likelihood_TC


def moments(features: Mapping[int, Features], recordings: Sequence[int], before: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of what `before` makes of the features, over at most 200 000 frames that lie
    evenly over all; a feature that hardly varies counts as one that varies by a thousandth of the largest."""
    total = sum(len(features[number]) for number in recordings)
    step = max(1, total // MOMENT_FRAMES)

    def blocks() -> Iterator[Tensor]:
        for number in recordings:
            for first in range(0, len(features[number]), FRAMES_AT_ONCE):
                block_TD = np.array(features[number][first : first + FRAMES_AT_ONCE : step], np.float32)
                yield before(torch.from_numpy(block_TD)).double()

    count = sum_D = square_D = torch.zeros((), dtype=torch.float64)
    for block_TD in blocks():
        count, sum_D, square_D = count + len(block_TD), sum_D + block_TD.sum(0), square_D + block_TD.square().sum(0)
    mean_D = sum_D / count
    spread_D = (square_D / count - mean_D.square()).clamp(min=0).sqrt()
    least = 1e-3 * float(spread_D.max()) or 1.0
    return mean_D.float(), spread_D.clamp(min=least).float()


def planned_updates(head: nn.Module, stretches: Stretches, training: HeadTraining) -> int:
    """How many updates fit into the minutes, at the speed of a few that are made and thrown away with `head`; at most
    those asked for."""
    optimizer = _optimizer(head, training)
    _update(head, optimizer, stretches, 0)  # the first reads files and makes the optimiser's state
    began = time.perf_counter()
    for update in range(MEASURED_UPDATES):
        _update(head, optimizer, stretches, update)
    seconds = (time.perf_counter() - began) / MEASURED_UPDATES
    return min(training.updates, max(1, int(60 * training.minutes / max(seconds, 1e-6))))


def _optimizer(head: nn.Module, training: HeadTraining) -> torch.optim.Optimizer:
    groups = weight_decay_groups(head, training.weight_decay)
    return torch.optim.AdamW(groups, lr=training.learning_rate, betas=(0.9, 0.99))


def _update(head: nn.Module, optimizer: torch.optim.Optimizer, stretches: Stretches, update: int) -> Tensor:
    x_BTD, target_BTC, valid_BT = stretches.draw(update)
    seed_dropout(stretches.training.seed, update, 0)
    logits_BTC = apply_head(head, x_BTD, valid_BT)
    known_BTC = valid_BT[..., None] & ~target_BTC.isnan()
    loss = functional.binary_cross_entropy_with_logits(logits_BTC[known_BTC], target_BTC[known_BTC])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def _train(
    head: nn.Module, stretches: Stretches, training: HeadTraining, validation: Validation, log: Log,
    progress: Callable[[int, int], None],
) -> int:  # fmt: skip
    """Until the last update, the end of patience or of the minutes (validations take time too); returns the updates
    done."""
    optimizer, average = _optimizer(head, training), Average(head, training.average)
    settings = OptimizerConfig(learning_rate=training.learning_rate, warmup_updates=max(1, training.updates // 20))
    deadline = time.monotonic() + 60 * training.minutes
    group, losses = Group(), []
    head.train()
    for updates in range(1, training.updates + 1):
        for parameters in optimizer.param_groups:
            parameters["lr"] = learning_rate(updates - 1, training.updates, settings)
        losses.append(_update(head, optimizer, stretches, updates - 1))
        average.follow(updates)
        last = updates == training.updates or time.monotonic() > deadline
        scores = validation.look(updates, last, head, average.applied(), group)
        if scores:
            log(updates, {"loss": float(torch.stack(losses).mean()), "update": float(updates), **scores})
            losses = []
        progress(updates, training.updates)
        if last or validation.stops:
            return updates
    raise AssertionError("the last update returns")
