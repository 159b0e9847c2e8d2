"""What is reviewed: the predictions of a folder that `a2v predict` wrote, or of any table, and their recordings.

`Calls.folder` keeps everything of the review: `CALLS/review/` in a folder, `TABLE.review/` beside a table. Predictions
are only read.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from a2v_data.audio import Channel
from a2v_data.documents import check_keys, read_json

from ..basics.errors import UserError
from ..basics.terminal import one_line
from ..predict.plan import find_recordings, read_headers
from ..score.files import RecordingMatcher, read_events

REVIEW = "review"
PREDICT = "predict.json"
LONGEST_S = 1e9  # 30 years
OF_CLASSES = float | dict[str, float] | None
ABOUT = {"model": str | None, "options": dict[str, Any] | None, "events": dict[str, Any]}
OPTIONS = {"events": dict[str, Any] | None, "merge_gap_s": OF_CLASSES}
EVENTS = {
    "method": str, "threshold": OF_CLASSES, "extent_threshold": OF_CLASSES, "window_s": OF_CLASSES,
    "min_duration_s": OF_CLASSES, "peak_share": float,
}  # fmt: skip


@dataclass(frozen=True)
class Event:
    """A prediction. id: of file, class and times, so that it stays the same when the folder grows; likelihood: None
    where the table has none."""

    id: str
    file: str
    label: str
    onset_s: float
    offset_s: float
    likelihood: float | None


@dataclass(frozen=True)
class Recorded:
    """A recording. rate: of its file, Hz."""

    name: str
    path: Path
    duration_s: float
    rate: int
    channels: int


@dataclass(frozen=True)
class Calls:
    """Predictions and recordings. folder: of the review; thresholds: class -> that events of it were found with, where
    it is known; model: as `predict.json` names it; channel: that was heard, from 0; classes: those that were looked
    for, also without events; left_out: recordings that cannot be shown -> why, whose events are not among these."""

    path: Path
    folder: Path
    events: tuple[Event, ...]
    recordings: dict[str, Recorded]
    classes: tuple[str, ...]
    thresholds: dict[str, float] = field(default_factory=dict)
    model: str | None = None
    channel: Channel = 0
    left_out: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def by_id(self) -> dict[str, Event]:
        return {event.id: event for event in self.events}


def item_id(*parts: object) -> str:
    """12 hex digits for a thing to decide on; times are taken to the microsecond."""
    text = "|".join(f"{part:.6f}" if isinstance(part, float) else str(part) for part in parts)
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()


def unit(item: str, seed: int = 0) -> float:
    """A number in [0, 1) that is fixed for each item and as good as drawn at random: who takes items in its order draws
    without replacement, today or in another session, and whatever else was looked at."""
    digest = hashlib.blake2b(f"{seed}|{item}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def open_calls(path: Path, recordings: Path | None = None) -> Calls:
    """Read predictions. recordings: where they lie; needed with a table, and where recordings were moved.

    Raises UserError where there is nothing to review, or no recording for it.
    """
    found = read_events(path)
    of_predict = path.is_dir() and (path / PREDICT).is_file()
    about = about_of(path / PREDICT) if of_predict else {}
    options = about.get("options", {})
    channel = _channel(options.get("channel"))
    names = sorted({row.file for row in found.rows} | set(found.silent))
    if recordings is not None:
        places, unknown = _in_folder(recordings, names)
        known, left_out = _headers(places, channel)
    elif of_predict:
        listed, unknown = _of_predict(path), {}
        known, left_out = _still_there({name: listed[name] for name in names if name in listed})
    else:
        raise UserError(f"{path}: a table does not say where its recordings are; give --recordings FOLDER")
    told = unknown | left_out
    left_out = told | {name: "is not among the recordings" for name in names if name not in known and name not in told}
    if not known:
        first = next(iter(left_out.items()), None)
        why = one_line(f"{first[0]}: {first[1]}") if first else "no recording is named"
        raise UserError(f"{path}: none of its {len(names)} recordings can be heard ({why}); give --recordings FOLDER")
    events = {}
    for row in found.rows:
        if row.file in known:
            id_ = item_id(row.file, row.label, float(row.onset_s), float(row.offset_s))
            events[id_] = Event(id_, row.file, row.label, row.onset_s, row.offset_s, row.likelihood)
    thresholds = options.get("events", {}).get("threshold") or {}
    labels = {event.label for event in events.values()}
    looked_for = [name for name in about.get("events", {}) if name not in labels]
    return Calls(
        path,
        path / REVIEW if path.is_dir() else path.with_name(f"{path.stem}.{REVIEW}"),
        tuple(sorted(events.values(), key=lambda one: (one.file, one.onset_s, one.label))),
        known,
        tuple(sorted(labels)) + tuple(sorted(looked_for)),
        {name: float(value) for name, value in thresholds.items()} if isinstance(thresholds, dict) else {},
        about.get("model"),
        channel,
        left_out,
        tuple(found.notices),
    )


def about_of(path: Path) -> dict[str, Any]:
    """What `predict.json` says; `options` and their `events` are objects. Raises UserError for what predict does not
    write."""
    try:
        about = check_keys(read_json(path), {}, ABOUT)
        options = check_keys(about.get("options") or {}, {}, OPTIONS)
        events = check_keys(options.get("events") or {}, {}, EVENTS)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is not readable ({error}); run `a2v predict` into this folder again") from None
    return about | {"options": options | {"events": events}}


def _channel(text: object) -> Channel:
    said = str(text or "0")
    return "mix" if said == "mix" else int(said) if said.isascii() and said.isdigit() and len(said) < 6 else 0


def _of_predict(path: Path) -> dict[str, Recorded]:
    """The recordings as `recordings.csv` has them: no file is opened, there may be many thousands."""
    table = path / "recordings.csv"
    found = {}
    try:
        with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            for row in csv.DictReader(file):
                if row.get("path"):
                    length_s, rate, channels = float(row["duration_s"]), int(row["sample_rate"]), int(row["channels"])
                    if not (0 <= length_s <= LONGEST_S and rate > 0 and channels > 0):
                        raise ValueError(f"{row['file']} has {length_s:g} s, {rate} Hz and {channels} channels")
                    found[row["file"]] = Recorded(row["file"], Path(row["path"]), length_s, rate, channels)
    except (OSError, KeyError, ValueError, TypeError, OverflowError, csv.Error) as error:
        raise UserError(f"{table}: is not readable ({error}); run `a2v predict` into this folder again") from None
    return found


def _in_folder(folder: Path, names: Iterable[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """Recordings of a folder for the names in a table, and why others have none."""
    there = find_recordings([str(folder)])
    matcher = RecordingMatcher(list(there))
    found, unknown = {}, {}
    for name in names:
        try:
            match = matcher.find(name)
        except UserError as error:
            unknown[name] = str(error)
            continue
        if match is None:
            unknown[name] = f"is not in {folder}"
        else:
            found[name] = there[match]
    return found, unknown


def _still_there(recordings: dict[str, Recorded]) -> tuple[dict[str, Recorded], dict[str, str]]:
    known = {name: one for name, one in recordings.items() if one.path.is_file()}
    moved = {
        name: f"is not at {one.path} any more; give --recordings FOLDER"
        for name, one in recordings.items()
        if name not in known
    }
    return known, moved


def _headers(places: dict[str, Path], channel: Channel) -> tuple[dict[str, Recorded], dict[str, str]]:
    good, wrong = read_headers(places, channel)
    found = {}
    for name, one in good.items():
        found[name] = Recorded(name, one.path, one.info.duration_s, one.info.rate, one.info.channels)
    return found, wrong
