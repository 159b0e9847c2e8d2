"""What is in a corpus, without its audio: recordings, events, classes. Enough for folds and statistics.

A packed corpus (`corpus.Corpus`) is one; so is a folder of recordings with annotations, of which only headers and
annotations are read.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.corpus import Corpus
from a2v_data.corpus_files import EVENT_DTYPE, META, Recording, in_order
from a2v_data.intervals import IGNORED
from a2v_data.labelled import LabelledSetting, labelled_line, number, rule_of, weak_line

if TYPE_CHECKING:
    from a2v_data.pack import PackConfig


class Listing(Protocol):
    """Recordings, the classes, and `events` and `unsure` time (EVENT_DTYPE, sorted by recording and onset; see
    `corpus.py`)."""

    @property
    def folder(self) -> Path: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def recordings(self) -> list[Recording]: ...
    @property
    def events(self) -> np.ndarray: ...
    @property
    def unsure(self) -> np.ndarray: ...
    @property
    def meta(self) -> dict[str, Any]: ...
    @property
    def problems(self) -> list[str]: ...
    @property
    def notices(self) -> list[str]: ...
    def indices(self, names: Iterable[str]) -> list[int]:
        """Positions of recordings by name; `ValueError` for a name that is not there."""
        ...


@dataclass(frozen=True)
class SourceListing:
    """A folder of recordings as `pack` would pack it. `Recording.n_samples` is at the file's own rate."""

    folder: Path
    classes: tuple[str, ...]
    recordings: list[Recording]
    events: np.ndarray
    meta: dict[str, Any]
    problems: list[str]
    notices: list[str]
    unsure: np.ndarray = field(default_factory=lambda: np.empty(0, EVENT_DTYPE))

    @cached_property
    def _index(self) -> dict[str, int]:
        return {recording.name: number for number, recording in enumerate(self.recordings)}

    def indices(self, names: Iterable[str]) -> list[int]:
        """Positions of recordings by name; `ValueError` for a name that is not there."""
        names = list(names)
        unknown = [name for name in names if name not in self._index]
        if unknown:
            raise ValueError(f"{self.folder}: no recording {unknown[0]!r} ({len(unknown)} of {len(names)} unknown)")
        return [self._index[name] for name in names]


def duration_s(recording: Recording) -> float:
    """Length of a recording in seconds, as its file has it."""
    return recording.source_samples / recording.source_rate


def labelled_times(listing: Listing) -> np.ndarray:
    """(R,) seconds of each recording that are labelled: none of an unlabelled one, nor what is to be ignored."""
    times_R = np.array([duration_s(one) if one.labelled else 0.0 for one in listing.recordings])
    ignored = listing.unsure[listing.unsure["class"] == IGNORED]
    np.subtract.at(times_R, ignored["recording"], ignored["offset_s"] - ignored["onset_s"])
    return np.maximum(times_R, 0.0)


def learned_times(listing: Listing) -> np.ndarray:
    """(R,) seconds of each recording of which it is known what calls in them: `labelled_times`, and all of what is
    labelled as a whole only."""
    weak, times_R = weak_of(listing), labelled_times(listing)
    return np.array(
        [duration_s(one) if one.name in weak else time for one, time in zip(listing.recordings, times_R, strict=True)]
    )


def weak_of(listing: Listing) -> dict[str, list[str]]:
    """The classes of each recording that is labelled as a whole only (`weak.py`), by name."""
    weak: dict[str, list[str]] = listing.meta.get("weak", {})
    return weak


def labelled_in(listing: Listing) -> str:
    """The line on how many of its recordings are labelled, and by which rule."""
    labelled = sum(recording.labelled for recording in listing.recordings)
    meerkat = listing.meta.get("source", {}).get("form") == "meerkat"
    line = labelled_line(labelled, len(listing.recordings), rule_of(listing.meta), meerkat)
    if listing.meta.get("regions"):
        line = f"{number(labelled)} of {number(len(listing.recordings))} recordings labelled: those with a region"
    weak = weak_of(listing)
    return f"{line}; {weak_line(len(weak))}; each of their classes counts as one event" if weak else line


def labelled_notices(listing: Listing) -> list[str]:
    """What is said where it looks as if another rule were meant: one line or none."""
    notice = listing.meta.get("labelled_notice")
    return [notice] if notice else []


def open_listing(
    folder: Path, labelled: LabelledSetting = "auto", annotations: AnnotationConfig | None = None
) -> Listing:
    """What is in a packed corpus, or in a folder of recordings (with annotations.csv, or in MeerKAT's layout).

    labelled, annotations: as in `PackConfig`, for a folder; a packed corpus knows both. Recordings that cannot be used
    are in `problems`. Raises `AnnotationError` for wrong annotations, `ValueError` for what is neither.
    """
    folder = Path(folder)
    reading = annotations or AnnotationConfig()
    if (folder / META).is_file():
        if asked := reading.model_fields_set:
            raise ValueError(f"{folder}: a packed corpus has its own labels; leave out {', '.join(sorted(asked))}")
        return Corpus.open(folder)
    from a2v_data.pack import PackConfig

    # No sample is read, so any rate will do; at the highest one there is nothing that no model will hear.
    config = PackConfig(sample_rate=1_000_000, labelled=labelled, annotations=reading)
    return list_source(folder, config)


def list_source(folder: Path, config: "PackConfig", strict: bool = False) -> SourceListing:
    """A folder of recordings as `pack` with `config` would pack it; only headers and annotations are read.

    strict: any wrong annotation raises `AnnotationError`, as in an experiment. Raises as `make_plan` does.
    """
    from a2v_data.pack import planned_events, planned_weak, unsure_rows, written_labels
    from a2v_data.plan import make_plan

    # The same rules as for packing (who counts as labelled, class order, merging), so that folds of either agree.
    plan = make_plan(folder, config, strict)
    classes, planned, notices = planned_events(plan, config)
    recordings = [
        Recording(r.name, r.samples, r.name in plan.labelled, 0, r.rate, r.samples) for r in plan.recordings.values()
    ]
    rows = [(number, *event) for number, name in enumerate(plan.recordings) for event in planned.get(name, ())]
    events = in_order(np.array(rows, EVENT_DTYPE))
    unsure = in_order(unsure_rows(plan, list(plan.recordings)))
    meta = {
        "source": {"audio_folder": plan.original_audio_folder, "form": plan.source.form},
        "config": {**config.model_dump(mode="json"), "labelled": plan.rule},
        "labelled_notice": plan.labelled_notice,
        "regions": plan.annotations.regions is not None,
        "unheard": plan.unheard,
        "annotation_notices": list(plan.annotations.notices),
    }
    if (written := written_labels(plan, config)) is not None:
        meta["written"] = written
    if weak := planned_weak(plan, config):
        meta["weak"] = weak
    problems = [plan.left_out[name] for name in sorted(plan.left_out)]
    return SourceListing(folder, tuple(classes), recordings, events, meta, problems, notices, unsure)
