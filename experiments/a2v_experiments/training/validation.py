"""Scores on held out training recordings while finetuning goes on, and the best weights by them.

Contract. Only rank 0 computes scores; all ranks learn them, and so agree on when to stop. No random number is drawn,
so a training with validation makes the same updates as one without. `state` and `best` go into the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from a2v_data.corpus import Corpus
from a2v_eval.evaluation import Evaluation, EvaluationConfig, evaluate
from a2v_eval.events import EventConfig
from a2v_eval.fitting import RANKING_THRESHOLD
from a2v_eval.scores import none_if_nan
from a2v_model import Detector
from torch import Tensor, nn

from ..inference import recording_likelihoods
from .group import Group
from .validation_report import AP, BEST_METRIC, BEST_UPDATE, STOPPED, best_of


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
) -> Evaluation:
    """Both protocols' scores of the model, which is in eval mode afterwards, on some recordings of a corpus.

    segment_s, overlap_s: seconds of a window and of what neighbours share; scoring: the recipe's, of whose events
    `validation_events` are scored.
    """
    found = recording_likelihoods(model, corpus, recordings, segment_s, overlap_s, precision=precision)
    labelled = ((likelihood_TC, corpus.truth(recording)) for recording, likelihood_TC in found)
    settings = scoring.model_copy(update={"events": validation_events(scoring.events)})
    return evaluate(labelled, corpus.classes, model.model_config.front_end.frame_rate, settings)


@dataclass
class Validation:
    """score(model) is called every `every` updates and at the end; `patience`: how many scores without a new best
    end the training (None: never).

    history: (update, strict AP micro) of all so far, None where undefined; best: the weights of the
    last that is as good as the highest (`best_of`), on rank 0.
    """

    score: Callable[[Any], Evaluation]
    every: int
    patience: int | None = None
    history: list[tuple[int, float | None]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def look(
        self, updates: int, last: bool, model: nn.Module, applied: AbstractContextManager[None], group: Group
    ) -> dict[str, float]:
        """Where it is time for it: score the weights that the model has within `applied`; returns the metrics."""
        if not last and updates % self.every:
            return {}
        scores = torch.zeros(len(AP), dtype=torch.float64)
        if group.rank == 0:
            with applied:
                strict = self.score(model).strict
                scores = torch.tensor([strict.micro.ap, strict.macro.ap], dtype=torch.float64)
                self.history.append((updates, none_if_nan(float(scores[0]))))
                if best_of(self.history) == self.history[-1]:
                    self.best = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
            model.train()
        scores = group.sum(scores.to(group.device)).cpu()  # where the other ranks wait
        if group.rank:
            self.history.append((updates, none_if_nan(float(scores[0]))))
        best_update, best_score = best_of(self.history)
        metrics = {f"validation/{name}": value for name, value in zip(AP, scores.tolist(), strict=True)}
        metrics |= {BEST_METRIC: math.nan if best_score is None else best_score, BEST_UPDATE: float(best_update)}
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
        return {"best_update": best_update, "best_score": best_score, "history": self.history}

    def load(self, state: dict[str, Any], best: dict[str, Tensor]) -> None:
        """Go on with what `state` and `best` were."""
        self.history = [(update, score) for update, score in state["history"]]
        self.best = best
