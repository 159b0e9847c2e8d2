"""A recipe for a corpus, each value with the reason for it: arithmetic on what headers and annotations say.

base         many_calls where calls fill more than 15 % of the labelled time and half of them are shorter than 0.5 s,
             else few_calls
sample_rate  of 8000, 16000, 24000 and 32000 Hz the highest that is not above the rate of most of the audio (8000 for
             recordings below it); the front end's strides follow, so that a frame stays as long as it is in the base
frames       an ear's of 10 ms become 5 ms where the shortest calls have fewer than 3 of them
segment_s    the base's, or twice the longest calls (once, for an ear) where that is more, at most 10 s; not above what
             half of the labelled recordings have, as far as it stays above 1 s and twice evaluate.overlap_s; whole
             frames
folds        5, or as many as there are labelled recordings (groups); the group as `name_groups` finds it; all run and
             no validation where there are fewer than 10, else fold 0 alone; the final model on all labels (refit)
window_s     a quarter of the shortest calls, at most 0.1 s, in whole frames, 1 or more; not with evaluate.fit_events
updates      what fits into a share of the minutes, by the seconds of an update that were measured, for each of the
             trainings (folds that run, and refit); of finetuning no more than hear each labelled second of the
             training part 200 times
"""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from a2v_model.config import AnyFrontEnd, EarConfig, FrontEndConfig

from ..basics.tables import duration
from ..recipe.files import set_key
from ..recipe.sections import Recipe
from .facts import ClassFacts, CorpusFacts
from .names import NameGroups, name_groups

MANY, FEW = "many_calls", "few_calls"
MANY_SHARE, SHORT_S = 0.15, 0.5
RATES = (8000, 16000, 24000, 32000)
LONGEST_SEGMENT_S, SHORTEST_SEGMENT_S = 10.0, 1.0
SEGMENT_CALLS = 2  # a segment is that many of the longest calls long
WINDOW_SHARE, LONGEST_WINDOW_S = 0.25, 0.1  # of the shortest calls
MOST_FOLDS = 5
FEW_UNITS = 10  # labelled recordings (groups): with fewer, each is needed, to train on and to score on
TYPICAL_CALLS = 5  # a class with fewer does not say how short its calls are
FINETUNE_SHARE, PRETRAIN_SHARE = 0.7, 0.15  # of the minutes; the rest is for packing and scoring
MOST_PASSES = 200  # over the labelled recordings of the training part
WARMUP_SHARE = 5  # the warm-up is at most one in so many updates
ULTRASOUND_HZ = 50_000  # such rates are used for what nobody hears
SHOWN_GROUPS = 4
IN_SAMPLES = ("hop", "window", "kernel")  # of an ear
SHORT_FRAMES, SHORT_FRAME_S = 3, Fraction(5, 1000)  # a call of fewer frames than these has shorter ones


@dataclass(frozen=True)
class Setting:
    """One key of the recipe, dotted, its value, and why it has that."""

    key: str
    value: Any
    why: str


@dataclass(frozen=True)
class Trainable:
    """Updates of a stage that fit into its share of the minutes, and the seconds that one takes. fitting: where that
    would be more than hear the labelled recordings 200 times, those that would fit; audio_s: seconds of these."""

    updates: int
    update_s: float
    fitting: int | None = None
    audio_s: float = 0.0


@dataclass(frozen=True)
class Suggestion:
    """The recipe's keys on top of those of `extends`, and what is said of the corpus at its top."""

    extends: Setting
    head: tuple[str, ...]
    settings: tuple[Setting, ...]

    @property
    def tree(self) -> dict[str, Any]:
        """As YAML would hold it, without `extends`."""
        tree: dict[str, Any] = {}
        for setting in self.settings:
            set_key(tree, setting.key, setting.value)
        return tree


