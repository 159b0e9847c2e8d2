"""Raven selection tables, and BirdNET's, which have the same form.

Raven's Begin Time counts from the start of the whole sound, which may be a sequence of files; File Offset counts
from the start of the selection's own file and is used where there is one. Each selection has a row for every view
(waveform, spectrogram) and channel; it is read once, as one of all the channels that show it. BirdNET writes
channel 1 in every row, having heard the mean of all, so that this says nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.formats.bands import band_columns, band_in
from a2v_data.formats.known_columns import birdnet_like, find_files
from a2v_data.formats.table import (
    Cells,
    Header,
    Row,
    Table,
    TableError,
    channels_of,
    grid,
    likelihood_of,
    seconds,
    whole_rows,
    with_points,
)

LABEL_COLUMNS = (
    "Annotation", "Annotations", "Label", "Labels", "Class", "Call Type", "Type", "Species", "Tag", "Tags",
    "Common Name", "Species Code",
)  # fmt: skip
BIRDNET_LABELS = ("Common Name", "Scientific Name", "Species Code")  # the same species in other words
BEGIN, END, LENGTH, OFFSET = "Begin Time (s)", "End Time (s)", "Delta Time (s)", "File Offset (s)"
FIX = "save the selection table from Raven again"


def read_raven(text: str, config: AnnotationConfig) -> Table:
    """A selection table of one recording or, with Begin File or Begin Path, of several."""
    header, body, delimiter = grid(text)
    return raven_rows(header, body, config, delimiter)


def raven_rows(header: Header, body: Cells, config: AnnotationConfig, delimiter: str = "\t") -> Table:
    """Rows with the columns of a selection table, as `read_raven` describes them."""
    header.need(BEGIN, fix=FIX)
    header.need(END, LENGTH, fix=FIX)
    birdnet = birdnet_like(header, body)
    species = next((name for name in BIRDNET_LABELS if header.find(name) is not None), None)
    known = [name for name in LABEL_COLUMNS if not (birdnet and name in BIRDNET_LABELS)]
    known += [species] if birdnet and species else []
    label = header.label(config.label_column, known, body)
    if label is None and config.default_label is None and body:
        raise TableError(
            f"row 1: no column that holds the class (the header has {header.listed}); name it with label_column, "
            "or give default_label"
        )
    columns = _Columns(header, label, body, config)
    columns.band = None if birdnet else columns.band  # which has that of its model, not of the event
    whole, broken = whole_rows(with_points(body, delimiter), header, delimiter)
    kept = _selections(header, columns, whole)
    said = not (birdnet and set().union(*(one.channels for one in kept)) <= {1})
    kind, likelihood = "birdnet" if birdnet else "raven", columns.likelihood
    table = Table(kind, problems=broken, doubled=sum(len(one.repeated) for one in kept), windows=birdnet)
    table.likelihood = None if likelihood is None else header.names[likelihood]
    table.rows = [columns.row(one.place, one.row, (frozenset(one.channels) or None) if said else None) for one in kept]
    return table


class _Columns:
    """The columns of one selection table, and how its rows are read."""

    def __init__(self, header: Header, label: int | None, body: Cells, config: AnnotationConfig) -> None:
        self.header, self.label = header, label
        self.likelihood = header.likelihood()
        self.band = band_columns(header)
        self.begin = header.need(BEGIN, fix=FIX)
        self.end, self.length, self.offset = header.find(END), header.find(LENGTH), header.find(OFFSET)
        named = config.file_column is not None
        self.file = find_files(header, config)[0] if named else header.find("Begin Path", "Begin File")
        self.last_file = header.find("End Path" if header.find("Begin Path") is not None else "End File")
        if named:
            self.last_file = None
        files = {row[self.file] for _, row in body if self.file is not None and self.file < len(row)}
        self.sequence = len(files) > 1
        if self.sequence and self.offset is None:
            raise TableError(
                f"row 1: {len(files)} recordings but no column {OFFSET}: {BEGIN} counts from the start of the first; "
                f"add {OFFSET} to the table in Raven and save it again"
            )

    def row(self, place: str, row: list[str], channels: frozenset[int] | None) -> Row:
        problems: list[str] = []
        begin = seconds(BEGIN, row[self.begin], problems)
        if self.end is not None:
            end = seconds(END, row[self.end], problems)
        else:
            assert self.length is not None
            length = seconds(LENGTH, row[self.length], problems)
            end = None if begin is None or length is None else begin + length
        onset = begin
        if self.offset is not None and (row[self.offset] or self.sequence):
            onset = seconds(OFFSET, row[self.offset], problems)
        file = row[self.file] if self.file is not None else None
        if self.last_file is not None and row[self.last_file] not in ("", file):
            problems.append(f"the selection ends in another recording, {row[self.last_file]!r}; cut it at the border")
        offset = None if onset is None or begin is None or end is None else end + (onset - begin)
        label = "" if self.label is None else row[self.label]
        likelihood, unlikely = likelihood_of(self.header, self.likelihood, row)
        return Row(
            place, file or None, onset, offset, label, problems=tuple(problems),
            likelihood=likelihood, likelihood_problem=unlikely, channels=channels,
            band_hz=band_in(self.band, row),
        )  # fmt: skip


@dataclass
class _Selection:
    """An event: its first row, the numbers of those that show it again, and its channels, counted from 1."""

    number: int
    row: list[str]
    repeated: list[int] = field(default_factory=list)
    channels: set[int] = field(default_factory=set)

    @property
    def place(self) -> str:
        """How messages call it: all of its rows, since all are to be put right."""
        if not self.repeated:
            return f"row {self.number}"
        return f"rows {' and '.join(map(str, (self.number, *self.repeated)))}"


def _selections(header: Header, columns: _Columns, body: Cells) -> list[_Selection]:
    """Each selection once, whatever the views and channels that show it."""
    selection, view, channel = header.find("Selection"), header.find("View"), header.find("Channel")
    sounds: Sequence[int | None] = [None] * len(body)
    if channel is not None:
        sounds = channels_of([row[channel] for _, row in body], 1)
    shown = [at for at in (view, channel) if at is not None]
    same = (selection, columns.begin, columns.end, columns.length, columns.file, columns.label)
    seen: dict[tuple[str, ...], tuple[Counter[tuple[str, ...]], list[_Selection]]] = {}
    kept: list[_Selection] = []
    for (number, row), sound in zip(body, sounds, strict=True):
        key = tuple(row[at] for at in same if at is not None)
        views, events = seen.setdefault(key, (Counter(), [])) if selection is not None and shown else (Counter(), [])
        this = tuple(row[at] for at in shown)
        if views[this] == len(events):  # the same view twice: two events, from tables put together
            events.append(_Selection(number, row))
            kept.append(events[-1])
        else:
            events[views[this]].repeated.append(number)
        if sound is not None:
            events[views[this]].channels.add(sound)
        views[this] += 1
    return kept
