"""What a reviewer sees of a corpus that is labelled already: clips of it, and a corpus that knows these alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from a2v_data.annotations import Annotation
from a2v_data.corpus import Corpus
from a2v_data.corpus_files import AUDIO, EVENT_DTYPE, EVENTS, META, UNSURE, UNSURE_VERSION, in_order
from a2v_data.intervals import united
from a2v_data.regions import NUMBERS, sure
from a2v_data.storage import file_digest, written_aside


@dataclass(frozen=True, order=True)
class Clip:
    """A stretch of a recording (its name), seconds from its start."""

    recording: str
    onset_s: float
    offset_s: float


def cut(corpus: Corpus, names: Iterable[str], clip_s: float) -> list[Clip]:
    """Recordings in pieces of clip_s seconds, which do not overlap; the last one of each is what is left, if that is
    half a clip or more."""
    clips = []
    for number in corpus.indices(names):
        recording = corpus.recordings[number]
        duration_s = corpus.duration_s(number)
        count = max(1, int(duration_s / clip_s + 0.5))
        ends = [min((at + 1) * clip_s, duration_s) for at in range(count)]
        clips += [Clip(recording.name, at * clip_s, end) for at, end in enumerate(ends)]
    return clips


def revealed(corpus: Corpus, clips: Sequence[Clip], folder: Path) -> Corpus:
    """A corpus at `folder` with the same audio and classes, of which only these clips were annotated, as if they were
    the rows of `regions.csv` (docs/data.md): an event is known where its middle lies in one."""
    regions: dict[str, list[tuple[float, float]]] = {}
    for clip in clips:
        regions.setdefault(clip.recording, []).append((clip.onset_s, clip.offset_s))
    regions = {name: united(spans) for name, spans in regions.items()}
    durations_s = {one.name: corpus.duration_s(number) for number, one in enumerate(corpus.recordings)}
    found = sure(_rows(corpus), regions, durations_s)
    number = {one.name: place for place, one in enumerate(corpus.recordings)}
    of_class = {name: place for place, name in enumerate(corpus.classes)}
    events = [(number[row.file], of_class[row.label], row.onset_s, row.offset_s) for row in found.rows]
    unsure = [(number[name], *one) for name, spans in found.unsure.items() for one in spans]
    tables = {EVENTS: np.array(events, EVENT_DTYPE), UNSURE: np.array(unsure, EVENT_DTYPE)}
    recordings = [replace(one, labelled=one.name in regions) for one in corpus.recordings]
    with written_aside(folder) as aside:
        _linked(corpus.folder / AUDIO, aside / AUDIO)
        for name, table in tables.items():
            np.save(aside / name, in_order(table), allow_pickle=False)
        checksums = {AUDIO: corpus.meta["checksums"][AUDIO]} | {name: file_digest(aside / name) for name in tables}
        meta = corpus.meta | {
            "format_version": max(UNSURE_VERSION, corpus.meta["format_version"]), "events": len(events),
            "regions": True, "checksums": checksums,
            "recordings": [list(asdict(one).values()) for one in recordings],
        }  # fmt: skip
        (aside / META).write_text(json.dumps(meta), encoding="utf-8")
    return Corpus.open(folder)


def calls_in(corpus: Corpus, clip: Clip) -> np.ndarray:
    """(C,) how many calls of each class have their middle in a clip."""
    events = corpus.labels(corpus.indices([clip.recording])[0])
    middle_s = (events["onset_s"] + events["offset_s"]) / 2
    inside = (middle_s >= clip.onset_s) & (middle_s < clip.offset_s)
    return np.bincount(events["class"][inside], minlength=len(corpus.classes))


def _rows(corpus: Corpus) -> list[Annotation]:
    """The truth as a table would have it, unsure time with the labels that say so."""
    label = {kind: name for name, kind in NUMBERS.items()} | dict(enumerate(corpus.classes))
    return [
        Annotation(one.name, onset_s, offset_s, label[kind], True, "the truth")
        for number, one in enumerate(corpus.recordings)
        for kind, onset_s, offset_s in corpus.truth(number)[["class", "onset_s", "offset_s"]].tolist()
    ]


def _linked(source: Path, to: Path) -> None:
    """The same file, or a copy where a disk has no links: audio is only read."""
    try:
        os.link(source, to)
    except OSError:
        shutil.copyfile(source, to)
