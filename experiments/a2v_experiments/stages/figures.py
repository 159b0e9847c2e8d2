"""Figures of a fold and of a whole experiment as MLflow artifacts.

A fold's run keeps the numbers behind its figures (`figure_data.json`), so that its experiment can draw the folds
together without the model.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from a2v_data.documents import read_json
from a2v_eval.confusion import confusion
from a2v_eval.curves import Curve, precision_recall_curves
from a2v_eval.evaluation import Evaluation
from a2v_eval.events import PROTOCOLS, Protocol
from a2v_eval.figures import confusion_figure, precision_recall_figure, threshold_figure
from a2v_eval.thresholds import ThresholdScores
from numpy.typing import NDArray

from ..basics.errors import FAILED, UserError
from .presence import presence_of
from .stage import Context

DATA = "figure_data.json"
Curves = dict[str, dict[Protocol, dict[str, Curve]]]  # model or energy -> protocol -> class


@dataclass(frozen=True)
class FigureData:
    """What a fold's figures show: curves, confusion of classes (C + 1, C + 1), F1 over thresholds."""

    curves: Curves
    confusion: NDArray[np.int64]
    thresholds: ThresholdScores

    @property
    def classes(self) -> tuple[str, ...]:
        return self.thresholds.classes

    @classmethod
    def of(cls, scores: dict[str, Evaluation], thresholds: ThresholdScores) -> FigureData:
        """scores: 'model', and what stands beside it, on the same recordings."""
        model = scores["model"]
        curves: Curves = {
            name: {protocol: precision_recall_curves(evaluation, protocol) for protocol in PROTOCOLS}
            for name, evaluation in scores.items()
        }
        labels, predictions = model.labels["strict"], model.predictions["strict"]
        counts = confusion(labels, predictions, len(model.classes), model.config.iou("strict"))
        return cls(curves, counts, thresholds)

    def to_plain(self) -> dict[str, Any]:
        plain = {
            name: {p: {of: curve.thinned().to_plain() for of, curve in curves.items()} for p, curves in by.items()}
            for name, by in self.curves.items()
        }
        return {
            "curves": plain,
            "confusion": self.confusion.tolist(),
            "thresholds": self.thresholds.to_plain(),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> FigureData:
        curves = {
            name: {p: {of: Curve.from_plain(curve) for of, curve in curves.items()} for p, curves in by.items()}
            for name, by in plain["curves"].items()
        }
        return cls(curves, np.array(plain["confusion"]), ThresholdScores.from_plain(plain["thresholds"]))


def log_fold(context: Context, run_id: str, data: FigureData, chosen: dict[str, Any]) -> None:
    """A fold's figures, the numbers behind them, and its best thresholds. chosen: how and on what these were chosen."""
    context.store.log_text(run_id, json.dumps(data.to_plain()), DATA)
    _log(context, run_id, [data], "", chosen)


def log_experiment(context: Context, runs: dict[float, list[str]]) -> None:
    """Figures over folds, for each share of the labels, and shares beside each other where there are several.

    runs: share -> runs of its folds. Where a fold was evaluated by an a2v that kept no numbers, says so and draws none.
    """
    by_share: dict[float, list[FigureData]] = {}
    for share, run_ids in runs.items():
        found = [_fetch(context, run_id) for run_id in run_ids]
        missing = [run_id for run_id, data in zip(run_ids, found, strict=True) if data is None]
        missing = [run_id for run_id in missing if presence_of(context, run_id) is None]  # else no events were scored
        if missing:
            context.say(f"  no figures over folds: run {missing[0]} has no {DATA} (it is of an earlier a2v)")
            return
        by_share[share] = [data for data in found if data is not None]
    by_share = {share: folds for share, folds in by_share.items() if folds}
    for share, folds in by_share.items():
        chosen = {"recordings": "evaluation recordings of all folds that were run, each by its own fold's model"}
        _log(context, context.parent, folds, "" if len(by_share) == 1 else f"labels_{share:g}/", chosen)
    if len(by_share) > 1:
        shares = {f"{100 * share:g} % of the labels": folds for share, folds in sorted(by_share.items())}
        classes = next(iter(by_share.values()))[0].classes
        for protocol in PROTOCOLS:
            variants = {name: [fold.curves["model"][protocol] for fold in folds] for name, folds in shares.items()}
            figure = precision_recall_figure(variants, classes, protocol)
            context.store.log_figure(context.parent, figure, f"precision_recall_shares_{protocol}.png")


def _log(context: Context, run_id: str, folds: list[FigureData], prefix: str, chosen: dict[str, Any]) -> None:
    store, classes = context.store, folds[0].classes
    for protocol in PROTOCOLS:
        variants = {name: [fold.curves[name][protocol] for fold in folds] for name in folds[0].curves}
        figure = precision_recall_figure(variants, classes, protocol)
        store.log_figure(run_id, figure, f"{prefix}precision_recall_{protocol}.png")
    counts = np.sum([fold.confusion for fold in folds], axis=0)
    store.log_figure(run_id, confusion_figure(counts, classes), f"{prefix}confusion.png")
    store.log_text(run_id, confusion_csv(counts, classes), f"{prefix}confusion.csv")
    thresholds = reduce(add, (fold.thresholds for fold in folds))
    store.log_figure(run_id, threshold_figure(thresholds), f"{prefix}f1_threshold.png")
    store.log_json(run_id, best_thresholds(thresholds, chosen), f"{prefix}thresholds.json")


def best_thresholds(scores: ThresholdScores, chosen: dict[str, Any], shared_labels: float = 0.0) -> dict[str, Any]:
    """`thresholds.json`, and what a model's description says: class -> threshold; how and on what they were chosen,
    with F1, precision and recall there and the number of labels, since of a class that is hardly ever found even the
    best threshold is of little use (`a2v_eval.learned`). Classes without a threshold have a number of labels only.
    shared_labels: see `ThresholdScores.best`."""
    best = scores.best(shared_labels)
    places = {
        name: (scores.classes.index(name), int(np.flatnonzero(scores.thresholds == value)[0]))
        for name, value in best.items()
    }
    there = {
        key: {name: round(float(of_CK[place]), 4) for name, place in places.items()}
        for key, of_CK in (("F1", scores.f1), ("precision", scores.precision), ("recall", scores.recall))
    }
    labels = dict(zip(scores.classes, scores.labelled.tolist(), strict=True))
    return {"thresholds": best, "thresholds_from": {**chosen, **there, "labels": labels}}


def threshold_scores(context: Context, run_id: str) -> ThresholdScores | None:
    """Of the events of a fold's evaluation recordings, from its run; None where these are all labelled as a whole only.
    Raises UserError where it is of an a2v that kept no numbers."""
    found = _fetch(context, run_id)
    if found is None and presence_of(context, run_id) is not None:
        return None
    if found is None:
        raise UserError(
            f"run {run_id} has no {DATA} (it is of an earlier a2v), from which thresholds are taken; delete that run,"
            " and the same command makes it anew",
            FAILED,
        )
    return found.thresholds


def confusion_csv(counts: NDArray[np.int64], classes: tuple[str, ...]) -> str:
    """Rows: class of the label, at last 'false' predictions; columns: class of the prediction, at last 'missed'."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["class", *classes, "missed"])
    for name, row in zip((*classes, "false"), counts.tolist(), strict=True):
        writer.writerow([name, *row])
    return out.getvalue()


def _fetch(context: Context, run_id: str) -> FigureData | None:
    if DATA not in context.store.artifacts(run_id):
        return None
    return read_data(Path(context.store.fetch(run_id, DATA, context.work)))


def read_data(path: Path) -> FigureData:
    """The numbers behind a fold's figures, from its `figure_data.json`. Raises UserError for another file."""
    try:
        return FigureData.from_plain(read_json(path))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the numbers of a fold's figures ({error}); evaluate that fold again") from None
