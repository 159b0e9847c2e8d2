"""From recordings and annotations to one packed store (`corpus.py`), which training and evaluation read.

The source is a folder of recordings, or one that `prepare.py` made, whose segments become recordings again. Every
recording has its place in the store before it is read, so that several processes write at once and nothing is held in
memory. Nothing is written before annotations and disk space were checked, and the store is complete or not there.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from a2v_data.annotations import Annotation, AnnotationError
from a2v_data.audio import AudioError
from a2v_data.conversion import Converted, Progress, SourceRecording, convert, counting_seconds, peak_notice
from a2v_data.corpus import Corpus
from a2v_data.corpus_files import EVENT_DTYPE, CorpusWriter, Recording
from a2v_data.plan import FOCAL, Plan, RecordingConfig, class_order, make_plan, require_any
from a2v_data.regions import NUMBERS
from a2v_data.resampling import resampled_length
from a2v_data.scheduling import Advance, Crash, Run, in_this_process
from a2v_data.sources import Source
from a2v_data.storage import refuse_existing, require_free_space, written_aside
from a2v_data.streams.config import NAME as STREAM_NAME
from a2v_data.streams.config import StreamConfig
from a2v_data.streams.folder import StreamFolder
from a2v_data.streams.packed import StreamWriter

MOSTLY = 0.9  # of the time has a stream, else it is told
Event = tuple[int, float, float]  # class, onset and offset in seconds


class PackConfig(RecordingConfig):
    """How a source becomes a packed store.

    classes: their names in order (default: MeerKAT's order for its names, else sorted). exclude_labels: labels to
    drop. focal_class: events with the focal flag are also events of the class `focal`. overlaps: events of one class
    that sound at once are merged into one, as frames cannot tell them apart, or kept, for a detector that can
    (`finetune.head: boxes`) and for scores that count each. keep_rates: recordings of lower rates than `sample_rate`
    keep theirs, to a whole number of samples in each of so many frames a second (of 100, 22 050 Hz become 22 000), for
    a model that hears any rate; None: all have `sample_rate`. streams: what was recorded beside sound, by name
    (`streams/`), such as {accelerometer: {columns: [x, y, z], rate: 50}}.
    """

    classes: list[str] | None = None
    exclude_labels: list[str] = Field(default=[])
    focal_class: bool = True
    overlaps: Literal["merge", "keep"] = Field(default="merge", exclude_if=lambda how: how == "merge")
    keep_rates: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        default=None, exclude_if=lambda rate: rate is None
    )
    streams: dict[Annotated[str, Field(pattern=STREAM_NAME)], StreamConfig] = Field(
        default={}, exclude_if=lambda streams: not streams
    )

    @model_validator(mode="after")
    def _limited(self) -> Self:
        if self.keep_rates is not None and self.sample_rate is None:
            raise ValueError("keep_rates: needs sample_rate, the highest that is kept")
        return self

    @field_validator("classes")
    @classmethod
    def _distinct(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and (not names or len(set(names)) < len(names) or not all(map(str.strip, names))):
            raise ValueError("must be distinct, non-empty names (leave it out to take them from the annotations)")
        return names


@dataclass(frozen=True, slots=True)
class _Task:
    """A recording and its place in the store, in samples."""

    recording: SourceRecording
    audio: Path
    offset: int
    sample_rate: int

    @property
    def samples(self) -> int:
        return resampled_length(self.recording.samples, self.recording.rate, self.sample_rate)


def pack(
    source: Path | Source,
    out: Path,
    config: PackConfig,
    progress: Progress | None = None,
    run: Run = in_this_process,
    strict: bool = False,
) -> Corpus:
    """Pack the recordings of `source` into a store at `out`; `progress(done, total)` counts seconds of audio.

    Recordings that cannot be used are left out and listed, one line each, in `Corpus.problems`; other things
    worth knowing are in `Corpus.notices`. Raises `AnnotationError` for what is wrong in the annotations and belongs to
    no recording, or with `strict` for any wrong annotation; `ValueError` where source, audio, annotations or streams
    are missing, a table of streams is wrong, no recording is good, the disk is too full, or `out` exists.
    """
    out = Path(out)
    refuse_existing(out)
    plan = make_plan(source, config, strict)
    classes, events, notices = planned_events(plan, config)
    beside = _stream_folder(plan, config)
    with written_aside(out) as folder:
        writer = CorpusWriter(folder, plan.sample_rate, classes)
        try:
            tasks = _tasks(plan, writer.audio_path, config.keep_rates)
            require_free_space(out, 2 * sum(task.samples for task in tasks) + 10_000_000)
            streams = _write_streams(folder, beside, tasks)
            _write(plan, tasks, events, writer, streams, config, notices, run, progress)
        finally:
            writer.close()
    return Corpus.open(out)


def planned_events(plan: Plan, config: PackConfig) -> tuple[list[str], dict[str, list[Event]], list[str]]:
    """The classes, the events of every recording by onset, overlapping ones of one class merged where `overlaps` says
    so, and notices."""
    rows = [row for row in plan.annotations.rows if row.label not in config.exclude_labels]
    classes = _classes(plan.annotations.path, rows, config, planned_weak(plan, config))
    events, merged = _events(rows, classes, config.overlaps)
    notices = list(plan.annotations.notices)
    notices += [
        f"exclude_labels: no event is labelled {label!r}"
        for label in config.exclude_labels
        if label not in NUMBERS
        and all(row.label != label for row in plan.annotations.rows)
        and not any(label in names for names in plan.weak.values())
    ]
    notices += [
        f"{label}: {count} overlapping event(s) of one recording merged into those that they overlap"
        for label, count in sorted(merged.items())
    ]
    return classes, events, notices


def planned_weak(plan: Plan, config: PackConfig) -> dict[str, list[str]]:
    """The classes of every recording that is labelled as a whole only, by name."""
    return {
        name: [label for label in labels if label not in config.exclude_labels]
        for name, labels in sorted(plan.weak.items())
    }


def unsure_rows(plan: Plan, names: Sequence[str]) -> np.ndarray:
    """The unsure time of these recordings, EVENT_DTYPE, in no order."""
    rows = [(number, *interval) for number, name in enumerate(names) for interval in plan.unsure.get(name, ())]
    return np.array(rows, EVENT_DTYPE)


def written_labels(plan: Plan, config: RecordingConfig) -> dict[str, Any] | None:
    """How often each label is in each recording as the tables have it, before a mapping or `strip_numbers`: `labels`,
    and `events`: recording -> (number of the label, how many). None where the labels are the classes.

    A corpus keeps it (`written` of its description), so that folds do not change when classes are merged. Counted as a
    corpus without the mapping would count; of a recording that is labelled as a whole only each label is one.
    """
    if plan.prepared is not None and "written" in plan.prepared.meta:
        kept: dict[str, Any] = plan.prepared.meta["written"]
        return kept
    if plan.annotations.written is None:
        return None
    packing = config if isinstance(config, PackConfig) else PackConfig()
    rows = [row for row in plan.annotations.written if row.label not in packing.exclude_labels]
    excluded = frozenset(packing.exclude_labels)
    whole = {name: sorted(set(labels) - excluded) for name, labels in _weak_written(plan).items()}
    labels = {row.label for row in rows}.union(*whole.values())
    if packing.focal_class and any(row.focal for row in rows):
        labels.add(FOCAL)
    ordered = class_order(labels)
    events, _ = _events(rows, ordered, packing.overlaps)
    counted = {name: sorted(Counter(event[0] for event in of).items()) for name, of in sorted(events.items())}
    counted |= {name: [(ordered.index(label), 1) for label in labels] for name, labels in whole.items()}
    return {"labels": ordered, "events": counted}


def _weak_written(plan: Plan) -> dict[str, Sequence[str]]:
    """The labels of every recording that is labelled as a whole only, as its table has them."""
    return {name: plan.annotations.weak_written[name] for name in sorted(plan.weak)}


def kept_rate(own: int, limit: int, frames: float | None) -> int:
    """Hz of a recording in the store; frames: `keep_rates`, of which each is a whole number of samples."""
    kept = limit if frames is None or own >= limit else round(max(1, round(own / frames)) * frames)
    return min(kept, limit)


def _tasks(plan: Plan, audio: Path, keep_rates: float | None) -> list[_Task]:
    tasks: list[_Task] = []
    offset = 0
    for recording in plan.recordings.values():
        tasks.append(_Task(recording, audio, offset, kept_rate(recording.rate, plan.sample_rate, keep_rates)))
        offset += tasks[-1].samples
    return tasks


def _stream_folder(plan: Plan, config: PackConfig) -> StreamFolder | None:
    source = plan.source
    if not config.streams:
        return None
    return StreamFolder.find(source.folder, source.audio_folder, [*plan.recordings, *plan.left_out], config.streams)


def _write_streams(folder: Path, found: StreamFolder | None, tasks: list[_Task]) -> StreamWriter | None:
    """Before any sound is converted, so that a table that is wrong is told at once."""
    if found is None:
        return None
    writer = StreamWriter(folder, found.streams)
    try:
        for task in tasks:
            table, duration_s = found.of(task.recording.name), task.samples / task.sample_rate
            writer.add(table.grids(duration_s) if table else {}, duration_s)
    finally:
        writer.close()
    lacking = [
        f"{table.shown}: has no value within the {task.samples / task.sample_rate:g} s of {task.recording.name}"
        for task, there in zip(tasks, writer.there, strict=True)
        if not there and (table := found.of(task.recording.name))
    ]
    more = f", and so have {len(lacking) - 1} others" if len(lacking) > 1 else ""
    told = [f"{lacking[0]}{more}; times must be seconds from the recording's start"] if lacking else []
    if not any(writer.there):
        raise ValueError(told[0] if told else f"{found.folder}: no table of streams has a value of any recording")
    if found.unused:
        more = f", and {len(found.unused) - 1} others" if len(found.unused) > 1 else ""
        told.append(f"{found.unused[0]}{more}: named like no recording, and not read")
    writer.notices += told
    return writer


def _stream_notices(streams: StreamWriter) -> list[str]:
    """How many recordings, and how much of all time, have a stream, where it is not all; columns that never change."""
    total, told = len(streams.there), []
    for name, packed in streams.packed().items():
        count, share = sum(name in there for there in streams.there), packed.covered()
        if count < total or share < MOSTLY:
            told.append(f"streams.{name}: {count} of {total} recordings have it, {100 * share:.2g} % of all time")
        told += [f"streams.{name}: {column} has one value everywhere" for column in packed.constant()]
    return [*streams.notices, *told]


def _write(
    plan: Plan, tasks: list[_Task], events: dict[str, list[Event]], writer: CorpusWriter,
    streams: StreamWriter | None, config: PackConfig, notices: list[str], run: Run, progress: Progress | None,
) -> None:  # fmt: skip
    left_out = dict(plan.left_out)
    packed: dict[int, Recording] = {}
    rates = [task.sample_rate for task in tasks]
    order = sorted(range(len(tasks)), key=lambda number: -tasks[number].samples)  # the longest first
    advance = counting_seconds([task.recording for task in tasks], progress)
    with closing(run(_pack_recording, [tasks[number] for number in order], advance)) as results:
        for position, result in results:
            number, task = order[position], tasks[order[position]]
            name = task.recording.name
            if isinstance(result, AudioError | Crash):
                left_out[name] = plan.problem(name, result)
                continue
            packed[number] = Recording(
                name, task.samples, name in plan.labelled, task.offset, task.recording.source_rate,
                task.recording.source_samples, task.recording.gain * result.gain,
            )  # fmt: skip
            if result.peak > 1:
                notices.append(peak_notice(name, result.peak))
    problems = [left_out[name] for name in sorted(left_out)]
    require_any(plan.source, packed, problems)
    writer.adopt([packed[number] for number in sorted(packed)])
    rows = [
        (number, *event)
        for number, recording in enumerate(writer.recordings)
        for event in events.get(recording.name, ())
    ]
    good = {recording.name for recording in writer.recordings}
    weak = {name: labels for name, labels in planned_weak(plan, config).items() if name in good}
    written = written_labels(plan, config)
    described = streams.finish(sorted(packed)) if streams else {}
    notices += _stream_notices(streams) if streams else []
    writer.finish(
        np.array(rows, EVENT_DTYPE),
        unsure_rows(plan, [recording.name for recording in writer.recordings]),
        None if config.keep_rates is None else [rates[number] for number in sorted(packed)],
        streams.checksums() if streams else None,
        **({"streams": described} if described else {}),
        source={
            "folder": os.path.abspath(plan.source.folder),
            "audio_folder": plan.original_audio_folder,
            "form": plan.source.form,
        },
        config={**config.model_dump(mode="json"), "labelled": plan.rule},
        labelled_notice=plan.labelled_notice,
        **({"unheard": plan.unheard} if plan.unheard else {}),
        **({} if plan.annotations.regions is None else {"regions": True}),
        problems=problems,
        notices=sorted(notices),
        **({"weak": weak} if weak else {}),
        **({} if written is None else {"written": written}),
    )


def _pack_recording(task: _Task, advance: Advance) -> Converted | AudioError:
    """Write one recording's samples to their place in the store."""

    def write(blocks: Iterator[np.ndarray]) -> None:
        with task.audio.open("r+b") as file:
            file.seek(2 * task.offset)
            for block_N in blocks:
                file.write(block_N.astype("<i2", copy=False).tobytes())
            assert file.tell() == 2 * (task.offset + task.samples), f"{task.recording.name}: wrong length"

    try:
        return convert(task.recording, task.sample_rate, write, advance)
    except AudioError as error:
        return error


def _classes(path: Path, rows: list[Annotation], config: PackConfig, weak: Mapping[str, Sequence[str]]) -> list[str]:
    whole = {label: name for name, labels in weak.items() for label in labels}  # class -> a recording with it
    labels = {row.label for row in rows} | whole.keys()
    if config.classes is not None:
        problems = [
            f"{row.where}: label {row.label!r} is not among classes ({', '.join(config.classes)}); "
            "add it there or to exclude_labels"
            for row in rows
            if row.label not in config.classes
        ]
        problems += [
            f"{name}: recording-level label {label!r} is not among classes ({', '.join(config.classes)}); "
            "add it there or to exclude_labels"
            for label, name in whole.items()
            if label not in config.classes
        ]
        if problems:
            raise AnnotationError(path, problems)
        return config.classes
    if config.focal_class and any(row.focal for row in rows):
        labels.add(FOCAL)
    return class_order(labels)


def _events(
    rows: list[Annotation], classes: list[str], overlaps: Literal["merge", "keep"]
) -> tuple[dict[str, list[Event]], Counter[str]]:
    """Events by recording, overlapping ones of one class merged where they are not kept, and how many were."""
    # Frames cannot tell two calls of one class apart that sound at once.
    number = {name: index for index, name in enumerate(classes)}
    by_class: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in rows:
        names = [row.label, FOCAL] if row.focal and FOCAL in number and row.label != FOCAL else [row.label]
        for name in names:
            by_class.setdefault((row.file, number[name]), []).append((row.onset_s, row.offset_s))
    events: dict[str, list[Event]] = {}
    merged: Counter[str] = Counter()
    for (file, index), intervals in by_class.items():
        kept = merge_overlapping(intervals) if overlaps == "merge" else sorted(intervals)
        if len(kept) < len(intervals):
            merged[classes[index]] += len(intervals) - len(kept)
        events.setdefault(file, []).extend((index, onset, offset) for onset, offset in kept)
    return events, merged


def merge_overlapping(intervals: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Intervals by onset, overlapping ones united; those that only touch stay apart."""
    kept: list[tuple[float, float]] = []
    for onset, offset in sorted(intervals):
        if kept and onset < kept[-1][1]:
            kept[-1] = (kept[-1][0], max(kept[-1][1], offset))
        else:
            kept.append((onset, offset))
    return kept
