"""Labels from before a review, and what becomes of them: where was reviewed its calls count, elsewhere they stay."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from a2v_data.annotation_config import AnnotationConfig, Outside
from a2v_data.annotation_writers import EventRow
from a2v_data.annotations import Annotation
from a2v_data.audio import AudioError, Channel, read_info
from a2v_data.documents import read_json
from a2v_data.heard_channels import Heard
from a2v_data.intervals import Interval, holds, united, without
from a2v_data.labelled import labelled_names, labelled_rule
from a2v_data.outside import within
from a2v_data.prepared import META
from a2v_data.regions import IGNORE_CLASS, UNKNOWN_CLASS, WHOLE
from a2v_data.sources import open_source
from a2v_data.storage import file_digest
from a2v_data.table_files import REVIEW_FILE

from ..basics.errors import UserError
from ..basics.terminal import one_line
from .labels import Known, by_onset

NEGATIVES = "hard_negatives.csv"


@dataclass(frozen=True)
class Old:
    """Recordings of an annotated source by name: where they are, their labels and regions; of one that is not labelled
    there is no region. wrong: predictions that an earlier review found to be so; record: of that review, empty where
    there was none."""

    folder: Path
    places: dict[str, Path]
    labels: dict[str, list[Annotation]] = field(default_factory=dict)
    regions: dict[str, list[Interval]] = field(default_factory=dict)
    wrong: dict[str, list[EventRow]] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)

    def next_round(self, calls: str) -> int:
        """The round of a review of `calls` (absolute path): the next one, or the same again."""
        said = self.record.get("round")
        number = said if isinstance(said, int) else 0
        return max(number, 1) if self.record.get("calls") == calls else number + 1


def read_old(folder: Path, channel: Channel, config: AnnotationConfig | None = None) -> Old:
    """Read an annotated source, its labels of the channel that was heard. Raises UserError where they are wrong, or
    where only whole recordings have labels (`weak`), which have no times."""
    config = config or AnnotationConfig()
    if (folder / META).is_file():
        raise UserError(f"--with {folder}: `data prepare` wrote it, in segments; name the folder it was made from")
    try:
        source = open_source(folder, config)
        found = source.annotations(Heard(channel))
    except ValueError as error:
        told = "; labels of whole recordings (weak) are no part of a union" if "is missing" in str(error) else ""
        raise UserError(f"--with {error}{told}") from None
    places = {name: Path(os.path.realpath(source.audio_folder / name)) for name in source.names}
    rows, wrong = _within_recordings(found.rows, places, config.outside)
    for name, lines in {**wrong, **found.wrong}.items():
        first = one_line(f"{name}: {lines[0]}")
        raise UserError(f"--with {folder}: {first}; correct it first (a2v data annotations shows all)")
    old = Old(folder, places, wrong=_wrong(folder), record=_record(folder))
    rule = labelled_rule("auto", folder, config)
    for name in labelled_names(rule, frozenset(places), found):
        regions = [WHOLE] if found.regions is None else list(found.regions.get(name, ()))
        if regions:
            old.regions[name] = regions
    for row in rows:
        old.labels.setdefault(row.file, []).append(row)
    for name, rows in old.labels.items():
        if ignored := [(row.onset_s, row.offset_s) for row in rows if row.label == IGNORE_CLASS]:
            old.regions[name] = without(_ending(old, name, old.regions.get(name, [])), ignored)
            old.labels[name] = [row for row in rows if row.label != IGNORE_CLASS]
    return old


def _within_recordings(
    rows: Sequence[Annotation], places: dict[str, Path], outside: Outside
) -> tuple[list[Annotation], dict[str, list[str]]]:
    """The labels as `outside` wants those that pass an end, and what is wrong of each recording."""
    lengths_s: dict[str, float] = {}
    for name in dict.fromkeys(row.file for row in rows):
        try:
            lengths_s[name] = read_info(places[name]).duration_s
        except AudioError as error:
            return list(rows), {name: [str(error)]}
    found = within(rows, lengths_s, outside)
    return found.rows, found.wrong


def _ending(old: Old, name: str, regions: Iterable[Interval]) -> list[Interval]:
    """Regions of which none goes on beyond the recording's end."""
    regions = list(regions)
    if all(end != WHOLE[1] for _, end in regions):
        return regions
    try:
        length_s = read_info(old.places[name]).duration_s
    except AudioError as error:
        raise UserError(f"--with {old.folder}: {name}: {error}") from None
    return [(begin, min(end, length_s)) for begin, end in regions]


