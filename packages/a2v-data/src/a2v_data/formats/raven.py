"""Raven selection tables, and BirdNET's, which have the same form.

Raven's Begin Time counts from the start of the whole sound, which may be a sequence of files; File Offset counts
from the start of the selection's own file and is used where there is one. Each selection has a row for every view
(waveform, spectrogram) and channel; it is read once.
"""

from collections import Counter
from collections.abc import Sequence

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.formats.columns import without_no_call
from a2v_data.formats.table import (
    Cells,
    Header,
    Row,
    Table,
    TableError,
    grid,
    likelihood_of,
    seconds,
    whole_rows,
)

LABEL_COLUMNS = (
    "Annotation", "Annotations", "Label", "Labels", "Class", "Call Type", "Type", "Species", "Tag", "Tags",
    "Common Name", "Species Code",
)  # fmt: skip
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
    birdnet = _from_birdnet(header)
    known = [name for name in LABEL_COLUMNS if not (birdnet and name == "Species Code")]
    label = header.label(config.label_column, known, body)
    if label is None and config.default_label is None and body:
        raise TableError(
            f"row 1: no column that holds the class (the header has {header.listed}); name it with label_column, "
            "or give default_label"
        )
    columns = _Columns(header, label, body)
    whole, broken = whole_rows(body, header, delimiter)
    kept, repeated = _selections(header, columns, whole)
    kind, likelihood = "birdnet" if birdnet else "raven", columns.likelihood
    table = Table(kind, problems=broken, doubled=sum(map(len, repeated.values())), windows=birdnet)
    table.likelihood = None if likelihood is None else header.names[likelihood]
    table.rows = [columns.row(_place([number, *repeated.get(number, ())]), row) for number, row in kept]
    if birdnet:
        table.rows = [without_no_call(row) for row in table.rows]
    return table


def _from_birdnet(header: Header) -> bool:
    """Whether a table has BirdNET's columns; in older ones the confidence is called Score."""
    if header.find("Species Code") is None:
        return False
    scored = header.find("Common Name") is not None and header.likelihood() is not None
    return scored or header.find("Confidence") is not None


class _Columns:
    """The columns of one selection table, and how its rows are read."""

    def __init__(self, header: Header, label: int | None, body: Cells) -> None:
        self.header, self.label = header, label
        self.likelihood = header.likelihood()
        self.begin = header.need(BEGIN, fix=FIX)
        self.end, self.length, self.offset = header.find(END), header.find(LENGTH), header.find(OFFSET)
        self.file = header.find("Begin Path", "Begin File")
        self.last_file = header.find("End Path" if header.find("Begin Path") is not None else "End File")
        files = {row[self.file] for _, row in body if self.file is not None and self.file < len(row)}
        self.sequence = len(files) > 1
        if self.sequence and self.offset is None:
            raise TableError(
                f"row 1: {len(files)} recordings but no column {OFFSET}: {BEGIN} counts from the start of the first; "
                f"add {OFFSET} to the table in Raven and save it again"
            )

    def row(self, place: str, row: list[str]) -> Row:
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
            likelihood=likelihood, likelihood_problem=unlikely,
        )  # fmt: skip


def _place(numbers: Sequence[int]) -> str:
    """How messages call a selection: all of its rows, since all are to be put right."""
    if len(numbers) == 1:
        return f"row {numbers[0]}"
    return f"rows {' and '.join(map(str, numbers))}"


def _selections(header: Header, columns: _Columns, body: Cells) -> tuple[Cells, dict[int, list[int]]]:
    """Rows that are read, and the numbers of those that repeat one of them in another view or channel."""
    selection, view, channel = header.find("Selection"), header.find("View"), header.find("Channel")
    shown = [at for at in (view, channel) if at is not None]
    if selection is None or not shown:
        return body, {}
    same = (selection, columns.begin, columns.end, columns.length, columns.file, columns.label)
    seen: dict[tuple[str, ...], tuple[Counter[tuple[str, ...]], list[int]]] = {}
    kept: Cells = []
    repeated: dict[int, list[int]] = {}
    for number, row in body:
        views, events = seen.setdefault(tuple(row[at] for at in same if at is not None), (Counter(), []))
        this = tuple(row[at] for at in shown)
        if views[this] == len(events):  # the same view twice: two events, from tables put together
            kept.append((number, row))
            events.append(number)
        else:
            repeated.setdefault(events[views[this]], []).append(number)
        views[this] += 1
    return kept, repeated
