"""How a trained detector is scored by `a2v bench detect`: event settings chosen on valid, scores on test."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from a2v_data.corpus import Corpus
from a2v_eval.evaluation import RESERVED, Collector, EvaluationConfig, evaluate
from a2v_model import Detector, threads

from ..inference import recording_likelihoods
from ..stages.evaluation import Labelled, at_thresholds, choose_thresholds, operating_point
from ..training.validation import validation_events

ORDER = ("AP", "mAP", "F1", "precision", "recall", "found", "predicted", "labelled")
RANKED = re.compile(r"(^|/)m?AP/")


@dataclass(frozen=True)
class Windows:
    """How recordings are searched: seconds of a window and of what neighbours share, and the precision."""

    segment_s: float
    overlap_s: float
    precision: str


def chosen_settings(
    valid: Sequence[Labelled], classes: Sequence[str], frame_rate: float, settings: EvaluationConfig
) -> EvaluationConfig:
    """`settings` with the threshold of each class that suits valid best, as in an experiment's finetuning."""
    thresholds = choose_thresholds(valid, classes, frame_rate, settings, {})["thresholds"]
    return at_thresholds(thresholds, Collector(classes, frame_rate, settings)).config


def ranking_settings(settings: EvaluationConfig) -> EvaluationConfig:
    """Those at which AP is scored, on test as in validation: a threshold so low that the whole ranking is seen."""
    return settings.model_copy(update={"events": validation_events(settings.events)})


@dataclass(frozen=True)
class Scored:
    """metrics: by their names in MLflow; AP and mAP of the whole ranking, all others at the chosen settings.
    cpu_s_per_s: seconds of the processor for a second of audio, likelihoods and events."""

    metrics: dict[str, float]
    record: dict[str, Any]
    chosen: EvaluationConfig
    cpu_s_per_s: float


def score(
    model: Detector, corpus: Corpus, parts: tuple[list[str], list[str]], windows: Windows, settings: EvaluationConfig
) -> Scored:
    """Choose on the first part, score the second. parts: names of valid and of test recordings."""
    classes, frame_rate = corpus.classes, model.model_config.front_end.frame_rate
    with threads(1):
        chosen = chosen_settings(list(labelled(model, corpus, parts[0], windows)), classes, frame_rate, settings)
        collector, kept = Collector(classes, frame_rate, chosen), []
        begun = time.process_time()
        for likelihood_TC, labels in labelled(model, corpus, parts[1], windows):
            collector.add(likelihood_TC, labels)
            kept.append((likelihood_TC, labels))
        cpu_s = time.process_time() - begun
        at_chosen = collector.evaluation()
        ranking = evaluate(kept, classes, frame_rate, ranking_settings(settings))
        metrics = {name: value for name, value in ranking.metrics().items() if RANKED.search(name)}
        metrics |= operating_point(at_chosen)
        seconds = corpus.seconds(corpus.indices(parts[1]))
        record = {"at_chosen": at_chosen.to_dict(), "ranking": ranking.to_dict()}
    return Scored(strict_first(metrics), record, chosen, cpu_s / seconds)


WITHOUT = "without_streams/"


def without_streams(model: Detector) -> Detector:
    """The same model for recordings that have sound alone."""
    deaf = copy(model)
    deaf.model_config = model.model_config.model_copy(update={"streams": {}})
    return deaf


def strict_first(metrics: dict[str, float]) -> dict[str, float]:
    """The same, in the order in which they are told: `strict/` first, of each micro and macro before classes."""

    def place(name: str) -> tuple[bool, bool, int]:
        score, _, of = name.removeprefix("strict/").partition("/")
        return not name.startswith("strict/"), of not in RESERVED, ORDER.index(score) if score in ORDER else len(ORDER)

    return {name: metrics[name] for name in sorted(metrics, key=place)}


def labelled(model: Detector, corpus: Corpus, names: Iterable[str], windows: Windows) -> Iterator[Labelled]:
    """Likelihoods and truth of these recordings, one after the other."""
    found = recording_likelihoods(
        model, corpus, corpus.indices(names), windows.segment_s, windows.overlap_s, precision=windows.precision
    )
    return ((likelihood_TC, corpus.truth(recording)) for recording, likelihood_TC in found)
