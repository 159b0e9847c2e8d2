"""How programs call the columns of a table of events, and which of them hold what.

Names are compared as `plain_name` has them. A unit behind a name ('start_ms', 'End Time (s)', 'onset_sample') says what
its times are; without one they are seconds, which is said in a notice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from a2v_data.annotation_config import AnnotationConfig, TimeUnit
from a2v_data.formats.table import Cells, Header, TableError, looks_like_number

FILES = (
    "file", "begin path", "notated path", "audio path", "filepath", "file path", "path", "filename", "file name",
    "audio file", "audio filename", "audiofilename", "audio", "wav", "wav file", "wavfile", "sound files",
    "sound file", "soundfile", "recording", "recording name", "recording file", "media file", "media file name",
    "begin file", "in file", "source file", "audiofile", "recording filename",
)  # fmt: skip
ONSETS = frozenset({
    "onset", "start", "begin", "onset time", "start time", "begin time", "starttime", "begintime", "time start",
    "time begin", "tmin", "t min", "tstart", "t start", "event onset", "event start", "segment start", "call start",
})  # fmt: skip
ENDS = frozenset({
    "offset", "end", "stop", "finish", "offset time", "end time", "stop time", "endtime", "stoptime", "time end",
    "time stop", "tmax", "t max", "tend", "t end", "event offset", "event end", "segment end", "call end",
})  # fmt: skip
LENGTHS = frozenset({
    "duration", "dur", "length", "delta time", "call length", "call duration", "event length", "event duration",
    "segment duration",
})  # fmt: skip
LABELS = (
    "labels", "class", "class label", "class name", "annotation", "annotations", "species", "call type", "calltype",
    "type", "tag", "tags", "event label", "event type", "category", "cluster", "syllable", "element", "text",
    "behavior", "behaviour", "manual id", "top1match", "auto id", "sound type", "sound class", "song type",
    "vocalization", "vocalisation", "vocalization type", "vocalisation type", "primary label", "common name",
    "scientific name", "species code", "species ebird code", "ebird code", "species id", "q",
)  # fmt: skip
SPECIES = ("common name", "scientific name", "species code", "species ebird code", "ebird code")  # the same, thrice
CLASSIFIED = SPECIES[:3]
UNITS: dict[str, TimeUnit] = {
    "s": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "ms": "ms", "msec": "ms", "millisecond": "ms", "milliseconds": "ms",
    "sample": "samples", "samples": "samples",
}  # fmt: skip
ELAN_SECONDS = " ss msec"  # 'Begin Time - ss.msec' holds seconds with decimals
NAME_THEM = (
    "name its columns with onset_column, offset_column or duration_column, label_column and file_column, or use "
    "file,onset_s,offset_s,label"
)


@dataclass(frozen=True)
class Time:
    """A column of times: its position, and the unit that its name says (None: none)."""

    at: int
    unit: TimeUnit | None


@dataclass(frozen=True)
class Times:
    """The columns that say when an event is: its start, and its end or its length (both None: points)."""

    onset: Time
    end: Time | None
    length: Time | None

    @property
    def last(self) -> Time | None:
        """The column that says where an event ends, as an end or as a length."""
        return self.end or self.length


def of_kaleidoscope(header: Header) -> bool:
    """Whether a table is of Kaleidoscope, or of BirdNET in its form: there OFFSET is where an event starts."""
    return {"in file", "offset", "duration"} <= set(header.plain)


def birdnet_like(header: Header, body: Cells) -> bool:
    """Whether a classifier wrote a table, BirdNET in one of its dialects or one like it: a species and how sure it is
    of it, as a number. People write 'high' into such a column."""
    at = header.likelihood()
    if at is None or not set(CLASSIFIED) & set(header.plain):
        return False
    return all(looks_like_number(row[at]) for _, row in body if at < len(row) and row[at])


def has_times(header: Header) -> bool:
    """Whether the header has columns that say when events are."""
    return of_kaleidoscope(header) or bool(_times(header, ONSETS) and (_times(header, ENDS) or _times(header, LENGTHS)))


def has_onsets(header: Header) -> bool:
    """Whether a column is called as one that says where events start."""
    return bool(_times(header, ONSETS))


def has_label(header: Header) -> bool:
    """Whether a column is called as one that holds a class."""
    plain = set(header.plain)
    return bool(plain & {"label", *LABELS}) or {"name", "start seconds", "stop seconds"} <= plain


def find_times(header: Header, config: AnnotationConfig, body: Cells) -> Times:
    """The columns of times: those that are named, else those that are known. Raises `TableError` where one is missing
    or several would do."""
    named = _named(header, config.onset_column, "where events start")
    onsets = [named] if named else _filled(_times(header, ONSETS), body)
    end = _named(header, config.offset_column, "where events end")
    length = _named(header, config.duration_column, "how long events are")
    if of_kaleidoscope(header) and not (named or end):
        onsets, ends = [Time(header.plain.index("offset"), None)], []
        lengths = [length or Time(header.plain.index("duration"), None)]
    else:
        ends = [] if length else [end] if end else _filled(_times(header, ENDS), body)
        lengths = [] if end else [length] if length else _filled(_times(header, LENGTHS), body)
    taken = [one.at for one in (named, end, length) if one]
    onsets = [one for one in onsets if one is named or one.at not in taken]
    if not onsets:
        raise TableError(
            f"row 1: no column that says where events start (the header has {header.listed}); name it with onset_column"
        )
    ends = [one for one in ends if one.at != (named and named.at)]
    lasts = ends or lengths
    if not lasts:
        if config.point_duration_s is not None:
            return Times(_only(header, onsets, "where events start", "onset_column"), None, None)
        raise TableError(
            f"row 1: no column that says where events end (the header has {header.listed}); name it with offset_column "
            "or duration_column"
        )
    order: list[TimeUnit | None] = ["s", None, "ms", "samples"]
    pairs = [(first, last) for first in onsets for last in lasts]
    best = min((one.unit != two.unit, order.index(one.unit)) for one, two in pairs)
    fitting = [pair for pair in pairs if (pair[0].unit != pair[1].unit, order.index(pair[0].unit)) == best]
    onset = _only(header, list(dict.fromkeys(one for one, _ in fitting)), "where events start", "onset_column")
    option = "offset_column" if ends else "duration_column"
    last = _only(header, list(dict.fromkeys(two for _, two in fitting)), "where events end", option)
    return Times(onset, last if ends else None, None if ends else last)


def unit_of(header: Header, time: Time, other: Time | None, config: AnnotationConfig, named: bool) -> TimeUnit:
    """The unit of a column: what is asked for, else what its name or that of the `other` column says, else seconds.
    Raises `TableError` where a known name says another unit than is asked for."""
    said = time.unit or (other.unit if other else None)
    if config.time_unit is None:
        return said or "s"
    if time.unit not in (None, config.time_unit) and not named:
        raise TableError(
            f"row 1: {header.names[time.at]} holds {time.unit} by its name, but time_unit is {config.time_unit}; name "
            "the columns of times (onset_column, offset_column), or leave time_unit out"
        )
    return config.time_unit


def find_label(header: Header, config: AnnotationConfig, body: Cells) -> int | None:
    """The column that holds the class: the chosen one, `label`, or the only known one that is not empty."""
    own = header.find("label")
    if config.label_column is None and own is not None and any(own < len(row) and row[own] for _, row in body):
        return own
    there = set(header.plain)
    species = next((name for name in SPECIES if name in there), None)
    known = [name for name in LABELS if name not in SPECIES or name == species]
    if "cluster" in there and {"onset", "offset"} <= there:  # WhisperSeg's class, whose species is that of all rows
        known.remove("species")
    if {"start seconds", "stop seconds"} <= there:  # of DAS, where `name` is that of the class
        known.append("name")
    return header.label(config.label_column, ("label", *known), body)


def find_files(header: Header, config: AnnotationConfig) -> tuple[int, ...]:
    """The columns whose texts are the recording's path together; empty where there is none."""
    if config.file_column is not None:
        return (header.need(config.file_column, fix="name the column that holds the recording"),)
    if of_kaleidoscope(header):
        parts = (header.find(name) for name in ("indir", "folder", "in file"))
        return tuple(at for at in parts if at is not None)
    at = header.find(*FILES)
    return () if at is None else (at,)