def suggest(
    facts: CorpusFacts, bases: Mapping[str, Recipe], minutes: float, trainable: Mapping[str, Trainable] | None = None
) -> Suggestion:
    """The recipe for a corpus. bases: `many_calls` and `few_calls`. trainable: 'finetune', and 'pretrain' where the
    base has one (None: the base's updates stay, for a recipe whose speed is to be measured)."""
    chosen = _base(facts)
    base = bases[chosen.value]
    rate = _sample_rate(facts)
    front_end = for_short_calls(front_end_at(base.model.front_end, rate.value), _shortest(facts)[1].lengths.p5_s)
    frame_s = Fraction(front_end.stride, rate.value)
    settings = [
        Setting("name", recipe_name(facts.name), "of the experiment; from the folder's name"),
        Setting("data.source", facts.folder, _source(facts)),
        *_annotations(facts),
        *_labelled(facts),
        rate,
        _segment(facts, base, frame_s),
        *_folds(facts),
        *_front_end(base.model.front_end, front_end, facts),
    ]
    for stage in ("pretrain", "finetune"):
        if trainable is not None and stage in trainable:
            settings += _training(base, stage, trainable[stage], minutes, _trainings(facts))
    if not base.evaluate.fit_events:  # else each class's follows from its labels
        settings.append(_event_window(facts, frame_s))
    return Suggestion(chosen, _head(facts), tuple(settings))


