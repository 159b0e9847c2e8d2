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
from a2v_eval.presence import PresenceCollector, PresenceScores
from a2v_eval.scores import none_if_nan
from a2v_model import Detector
from torch import Tensor, nn

from ..inference import recording_likelihoods
from .group import Group
from .validation_report import AP, BEST_METRIC, BEST_PRESENCE, BEST_UPDATE, PRESENCE_AP, STOPPED, best_of


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
) -> Evaluation | PresenceScores:
    """Both protocols' scores of the model, which is in eval mode afterwards, on some recordings of a corpus; where they
    are labelled as a whole only, the scores of presence per recording.

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
        return collected.result()
    labelled = ((likelihood_TC, corpus.truth(recording)) for recording, likelihood_TC in found)
    return evaluate(labelled, corpus.classes, frame_rate, settings)


@dataclass
class Validation:
    """score(model) is called every `every` updates and at the end; `patience`: how many scores without a new best
    end the training (None: never). of_presence: score gives `PresenceScores`.

    history: (update, strict AP micro) of all so far, or mAP micro of presence, None where undefined; best: the weights
    of the last that is as good as the highest (`best_of`), on rank 0.
    """

    score: Callable[[Any], Evaluation | PresenceScores]
    every: int
    patience: int | None = None
    history: list[tuple[int, float | None]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    of_presence: bool = False

    def look(
        self, updates: int, last: bool, model: nn.Module, applied: AbstractContextManager[None], group: Group
    ) -> dict[str, float]:
        """Where it is time for it: score the weights that the model has within `applied`; returns the metrics."""
        if not last and updates % self.every:
            return {}
        scores = torch.zeros(len(AP), dtype=torch.float64)
        if group.rank == 0:
            with applied:
                scores = torch.tensor(_micro_and_macro(self.score(model)), dtype=torch.float64)
                self.history.append((updates, none_if_nan(float(scores[0]))))
                if best_of(self.history) == self.history[-1]:
                    self.best = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
            model.train()
        scores = group.sum(scores.to(group.device)).cpu()  # where the other ranks wait
        if group.rank:
            self.history.append((updates, none_if_nan(float(scores[0]))))
        best_update, best_score = best_of(self.history)
        names, best_metric = (PRESENCE_AP, BEST_PRESENCE) if self.of_presence else (AP, BEST_METRIC)
        metrics = {f"validation/{name}": value for name, value in zip(names, scores.tolist(), strict=True)}
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


def _micro_and_macro(scores: Evaluation | PresenceScores) -> list[float]:
    if isinstance(scores, PresenceScores):
        return [scores.micro, scores.macro]
    return [scores.strict.micro.ap, scores.strict.macro.ap]
