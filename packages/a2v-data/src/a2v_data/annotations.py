"""Annotations: which call, from when to when, in which recording; every wrong row is named.

Times are seconds from the start of the recording. Rows are numbered as a spreadsheet or text editor shows them: the
header is row 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from a2v_data.analysis_windows import window_lengths
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.audio import Channel, read_info
from a2v_data.class_mapping import mapped, relabels
from a2v_data.formats import read_table
from a2v_data.formats.table import Row, TableError
from a2v_data.heard_channels import Heard, channel_notices, in_heard_channel
from a2v_data.outside import TOLERANCE_S, within
from a2v_data.recording_names import RecordingNames, recording_names

SHOWN_PROBLEMS = 10
FOCAL_WORDS = {"1": True, "1.0": True, "true": True, "yes": True} | dict.fromkeys(
    ("0", "0.0", "false", "no", ""), False
)


class AnnotationError(ValueError):
    """Wrong annotations: every problem in `problems`, the first ten in the message, one per line."""

    def __init__(self, path: Path | str, problems: Sequence[str]) -> None:
        self.path, self.problems = path, list(problems)
        count = len(self.problems)
        lines = [
            f"{path}: {count} wrong annotation{'s' if count != 1 else ''}",
            *(problem.replace("\n", "\\n") for problem in self.problems[:SHOWN_PROBLEMS]),
        ]
        if count > SHOWN_PROBLEMS:
            lines.append(f"... and {count - SHOWN_PROBLEMS} more")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type, tuple[Path | str, list[str]]]:
        return type(self), (self.path, self.problems)


@dataclass(frozen=True, slots=True)
class Annotation:
    """One event: `onset_s` to `offset_s` (seconds) in recording `file`; `where` is for messages; likelihood: where a
    table has one, as of predictions; channels: those that it was marked in, from 1, and band_hz: its lowest and highest
    frequency, where a table says so."""

    file: str
    onset_s: float
    offset_s: float
    label: str
    focal: bool
    where: str
    likelihood: float | None = None
    channels: frozenset[int] | None = None
    band_hz: tuple[float, float] | None = None


class Names(Protocol):
    """Which recording a table means; `RecordingNames` knows those that there are."""

    def resolve(self, text: str, table_folder: Path) -> str | None: ...
    def missing(self, text: str | None) -> str: ...
    def rate(self, recording: str) -> int | None: ...


@dataclass(frozen=True)
class Checked:
    """What one table says: its events; silent: recordings that were listened to and hold no call; problems: (recording,
    as far as it is known, and one line) for everything that is wrong.

    moved: events that began up to 5 ms before their recording and begin with it now; cut: analysis windows likewise.
    """

    rows: list[Annotation]
    silent: set[str]
    problems: list[tuple[str | None, str]]
    moved: int = 0
    cut: int = 0


@dataclass(frozen=True)
class Annotations:
    """All events of a source; `annotated` are the recordings that a row or a label file names, `with_events` those of
    which it names an event, of any label: also where a mapping drops it, and it is in no row here.

    notices: what is worth knowing though nothing is wrong, one line each. wrong: recordings of which an annotation is
    wrong, with a line for each; they cannot be used, their neighbours can. regions: which parts of the recordings were
    annotated, in seconds, by onset; None: all that there is. written: all events with the labels that stand in the
    tables, where a mapping or `strip_numbers` made other ones of them. weak: the classes of each recording that a table
    of recording-level labels names; weak_written: its labels as they stand there.
    """

    path: Path
    rows: tuple[Annotation, ...]
    annotated: frozenset[str] = field(default_factory=frozenset)
    notices: tuple[str, ...] = ()
    wrong: Mapping[str, Sequence[str]] = field(default_factory=dict)
    with_events: frozenset[str] = field(default_factory=frozenset)
    regions: Mapping[str, Sequence[tuple[float, float]]] | None = None
    written: tuple[Annotation, ...] | None = None
    weak: Mapping[str, Sequence[str]] = field(default_factory=dict)
    weak_written: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read_annotations(
    path: Path,
    audio_folder: Path,
    recording: str | None = None,
    classes: Sequence[str] = (),
    config: AnnotationConfig | None = None,
    channel: Channel = 0,
) -> Annotations:
    """Read a CSV with the columns file, onset_s, offset_s, label and, where known, focal (1 or 0).

    `file` is a path relative to `audio_folder` or to the CSV's own folder; in the result it is relative to
    `audio_folder`. Further columns are ignored, empty lines too. A row with a file alone says that this recording
    holds no call. With `recording`, relative to `audio_folder`, any format is read, and rows that do not say to which
    recording they belong are its own; `classes` are names for MeerKAT's class numbers. `config` says how to
    read it and which classes labels become; `channel` is which one of a recording is read (see `Heard`).
    Raises `AnnotationError` naming file and row for everything that is wrong, `ValueError` where the file or a mapping
    is missing.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file; annotations are a CSV with file,onset_s,offset_s,label[,focal]")
    config = config or AnnotationConfig()
    if recording is None and config.format is None:
        config = config.model_copy(update={"format": "csv"})
    try:
        table = read_table(path, config, sidecar=recording is not None, classes=classes)
    except TableError as error:
        raise AnnotationError(path, [table_problem(path.name, error)]) from error
    names = RecordingNames(audio_folder, recording_names(audio_folder))
    (window_s,) = window_lengths([table])
    checked = check_rows(table.rows, path.name, path.parent, names, recording, config, window_s)
    problems = [f"{path.name}, {problem}" for problem in table.problems] + [line for _, line in checked.problems]
    heard = Heard(channel)
    rows, others = in_heard_channel(checked.rows, heard)
    annotated = checked.silent | {row.file for row in rows}
    with_events = frozenset(row.file for row in rows)
    notices = channel_notices(others, heard)
    if config.outside != "refuse":
        durations_s = {row.file: read_info(audio_folder / row.file).duration_s for row in rows}
        inside = within(rows, durations_s, config.outside)
        rows, notices = inside.rows, [*notices, *inside.notices]
    written = tuple(rows) if relabels(config) else None
    rows, unknown, merged = mapped(rows, config, path.parent)
    notices += merged
    if problems := problems + unknown:
        raise AnnotationError(path, problems)
    return Annotations(
        path, tuple(rows), frozenset(annotated), tuple(notices), with_events=with_events, written=written
    )  # fmt: skip


