"""Thresholds over recordings that models of one recipe scored, each model those that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

from a2v_data.corpus import Corpus
from a2v_data.folds import class_counts
from a2v_eval.thresholds import ThresholdScores

from .evaluation import SHARED_LABELS
from .figures import best_thresholds, threshold_scores
from .presence import SCORE as PRESENCE_SCORE
from .presence import filled, presence_of
from .stage import Context

Thresholds = dict[str, Any]  # as `write_thresholds` takes them


def pooled(
    context: Context, corpus: Corpus, trained: Sequence[tuple[str, Sequence[str]]], holds: dict[str, Any],
    which: str, final: str,
) -> tuple[Thresholds, Thresholds | None]:  # fmt: skip
    """The best threshold of each class over the evaluation recordings of several runs, and that of presence per
    recording where the corpus has some that are labelled so.

    trained: runs, and the recordings that each was trained on; holds: what the thresholds hold for (`holds_for`).
    which, final: what a user reads of these runs and of the model that takes the thresholds ('no fold', 'the final
    model').

    A run whose model never heard a class says nothing of it. A class that is left without any, since all its labels
    are in one recording, has the threshold that suits all classes together, and nothing is known of its F1. Raises
    UserError where a run has no numbers of its thresholds.
    """
    parts = [
        (threshold_scores(context, run_id), presence_of(context, run_id) if corpus.meta.get("weak") else None, names)
        for run_id, names in trained
    ]
    scores = [_heard(events, corpus, names) for events, _, names in parts if events is not None]
    presence = [_heard(whole.thresholds(), corpus, names) for _, whole, names in parts if whole is not None]
    by_presence = {**holds, "score": PRESENCE_SCORE}
    together = reduce(add, scores or presence)
    of_presence = best_thresholds(reduce(add, presence), by_presence, SHARED_LABELS) if presence else None
    chosen = best_thresholds(together, holds if scores else by_presence, SHARED_LABELS)
    if scores and of_presence:
        chosen = filled(chosen, of_presence)
    unscored = [
        name
        for name, labels in zip(together.classes, together.labelled, strict=True)
        if not labels and name not in chosen["thresholds"]
    ]
    every = ThresholdScores(
        ("all",), together.thresholds, together.hits.sum(0)[None], together.predicted.sum(0)[None],
        together.labelled.sum()[None],
    ).best()  # fmt: skip
    if unscored and every:
        chosen["thresholds"] |= dict.fromkeys(unscored, every["all"])
        for name in unscored:
            del chosen["thresholds_from"]["labels"][name]
        context.say(
            f"  never scored, as {which} both trained on and evaluated it: {', '.join(unscored)}; {final} has"
            " heard it and takes the threshold of all classes together"
        )
    return chosen, of_presence


def _heard(scores: ThresholdScores, corpus: Corpus, train: Sequence[str]) -> ThresholdScores:
    """The same without the counts of classes that none of these recordings has."""
    there_C = class_counts(corpus)[corpus.indices(list(train))].sum(0) > 0
    return replace(
        scores, hits=scores.hits * there_C[:, None], predicted=scores.predicted * there_C[:, None],
        labelled=scores.labelled * there_C,
    )  # fmt: skip
