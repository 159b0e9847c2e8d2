"""Sets of labels as people have them: which cannot be learned, and what they might be merged to.

`class_notices` says before a training which classes have too few events or are in one recording only. `template` writes
all labels of a source as a mapping, with a suggestion for each: labels that differ in a running number, in case or in
spaces become one class; of spellings that are near another one it is said, since they may be right.
"""

import csv
import difflib
import io
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from a2v_data.annotations import Annotation
from a2v_data.class_mapping import naturally, some_of, without_number

FEW_EVENTS = 5  # a class with fewer is too rare to be learned, or to be scored
NEARLY_ALL = 0.5  # of at least MANY classes with a single event: these are labels of events, not classes
MANY = 8
NAMED = 4  # classes in one line
NO_CLASSES = ("focal", "?", "ignore")  # these mark events of other classes, or nothing that is learned
NUMBERED = 3  # labels of one stem with less than two events each: their numbers count calls instead of telling types
NEAR = 0.8  # of difflib's ratio, from which on spellings are called near
NEAR_LETTERS = 4  # shorter labels are near each other by chance
TEMPLATE = ("label", "class", "events", "recordings", "seconds", "why")


@dataclass(frozen=True)
class Found:
    """How often a class or label is there."""

    events: int
    recordings: int


def counts(labelled: Sequence[tuple[str, str]]) -> dict[str, Found]:
    """Of (label, recording) for each event."""
    events = Counter(label for label, _ in labelled)
    pairs = Counter(label for label, _ in set(labelled))
    return {label: Found(events[label], pairs[label]) for label in events}


def class_notices(found: Mapping[str, Found], recordings: int, few: bool = True) -> list[str]:
    """At most three lines on classes that cannot be learned, with what to do; none where all can.

    recordings: how many are labelled; where there is one, each class is in one only, and that is not said. few: whether
    classes with fewer than `FEW_EVENTS` events are named, if they are not nearly all.
    """
    classes = {name: one for name, one in found.items() if name not in NO_CLASSES}
    ordered = sorted(classes, key=lambda name: (classes[name].events, naturally(name)))
    rare = [name for name in ordered if 0 < classes[name].events < FEW_EVENTS]
    single = [name for name in rare if classes[name].events == 1]
    lone = [name for name in ordered if classes[name].recordings == 1 and name not in rare]
    of = f"of {len(classes)} classes"
    if len(classes) >= MANY and len(single) >= NEARLY_ALL * len(classes):
        numbered = sum(without_number(name) != name for name in single)
        todo = "merge them with a mapping (--write-mapping makes one to fill in, --mapping reads it)"
        if numbered >= NEARLY_ALL * len(single):
            todo = f"labels with running numbers? --strip-numbers (annotations.strip_numbers) takes them off, or {todo}"
        lines = [f"{len(single)} {of} have a single event ({some_of(single)}): {todo}"]
    elif rare and few:
        named = some_of([f"{name} {classes[name].events}" for name in rare], NAMED)
        lines = [
            f"{len(rare)} {of} {_have(rare)} fewer than {FEW_EVENTS} events ({named}): too few to learn or to score; "
            "merge them (--mapping, annotations.mapping), label more, or leave them out (exclude_labels)"
        ]
    else:
        lines = []
    if lone and recordings > 1:
        be = "is" if len(lone) == 1 else "are"
        lines.append(
            f"{len(lone)} {of} {be} in one recording only ({some_of(lone, NAMED)}), which is either trained on or "
            "evaluated: merge them (--mapping, annotations.mapping), label others, or leave them out (exclude_labels)"
        )
    return lines


def _have(names: Sequence[str]) -> str:
    return "has" if len(names) == 1 else "have"


@dataclass(frozen=True)
class Suggestion:
    """The class that a label might have, and why where that is another name; else what is near it, if anything is."""

    name: str
    why: str = ""


def suggestions(events: Mapping[str, int]) -> dict[str, Suggestion]:
    """A class for each label. events: label -> how many there are."""
    by_stem: dict[str, list[str]] = {}
    for label in events:
        by_stem.setdefault(_plain(without_number(label)), []).append(label)
    numbered = {label for label in events if without_number(label) != label}
    runs = [labels for labels in by_stem.values() if sum(events[label] for label in labels) < 2 * len(labels)]
    many = [labels for labels in runs if len(labels) >= NUMBERED]
    if 2 * sum(map(len, many)) < len(events):  # else somebody counts calls: then also those of which there are few
        runs = many
    running = [label for labels in runs for label in labels if label in numbered]
    stems = {label: (without_number(label), "running number") for label in running}
    found: dict[str, Suggestion] = {}
    spellings: dict[str, Counter[str]] = {}
    for label, count in events.items():
        stem = stems.get(label, (label, ""))[0]
        spellings.setdefault(_plain(stem), Counter())[" ".join(stem.split())] += count
    usual = {plain: max(names, key=lambda name: (names[name], name)) for plain, names in spellings.items()}
    totals = {plain: names.total() for plain, names in spellings.items()}
    near = {plain: _near(plain, totals) for plain in totals}
    for label in events:
        stem, why = stems.get(label, (label, ""))
        plain = _plain(stem)
        name = usual[plain]
        reasons = [why] if why else []
        if name != stem:
            reasons.append(f"written {name!r} elsewhere")
        if other := near[plain]:
            reasons.append(f"near {usual[other]!r}, {totals[other]} events: the same?")
        found[label] = Suggestion(name, "; ".join(reasons))
    return found


def _near(plain: str, totals: Mapping[str, int]) -> str | None:
    """A more frequent spelling that this one may be a slip of."""
    if len(plain) < NEAR_LETTERS or len(totals) > 2000:
        return None
    others = [other for other, count in totals.items() if count > totals[plain] and len(other) >= NEAR_LETTERS]
    close = difflib.get_close_matches(plain, others, n=1, cutoff=NEAR)
    return close[0] if close and _letters(close[0]) != _letters(plain) else None


def _letters(plain: str) -> str:
    """Without digits: `song type 1` is no slip of `song type 2`."""
    return "".join(character for character in plain if not character.isdigit())


def _plain(label: str) -> str:
    """Equal for labels that differ in case, spaces, or how a letter with marks is encoded."""
    return " ".join(unicodedata.normalize("NFC", label).casefold().split())


def class_count(rows: Sequence[Annotation], decided: Mapping[str, str]) -> int:
    """How many classes a `template` has."""
    suggested = suggestions(Counter(row.label for row in rows))
    return len({decided.get(label, one.name) for label, one in suggested.items()} - {""})


def template(rows: Sequence[Annotation], decided: Mapping[str, str]) -> str:
    """A mapping of all labels, as CSV: label, class, how often it is there, and why the class is suggested.

    rows: events with the labels that a mapping is given; decided: label -> class where there is a mapping already
    (empty: dropped). Sorted by class, then label, so that what becomes one stands together.
    """
    events = Counter(row.label for row in rows)
    seconds = dict.fromkeys(events, 0.0)
    recordings: dict[str, set[str]] = {}
    for row in rows:
        seconds[row.label] += row.offset_s - row.onset_s
        recordings.setdefault(row.label, set()).add(row.file)
    suggested = suggestions(events)
    classes = {label: decided.get(label, suggested[label].name) for label in events}
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(TEMPLATE)
    for label in sorted(events, key=lambda label: (naturally(classes[label].casefold()), naturally(label))):
        why = "in the mapping" if label in decided else suggested[label].why
        counted = (events[label], len(recordings[label]), f"{seconds[label]:.3f}")
        writer.writerow([label, classes[label], *counted, why])
    return lines.getvalue()
