"""What is known about a source before any sample is read: its recordings, their events, and what is wrong.

A bad recording is left out and named; its neighbours are not harmed. So is a recording of which an annotation is wrong:
a label that is silently dropped makes every score wrong. What is wrong and belongs to no one recording stops
everything.
"""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotations import SHOWN_PROBLEMS, Annotation, AnnotationError, Annotations
from a2v_data.audio import AudioError, AudioInfo, Channel, read_info
from a2v_data.class_mapping import mapped, relabels
from a2v_data.conversion import SourceRecording
from a2v_data.heard_channels import Heard
from a2v_data.labelled import (
    LabelledRule,
    LabelledSetting,
    labelled_names,
    labelled_notice,
    labelled_rule,
    says_who_listened,
)
from a2v_data.meerkat import MEERKAT_CLASSES
from a2v_data.outside import within
from a2v_data.prepared import Prepared, joined_annotations, read_prepared
from a2v_data.regions import NUMBERS, Unsure, is_ignored, outside_recordings, region_notices, sure
from a2v_data.sources import Source, open_source
from a2v_data.storage import check_regular
from a2v_data.unheard import unheard_labels
from a2v_data.weak import compared

FOCAL = "focal"
HEADER_THREADS = 8  # headers are waited for, not computed
ChannelField = Annotated[int, Field(ge=0)] | Literal["mix"]


