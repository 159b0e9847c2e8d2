"""`a2v evaluate`: predicted events of any program against labels, by both protocols."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotations import Annotation, table_problem
from a2v_data.audio import Channel
from a2v_data.documents import shortened
from a2v_data.formats.table import TableError, cells, read_text
from a2v_data.outside import TOLERANCE_S, window_cut, within
from a2v_data.regions import region_notices, sure
from a2v_eval.any_class import TimestepScores
from a2v_eval.bootstrap import Interval, confidence_intervals
from a2v_eval.evaluation import Evaluation, MatchConfig
from a2v_eval.event_tables import EVENT_ROW, evaluate_events, one_class_rows, score_time
from a2v_eval.events import Protocol

from ..basics.errors import UserError
from .files import EventFiles, RecordingMatcher, read_events


@dataclass(frozen=True)
class Settings:
    """What the command was asked for; see its help. labelled, predicted: how the tables of either side are read;
    prefix: of the options that say it for predictions, for messages; channel: of which events are scored, from 0, as
    far as tables say it, None: of all."""

    protocols: tuple[Protocol, ...]
    iou: float | None = None
    threshold: float | None = None
    any_class: bool = False
    recordings: Path | None = None
    durations: Path | None = None
    bootstrap: int = 0
    labelled: AnnotationConfig = field(default_factory=AnnotationConfig)
    predicted: AnnotationConfig = field(default_factory=AnnotationConfig)
    prefix: str = ""
    channel: Channel | None = None


@dataclass
class EventScores:
    """Everything that the command says."""

    evaluation: Evaluation
    recordings: list[str]
    protocols: tuple[Protocol, ...]
    predictions: str
    labels: str
    notices: list[str] = field(default_factory=list)
    timesteps: TimestepScores | None = None
    intervals: dict[Protocol, dict[str, dict[str, Interval]]] = field(default_factory=dict)


def score_events(predictions: Path, labels: Path, settings: Settings) -> EventScores:
    """Read both sides, put the recordings together, score. Raises UserError for what is wrong in either."""
    said = read_events(predictions, settings.predicted, prefix=settings.prefix, channel=settings.channel)
    true = read_events(labels, settings.labelled, ranked=False, channel=settings.channel)
    if settings.threshold is not None and said.likelihood is None:
        raise UserError(
            f"--threshold {settings.threshold:g}: {predictions} has no column likelihood, confidence or score"
        )
    notices = [*true.notices, *said.notices, *_other_channels(true, said)]
    names, true_rows, said_rows = _same_recordings(true, said, settings.recordings, notices)
    seconds: np.ndarray | None = None
    if settings.durations is not None:
        seconds = _durations(settings.durations, names)
        true_rows = _inside("labels", true, true_rows, seconds, settings.labelled, settings.durations, notices)
        said_rows = _inside("predictions", said, said_rows, seconds, settings.predicted, settings.durations, notices)
    true_rows, unsure = _divided(true, names, true_rows, said_rows, seconds, notices)
    if not names:
        raise UserError(f"{labels}: names no recording; give a list of what was listened to with --recordings")
    classes = list(dict.fromkeys(row.label for _, row in (*true_rows, *said_rows)))
    if not classes:
        raise UserError(f"{labels} and {predictions}: no event in the {len(names)} recordings, nothing to score")
    if said.likelihood is None:
        notices.append(f"{predictions}: no column likelihood, confidence or score, so AP is undefined")
    _tell_classes(true_rows, said_rows, notices)
    true_table, said_table = np.concatenate([_table(true_rows, classes), unsure]), _table(said_rows, classes)
    threshold, above = settings.threshold, said_table
    if threshold is not None:
        above = said_table[said_table["likelihood"] > threshold]
    timesteps = None if seconds is None else score_time(true_table, above, seconds)
    if settings.any_class:  # what is below the threshold must not make an event longer
        true_table, said_table, classes, threshold = one_class_rows(true_table), one_class_rows(above), ["any"], None
    config = MatchConfig()
    if settings.iou is not None:
        config = MatchConfig(iou_threshold=settings.iou, paper_iou_threshold=settings.iou)
    evaluation = evaluate_events(true_table, said_table, classes, len(names), config, threshold, seconds)
    intervals = {}
    if settings.bootstrap:
        if len(names) < 2:
            raise UserError(f"--bootstrap {settings.bootstrap}: draws recordings, and there is only one")
        intervals = {p: confidence_intervals(evaluation, p, settings.bootstrap) for p in settings.protocols}
    shown = f", ranked by the column {said.likelihood}" if said.likelihood else ""
    return EventScores(
        evaluation=evaluation,
        recordings=names,
        protocols=settings.protocols,
        predictions=f"{predictions}: {_events(len(said_rows))}{shown}",
        labels=f"{labels}: {_events(len(true_rows))}",
        notices=notices,
        timesteps=timesteps,
        intervals=intervals,
    )


def _other_channels(true: EventFiles, said: EventFiles) -> list[str]:
    """A line where labels and predictions are of different channels."""
    sides = [sorted({at for row in files.rows for at in row.channels or ()}) for files in (true, said)]
    if not all(sides) or set(sides[0]) & set(sides[1]):
        return []
    labels, predictions = (" and ".join(map(str, one)) for one in sides)
    return [
        f"labels are of channel {labels}, predictions of channel {predictions} (counted from 1): that is other sound, "
        "so scores say nothing; --channel takes one of them"
    ]


Placed = tuple[int, Annotation]  # number of the recording, and its event


def _same_recordings(
    true: EventFiles, said: EventFiles, listed: Path | None, notices: list[str]
) -> tuple[list[str], list[Placed], list[Placed]]:
    """Names of the scored recordings, and both sides' events in them, labels first.

    Without a list they are those that any row names, the labels' spelling first; those of which a part was annotated,
    where regions say so.
    """
    if listed is not None:
        lines = (line.strip() for line in _read_text(listed).splitlines())
        known, among = RecordingMatcher([line for line in lines if line]), str(listed)
    else:
        known, among = RecordingMatcher([*(row.file for row in true.rows), *true.silent]), ""
    if true.regions is not None:
        silent = [name for name in true.silent if name not in true.regions]
        if silent:
            notices.append(f"{_recordings(len(silent))} without an event or a region, not scored: {_some(silent)}")
        other = RecordingMatcher([*known.names, *(row.file for row in said.rows), *said.silent])
        if unknown := [name for name in true.regions if not other.find(name)]:
            notices.append(f"regions of recordings that neither side names, taken as annotated: {_some(unknown)}")
        listed_names = [name for name in true.regions if listed is None or known.find(name)]
        known, among = RecordingMatcher(listed_names), "the regions"
    names = list(known.names)
    labelled = set(range(len(names)))
    number = {name: at for at, name in enumerate(names)}
    found: dict[str, int | None] = {}

    def place(file: str) -> int | None:
        if file not in found:
            name = known.find(file)
            if name is None and not among:  # a recording of its own, since it was predicted on
                names.append(file)
                number[file] = len(names) - 1
                name = file
            found[file] = None if name is None else number[name]
        return found[file]

    sides: list[list[Placed]] = []
    for what, files in (("labels", true), ("predictions", said)):
        placed = [(place(row.file), row) for row in files.rows]
        outside = Counter(row.file for at, row in placed if at is None)
        if outside:
            notices.append(
                f"{what} left out: {_events(outside.total())} in recordings that are not in {among}: {_some(outside)}"
            )
        sides.append([(at, row) for at, row in placed if at is not None])
    for file in said.silent:
        place(file)
    true_rows, said_rows = sides
    alone = Counter(names[at] for at, _ in said_rows if at not in labelled)
    if alone:
        notices.append(
            f"{_recordings(len(alone))} with predictions and no row in the labels: {_events(alone.total())} that count "
            f"as false there; say with --recordings what was listened to: {_some(alone)}"
        )
    quiet = [name for at, name in enumerate(names) if at not in {at for at, _ in said_rows}]
    if quiet:
        notices.append(f"{_recordings(len(quiet))} without a prediction: {_some(quiet)}")
    return names, true_rows, said_rows


def _divided(
    true: EventFiles,
    names: Sequence[str],
    true_rows: list[Placed],
    said_rows: Sequence[Placed],
    seconds: np.ndarray | None,
    notices: list[str],
) -> tuple[list[Placed], np.ndarray]:
    """The labels that are known, and what is unsure of the recordings (EVENT_ROW, see `a2v_eval.unsure`).

    seconds: of the recordings; None: they end with their last event or region.
    """
    regions = None
    if true.regions is not None:
        matcher = RecordingMatcher(names)
        regions = {name: of for file, of in true.regions.items() if (name := matcher.find(file))}
    ends_s = np.zeros(len(names)) if seconds is None else seconds
    if seconds is None:
        for at, row in (*true_rows, *said_rows):
            ends_s[at] = max(ends_s[at], row.offset_s)
        for name, of in (regions or {}).items():
            finite = [end for interval in of for end in interval if np.isfinite(end)]
            ends_s[names.index(name)] = max([ends_s[names.index(name)], *finite])
    durations_s = dict(zip(names, ends_s.tolist(), strict=True))
    found = sure([replace(row, file=names[at]) for at, row in true_rows], regions, durations_s)
    notices += region_notices(regions, names, found, durations_s)
    number = {name: place for place, name in enumerate(names)}
    unsure = [(number[name], *interval, np.nan) for name, intervals in found.unsure.items() for interval in intervals]
    return [(number[row.file], row) for row in found.rows], np.array(unsure, EVENT_ROW)


def _tell_classes(true_rows: Sequence[Placed], said_rows: Sequence[Placed], notices: list[str]) -> None:
    labelled, predicted = (Counter(row.label for _, row in rows) for rows in (true_rows, said_rows))
    if never := {name: n for name, n in labelled.items() if name not in predicted}:
        notices.append(f"classes that are never predicted: {_with_counts(never, 'labels')}")
    if unknown := {name: n for name, n in predicted.items() if name not in labelled}:
        notices.append(
            f"classes that are not in the labels: {_with_counts(unknown, 'predictions')}; they count as false in "
            "micro, and are no part of macro"
        )


def _table(rows: Sequence[Placed], classes: Sequence[str]) -> np.ndarray:
    at = {name: number for number, name in enumerate(classes)}
    values = [
        (n, at[row.label], row.onset_s, row.offset_s, np.nan if row.likelihood is None else row.likelihood)
        for n, row in rows
    ]
    return np.array(values, EVENT_ROW)


def _inside(
    what: str,
    files: EventFiles,
    rows: Sequence[Placed],
    seconds: np.ndarray,
    config: AnnotationConfig,
    path: Path,
    notices: list[str],
) -> list[Placed]:
    """The events of one side: the last analysis windows end with their recording, as they do where labels are read,
    others are clipped or dropped where they pass the end and `config` says so. Raises UserError for one that starts
    after the end, where it does not."""
    ended = [(at, window_cut(row, files.window_s(row), float(seconds[at]))) for at, row in rows]
    cut = sum(old.offset_s > new.offset_s + TOLERANCE_S for (_, old), (_, new) in zip(rows, ended, strict=True))
    if cut:
        notices.append(f"{what}: analysis windows that pass the end of their recording, cut there: {cut}")
    if config.outside == "refuse":
        beyond = [row.where for at, row in ended if row.onset_s >= seconds[at]]
        if beyond:
            raise UserError(f"{path}: {len(beyond)} events start after the end of their recording: {_some(beyond)}")
        return ended
    numbers = {row.file: at for at, row in ended}
    durations_s = {file: float(seconds[at]) for file, at in numbers.items()}
    found = within((row for _, row in ended), durations_s, config.outside)
    notices += found.notices
    return [(numbers[row.file], row) for row in found.rows]


def _durations(path: Path, names: Sequence[str]) -> np.ndarray:
    """(R,) seconds of the scored recordings, from a CSV with file,duration_s."""
    try:
        lines = cells(read_text(path), ",", quoted=True)
    except TableError as error:
        raise UserError(table_problem(str(path), error)) from None
    header = lines[0][1] if lines else []
    if not {"file", "duration_s"} <= set(header):
        raise UserError(
            f"{path}: row 1 is {shortened(','.join(header)) or 'empty'}; it must have the columns file,duration_s"
        )
    file_at, seconds_at = header.index("file"), header.index("duration_s")
    seconds = np.full(len(names), np.nan)
    matcher = RecordingMatcher(names)
    for number, line in lines[1:]:
        try:
            duration = float(line[seconds_at])
        except (ValueError, IndexError):
            duration = np.nan
        if not (np.isfinite(duration) and duration > 0):
            raise UserError(
                f"{path}, row {number}: {shortened(','.join(line))}: duration_s must be a number of seconds above 0"
            )
        name = matcher.find(line[file_at]) if file_at < len(line) else None
        if name is not None:
            seconds[names.index(name)] = duration
    if np.isnan(seconds).any():
        missing = [name for name, duration in zip(names, seconds, strict=True) if np.isnan(duration)]
        raise UserError(f"{path}: no duration of {len(missing)} scored recordings: {_some(missing)}")
    return seconds


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None


def _events(n: int) -> str:
    return f"{n} event{'s' if n != 1 else ''}"


def _recordings(n: int) -> str:
    return f"{n} recording{'s' if n != 1 else ''}"


def _some(names: Counter[str] | Sequence[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _with_counts(counts: dict[str, int], what: str) -> str:
    shown = sorted(counts.items(), key=lambda item: -item[1])
    more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
    return ", ".join(f"{name} ({n} {what})" for name, n in shown[:5]) + more
