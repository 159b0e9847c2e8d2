"""Which time of a recording was annotated, and events of which somebody was not sure.

`regions.csv` (file,onset_s,offset_s) or a label of its own say where everything was marked. What lies outside serves
pretraining only, and so does the time of events of the class `ignore`. Events of the class `?` are calls of which
nobody knows the class. All three are kept as intervals beside the events, `IGNORED` or `UNKNOWN` where an event has the
number of its class. No target is known there, so nothing is learned from it and nothing is scored on it.

An event belongs where its middle lies. One that reaches out of a region is still whole, and known as far as it goes; of
one that reaches into a region, or out of time to be ignored, nothing is known.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from a2v_data.annotations import Annotation, table_problem
from a2v_data.formats.table import Header, TableError, grid, read_text, seconds, whole_rows, with_points
from a2v_data.intervals import IGNORED, SHORTEST_S, UNKNOWN, Interval, holds, united, without
from a2v_data.table_files import REGION_FILE

WANTED = "regions are a CSV with file,onset_s,offset_s (both empty: the whole recording)"
UNKNOWN_CLASS, IGNORE_CLASS = "?", "ignore"
NUMBERS = {IGNORE_CLASS: IGNORED, UNKNOWN_CLASS: UNKNOWN}
WHOLE = (0.0, float("inf"))

Unsure = tuple[int, float, float]  # IGNORED or UNKNOWN, from when to when


@dataclass(frozen=True)
class Sure:
    """What is left of events (`rows`), what is unsure of each recording, and how many events were dropped because they
    lie outside regions or in ignored time, by label."""

    rows: list[Annotation]
    unsure: dict[str, tuple[Unsure, ...]]
    dropped: Counter[str]


def region_tables(folder: Path, given: str | None, deep: bool = True) -> list[Path]:
    """The tables of regions of a folder of recordings: the given one, there or where the command runs, or every
    `regions.csv`, whatever its case, in the folder and, where `deep`, below it. Raises `ValueError` where a given one
    does not exist."""
    if given is None:
        found = []
        for parent, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if deep and not name.startswith("."))
            found += [Path(parent, name) for name in sorted(files) if name.lower() == REGION_FILE]
        return found
    for path in (folder / given, Path(given)):
        if path.is_file():
            return [path]
    raise ValueError(f"{given}: no such table of regions, neither in {folder} nor here; {WANTED}")


def read_regions(
    path: Path, resolve: Callable[[str], str | None], encoding: str | None = None
) -> tuple[dict[str, list[Interval]], list[tuple[str | None, str]]]:
    """The regions of each recording by onset, and (recording, as far as it is known, and one line) for all that is
    wrong.

    resolve: the recording that a name means, None where there is none. Columns are told whatever their case; `file` may
    be filename or recording, the times onset and offset, or start and end.
    """
    found: dict[str, list[Interval]] = {}
    wrong: list[tuple[str | None, str]] = []
    try:
        header, body, delimiter = grid(read_text(path, encoding))
        rows, broken = whole_rows(with_points(body, delimiter), header, delimiter)
        columns = _columns(header)
    except TableError as error:
        return {}, [(None, f"{table_problem(path.name, error)}")]
    wrong += [(None, f"{path.name}, {line}") for line in broken]
    for number, row in rows:
        name, onset, offset = (row[at] for at in columns)
        problems: list[str] = []
        recording = resolve(name) if name else None
        if recording is None:
            problems.append(f"file {name!r} is no recording; correct the name or remove the row")
        interval = _interval(onset, offset, problems)
        wrong += [(recording, f"{path.name}, row {number}: {problem}") for problem in problems]
        if recording is not None and interval is not None:
            found.setdefault(recording, []).append(interval)
    return {name: united(intervals) for name, intervals in found.items()}, wrong


def _columns(header: Header) -> tuple[int, int, int]:
    return (
        header.need("file", "filename", "recording", fix=WANTED),
        header.need("onset_s", "onset", "start_s", "start", fix=WANTED),
        header.need("offset_s", "offset", "end_s", "end", fix=WANTED),
    )


def _interval(onset: str, offset: str, problems: list[str]) -> Interval | None:
    if not onset and not offset:
        return WHOLE
    begins, ends = seconds("onset_s", onset, problems), seconds("offset_s", offset, problems)
    if begins is None or ends is None:
        return None
    if begins < 0 or ends <= begins:
        problems.append(f"{begins:g} to {ends:g} s is no region; it starts at 0 or later, and ends after it starts")
        return None
    return begins, ends


def marked_regions(rows: Iterable[Annotation], label: str) -> tuple[list[Annotation], dict[str, list[Interval]]]:
    """The events without those of the label that marks regions, and the regions."""
    events, found = [], dict[str, list[Interval]]()
    for row in rows:
        if row.label == label:
            found.setdefault(row.file, []).append((row.onset_s, row.offset_s))
        else:
            events.append(row)
    return events, {name: united(intervals) for name, intervals in found.items()}


def outside_recordings(
    regions: Mapping[str, Sequence[Interval]], durations_s: Mapping[str, float]
) -> dict[str, list[str]]:
    """By recording, a line for each region that begins after its end."""
    return {
        name: [
            f"{name}: region {onset:g} to {offset:g} s begins after the end of the recording, which is "
            f"{durations_s[name]:.3f} s long; correct it"
            for onset, offset in intervals
            if onset >= durations_s[name]
        ]
        for name, intervals in regions.items()
        if name in durations_s and any(onset >= durations_s[name] for onset, _ in intervals)
    }


def sure(
    rows: Sequence[Annotation], regions: Mapping[str, Sequence[Interval]] | None, durations_s: Mapping[str, float]
) -> Sure:
    """Divide the events of recordings into those that are known and what is unsure.

    regions: of each recording, none for one that is not in it; None: recordings were annotated from beginning to end.
    durations_s: of all recordings.
    """
    by_recording: dict[str, list[Annotation]] = {}
    for row in rows:
        by_recording.setdefault(row.file, []).append(row)
    kept: list[Annotation] = []
    unsure: dict[str, tuple[Unsure, ...]] = {}
    dropped: Counter[str] = Counter()
    for name, duration_s in durations_s.items():
        own = by_recording.get(name, [])
        if regions is None and not any(row.label in NUMBERS for row in own):
            kept += own
            continue
        annotated = None if regions is None else regions.get(name, ())
        found, intervals = _of_recording(own, annotated, duration_s, dropped)
        kept += found
        if intervals:
            unsure[name] = tuple(intervals)
    return Sure(kept, unsure, dropped)


def _of_recording(
    rows: Sequence[Annotation], regions: Sequence[Interval] | None, duration_s: float, dropped: Counter[str]
) -> tuple[list[Annotation], list[Unsure]]:
    ignored = [(row.onset_s, row.offset_s) for row in rows if row.label == IGNORE_CLASS]
    if regions is not None:
        ignored += without([(0.0, duration_s)], regions)
    ignored = united(ignored)
    events = [row for row in rows if row.label != IGNORE_CLASS]
    kept = [row for row in events if not holds(ignored, (row.onset_s + row.offset_s) / 2)]
    gone = [row for row in events if holds(ignored, (row.onset_s + row.offset_s) / 2)]
    dropped.update(row.label for row in gone)
    spans = [(row.onset_s, row.offset_s) for row in kept]
    ignored = without(united([*ignored, *((row.onset_s, row.offset_s) for row in gone)]), spans)
    unknown = [(row.onset_s, row.offset_s) for row in kept if row.label == UNKNOWN_CLASS]
    intervals = [(IGNORED, *interval) for interval in ignored] + [(UNKNOWN, *interval) for interval in united(unknown)]
    intervals = [(kind, onset, min(offset, duration_s)) for kind, onset, offset in intervals]
    return (
        [row for row in kept if row.label != UNKNOWN_CLASS],
        sorted((one for one in intervals if one[2] - one[1] >= SHORTEST_S), key=lambda one: one[1:]),
    )


def region_csv(regions: Mapping[str, Sequence[Interval]]) -> str:
    """The table that `read_regions` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "onset_s", "offset_s"))
    for name, intervals in sorted(regions.items()):
        writer.writerows([name, "", ""] if one == WHOLE else [name, *map(repr, one)] for one in intervals)
    return text.getvalue()