class RecordingConfig(BaseModel):
    """How recordings are read, for a packed store as for a prepared folder.

    sample_rate: Hz, of the result; None: that of the recordings, where they all have one. labelled: 'annotated'
    (recordings without any annotation were not looked at, they serve pretraining only), 'with_events' (those without
    any event were not), 'all' (all were, and those without annotation hold no calls), or 'auto' (what suits the layout,
    see `labelled.py`). channel: which one to read, from 0, or 'mix' for the mean of all. channels: the same for single
    recordings, by name. annotations: which tables are read, and how.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample_rate: Annotated[int, Field(ge=100, le=1_000_000)] | None = None
    labelled: LabelledSetting = "auto"
    channel: ChannelField = 0
    channels: dict[str, ChannelField] = {}
    annotations: AnnotationConfig = AnnotationConfig()


@dataclass(frozen=True)
class Plan:
    """A source: its good recordings by name, their events, and what is said about the others.

    labels: of all annotations, also those of recordings that cannot be used. left_out: a line for each of these. weak:
    the classes of each good recording that is labelled as a whole only, and is not in `labelled`.
    rule: by which recordings are in `labelled`. labelled_notice: what is said where another seems to be meant; it is
    among the annotations' notices too, as is `unheard`, what is said of labels above half of the sample rate.
    unsure: of each labelled recording, when nobody knows what calls there.
    """

    source: Source
    prepared: Prepared | None
    sample_rate: int
    recordings: dict[str, SourceRecording]
    annotations: Annotations
    labels: frozenset[str]
    labelled: frozenset[str]
    left_out: dict[str, str]
    rule: LabelledRule
    labelled_notice: str | None
    unsure: Mapping[str, tuple[Unsure, ...]] = field(default_factory=dict)
    unheard: str | None = None
    weak: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def original_audio_folder(self) -> str:
        """Where the recordings lie that all this comes from."""
        return str(self.prepared.meta["audio_folder"] if self.prepared else os.path.abspath(self.source.audio_folder))

    def problem(self, name: str, error: object) -> str:
        """The line about a recording that turned out not to be usable."""
        count = sum(row.file == name for row in self.annotations.rows)
        return left_out_line(name, error, count)


def make_plan(source: Path | Source, config: RecordingConfig, strict: bool = False) -> Plan:
    """Read all headers and annotations. strict: any wrong annotation raises `AnnotationError`, instead of costing its
    recording.

    Raises `AnnotationError` for what is wrong in the annotations and belongs to no recording; `ValueError` where
    source, audio or annotations are missing, no recording is good, or `sample_rate` is not given and not clear.
    """
    opened = source if isinstance(source, Source) else open_source(source, config.annotations)
    prepared = read_prepared(opened.folder) if opened.form == "meerkat" else None
    if prepared and opened.config.weak:
        raise ValueError(
            f"{opened.folder}: its recordings were cut into segments, to which recording-level labels do not belong; "
            "give the folder of the recordings themselves with weak"
        )
    heard = Heard(config.channel, config.channels)
    annotations = _joined_and_mapped(opened, prepared) if prepared else opened.annotations(heard)
    names = list(prepared.recordings) if prepared else list(opened.names)
    _check_channels(config, names, opened)
    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        found = list(pool.map(lambda name: _read(name, opened, prepared, config), names))
    counts = Counter(row.file for row in annotations.rows)
    left_out: dict[str, str] = {}
    recordings: dict[str, SourceRecording] = {}
    for name, recording in zip(names, found, strict=True):
        if isinstance(recording, AudioError):
            left_out[name] = left_out_line(name, recording, counts[name])
        else:
            recordings[name] = recording
    for name in sorted(annotations.annotated - set(names)):
        left_out[name] = left_out_line(
            name, "is not named like a recording (.wav, .flac, ...); rename it", counts[name]
        )
    rows, wrong, cut = _within_recordings(annotations, recordings, opened.config)
    odd = [f"{name}: {info.notice}" for name, one in recordings.items() for _, info in one.parts if info.notice]
    if strict and wrong:
        raise AnnotationError(annotations.path, [line for name in sorted(wrong) for line in wrong[name]])
    for name in sorted(wrong.keys() - left_out.keys()):
        recordings.pop(name, None)
        left_out[name] = left_out_line(name, _wrong_annotations(wrong[name]), 0)
    require_any(opened, recordings, left_out.values())
    sample_rate = config.sample_rate or _common_rate(recordings.values())
    rule = labelled_rule(config.labelled, opened.folder, opened.config)
    notice = _labelled_notice(opened, rule, recordings.keys(), annotations)
    unheard = unheard_labels(rows, {name: one.rate for name, one in recordings.items()}, sample_rate)
    notices = (*annotations.notices, *cut, *(line for line in (notice, unheard) if line), *odd)
    inside, unsure = _known(replace(annotations, rows=tuple(rows), notices=notices), recordings)
    labels = frozenset(row.label for row in annotations.rows) - NUMBERS.keys()
    labelled = labelled_names(rule, set(names), annotations)
    if annotations.regions is not None:  # whoever marked what was annotated listened there, and nowhere else
        labelled = frozenset(annotations.regions.keys() & set(names))
    elif rule == "all":  # but what is labelled as a whole only
        labelled -= annotations.weak.keys() - annotations.annotated
    unsure = {name: intervals for name, intervals in unsure.items() if name in labelled}
    weak = {name: annotations.weak[name] for name in recordings if name in annotations.weak and name not in labelled}
    inside = replace(inside, notices=(*inside.notices, *_labelled_twice(inside, labelled, opened)))
    return Plan(
        opened, prepared, sample_rate, recordings, inside, labels, labelled, left_out, rule, notice, unsure, unheard,
        weak,
    )  # fmt: skip


def _labelled_twice(annotations: Annotations, labelled: Set[str], source: Source) -> list[str]:
    events: dict[str, set[str]] = {}
    for row in annotations.rows:
        events.setdefault(row.file, set()).add(row.label)
    return compared(Path(source.config.weak or "").name, annotations.weak, events, sorted(labelled))


def _known(
    annotations: Annotations, recordings: dict[str, SourceRecording]
) -> tuple[Annotations, dict[str, tuple[Unsure, ...]]]:
    """What is known of these recordings, and what is not (see `regions.py`)."""
    durations_s = {name: recording.duration_s for name, recording in recordings.items()}
    found = sure(annotations.rows, annotations.regions, durations_s)
    told = region_notices(annotations.regions, annotations.annotated & recordings.keys(), found, durations_s)
    written = annotations.written and tuple(
        row
        for row in within(annotations.written, durations_s, "clip").rows
        if not is_ignored(found.unsure.get(row.file, ()), (row.onset_s + row.offset_s) / 2)
    )
    notices = (*annotations.notices, *told)
    return replace(annotations, rows=tuple(found.rows), notices=notices, written=written), found.unsure


def _joined_and_mapped(source: Source, prepared: Prepared) -> Annotations:
    """The events of a prepared folder, with the classes that the configuration gives them."""
    found = joined_annotations(source, prepared)
    if not relabels(source.config):
        return found
    unsure = [row for row in found.rows if row.label in NUMBERS]  # which no mapping changes any more
    events = [row for row in found.rows if row.label not in NUMBERS]
    rows, problems, notices = mapped(events, source.config, source.folder)
    if problems:
        raise AnnotationError(found.path, problems)
    return replace(found, rows=(*rows, *unsure), notices=(*found.notices, *notices), written=tuple(events))


def _labelled_notice(source: Source, rule: LabelledRule, good: Set[str], annotations: Annotations) -> str | None:
    if source.form != "meerkat" or says_who_listened(source.folder):
        return None
    files = good & annotations.annotated
    return labelled_notice(rule, len(good), len(files), len(files - annotations.with_events))


def left_out_line(name: str, reason: object, annotations: int) -> str:
    """What a user reads about a recording that cannot be used."""
    tail = f" (left out, with its {annotations} annotations)" if annotations else " (left out)"
    return f"{name.encode('utf-8', 'backslashreplace').decode()!r} {reason}{tail}"


def require_any(source: Source, good: object, left_out: Iterable[str]) -> None:
    """`ValueError` where no recording is good."""
    if not good:
        lines = list(left_out)
        raise ValueError(f"{source.audio_folder}: none of {len(lines)} recordings can be used; {lines[0]}")


def class_order(labels: Set[str]) -> list[str]:
    """MeerKAT's order for its classes, else sorted, `focal` last."""
    if labels <= set(MEERKAT_CLASSES):
        return [name for name in MEERKAT_CLASSES if name in labels]
    return [*sorted(labels - {FOCAL}), *([FOCAL] if FOCAL in labels else [])]


