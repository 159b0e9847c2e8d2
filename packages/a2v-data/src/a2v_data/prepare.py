"""From recordings and annotations to a packed corpus.

A bad recording is left out and named; its neighbours are not harmed. A wrong annotation stops the
preparation, since a label that is silently dropped makes every score wrong. Nothing is written before
annotations and disk space were checked, and the corpus is complete or not there (`corpus.py`).
"""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotations import Annotation, AnnotationError, Annotations, end_problem
from a2v_data.audio import AudioError, AudioInfo, read_channel, read_info, resample, to_int16
from a2v_data.corpus import EVENT_DTYPE, Corpus, CorpusWriter
from a2v_data.meerkat import MEERKAT_CLASSES
from a2v_data.sources import Source, open_source, source_fingerprint
from a2v_data.storage import refuse_existing, require_free_space, written_aside

__all__ = ["PrepareConfig", "merge_overlapping", "prepare", "source_fingerprint"]

FOCAL = "focal"
Progress = Callable[[int, int], None]


class PrepareConfig(BaseModel):
    """How a source becomes a corpus.

    sample_rate: Hz, of the corpus. labelled: 'annotated' (recordings without any annotation were not looked
    at, they serve pretraining only) or 'all' (they were, and hold no calls). classes: their names in order
    (default: MeerKAT's order for its names, else sorted). exclude_labels: labels to drop. focal_class:
    events with the focal flag are also events of the class `focal`. channel: which one to read, from 0.
    annotations: which tables are read, and how.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_rate: Annotated[int, Field(ge=100, le=1_000_000)]
    labelled: Literal["annotated", "all"] = "annotated"
    classes: list[str] | None = None
    exclude_labels: list[str] = []
    focal_class: bool = True
    channel: Annotated[int, Field(ge=0)] = 0
    annotations: AnnotationConfig = AnnotationConfig()

    @field_validator("classes")
    @classmethod
    def _distinct(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and (
            not names or len(set(names)) < len(names) or not all(map(str.strip, names))
        ):
            raise ValueError(
                "must be distinct, non-empty names (leave it out to take them from the annotations)"
            )
        return names


@dataclass(frozen=True)
class _Plan:
    """What is known before any sample was read."""

    infos: dict[str, AudioInfo]  # good recordings by name
    problems: list[str]
    notices: list[str]
    classes: list[str]
    events: dict[str, list[tuple[int, float, float]]]  # (class, onset, offset) by recording, by onset
    labelled: frozenset[str]


def prepare(source: Path, out: Path, config: PrepareConfig, progress: Progress | None = None) -> Corpus:
    """Pack the recordings under `source` into a corpus at `out`; `progress(done, total)` counts recordings.

    Recordings that cannot be used are left out and listed, one line each, in `Corpus.problems`; other things
    worth knowing are in `Corpus.notices`. Raises `AnnotationError` for wrong annotations; `ValueError` where
    source, audio or annotations are missing, no recording is good, the disk is too full, or `out` exists.
    """
    out = Path(out)
    refuse_existing(out)
    opened = open_source(source, config.annotations)
    plan = _plan(opened, config)
    seconds = sum(info.duration_s for info in plan.infos.values())
    require_free_space(out, round(seconds * config.sample_rate * 2 * 1.02) + 10_000_000)
    with written_aside(out) as folder:
        writer = CorpusWriter(folder, config.sample_rate, plan.classes)
        try:
            problems, notices = _write(opened, plan, config, writer, progress)
        finally:
            writer.close()
    corpus = Corpus.open(out)
    assert corpus.problems == problems and corpus.notices == notices
    return corpus


def _write(
    source: Source, plan: _Plan, config: PrepareConfig, writer: CorpusWriter, progress: Progress | None
) -> tuple[list[str], list[str]]:
    problems, notices = list(plan.problems), list(plan.notices)
    rows: list[tuple[int, int, float, float]] = []
    for done, (name, info) in enumerate(plan.infos.items(), start=1):
        try:
            audio_N = read_channel(source.audio_folder / name, info, config.channel)
            if (peak := float(np.abs(audio_N).max())) > 1:
                notices.append(f"{name}: peak {peak:.3g} is above full scale (1); scaled down to it")
            audio_N, gain = to_int16(resample(audio_N, info.rate, config.sample_rate), info.subtype)
        except AudioError as error:
            problems.append(_left_out(name, error, len(plan.events.get(name, ()))))
        else:
            labelled = name in plan.labelled
            number = writer.add(name, audio_N, labelled, info.rate, info.samples, gain)
            rows += [(number, *event) for event in plan.events.get(name, ())]
        if progress:
            progress(done, len(plan.infos))
    _require_any(source, writer.recordings, problems)
    writer.finish(
        np.array(rows, EVENT_DTYPE),
        source={
            "folder": os.path.abspath(source.folder),
            "audio_folder": os.path.abspath(source.audio_folder),
            "form": source.form,
        },
        config=config.model_dump(),
        problems=problems,
        notices=notices,
    )
    return problems, notices


def _plan(source: Source, config: PrepareConfig) -> _Plan:
    annotations = source.annotations()
    counts = Counter(row.file for row in annotations.rows)
    infos: dict[str, AudioInfo] = {}
    problems: list[str] = []
    for name in source.names:
        try:
            _check_name(name)
            infos[name] = read_info(source.audio_folder / name, config.channel)
        except AudioError as error:
            problems.append(_left_out(name, error, counts[name]))
    _require_any(source, infos, problems)
    rows = _within_recordings(annotations, infos)
    rows = [row for row in rows if row.label not in config.exclude_labels]
    notices = list(annotations.notices)
    notices += [
        f"exclude_labels: no event is labelled {label!r}"
        for label in config.exclude_labels
        if all(row.label != label for row in annotations.rows)
    ]
    classes = _classes(annotations.path, rows, config)
    events, merged = _events(rows, classes)
    for label, count in sorted(merged.items()):
        notices.append(
            f"{label}: {count} overlapping event(s) of one recording merged into those that they overlap"
        )
    labelled = frozenset(source.names) if config.labelled == "all" else annotations.annotated
    return _Plan(infos, problems, notices, classes, events, labelled)


def _check_name(name: str) -> None:
    if any(ord(character) < 32 for character in name):
        raise AudioError("has a tab or line break in its name; rename it")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise AudioError("has a name that is not UTF-8; rename it") from error


def _left_out(name: str, error: AudioError, annotations: int) -> str:
    tail = f" (left out, with its {annotations} annotations)" if annotations else " (left out)"
    return f"{name.encode('utf-8', 'backslashreplace').decode()!r} {error}{tail}"


def _require_any(source: Source, good: object, problems: list[str]) -> None:
    if not good:
        raise ValueError(
            f"{source.audio_folder}: none of {len(problems)} recordings can be used; {problems[0]}"
        )


def _within_recordings(annotations: Annotations, infos: dict[str, AudioInfo]) -> list[Annotation]:
    """Events clipped to their recordings (5 ms of tolerance); those of recordings left out are dropped."""
    rows, problems = [], []
    for row in annotations.rows:
        if row.file not in infos:
            continue
        duration_s = infos[row.file].duration_s
        if problem := end_problem(row, duration_s):
            problems.append(problem)
        rows.append(replace(row, offset_s=min(row.offset_s, duration_s)))
    if problems:
        raise AnnotationError(annotations.path, problems)
    return rows


def _classes(path: Path, rows: list[Annotation], config: PrepareConfig) -> list[str]:
    labels = {row.label for row in rows}
    if config.classes is not None:
        problems = [
            f"{row.where}: label {row.label!r} is not among classes ({', '.join(config.classes)}); "
            "add it there or to exclude_labels"
            for row in rows
            if row.label not in config.classes
        ]
        if problems:
            raise AnnotationError(path, problems)
        return config.classes
    if config.focal_class and any(row.focal for row in rows):
        labels.add(FOCAL)
    if labels <= set(MEERKAT_CLASSES):
        return [name for name in MEERKAT_CLASSES if name in labels]
    return [*sorted(labels - {FOCAL}), *({FOCAL} & labels)]


def _events(
    rows: list[Annotation], classes: list[str]
) -> tuple[dict[str, list[tuple[int, float, float]]], Counter[str]]:
    """Events by recording, overlapping ones of one class merged, and how many were."""
    # Frames cannot tell two calls of one class apart that sound at once.
    number = {name: index for index, name in enumerate(classes)}
    by_class: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in rows:
        names = [row.label, FOCAL] if row.focal and FOCAL in number and row.label != FOCAL else [row.label]
        for name in names:
            by_class.setdefault((row.file, number[name]), []).append((row.onset_s, row.offset_s))
    events: dict[str, list[tuple[int, float, float]]] = {}
    merged: Counter[str] = Counter()
    for (file, index), intervals in by_class.items():
        kept = merge_overlapping(intervals)
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
