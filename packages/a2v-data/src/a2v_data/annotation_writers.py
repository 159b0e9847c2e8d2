"""Events as text for the programs that people look at them with: Raven, Audacity, and this project's CSV.

Pure functions, rows -> text; what they write is read back by `a2v_data.formats` without loss (times to a microsecond).
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from a2v_data.audio import Channel

RAVEN_HEADER = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")


class Event(Protocol):
    """What is written; an `Annotation` is one, and so is an `EventRow`."""

    @property
    def file(self) -> str: ...
    @property
    def onset_s(self) -> float: ...
    @property
    def offset_s(self) -> float: ...
    @property
    def label(self) -> str: ...


EXTRA = ("focal", "likelihood", "threshold", "model")
PREDICTED = ("likelihood", "threshold", "model")


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event, `onset_s` to `offset_s` (seconds) in recording `file`; likelihood in [0, 1] where it was predicted, by
    `model` as one above `threshold`."""

    file: str
    onset_s: float
    offset_s: float
    label: str
    focal: bool = False
    likelihood: float | None = None
    threshold: float | None = None
    model: str | None = None


def annotation_csv(events: Iterable[Event], silent: Iterable[str] = (), extra: Sequence[str] | None = None) -> str:
    """file,onset_s,offset_s,label, and the columns of EXTRA that are in `extra` (None: those that any event has).

    silent: recordings that were listened to and hold no call; each has a row with its name alone.
    """
    events = list(events)
    if extra is None:
        extra = [name for name in EXTRA if any(getattr(event, name, None) for event in events)]
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["file", "onset_s", "offset_s", "label", *extra])
    for event in events:
        times = _time(event.onset_s), _time(event.offset_s)
        writer.writerow([event.file, *times, _line(event.label), *(_extra(event, name) for name in extra)])
    writer.writerows([name, "", "", "", *("" for _ in extra)] for name in silent)
    return lines.getvalue()


def raven_table(
    events: Iterable[Event],
    high_hz: float,
    low_hz: float = 0.0,
    starts_s: Mapping[str, float] | None = None,
    extra: Sequence[str] | None = None,
    first: int = 1,
    channel: Channel = 0,
) -> str:
    """A Raven selection table of one recording or, with `starts_s`, of a sequence of recordings.

    high_hz, low_hz: the frequencies that selections span (the recording's Nyquist frequency and 0 show all).
    starts_s: where each recording starts in the sequence that is opened in Raven, in seconds. extra: columns of EXTRA
    (None: the likelihood, where any event has one). first: number of the first selection. channel: what the events were
    found in, from 0; Raven's Channel counts from 1, and is 1 for 'mix', since a selection has to be in one. Raises
    `ValueError` where events of several recordings come without `starts_s`.
    """
    events = list(events)
    files = {event.file for event in events}
    if starts_s is None and len(files) > 1:
        raise ValueError(f"events of {len(files)} recordings need starts_s; or write one table for each recording")
    if extra is None:
        likely = any(getattr(event, "likelihood", None) is not None for event in events)
        extra = ["likelihood"] if likely else []
    lines = ["\t".join([*RAVEN_HEADER, "Begin File", "File Offset (s)", "Annotation", *map(str.capitalize, extra)])]
    shown = "1" if channel == "mix" else str(channel + 1)
    for number, event in enumerate(events, start=first):
        start = starts_s[event.file] if starts_s is not None else 0.0
        times = [_time(start + event.onset_s), _time(start + event.offset_s)]
        frequencies = [f"{low_hz:.1f}", f"{high_hz:.1f}"]
        cells = [str(number), "Spectrogram 1", shown, *times, *frequencies, event.file, _time(event.onset_s)]
        lines.append("\t".join([*cells, _line(event.label), *(_extra(event, name) for name in extra)]))
    return "\n".join(lines) + "\n"


def audacity_labels(events: Iterable[Event]) -> str:
    """An Audacity label track of one recording: start, end, label. Raises `ValueError` where there are several."""
    events = list(events)
    if len(files := {event.file for event in events}) > 1:
        raise ValueError(f"events of {len(files)} recordings; Audacity takes one label track for each")
    return "".join(f"{_time(event.onset_s)}\t{_time(event.offset_s)}\t{_line(event.label)}\n" for event in events)


def _time(seconds: float) -> str:
    return f"{seconds:.6f}"


def _line(label: str) -> str:
    """A label without the tabs and line breaks that separate fields and rows."""
    return " ".join(label.split())


def _extra(event: Event, name: str) -> str:
    value = getattr(event, name, None)
    if value is None:
        return ""
    if name == "model":
        return _line(value)
    return str(int(value)) if name == "focal" else f"{value:.6g}"
