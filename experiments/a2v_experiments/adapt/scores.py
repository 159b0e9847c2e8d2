"""Scores of an adapted model on the recordings that it was not trained on: thresholds, metrics, and the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from a2v_eval.confusion import confusion
from a2v_eval.curves import precision_recall_curves
from a2v_eval.evaluation import Collector, EvaluationConfig
from a2v_eval.events import PROTOCOLS, EventConfig
from a2v_eval.learned import class_fits
from a2v_eval.thresholds import ThresholdSweep

from ..basics.tables import text_table
from ..stages.evaluation import Labelled
from ..stages.figures import FigureData, best_thresholds
from ..training.validation import validation_events

RANKED = ("AP", "mAP")  # scores of the whole ranking
COLUMNS = ("labels", "predictions", "found", "F1", "AP strict", "AP paper")


@dataclass(frozen=True)
class FinalScores:
    """metrics: named as those of a finetuning; thresholds: `thresholds` and `thresholds_from` of the model's
    description; figures: what they show."""

    metrics: dict[str, float]
    thresholds: dict[str, Any]
    figures: FigureData

    @property
    def strict_ap(self) -> float:
        """Micro; -1 where it is undefined."""
        return self.metrics.get("strict/AP/micro", -1.0)


def final_scores(
    recordings: Iterable[Labelled], classes: Sequence[str], frame_rate: float, scoring: EvaluationConfig,
    chosen: dict[str, Any],
) -> FinalScores:  # fmt: skip
    """recordings: likelihoods (T, C) and labels. chosen: how and on what thresholds are chosen.

    AP and mAP are of the whole ranking, at a low threshold; precision, recall, F1 and calls are at the threshold of
    each class that has the highest F1, which is what prediction will use.
    """
    kept: list[Labelled] = list(recordings)
    ranking = Collector(classes, frame_rate, scoring.model_copy(update={"events": validation_events(scoring.events)}))
    sweep = ThresholdSweep(classes, frame_rate, scoring)
    for likelihood_TC, labels in kept:
        ranking.add(likelihood_TC, labels)
        sweep.add(likelihood_TC, labels)
    counts = sweep.result()
    best = counts.best()
    default: float = EventConfig.model_fields["threshold"].default
    events = scoring.events.model_copy(update={"threshold": {name: best.get(name, default) for name in classes}})
    operating = Collector(classes, frame_rate, scoring.model_copy(update={"events": events}))
    for likelihood_TC, labels in kept:
        operating.add(likelihood_TC, labels)
    ranked, used = ranking.evaluation(), operating.evaluation()
    metrics = {name: value for name, value in used.metrics().items() if not _of_ranking(name)}
    metrics |= {name: value for name, value in ranked.metrics().items() if _of_ranking(name)}
    counted = confusion(used.labels["strict"], used.predictions["strict"], len(classes), scoring.iou("strict"))
    curves = {protocol: precision_recall_curves(ranked, protocol) for protocol in PROTOCOLS}
    figures = FigureData({"model": curves}, counted, counts)
    return FinalScores(metrics | used.call_counts(), best_thresholds(counts, chosen), figures)


def _of_ranking(metric: str) -> bool:
    return metric.removeprefix("strict/").split("/")[0] in RANKED


def score_rows(metrics: dict[str, float], thresholds: dict[str, Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each class, then macro and micro; None where a score is undefined."""
    fits = class_fits(classes, thresholds["thresholds"], thresholds["thresholds_from"])

    def count(what: str, name: str) -> int | None:
        value = metrics.get(f"strict/{what}/{name}")
        return None if value is None else int(value)

    rows: list[dict[str, Any]] = []
    for name in (*classes, "macro", "micro"):
        row: dict[str, Any] = {"class": name}
        row |= {key: count(of, name) for key, of in zip(COLUMNS, ("labelled", "predicted", "found"), strict=False)}
        row |= {"F1": metrics.get(f"strict/F1/{name}"), "AP strict": metrics.get(f"strict/AP/{name}")}
        row |= {"AP paper": metrics.get(f"AP/{name}")}
        if name in fits:
            row |= {"threshold": fits[name].threshold, "learned": fits[name].learned}
        rows.append(row)
    return rows


def score_table(rows: Sequence[dict[str, Any]]) -> str:
    """`score_rows` as text."""

    def cell(value: Any) -> str:
        if value is None:
            return "–"
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    def learned(row: dict[str, Any]) -> str:
        return {True: "yes", False: "no", None: ""}[row.get("learned")]

    cells = [
        [row["class"], *(cell(row[key]) for key in COLUMNS), f"{row['threshold']:g}" if row.get("threshold") else "",
         learned(row)]
        for row in rows
    ]  # fmt: skip
    return text_table(["class", *COLUMNS, "threshold", "learned"], cells)
