"""Presence per recording of a fold and of an experiment: what is logged where recordings are labelled as a whole only.

A fold's run keeps the scores of its evaluation recordings (`presence.json`), so that folds choose one another's
thresholds and the final model has those of all.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from a2v_data.corpus import SEGMENT_DTYPE, Corpus
from a2v_data.listing import Listing, duration_s, weak_of
from a2v_eval.events import EventConfig
from a2v_eval.figures import precision_recall_figure, threshold_figure
from a2v_eval.presence import PresenceCollector, PresenceScores, presence_rows
from numpy.typing import NDArray

from ..basics.errors import UserError
from ..basics.tables import csv_text
from ..recipe.sections import Recipe
from .stage import Context

DATA = "presence.json"
SCORE = "F1 of presence per recording"
Found = tuple[int, NDArray[np.float32]]  # recording, likelihoods (T, C)


def by_kind(corpus: Corpus, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those of the recordings that have events, or were listened to, and those that are labelled as a whole only."""
    return [name for name in names if name not in corpus.weak], [name for name in names if name in corpus.weak]


def collect(corpus: Corpus, found: Iterable[Found], frame_rate: float, events: EventConfig) -> PresenceScores:
    """Presence in recordings of a corpus, of both kinds."""
    collected = PresenceCollector(corpus.classes, frame_rate, events)
    for recording, likelihood_TC in found:
        weak = corpus.recordings[recording].name in corpus.weak
        known_TC = where_known(corpus, recording, likelihood_TC, frame_rate)
        collected.add(known_TC, corpus.present(recording), weak)
    return collected.result()


def where_known(
    corpus: Corpus, recording: int, likelihood_TC: NDArray[np.float32], frame_rate: float
) -> NDArray[np.float32]:
    """The likelihoods, 0 where nobody knows whether a class calls: outside of the regions of a recording, for example,
    from which nothing follows about its presence in what was annotated."""
    if not len(corpus.unsure_of(recording)):
        return likelihood_TC
    whole = np.array([(recording, 0)], SEGMENT_DTYPE)
    target_TC = corpus.targets(whole, frame_rate, len(likelihood_TC))[0]
    known_TC: NDArray[np.float32] = np.where(np.isnan(target_TC), np.float32(0), likelihood_TC)
    return known_TC


def log_presence(context: Context, run_id: str, scores: PresenceScores) -> None:
    """A fold's scores, as numbers, table and figures."""
    context.store.log_text(run_id, json.dumps(scores.to_plain()), DATA)
    context.store.log_text(run_id, csv_text(presence_rows(scores)), "presence.csv")
    _log_figures(context, run_id, [scores], "")


def log_experiment_presence(context: Context, runs: dict[float, list[str]]) -> None:
    """Figures over folds, for each share of the labels. runs: share -> runs of its folds."""
    for share, run_ids in runs.items():
        folds = [scores for run_id in run_ids if (scores := presence_of(context, run_id)) is not None]
        if folds:
            _log_figures(context, context.parent, folds, "" if len(runs) == 1 else f"labels_{share:g}/")


def _log_figures(context: Context, run_id: str, folds: Sequence[PresenceScores], prefix: str) -> None:
    classes = folds[0].classes
    curves = precision_recall_figure({"model": [fold.curves() for fold in folds]}, classes, "presence")
    context.store.log_figure(run_id, curves, f"{prefix}precision_recall_presence.png")
    thresholds = reduce(add, (fold.thresholds() for fold in folds))
    context.store.log_figure(run_id, threshold_figure(thresholds, of="presence"), f"{prefix}f1_threshold_presence.png")


def presence_of(context: Context, run_id: str) -> PresenceScores | None:
    """Of a fold's evaluation recordings, from its run; None where it kept none."""
    if DATA not in context.store.artifacts(run_id):
        return None
    path = Path(context.store.fetch(run_id, DATA, context.work))
    return PresenceScores.from_plain(json.loads(path.read_text(encoding="utf-8")))


def filled(chosen: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Thresholds that events chose, and for classes of which no event was there those that presence chose. Both are
    what `best_thresholds` gives; `by_presence` names the classes."""
    lacking = [name for name in other["thresholds"] if name not in chosen["thresholds"]]
    if not lacking:
        return chosen
    told = dict(chosen["thresholds_from"])
    for key in ("F1", "precision", "recall", "labels"):
        told[key] = {**told[key], **{name: other["thresholds_from"][key][name] for name in lacking}}
    thresholds = {**chosen["thresholds"], **{name: other["thresholds"][name] for name in lacking}}
    return {"thresholds": thresholds, "thresholds_from": {**told, "by_presence": lacking}}


def check_weak(recipe: Recipe, listing: Listing) -> None:
    """Raise UserError where finetuning cannot hear the recordings that are labelled as a whole only as it is told."""
    weak = weak_of(listing)
    settings = [stage.weak for stage in (recipe.finetune, *recipe.finetune_by_share.values()) if stage is not None]
    if not weak or not settings:
        return
    if all(one.share == 0 for one in settings):
        if not any(recording.labelled for recording in listing.recordings):
            raise UserError(
                "finetune.weak.share = 0: all labels are of whole recordings, so nothing is left to learn from"
            )
        return
    limit_s = min(one.max_s for one in settings)
    lengths_s = {
        name: duration_s(listing.recordings[row]) for name, row in zip(weak, listing.indices(weak), strict=True)
    }
    long = [name for name, length_s in lengths_s.items() if length_s > limit_s + 1e-3]
    if long:
        longest = max(long, key=lambda name: lengths_s[name])
        raise UserError(
            f"finetune.weak.max_s = {limit_s:g}: {len(long)} of {len(weak)} recordings with recording-level labels are"
            f" longer (longest: {longest}, {lengths_s[longest]:.0f} s), and a label says less of a long recording; them"
            " into clips and label each, leave them out of the table, or give a higher max_s"
        )
