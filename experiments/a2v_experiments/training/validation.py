"""Scores on held out training recordings while finetuning goes on, and the best weights by them.

Contract. Only rank 0 computes scores; all ranks learn them, and so agree on when to stop. No random number is drawn,
so a training with validation makes the same updates as one without. `state` and `best` go into the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from a2v_data.corpus import SEGMENT_DTYPE, Corpus
from a2v_eval.evaluation import Evaluation, EvaluationConfig, evaluate
from a2v_eval.events import EventConfig
from a2v_eval.fitting import RANKING_THRESHOLD
from a2v_eval.presence import PresenceCollector, PresenceScores
from a2v_eval.scores import none_if_nan
from a2v_model import Detector
from a2v_model.losses import logit_of
from numpy.typing import NDArray
from torch import Tensor, nn

from ..inference import recording_likelihoods
from .group import Group
from .validation_report import (
    AP,
    BEST_METRIC,
    BEST_PRESENCE,
    BEST_UPDATE,
    LOSS,
    PRESENCE_AP,
    STOPPED,
    VALIDATION,
    best_of,
    validation_metrics,
)


@dataclass(frozen=True)
class Look:
    """What weights are worth on the validation recordings. loss: training's, of a frame, summed over classes; None
    where it is not known."""

    scores: Evaluation | PresenceScores
    loss: float | None = None


def validation_events(events: EventConfig) -> EventConfig:
    """The event settings of validation: the recipe's, with a threshold so low that AP sees the whole ranking and no
    choice of a threshold; those given per class were chosen, and stay."""
    if isinstance(events.threshold, Mapping):
        return events
    return events.model_copy(update={"threshold": min(events.threshold, RANKING_THRESHOLD)})


def score_validation(
    model: Detector,
    corpus: Corpus,
    recordings: list[int],
    segment_s: float,
    overlap_s: float,
    scoring: EvaluationConfig,
    precision: str = "auto",
) -> Look:
    """Both protocols' scores of the model, which is in eval mode afterwards, on some recordings of a corpus, and its
    loss there; where they are labelled as a whole only, the scores of presence per recording.

    segment_s, overlap_s: seconds of a window and of what neighbours share; scoring: the recipe's, of whose events
    `validation_events` are scored. Of recordings of both kinds those with events are scored.
    """
    weak = set(corpus.indices(corpus.weak))
    strong = [recording for recording in recordings if recording not in weak]
    found = recording_likelihoods(model, corpus, strong or recordings, segment_s, overlap_s, precision=precision)
    settings = scoring.model_copy(update={"events": validation_events(scoring.events)})
    frame_rate = model.model_config.front_end.frame_rate
    if not strong:
        collected = PresenceCollector(corpus.classes, frame_rate, settings.events)
        for recording, likelihood_TC in found:
            collected.add(likelihood_TC, corpus.present(recording), weak=True)
        return Look(collected.result())
    loss = _Loss(model, corpus)
    known = found if model.config.head == "boxes" else loss.listening(found)  # whose targets are of segments
    labelled = ((likelihood_TC, corpus.truth(recording)) for recording, likelihood_TC in known)
    return Look(evaluate(labelled, corpus.classes, frame_rate, settings), loss.mean)


class _Loss:
    """The model's loss on whole recordings, from their likelihoods: of what evaluation hears, each frame once."""

    def __init__(self, model: Detector, corpus: Corpus) -> None:
        self.model, self.corpus = model, corpus
        self.total, self.frames = 0.0, 0

    def listening(self, found: Iterable[tuple[int, NDArray[np.float32]]]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Passes recordings and their likelihoods (T, C) on."""
        for recording, likelihood_TC in found:
            whole = np.array([(recording, 0)], dtype=SEGMENT_DTYPE)
            target_BTC = self.corpus.targets(whole, self.model.frame_rate, len(likelihood_TC))
            logits_BTC = logit_of(torch.from_numpy(likelihood_TC)[None])
            loss, frames = self.model.loss(logits_BTC, torch.from_numpy(target_BTC))
            self.total, self.frames = self.total + float(loss), self.frames + int(frames)
            yield recording, likelihood_TC

    @property
    def mean(self) -> float | None:
        return self.total / self.frames if self.frames else None


@dataclass
class Validation:
    """score(model) is called every `every` updates and at the end; `patience`: how many scores without a new best
    end the training (None: never). of_presence: score gives `PresenceScores`.

    history: (update, strict AP micro) of all so far, or mAP micro of presence, None where undefined; best: the weights
    of the last that is as good as the highest (`best_of`), on rank 0; kept: all that is known of how these rank events
    (`validation/strict/AP/CLASS`, ...), on rank 0, of looks of this call.
    """

    score: Callable[[Any], Look]
    every: int
    patience: int | None = None
    history: list[tuple[int, float | None]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    of_presence: bool = False
    kept: dict[str, float] = field(default_factory=dict)

    def look(
        self, updates: int, last: bool, model: nn.Module, applied: AbstractContextManager[None], group: Group
    ) -> dict[str, float]:
        """Where it is time for it: score the weights that the model has within `applied`; returns the metrics."""
        if not last and updates % self.every:
            return {}
        names, best_metric = (PRESENCE_AP, BEST_PRESENCE) if self.of_presence else (AP, BEST_METRIC)
        told = (*(f"{VALIDATION}{name}" for name in names), LOSS)
        scores = torch.zeros(len(told), dtype=torch.float64)
        if group.rank == 0:
            with applied:
                found = self.score(model)
                ranks = validation_metrics(found.scores.metrics())
                known = ranks | ({} if found.loss is None else {LOSS: found.loss})
                scores = torch.tensor([known.get(name, math.nan) for name in told], dtype=torch.float64)
                self.history.append((updates, none_if_nan(float(scores[0]))))
                if best_of(self.history) == self.history[-1]:
                    self.kept = ranks
                    self.best = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
            model.train()
        scores = group.sum(scores.to(group.device)).cpu()  # where the other ranks wait
        if group.rank:
            self.history.append((updates, none_if_nan(float(scores[0]))))
        best_update, best_score = best_of(self.history)
        metrics = dict(zip(told, scores.tolist(), strict=True))
        metrics |= {best_metric: math.nan if best_score is None else best_score, BEST_UPDATE: float(best_update)}
        metrics |= {STOPPED: float(updates)} if self.stops and not last else {}
        return {name: value for name, value in metrics.items() if not math.isnan(value)}

    @property
    def stops(self) -> bool:
        """Whether patience is at its end."""
        if self.patience is None or not self.history:
            return False
        best_update, _ = best_of(self.history)
        return sum(update > best_update for update, _ in self.history) >= self.patience

    def state(self) -> dict[str, Any]:
        """For loop.json."""
        best_update, best_score = best_of(self.history) if self.history else (None, None)
        state = {"best_update": best_update, "best_score": best_score, "history": self.history}
        return state | {"of_presence": True} if self.of_presence else state

    def load(self, state: dict[str, Any], best: dict[str, Tensor]) -> None:
        """Go on with what `state` and `best` were."""
        self.history = [(update, score) for update, score in state["history"]]
        self.best = best