def joined(row: Sequence[str], places: Sequence[int]) -> str:
    """The path in these columns of a row."""
    if len(places) == 1:
        return row[places[0]]
    parts = [row[at].replace("\\", "/").rstrip("/") for at in places]
    return "/".join(part for at, part in enumerate(parts) if part or (at == 0 and row[places[0]])) if parts[-1] else ""


def _named(header: Header, name: str | None, what: str) -> Time | None:
    if name is None:
        return None
    at = header.need(name, fix=f"name the column that says {what}")
    return Time(at, _split(header.plain[at])[1])


def _times(header: Header, bases: frozenset[str]) -> list[Time]:
    found = [(at, *_split(name)) for at, name in enumerate(header.plain)]
    return [Time(at, unit) for at, base, unit in found if base in bases]


def _split(plain: str) -> tuple[str, TimeUnit | None]:
    """A column's name without its unit, and the unit."""
    if plain.endswith(ELAN_SECONDS):
        return plain.removesuffix(ELAN_SECONDS), "s"
    base, _, last = plain.rpartition(" ")
    return (base.removesuffix(" in"), UNITS[last]) if base and last in UNITS else (plain, None)


def _filled(times: list[Time], body: Cells) -> list[Time]:
    filled = [time for time in times if any(time.at < len(row) and row[time.at] for _, row in body)]
    return filled or times


def _only(header: Header, times: Sequence[Time], what: str, option: str) -> Time:
    if len(times) > 1:
        names = " and ".join(header.names[time.at] for time in times)
        raise TableError(f"row 1: columns {names} may all say {what}; choose one with {option}")
    return times[0]
