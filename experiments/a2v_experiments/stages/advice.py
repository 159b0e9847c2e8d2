"""What finetuning will hear of the labelled recordings, and how often: said before hours are spent on it.

One pass over the labelled audio is an epoch: every segment of the training part once. All is arithmetic on the
recipe's updates, segments, micro-batches and segment_s, and on the lengths and labels of the training part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from a2v_data.class_mapping import some_of
from a2v_data.class_warnings import class_warnings
from a2v_data.corpus import Corpus
from a2v_data.corpus_files import META
from a2v_data.folds import Fold, Folds, class_counts, label_share
from a2v_data.listing import Listing, learned_times, list_source, weak_of

from ..basics.tables import duration
from ..recipe.event_classes import check_event_classes
from ..recipe.sections import Recipe
from ..recipe.trainings import FinetuneStage, recordings_of
from ..training.probe_recordings import probe_of
from . import packing, splits
from .presence import check_weak

ENOUGH_PASSES = 10  # that are advised where there is less than one
FEW_CALLS = 5  # a class with fewer labelled calls in the training part is named
SHOWN_CLASSES = 8  # of more, the most frequent ones and the rarest
LISTED = 20_000  # recordings whose headers are read for a plan


@dataclass(frozen=True)
class TrainingPart:
    """The labelled recordings that finetuning hears: their lengths in seconds, and the labelled calls of each class;
    of those that are labelled as a whole only, lengths and in how many each class calls."""

    lengths_s: tuple[float, ...]
    calls: Mapping[str, int]
    weak_lengths_s: tuple[float, ...] = ()
    presence: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Advice:
    """lines: what finetuning hears. warnings: what would make it useless, or classes hard to learn."""

    lines: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def training_part(recipe: Recipe, listing: Listing, fold: Fold) -> TrainingPart:
    """What stands in a fold's training recordings, less those that are held out for validation. recipe: with the
    settings of its label share."""
    names = splits.held_out(recipe, listing, fold.train).train
    counts_RC, times_R, weak = class_counts(listing), learned_times(listing), weak_of(listing)
    parts: list[Any] = []
    for some in ([name for name in names if name not in weak], [name for name in names if name in weak]):
        rows = listing.indices(some)
        parts.append(tuple(times_R[rows].tolist()))
        parts.append(dict(zip(listing.classes, counts_RC[rows].sum(0).tolist(), strict=True)))
    return TrainingPart(*parts)


def passes(stage: FinetuneStage, segment_s: float, part: TrainingPart) -> float:
    """How often finetuning hears each segment of the training part."""
    return stage.updates * _drawn(stage, part) / _segments(segment_s, part.lengths_s)


def weak_passes(stage: FinetuneStage, segment_s: float, part: TrainingPart) -> float:
    """How often finetuning hears each recording that is labelled as a whole only."""
    segments = stage.weak_segments(bool(part.lengths_s), bool(part.weak_lengths_s))
    count = len(part.weak_lengths_s)
    of_one = recordings_of(segments, count, _segments(segment_s, part.weak_lengths_s)) if segments else 0
    return stage.updates * stage.micro_batches * of_one / count


def updates_of(stage: FinetuneStage, segment_s: float, part: TrainingPart, wanted: float) -> int:
    """Updates for so many passes, rounded up to two digits."""
    exact = wanted * _segments(segment_s, part.lengths_s) / _drawn(stage, part)
    unit = 10 ** max(math.floor(math.log10(exact)) - 1, 0)
    return math.ceil(exact / unit) * unit


def _drawn(stage: FinetuneStage, part: TrainingPart) -> int:
    """Segments of one update that are labelled by events."""
    weak = stage.weak_segments(bool(part.lengths_s), bool(part.weak_lengths_s))
    return (stage.segments - weak) * stage.micro_batches


def _segments(segment_s: float, lengths_s: Sequence[float]) -> int:
    """As `Corpus.segments` cuts them: a recording that is shorter than a segment is one."""
    return sum(max(1, math.ceil(length / segment_s - 1e-6)) for length in lengths_s)


def advise(recipe: Recipe, parts: Mapping[float, TrainingPart], update_s: float | None = None) -> Advice:
    """What to say before finetuning. parts: label share -> training part; update_s: seconds of one update of
    finetuning, if that was measured."""
    lines: list[str] = []
    warnings: list[str] = []
    for share, part in parts.items():
        stage = recipe.at_share(share).finetune
        if stage is None or not (part.lengths_s or part.weak_lengths_s):
            continue
        who = "finetune" if len(parts) == 1 and share == 1 else f"finetune with {100 * share:.3g} % of the labels"
        if part.weak_lengths_s:
            lines.append(_weak_line(who, stage, recipe.data.segment_s, part))
        if not part.lengths_s:
            continue
        often = passes(stage, recipe.data.segment_s, part)
        audio = duration(sum(part.lengths_s))
        heard = f"{audio} of labelled audio {often:.2g} times"
        if often >= 10:
            heard = f"{audio} of labelled audio {often:.0f} times"
        if often < 1:
            heard = f"{100 * often:.0f} % of {audio} of labelled audio once"
            enough = updates_of(stage, recipe.data.segment_s, part, ENOUGH_PASSES)
            key = f"updates: {enough} for {share:g} in finetune_by_share"
            if share not in recipe.finetune_by_share:
                key = f"--set finetune.updates={enough}"
            took = f" ({duration(enough * update_s)})" if update_s else ""
            warnings.append(
                f"{who} hears {100 * often:.0f} % of your labelled audio once: nothing will be learned; try {key}{took}"
            )
        lines.append(f"{who} hears {heard}; {_calls(part.calls)}")
        few = {
            name: count
            for name, count in _by_count(part.calls).items()
            if count + part.presence.get(name, 0) < FEW_CALLS
        }
        if few:
            named = some_of([f"{name} {count}" for name, count in few.items()], SHOWN_CLASSES)
            warnings.append(
                f"{who} has fewer than {FEW_CALLS} labelled calls of {named} in its training part: too few to learn"
                " from; label more, merge them (data.annotations.mapping), or leave them out (data.exclude_labels)"
            )
    return Advice(tuple(lines), tuple(warnings))


def _weak_line(who: str, stage: FinetuneStage, segment_s: float, part: TrainingPart) -> str:
    whole = f"{len(part.weak_lengths_s)} recordings ({duration(sum(part.weak_lengths_s))}) labelled as a whole"
    if not stage.weak_segments(bool(part.lengths_s), True):
        return f"{who} does not use {whole} (finetune.weak.share is 0)"
    often = weak_passes(stage, segment_s, part)
    return f"{who} hears {whole} {often:.2g} times, with {_listed(part.presence)}"


def _calls(calls: Mapping[str, int]) -> str:
    return f"{sum(calls.values())} labelled calls: {_listed(calls)}"


def _listed(calls: Mapping[str, int]) -> str:
    ordered = [f"{name} {count}" for name, count in _by_count(calls).items()]
    if len(ordered) > SHOWN_CLASSES:
        ordered = [*ordered[: SHOWN_CLASSES - 2], "...", *ordered[-2:]]
    return ", ".join(ordered)


def _by_count(calls: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(calls.items(), key=lambda item: (-item[1], item[0])))


def advice_on(recipe: Recipe, listing: Listing, folds: Folds, update_s: float | None = None) -> Advice:
    """The advice for the first fold that runs: `run` gives it once the folds are there, `plan` and `suggest` before."""
    if recipe.finetune is None:
        return Advice()
    advice = advise(recipe, training_parts(recipe, listing, folds), update_s)
    if unheard := listing.meta.get("unheard"):
        advice = replace(advice, warnings=(*advice.warnings, f"{unheard} (data.sample_rate)"))
    advice = replace(advice, warnings=(*class_warnings(listing, few=False), *advice.warnings))
    if not recipe.folds.refit:
        return advice
    weak = weak_of(listing)
    names = {name for fold in folds for name in (*fold.train, *fold.evaluation)}
    calls = int(class_counts(listing)[listing.indices(names - weak.keys())].sum())
    heard = [f"{calls} labelled calls"] if calls or not weak else []
    heard += [f"{len(names & weak.keys())} recordings labelled as a whole"] if weak else []
    line = f"the final model (folds.refit) hears all {' and '.join(heard)}"
    return replace(advice, lines=(*advice.lines, line))


def training_parts(recipe: Recipe, listing: Listing, folds: Folds) -> dict[float, TrainingPart]:
    """Label share -> what finetuning hears of the first fold that runs."""
    first = folds[recipe.folds.selected[0]]
    parts = {}
    for share in recipe.folds.label_shares:
        chosen = label_share(first, share, recipe.folds.seed) if share < 1 else first
        parts[share] = training_part(recipe.at_share(share), listing, chosen)
    return parts


def advice_before(recipe: Recipe, work: Path, corpus: Path | None, update_s: float | None = None) -> Advice:
    """The same before anything ran, from the packed corpus if it is there, else from headers and annotations.

    There is none for a synthetic corpus that is not made yet, nor without finetuning. Raises UserError or ValueError
    for folds that cannot be made, event settings of other classes, annotations that are wrong and, once packed, probes
    that cannot be, as `run` would.
    """
    data = recipe.data
    if recipe.finetune is None:
        return Advice()
    if corpus is not None and (corpus / META).is_file():
        listing: Listing | None = Corpus.open(corpus)
    elif data.source == "synthetic" and not packing.synthetic_folder(data, work).is_dir():
        return Advice()
    else:
        listing = listing_of(recipe, work)
    if listing is None:
        return Advice((f"more than {LISTED} recordings: what finetuning hears of them, `run` will say",))
    check_event_classes(recipe, listing.classes)
    check_weak(recipe, listing)
    folds = splits.split(recipe, listing)
    if isinstance(listing, Corpus) and recipe.pretrain is not None:
        probe_of(recipe, listing, folds, splits.grouping(recipe.folds))
    return advice_on(recipe, listing, folds, update_s)


def listing_of(recipe: Recipe, work: Path) -> Listing | None:
    """The recipe's recordings from headers and annotations; None where there are too many to read before a run.
    Raises as `advice_before` does."""
    from a2v_data.sources import open_source

    folder = packing.source_folder(recipe.data, work)
    if len(open_source(folder, recipe.data.annotations).names) > LISTED:
        return None
    return list_source(folder, recipe.data, strict=True)


def texts(advice: Advice) -> Sequence[str]:
    """Everything, a line each, as `run` says it; `plan` tells warnings apart."""
    return [*advice.lines, *(f"warning: {line}" for line in advice.warnings)]
