"""What `a2v experiment suggest` knows of a corpus: headers and annotations, no sound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.class_warnings import told_about
from a2v_data.corpus_files import META
from a2v_data.coverage import Timeline
from a2v_data.labelled import LabelledRule, LabelledSetting, rule_of
from a2v_data.listing import duration_s, labelled_times, open_listing, weak_of
from a2v_data.plan import FOCAL
from a2v_data.streams.look import unnamed_streams
from numpy.typing import NDArray

from ..basics.errors import UserError


@dataclass(frozen=True)
class Lengths:
    """Seconds that 5 % of some calls are shorter than, half of them, and 95 %."""

    p5_s: float
    median_s: float
    p95_s: float


@dataclass(frozen=True)
class ClassFacts:
    """Calls of a class, in how many recordings they are, and how long."""

    calls: int
    recordings: int
    lengths: Lengths


@dataclass(frozen=True)
class RecordingFacts:
    """name: relative to the audio folder; rate: Hz, of the file; classes: of the calls in it; labelled_s: how much of
    it was annotated."""

    name: str
    seconds: float
    rate: int
    labelled: bool
    classes: frozenset[str] = frozenset()
    labelled_s: float = 0.0


@dataclass(frozen=True)
class CorpusFacts:
    """A corpus of at least two labelled recordings and one call.

    folder: as the recipe names it. called_share: of the labelled time, that with a call of any class. problems:
    recordings that are left out, a line each. rule: by which recordings are labelled. notices: what is said where
    another rule seems to be meant. weak: recordings that are labelled as a whole only; they are not among `labelled`.
    """

    folder: str
    name: str
    recordings: tuple[RecordingFacts, ...]
    classes: Mapping[str, ClassFacts]
    lengths: Lengths
    called_share: float
    problems: tuple[str, ...] = ()
    rule: LabelledRule | None = None
    notices: tuple[str, ...] = ()
    annotations: AnnotationConfig = field(default_factory=AnnotationConfig)
    weak: int = 0

    @property
    def labelled(self) -> list[RecordingFacts]:
        return [recording for recording in self.recordings if recording.labelled]

    @property
    def calls(self) -> int:
        return sum(of_class.calls for of_class in self.classes.values())


def read_facts(
    folder: Path, labelled: LabelledSetting = "auto", annotations: AnnotationConfig | None = None
) -> CorpusFacts:
    """Look at a folder of recordings; labelled, annotations: as in `PackConfig`. Raises UserError, ValueError
    or AnnotationError for what no recipe fits: no folder, audio or annotations, one labelled recording, no call."""
    if (folder / META).is_file():
        raise UserError(f"{folder}: is a packed corpus; name the folder of recordings that it was packed from")
    listing = open_listing(folder, labelled, annotations)
    events = listing.events
    numbers = [number for number, name in enumerate(listing.classes) if name != FOCAL]  # marks calls of the others
    events = events[np.isin(events["class"], numbers)]
    if not len(events) and weak_of(listing):
        raise UserError(
            f"{folder}: its labels are of whole recordings, and what suits a corpus follows from when calls begin and"
            " end; start from few_calls: a2v experiment run few_calls --set data.source=FOLDER --set"
            " data.annotations.weak=TABLE"
        )
    times_R = labelled_times(listing)
    if not len(events):
        raise UserError(f"{folder}: no call is labelled in its recordings: training needs some")
    names = [recording.name for recording in listing.recordings if recording.labelled]
    if len(names) < 2:
        raise UserError(
            f"{folder}: only one recording is labelled ({names[0]}); label another, or cut it into several files:"
            " some are kept apart, to score the model on"
        )
    present: list[set[str]] = [set() for _ in listing.recordings]
    for row, number in np.unique(events[["recording", "class"]]).tolist():
        present[row].add(listing.classes[number])
    recordings = [
        RecordingFacts(one.name, duration_s(one), one.source_rate, one.labelled, frozenset(names), float(labelled_s))
        for one, names, labelled_s in zip(listing.recordings, present, times_R, strict=True)
    ]
    classes = {}
    for number in numbers:
        chosen = events[events["class"] == number]
        if len(chosen):
            classes[listing.classes[number]] = ClassFacts(
                len(chosen), len(np.unique(chosen["recording"])), _lengths(chosen)
            )
    beside = [line] if (line := unnamed_streams(folder)) else []
    share = Timeline(listing).covered_s(events) / float(times_R.sum())
    name = folder.resolve().name
    return CorpusFacts(
        str(folder), name, tuple(recordings), classes, _lengths(events), share, tuple(listing.problems),
        rule_of(listing.meta), (*told_about(listing), *beside), annotations or AnnotationConfig(),
        len(weak_of(listing)),
    )  # fmt: skip


def _lengths(events: NDArray[np.void]) -> Lengths:
    low, middle, high = np.quantile(events["offset_s"] - events["onset_s"], (0.05, 0.5, 0.95)).tolist()
    return Lengths(low, middle, high)
