"""A review becomes an annotated source, which `data.source=FOLDER` trains on.

`FOLDER/audio/` holds links to the recordings, `annotations.csv` the calls (`?` where nobody could name one),
`regions.csv` where everything is known, `hard_negatives.csv` predictions that were wrong, `review.json` what was done.
It is written whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotation_writers import EventRow, annotation_csv, audacity_labels, raven_table
from a2v_data.audio import AUDIO_SUFFIXES, AudioError, Channel, read_info
from a2v_data.intervals import Interval
from a2v_data.regions import UNKNOWN_CLASS, region_csv
from a2v_data.storage import file_digest, refuse_existing, written_aside
from a2v_data.table_files import ANNOTATION_FILE, REGION_FILE, REVIEW_FILE

from ..basics.errors import FAILED, UserError
from .calls import Calls
from .journal import NAME, Decision, State, read_journal
from .labels import CALLS, Known, known
from .old_labels import NEGATIVES, Old, read_old, same_recordings, with_old

VERSION = 1
AUDIO = "audio"
FORMATS = ("raven", "audacity")


@dataclass(frozen=True)
class Exported:
    """record: what `review.json` says; classes: events of each that the folder has; recordings: that are in it; kept,
    replaced: labels of the old source; notices: a line each."""

    folder: Path
    record: dict[str, Any]
    classes: dict[str, int]
    recordings: int
    kept: int
    replaced: int
    notices: list[str]


@dataclass(frozen=True)
class _Content:
    """Of the new folder, by the names in it."""

    places: dict[str, Path]
    rows: list[EventRow]
    regions: dict[str, list[Interval]]
    wrong: list[EventRow]
    kept: int = 0
    replaced: int = 0


def export(
    calls: Calls,
    out: Path,
    formats: Collection[str] = (),
    old: Path | None = None,
    old_config: AnnotationConfig | None = None,
) -> Exported:
    """Write what was decided on `calls` as a source. formats: of FORMATS, tables beside. old: an annotated source that
    it is united with, read as `old_config` says. A review that runs may go on meanwhile.

    Raises UserError where nothing was decided, or no links can be made; ValueError where `out` exists.
    """
    refuse_existing(out)
    journal = calls.folder / NAME
    state = read_journal(calls.folder)
    decisions = state.standing()
    here = [one for one in decisions if one.file in calls.recordings]
    if not here:
        raise UserError(_nothing(calls, decisions))
    before = None if old is None else read_old(old, calls.channel, old_config)
    names = link_names(calls)
    reviewed, notices = _reviewed(calls, state, here, names)
    content = _content(calls, names, reviewed, before)
    classes = Counter(row.label for row in content.rows if row.label != UNKNOWN_CLASS)
    missing = Counter(one.file for one in decisions if one.file not in calls.recordings)
    notices += [f"{n} decisions left out: {file} {calls.left_out.get(file, 'is gone')}" for file, n in missing.items()]
    if not classes:
        notices.append("there is no call, so no class to learn: review until some are right, or add --with OLD_SOURCE")
    record = _record(calls, here, reviewed, journal) | {"labels": classes.total()}
    record["round"] = before.next_round(record["calls"]) if before else 1
    _write(out, content, calls, frozenset(formats), record)
    return Exported(
        out, record, dict(sorted(classes.items())), len(content.places), content.kept, content.replaced, notices
    )


def _nothing(calls: Calls, decisions: list[Decision]) -> str:
    if decisions:
        return f"{calls.folder}: its {len(decisions)} decisions are on recordings that are not there; give --recordings"
    return f"{calls.folder}: nothing was decided yet; `a2v review {calls.path}` opens the page where that is done"


def link_names(calls: Calls) -> dict[str, str]:
    """Name of a recording in the calls -> its name in the new folder: the same, but as a path inside of it and with an
    ending. Names for one file become one. Raises UserError where two files would get the same."""
    by_path: dict[str, str] = {}
    taken: dict[str, str] = {}
    found = {}
    for name, recorded in sorted(calls.recordings.items(), key=lambda item: (-len(item[0]), item[0])):
        path = os.path.realpath(recorded.path)
        if path not in by_path:
            inside = PurePosixPath(name.replace("\\", "/"))
            if inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0]:
                inside = PurePosixPath(recorded.path.name)
            if inside.suffix.lower() not in AUDIO_SUFFIXES:
                inside = inside.with_name(inside.name + recorded.path.suffix)
            by_path[path] = inside.as_posix()
            if (other := taken.setdefault(by_path[path], path)) != path:
                raise UserError(f"{inside}: would be {other} as well as {path}; rename one of them")
        found[name] = by_path[path]
    return found


def _reviewed(
    calls: Calls, state: State, decisions: Iterable[Decision], names: Mapping[str, str]
) -> tuple[dict[str, Known], list[str]]:
    """What is known of each recording with a decision, by its new name, and what is worth knowing."""
    lengths_s = {names[name]: recorded.duration_s for name, recorded in calls.recordings.items()}
    likelihoods = {event.id: event.likelihood for event in calls.events}
    by_file: dict[str, list[Decision]] = defaultdict(list)
    for one in decisions:
        by_file[names[one.file]].append(one)
    undecided = defaultdict(list)
    for event in calls.events:
        if state.of(event.id) is None:
            undecided[names[event.file]].append(event)
    found = {
        file: known(file, lengths_s[file], of, undecided[file], likelihoods) for file, of in sorted(by_file.items())
    }
    outside = {file: one.outside for file, one in found.items() if one.outside}
    return found, [f"{n} decisions left out: after the end of {file}" for file, n in outside.items()]


def _content(calls: Calls, names: Mapping[str, str], reviewed: dict[str, Known], before: Old | None) -> _Content:
    places = {names[name]: Path(os.path.realpath(one.path)) for name, one in calls.recordings.items()}
    places = {file: place for file, place in places.items() if file in reviewed and reviewed[file].regions}
    regions = {file: reviewed[file].regions for file in places}
    rows = {file: reviewed[file].rows for file in places}
    wrong = {file: reviewed[file].wrong for file in places}
    kept = replaced = 0
    if before is not None:
        same = same_recordings(before, places)
        for name, place in before.places.items():
            file = same.get(name, name)
            union = with_old(before, name, file, reviewed[file] if name in same else None)
            kept, replaced = kept + union.kept, replaced + union.replaced
            places.setdefault(file, place)
            rows[file], wrong[file] = union.rows, union.wrong
            if union.regions:
                regions[file] = union.regions
    return _Content(places, _in_order(rows), regions, _in_order(wrong), kept, replaced)


def _in_order(rows: Mapping[str, list[EventRow]]) -> list[EventRow]:
    return [row for file in sorted(rows) for row in rows[file]]


def _record(calls: Calls, decisions: list[Decision], reviewed: Mapping[str, Known], journal: Path) -> dict[str, Any]:
    of_calls = Counter(one.verdict for one in decisions if one.kind != "stretch")
    length_s = sum(end - begin for one in reviewed.values() for begin, end in one.regions)
    return {
        "version": VERSION,
        "calls": os.path.abspath(calls.path),
        "model": calls.model,
        "channel": calls.channel,
        "round": 1,
        "reviewed_minutes": round(length_s / 60, 6),
        "decisions": len(decisions),
        **{verdict: of_calls[verdict] for verdict in (*CALLS, "wrong", "unsure")},
        "drawn": sum(one.kind == "drawn" for one in decisions),
        "seen": sum(one.kind == "stretch" for one in decisions),
        "labels": 0,
        "reviewers": sorted({one.reviewer for one in decisions if one.reviewer}),
        "journal_digest": file_digest(journal),
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _write(out: Path, content: _Content, calls: Calls, formats: frozenset[str], record: dict[str, Any]) -> None:
    with_rows = {row.file for row in content.rows}
    silent = sorted(file for file in content.regions if file not in with_rows)
    with written_aside(out) as folder:
        _link(folder / AUDIO, content.places, out)
        _put(folder / ANNOTATION_FILE, annotation_csv(content.rows, silent))
        _put(folder / REGION_FILE, region_csv(content.regions))
        _put(folder / NEGATIVES, annotation_csv(content.wrong, extra=["likelihood"]))
        for name in sorted(formats):
            _write_tables(folder / name, name, content, calls.channel)
        _put(folder / REVIEW_FILE, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _write_tables(folder: Path, form: str, content: _Content, channel: Channel) -> None:
    by_file: dict[str, list[EventRow]] = defaultdict(list)
    for row in content.rows:
        by_file[row.file].append(row)
    for file, rows in by_file.items():
        if form == "audacity":
            _put(folder / f"{file}.txt", audacity_labels(rows))
            continue
        try:
            rate = read_info(content.places[file]).rate
        except AudioError as error:
            raise UserError(f"{content.places[file]}: {error}", FAILED) from None
        _put(folder / f"{file}.selections.txt", raven_table(rows, rate / 2, channel=channel))


def _link(folder: Path, places: Mapping[str, Path], out: Path) -> None:
    for file, place in places.items():
        link = folder / file
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(place)
        except (OSError, NotImplementedError) as error:
            why = getattr(error, "strerror", None) or error
            raise UserError(
                f"{out}: no link to {place} can be made there ({why}); name a folder on a disk that has symbolic links",
                FAILED,
            ) from None


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