def recipe_name(text: str) -> str:
    """The name that a recipe may have, from a folder's."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.-") or "my_animal"


def _head(facts: CorpusFacts) -> tuple[str, ...]:
    share = f"{100 * facts.called_share:.3g} %"
    total = sum(one.seconds for one in facts.recordings)
    labelled = sum(one.labelled_s for one in facts.labelled)
    rows = sorted(facts.classes.items(), key=lambda item: (-item[1].calls, item[0]))
    width = max(len("class"), *(len(name) for name, _ in rows))
    table = [f"{'class':{width}}  calls  recordings    5 %  median   95 % (length in s)"]
    table += [
        f"{name:{width}}  {one.calls:5}  {one.recordings:10}  {one.lengths.p5_s:5.3f}  {one.lengths.median_s:6.3f}"
        f"  {one.lengths.p95_s:5.3f}"
        for name, one in rows
    ]
    return (
        f"{facts.name}: {len(facts.recordings)} recordings, {duration(total)};"
        f" {len(facts.labelled)} of them labelled, {duration(labelled)}"
        + (f", {facts.weak} more as a whole" if facts.weak else ""),
        f"{facts.calls} calls of {len(facts.classes)} classes, in {share} of the labelled time",
        *table,
    )


def _base(facts: CorpusFacts) -> Setting:
    median_s = facts.lengths.median_s
    many = facts.called_share > MANY_SHARE and median_s < SHORT_S
    told = f"calls fill {100 * facts.called_share:.3g} % of the labelled time and half of them are"
    told += f" {'shorter' if median_s < SHORT_S else 'longer'} than {SHORT_S:g} s (median {median_s:.3g} s)"
    rule = f"{MANY} is for more than {100 * MANY_SHARE:g} % of calls below {SHORT_S:g} s, {FEW} for all else"
    return Setting("extends", MANY if many else FEW, f"{told}; {rule}")


def _source(facts: CorpusFacts) -> str:
    told = "relative to where the command runs"
    silent = len(facts.recordings) - len(facts.labelled) - facts.weak
    if not silent or facts.rule == "with_events":
        return told
    return (
        f"{told}; {silent} of {len(facts.recordings)} recordings have no annotation and serve pretraining only;"
        " if someone listened to them and they hold no call, set labelled: all beside it"
    )


def _annotations(facts: CorpusFacts) -> list[Setting]:
    """How tables are read, as far as it was said."""
    asked = facts.annotations.model_dump(mode="json", exclude_unset=True)
    told = "as suggest was asked to read them"
    return [Setting(f"data.annotations.{key}", value, told) for key, value in asked.items()]


def _labelled(facts: CorpusFacts) -> list[Setting]:
    """Said where it is told by events, so that it can be changed."""
    if facts.rule != "with_events":
        return []
    told = f"{len(facts.labelled)} of {len(facts.recordings)} segments hold an event; the others serve pretraining"
    told += " only, label file or not; annotated, if somebody listened to all that have one"
    return [Setting("data.labelled", "with_events", told)]


def _sample_rate(facts: CorpusFacts) -> Setting:
    """By seconds of audio, so that many short files of another rate do not count for more than they hold."""
    seconds: defaultdict[int, float] = defaultdict(float)
    for one in facts.recordings:
        seconds[one.rate] += one.seconds
    common = min(seconds, key=lambda rate: (-seconds[rate], rate))
    rate = max((known for known in RATES if known <= common), default=RATES[0])
    total = sum(seconds.values())
    of_all = "all recordings have" if len(seconds) == 1 else f"{100 * seconds[common] / total:.0f} % of the audio has"
    told = f"Hz; {of_all} {common}, and this is the highest of {', '.join(map(str, RATES))} that is not above it"
    if common < RATES[0]:
        told = f"Hz; {of_all} {common}, which is below the lowest that is suggested: it is resampled"
    if len(seconds) > 1:
        others = ", ".join(str(other) for other in sorted(seconds) if other != common)
        told += f"; those of {others} Hz are resampled"
    if common > ULTRASOUND_HZ:
        told += f"; nothing above {rate // 2} Hz is heard: for calls up there, raise it and model.front_end.sample_rate"
    return Setting("data.sample_rate", rate, told)


def front_end_at(base: AnyFrontEnd, rate: int) -> AnyFrontEnd:
    """The front end for another sample rate with frames as long as before: the first layer whose stride stays whole
    has stride and kernel multiplied. Where there is none, frames become as much shorter as the rate is higher.
    What an ear says in samples becomes as long in seconds as before."""
    ratio = Fraction(rate, base.sample_rate)
    if isinstance(base, EarConfig):
        said = {key: value for key in IN_SAMPLES if (value := getattr(base, key)) is not None}
        scaled = {key: max(1, round(value * ratio)) for key, value in said.items()}
        if "kernel" in scaled:
            scaled["kernel"] = max(3, scaled["kernel"] // 2 * 2 + 1)
        return EarConfig.model_validate({**base.model_dump(), **scaled, "sample_rate": rate})
    assert isinstance(base, FrontEndConfig), "recipes are suggested from presets, whose front ends are built in"
    layers = list(base.layers)
    for place, (width, kernel, stride) in enumerate(layers):
        if (stride * ratio).denominator == 1:
            layers[place] = (width, math.ceil(kernel * ratio), int(stride * ratio))
            break
    return FrontEndConfig.model_validate({**base.model_dump(), "sample_rate": rate, "layers": layers})


def for_short_calls(front_end: AnyFrontEnd, shortest_s: float) -> AnyFrontEnd:
    """An ear with frames of 5 ms where the shortest calls have fewer than 3 of its own, else the front end as it is."""
    hop = round(SHORT_FRAME_S * front_end.sample_rate)
    if not isinstance(front_end, EarConfig) or not 0 < hop < front_end.stride:
        return front_end
    if _has_frames(shortest_s, Fraction(front_end.stride, front_end.sample_rate)):
        return front_end
    return EarConfig.model_validate({**front_end.model_dump(), "hop": hop})


def _has_frames(shortest_s: float, frame_s: Fraction) -> bool:
    """Whether calls have 3 frames; those whose length was rounded to less in a table do."""
    return shortest_s >= SHORT_FRAMES * frame_s - 1e-6


def _front_end(base: AnyFrontEnd, changed: AnyFrontEnd, facts: CorpusFacts) -> list[Setting]:
    if changed == base:
        return []
    frame_ms = 1000 * changed.stride / changed.sample_rate
    settings = [Setting("model.front_end.sample_rate", changed.sample_rate, "as data.sample_rate")]
    if isinstance(changed, EarConfig):
        usual = front_end_at(base, changed.sample_rate)
        for key in IN_SAMPLES:
            if (value := getattr(changed, key)) == getattr(base, key):
                continue
            told = "samples; as long as in the recipe that this one extends"
            if value != getattr(usual, key):
                name, shortest = _shortest(facts)
                told = f"samples: a frame is {frame_ms:.3g} ms, since the shortest calls ({name}) last"
                told += f" {1000 * shortest.lengths.p5_s:.3g} ms (5 %), fewer than {SHORT_FRAMES} of the usual"
                told += f" {1000 * usual.stride / usual.sample_rate:.3g} ms; it hears finer, and an update takes longer"
            settings.append(Setting(f"model.front_end.{key}", value, told))
    elif isinstance(base, FrontEndConfig) and isinstance(changed, FrontEndConfig) and changed.layers != base.layers:
        told = f"(filters, kernel, stride): strides of {changed.stride} samples in all, a frame is {frame_ms:.3g} ms as"
        told += " in the recipe that this one extends"
        settings.append(Setting("model.front_end.layers", [list(layer) for layer in changed.layers], told))
    return settings


def _segment(facts: CorpusFacts, base: Recipe, frame_s: Fraction) -> Setting:
    name, longest_s = max(((name, one.lengths.p95_s) for name, one in facts.classes.items()), key=lambda item: item[1])
    calls = 1.0 if isinstance(base.model.front_end, EarConfig) else SEGMENT_CALLS  # an ear takes a band's level off
    wanted = min(max(base.data.segment_s, calls * longest_s), LONGEST_SEGMENT_S)
    told = f"seconds; the longest calls ({name}) last {longest_s:.3g} s (95 %)"
    usual = statistics.median(one.seconds for one in facts.labelled)
    if usual < wanted:
        told += f"; half of the labelled recordings are shorter than {usual:.3g} s"
        wanted = max(usual, SHORTEST_SEGMENT_S, 2 * base.evaluate.overlap_s)
    step = next((n * frame_s for n in range(1, 200) if (n * frame_s * 10).denominator == 1), frame_s)
    step = step if step <= SHORTEST_SEGMENT_S else frame_s
    segment_s = max(1, math.floor(Fraction(wanted) / step + Fraction(1, 2))) * step
    frames = f"{segment_s / frame_s} frames of {1000 * float(frame_s):.3g} ms"
    briefest, of_it = _shortest(facts)
    if isinstance(base.model.front_end, EarConfig) and _has_frames(of_it.lengths.p5_s, frame_s):
        frames += f" (the shortest calls, {briefest}, have {SHORT_FRAMES} or more: {of_it.lengths.p5_s:.2g} s, 5 %)"
    return Setting("data.segment_s", round(float(segment_s), 9), f"{told}; {frames}")


def _folds(facts: CorpusFacts) -> list[Setting]:
    units, what, found = _units(facts)
    count = min(MOST_FOLDS, units)
    run = Setting("folds.run", [0], "one fold is trained and scored; null runs all, for scores with a spread")
    if units < FEW_UNITS:
        told = f"null: all {count} folds are trained and scored, so that each of the {units} {what} is scored on once"
        run = Setting("folds.run", None, f"{told}, by a model that never heard it")
    told = "then the model for new recordings is trained on all labels; its scores and thresholds are those of the"
    validation = [Setting("folds.validation", None, _no_validation(facts))] if units < FEW_UNITS else []
    return [
        Setting("folds.count", count, f"{units} {what}: each fold keeps 1 in {count} of them apart, to score on"),
        run,
        Setting("folds.group", found.pattern, _why_group(found)),
        *validation,
        Setting("folds.refit", True, f"{told} fold{'s' if run.value is None else ''}, in which some are kept apart"),
    ]


def _units(facts: CorpusFacts) -> tuple[int, str, NameGroups]:
    """How many parts that stay together folds have to share out, what they are, and what the names say of them."""
    found = name_groups({one.name: one.classes for one in facts.labelled})
    if found.pattern is not None:
        return len(found.groups), "groups", found
    return len(facts.labelled), "labelled recordings", found


def _trainings(facts: CorpusFacts) -> str:
    """What shares the minutes of finetuning."""
    units = _units(facts)[0]
    folds = min(MOST_FOLDS, units) if units < FEW_UNITS else 1
    return f"{folds + 1} trainings ({folds} fold{'s' if folds > 1 else ''} and the final model)"


def _no_validation(facts: CorpusFacts) -> str:
    units, what, _ = _units(facts)
    return f"null: {units} {what} are too few to keep some apart; thresholds are chosen across the folds"


def _why_group(found: NameGroups) -> str:
    if found.pattern is not None:
        some = ", ".join(found.groups[:SHOWN_GROUPS]) + (", ..." if len(found.groups) > SHOWN_GROUPS else "")
        return (
            f"names begin alike in {len(found.groups)} groups ({some}): an animal, a site, a day? none is in both"
            " training and evaluation; null takes each recording by itself"
        )
    if found.rejected is not None:
        return (
            f"null takes each recording by itself; names begin alike in {len(found.groups)} groups"
            f" ('{found.rejected}'), but {found.alone_in_group} is in one of them alone: not to be learned and scored"
        )
    return (
        "null takes each recording by itself; if some belong together (an animal, a site, a day), give an expression"
        " that finds it in their names: '^(bird[0-9]+)_'"
    )


def _training(base: Recipe, stage: str, fits: Trainable, minutes: float, trainings: str) -> list[Setting]:
    share = FINETUNE_SHARE if stage == "finetune" else PRETRAIN_SHARE
    of = f" for {trainings}" if stage == "finetune" else ""
    told = f"{100 * share:.0f} % of {minutes:g} min{of}, at {fits.update_s:.2g} s an update (measured here)"
    if fits.fitting is not None:
        told += f", has room for {fits.fitting}; but {fits.updates} hear each second of the {duration(fits.audio_s)} of"
        told += f" labelled audio in the training part {MOST_PASSES} times, and more would learn it by heart: more"
        told += " labels help"
    settings = [Setting(f"{stage}.updates", fits.updates, told)]
    loop = base.finetune if stage == "finetune" else base.pretrain
    assert loop is not None
    most = max(1, fits.updates // WARMUP_SHARE)
    if loop.optimizer.warmup_updates > most:
        told = f"at most 1 in {WARMUP_SHARE} updates, instead of {loop.optimizer.warmup_updates}"
        settings.append(Setting(f"{stage}.optimizer.warmup_updates", most, told))
    return settings


def _event_window(facts: CorpusFacts, frame_s: Fraction) -> Setting:
    """Over how many seconds likelihoods are averaged, for frames of `frame_s` seconds."""
    name, shortest = _shortest(facts)
    shortest_s = shortest.lengths.p5_s
    frames = round(min(WINDOW_SHARE * shortest_s, LONGEST_WINDOW_S) / float(frame_s))
    window_s = float(max(1, frames) * frame_s)
    told = f"seconds; calls last {facts.lengths.p5_s:.2g} to {facts.lengths.p95_s:.2g} s (5 % to 95 %),"
    told += (
        f" the shortest ({name}) {shortest_s:.2g} s: likelihoods are averaged over a quarter of that, in whole frames"
    )
    if shortest_s < 2 * frame_s:
        told += f"; two frames are {2000 * float(frame_s):.2g} ms, so some calls are too short to be found"
    return Setting("evaluate.events.window_s", round(window_s, 9), told)


def _shortest(facts: CorpusFacts) -> tuple[str, ClassFacts]:
    """The class of the shortest calls, among those with calls enough to say so."""
    typical = {name: one for name, one in facts.classes.items() if one.calls >= TYPICAL_CALLS} or dict(facts.classes)
    return min(typical.items(), key=_shortness)


def _shortness(item: tuple[str, ClassFacts]) -> tuple[float, str]:
    return item[1].lengths.p5_s, item[0]
