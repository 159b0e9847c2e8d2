"""What is counted at thresholds (found calls, precision, recall, F1), where no validation recordings chose these.

A fold's evaluation counts at the threshold that events are ranked from, which floods, and thresholds that are the best
on its own recordings would flatter. So once all folds are done, each is counted anew at the thresholds of the others.
Its run is of these folds (`finetune_spec`): an experiment with others has one of its own, with the same model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from a2v_eval.cross_fitting import COUNTED, cross_fitted
from a2v_eval.presence import PRESENCE, PresenceScores
from a2v_eval.thresholds import ThresholdScores

from ..store import lookup
from .evaluation import SHARED_LABELS
from .figures import threshold_scores
from .presence import presence_of
from .stage import Context, Result

OTHER_FOLDS = "thresholds chosen on the other folds"


def cross_fit(
    context: Context, folds: Mapping[float, Sequence[Result]], scores: Mapping[float, list[dict[str, float]]]
) -> dict[float, list[dict[str, float]]]:
    """The scores of all folds, with what counts at thresholds cross-fitted, in the folds' runs too.

    folds, scores: label share -> of each fold its finetuning, and its metrics. Raises UserError where a fold's run has
    no numbers of its thresholds.
    """
    return {
        share: _of_share(context, share, results, scores[share]) if context.recipe.is_cross_fitted(share) else
        scores[share]
        for share, results in folds.items()
    }  # fmt: skip


def _of_share(
    context: Context, share: float, results: Sequence[Result], scores: list[dict[str, float]]
) -> list[dict[str, float]]:
    stage = context.recipe.at_share(share).finetune
    assert stage is not None
    counted = _counted(
        [threshold_scores(context, result.run_id) for result in results],
        [
            presence_of(context, result.run_id) if any(name.startswith(PRESENCE) for name in before) else None
            for result, before in zip(results, scores, strict=True)
        ],
    )
    fitted = []
    for result, before, counts in zip(results, scores, counted, strict=True):
        lost = {name: math.nan for name in before if name.startswith(COUNTED) and name not in counts}
        changed = {name: value for name, value in counts.items() if before.get(name) != value}
        if changed or lost:
            scored = lookup.model_run(context.store.run(result.run_id))
            context.store.log_metrics(result.run_id, {**changed, **lost}, stage.updates, scored)
        fitted.append({name: value for name, value in {**before, **counts}.items() if name not in lost})
    return fitted


def _counted(
    events: Sequence[ThresholdScores | None], presence: Sequence[PresenceScores | None]
) -> list[dict[str, float]]:
    """What each fold counts at the thresholds of the others, of events and of recordings, as far as there are two folds
    that have some."""
    found: list[dict[str, float]] = [{} for _ in events]
    whole = [None if one is None else one.thresholds() for one in presence]
    for scores, prefix in ((events, "strict/"), (whole, PRESENCE)):
        there = [(place, one) for place, one in enumerate(scores) if one is not None]
        if len(there) < 2:
            continue
        fitted = cross_fitted([one for _, one in there], SHARED_LABELS)
        for (place, _), counts in zip(there, fitted, strict=True):
            found[place] |= {f"{prefix}{name.removeprefix('strict/')}": value for name, value in counts.items()}
    return found