def read_channel_table(path: Path) -> dict[str, Channel]:
    """A CSV with the columns file and channel (a number from 0, or mix). Raises `ValueError` naming the row."""
    table: dict[str, Channel] = {}
    try:
        check_regular(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"file", "channel"} <= set(reader.fieldnames or ()):
                raise ValueError(f"{path}, row 1: must have the columns file,channel")
            for row in reader:
                name, text = (row["file"] or "").strip(), (row["channel"] or "").strip()
                where = f"{path}, row {reader.line_num}"
                if not name or name in table:
                    raise ValueError(f"{where}: file {name!r} is {'there twice' if name else 'empty'}")
                if (text != "mix" and not text.isascii()) or not (text == "mix" or text.isdigit()):
                    raise ValueError(f"{where}: channel is {text!r}; it must be a number from 0, or mix")
                table[name] = "mix" if text == "mix" else int(text)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: not readable as CSV ({error})") from error
    return table


def _check_channels(config: RecordingConfig, names: list[str], source: Source) -> None:
    unknown = sorted(set(config.channels) - set(names))
    if unknown:
        raise ValueError(f"channels: no recording {unknown[0]!r} in {source.audio_folder}; correct the name")


def _read(
    name: str, source: Source, prepared: Prepared | None, config: RecordingConfig
) -> SourceRecording | AudioError:
    channel = config.channels.get(name, config.channel)
    try:
        check_name(name)
        if prepared is None:
            path = source.audio_folder / name
            info = read_info(path, channel)
            return SourceRecording(name, ((path, info),), channel, info.rate, info.samples)
        return _joined(name, source, prepared, channel)
    except AudioError as error:
        return error


def _joined(name: str, source: Source, prepared: Prepared, channel: Channel) -> SourceRecording:
    """The recording that a prepared folder's segments were cut from, without the zeros at its end."""
    recording = prepared.recordings[name]
    parts: list[tuple[Path, AudioInfo]] = []
    for segment in recording.segments:
        path = source.audio_folder / segment.name
        try:
            info = read_info(path, channel)
        except AudioError as error:
            raise AudioError(f"{segment.name}: {error}") from error
        if info.rate != prepared.sample_rate or info.samples < segment.samples:
            raise AudioError(f"{segment.name}: is not the segment that was prepared; prepare the folder again")
        parts.append((path, replace(info, samples=segment.samples)))
    return SourceRecording(name, tuple(parts), channel, recording.source_rate, recording.source_samples, recording.gain)


def check_name(name: str) -> None:
    """`AudioError` for a name that no table can hold."""
    if any(ord(character) < 32 for character in name):
        raise AudioError("has a tab or line break in its name; rename it")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise AudioError("has a name that is not UTF-8; rename it") from error


def _common_rate(recordings: Iterable[SourceRecording]) -> int:
    counts = Counter(recording.rate for recording in recordings)
    if len(counts) > 1:
        rates = ", ".join(f"{count} at {rate} Hz" for rate, count in sorted(counts.items()))
        raise ValueError(f"sample_rate: the recordings have several ({rates}); choose one")
    (rate,) = counts
    if not 100 <= rate <= 1_000_000:
        raise ValueError(f"sample_rate: the recordings have {rate} Hz; choose one from 100 to 1000000 Hz")
    return rate


def _within_recordings(
    annotations: Annotations, recordings: dict[str, SourceRecording], config: AnnotationConfig
) -> tuple[list[Annotation], dict[str, list[str]], list[str]]:
    """Events clipped to their recordings, by recording what is wrong with its annotations, and what was done about
    those that pass its end."""
    durations_s = {name: recording.duration_s for name, recording in recordings.items()}
    found = within(annotations.rows, durations_s, config.outside)
    wrong = {name: list(lines) for name, lines in annotations.wrong.items()}
    for more in (outside_recordings(annotations.regions or {}, durations_s), found.wrong):
        for name, lines in more.items():
            wrong.setdefault(name, []).extend(lines)
    return [row for row in found.rows if row.file not in wrong], wrong, found.notices


def _wrong_annotations(lines: Sequence[str]) -> str:
    more = f" (and {len(lines) - SHOWN_PROBLEMS} more)" if len(lines) > SHOWN_PROBLEMS else ""
    return f"has a wrong annotation: {'; '.join(lines[:SHOWN_PROBLEMS])}{more}"