def _record(folder: Path) -> dict[str, Any]:
    try:
        said = read_json(folder / REVIEW_FILE)
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _wrong(folder: Path) -> dict[str, list[EventRow]]:
    """The wrong predictions of an earlier export, by recording; none in a folder that is none."""
    path = folder / NEGATIVES
    found: dict[str, list[EventRow]] = {}
    if not (folder / REVIEW_FILE).is_file() or not path.is_file():
        return found
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            for row in csv.DictReader(file):
                likelihood = float(row["likelihood"]) if row["likelihood"] else None
                span = float(row["onset_s"]), float(row["offset_s"])
                found.setdefault(row["file"], []).append(EventRow(row["file"], *span, row["label"], False, likelihood))
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"--with {path}: is not readable ({error}); remove it, or export that review again") from None
    return found


def same_recordings(old: Old, reviewed: dict[str, Path]) -> dict[str, str]:
    """Old name -> name in the review, of the recordings that are in both: the same file, or one name and one content.

    reviewed: where the recordings of the review are. Raises UserError for two recordings of one name that differ.
    """
    by_path = {os.path.realpath(path): name for name, path in reviewed.items()}
    found = {name: by_path[str(path)] for name, path in old.places.items() if str(path) in by_path}
    taken = set(found.values())
    for name, path in old.places.items():
        if name in found or name not in reviewed:
            continue
        if name in taken or not _same_content(path, reviewed[name]):
            raise UserError(
                f"{name}: two recordings of one name that differ: {path} (--with) and {reviewed[name]}; rename one"
            )
        found[name] = name
    given = dict[str, str]()
    for name, there in found.items():
        if (first := given.setdefault(there, name)) != name:
            raise UserError(f"--with {old.folder}: {first} and {name} are one recording; remove one of them")
    return found


def _same_content(one: Path, other: Path) -> bool:
    try:
        return one.stat().st_size == other.stat().st_size and file_digest(one) == file_digest(other)
    except OSError:
        return False


@dataclass(frozen=True)
class Union:
    """Labels, regions and wrong predictions of a recording, and how many of the old labels are among them."""

    rows: list[EventRow]
    regions: list[Interval]
    wrong: list[EventRow]
    kept: int
    replaced: int


def with_old(old: Old, name: str, file: str, new: Known | None) -> Union:
    """The union of what was known of a recording, called `name` there and `file` in the result, and what was reviewed.

    Old labels go whose middle lies where all was looked at, and those of the same call as a decision
    (`Judged.contradicts`); the others stay. Where one that goes reaches out of the reviewed regions, nothing is known
    of its class.
    """
    labels, regions = old.labels.get(name, []), old.regions.get(name, [])
    wrong = [replace(row, file=file) for row in old.wrong.get(name, [])]
    if new is None:
        return Union(by_onset(_row(row, file) for row in labels), united(regions), wrong, len(labels), 0)
    wrong = [row for row in wrong if not holds(new.regions, (row.onset_s + row.offset_s) / 2)]
    gone = [row for row in labels if _goes(row, new)]
    kept = [_row(row, file) for row in labels if not _goes(row, new)]
    rows = [*new.rows, *kept]
    free, doubtful = _reaching_out(gone, rows, new.regions)
    if free:
        regions = without(_ending(old, name, regions), free)
    rows += [EventRow(file, *span, UNKNOWN_CLASS) for span in doubtful]
    both = united([*regions, *new.regions])
    return Union(by_onset(rows), both, by_onset([*new.wrong, *wrong]), len(kept), len(gone))


def _goes(row: Annotation, new: Known) -> bool:
    if holds(new.full, (row.onset_s + row.offset_s) / 2):
        return True
    return any(one.contradicts((row.onset_s, row.offset_s), row.label) for one in new.judged)


def _reaching_out(
    gone: Iterable[Annotation], rows: Sequence[EventRow], reviewed: Sequence[Interval]
) -> tuple[list[Interval], list[Interval]]:
    """What of replaced labels lies outside of the reviewed regions: where nothing stands, and where a call of another
    class does."""
    free: list[Interval] = []
    doubtful: list[Interval] = []
    for row in gone:
        outside = without([(row.onset_s, row.offset_s)], reviewed)
        alone = without(outside, [(one.onset_s, one.offset_s) for one in rows])
        named = [(one.onset_s, one.offset_s) for one in rows if one.label in (row.label, UNKNOWN_CLASS)]
        free += alone
        doubtful += without(outside, [*alone, *named])
    return united(free), united(doubtful)


def _row(row: Annotation, file: str) -> EventRow:
    return EventRow(file, row.onset_s, row.offset_s, row.label, row.focal)