def table_problem(shown: str, error: TableError) -> str:
    """The line for a table that cannot be read as a whole."""
    comma = ", " if str(error).startswith(("row ", "rows ", "line ")) else ": "
    return f"{shown}{comma}{error}"


def check_rows(
    rows: Sequence[Row],
    shown: str,
    folder: Path,
    names: Names,
    recording: str | None,
    config: AnnotationConfig,
    window_s: float | None = None,
) -> Checked:
    """Check the rows of one table.

    shown: how messages name the table; folder: where it lies; recording: to which it belongs by its name, if any;
    window_s: length of its analysis windows, None where its events are none.
    """
    found: list[Annotation] = []
    silent: set[str] = set()
    problems: list[tuple[str | None, str]] = []
    moved = cut = 0
    for row in rows:
        where = f"{shown}, {row.place}"
        wrong = list(row.problems)
        file = recording if row.file is None else names.resolve(row.file, folder)
        if file is None:
            wrong.append(names.missing(row.file))
        onset_s, offset_s = row.onset_s, row.offset_s
        if row.in_samples and file is not None and not row.silent:
            onset_s, offset_s, unknown = _in_seconds(onset_s, offset_s, names.rate(file))
            wrong += [unknown] if unknown else []
        onset_s, offset_s = _with_length(onset_s, offset_s, config.point_duration_s)
        if onset_s is not None and offset_s is not None and onset_s < 0 < offset_s:
            if window_s is not None and onset_s > -window_s:
                onset_s, cut = 0.0, cut + 1
            elif onset_s >= -TOLERANCE_S:
                onset_s, moved = 0.0, moved + 1
        label = row.label or config.default_label or ""
        focal = FOCAL_WORDS.get(row.focal.lower())
        if not row.silent:
            wrong += event_problems(onset_s, offset_s, label, early=config.outside != "refuse")
        if focal is None:
            wrong.append(f"focal is {row.focal!r}; it must be 1 or 0")
        problems += [(file or row.file, f"{where}: {problem}") for problem in wrong]
        if wrong or file is None:
            continue
        if onset_s is None or offset_s is None:
            silent.add(file)
        else:
            found.append(
                Annotation(
                    file, onset_s, offset_s, label, bool(focal), where, row.likelihood, row.channels, row.band_hz
                )
            )
    return Checked(found, silent, problems, moved, cut)


def _in_seconds(
    onset: float | None, offset: float | None, rate: int | None
) -> tuple[float | None, float | None, str | None]:
    """Samples as seconds, or what is missing for that."""
    if rate is None:
        return (
            None,
            None,
            "times are samples, and the sample rate of its recording is not known here; give them in s or ms",
        )
    return None if onset is None else onset / rate, None if offset is None else offset / rate, None


def _with_length(
    onset_s: float | None, offset_s: float | None, point_duration_s: float | None
) -> tuple[float | None, float | None]:
    """A point becomes an event of `point_duration_s` around it, which does not start before the recording."""
    if point_duration_s is None or onset_s is None or onset_s != offset_s or onset_s < 0:
        return onset_s, offset_s
    start_s = max(0.0, onset_s - point_duration_s / 2)
    return start_s, start_s + point_duration_s


def event_problems(onset_s: float | None, offset_s: float | None, label: str, early: bool = False) -> list[str]:
    """What is wrong with one event by itself, whatever the form in which it was written. early: it may begin before its
    recording, since it is cut or dropped (`outside.py`)."""
    problems = []
    if onset_s is not None and onset_s < 0 and not early:
        problems.append(f"onset_s is {onset_s:g}; it must not be negative (seconds from the recording's start)")
    if onset_s is not None and offset_s is not None and offset_s <= onset_s:
        point = "; to give points a length, set point_duration_s" if offset_s == onset_s else ""
        problems.append(f"offset_s {offset_s:g} is not after onset_s {onset_s:g}; an event ends after it starts{point}")
    if not label.strip():
        problems.append("label is empty; name the class, or remove the row")
    return problems