def is_ignored(unsure: Sequence[Unsure], place_s: float) -> bool:
    """Whether a place of a recording lies in time that is to be ignored."""
    return any(kind == IGNORED and onset <= place_s < offset for kind, onset, offset in unsure)


def region_notices(
    regions: Mapping[str, Sequence[Interval]] | None,
    annotated: Iterable[str],
    found: Sure,
    durations_s: Mapping[str, float],
) -> list[str]:
    """What is worth knowing of regions and unsure events, one line each."""
    notices = []
    if regions is not None:
        inside_s = sum(
            min(offset, durations_s[name]) - onset
            for name, intervals in regions.items()
            if name in durations_s
            for onset, offset in intervals
            if onset < durations_s[name]
        )
        all_s = sum(durations_s.values())
        notices.append(
            f"regions: {inside_s / 60:.1f} of {all_s / 60:.1f} min were annotated, in {len(regions)} of "
            f"{len(durations_s)} recordings; the rest serves pretraining only"
        )
        if bare := sorted(set(annotated) - regions.keys()):
            some = ", ".join(bare[:3]) + (f" and {len(bare) - 3} more" if len(bare) > 3 else "")
            notices.append(
                f"regions: {len(bare)} annotated recording(s) have none, so they count as not annotated ({some}); a "
                "row with the file alone in regions.csv says that all of it was annotated"
            )
    if found.dropped:
        listed = ", ".join(f"{count} {label}" for label, count in sorted(found.dropped.items()))
        notices.append(f"events outside of regions or in ignored time, not used: {found.dropped.total()} ({listed})")
    for kind, told in ((UNKNOWN, "calls of an unknown class (`?`)"), (IGNORED, "ignored")):
        if kind == IGNORED and regions is not None:
            continue
        intervals = [one for each in found.unsure.values() for one in each if one[0] == kind]
        if intervals:
            length_s = sum(offset - onset for _, onset, offset in intervals)
            notices.append(f"{told}: {len(intervals)} ({length_s:.1f} s); they count neither way")
    return notices
