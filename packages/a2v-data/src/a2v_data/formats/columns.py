"""Tables whose header names the columns: this project's CSV, BirdNET's CSV, and MeerKAT's label fields."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from a2v_data.annotation_config import AnnotationConfig, Format
from a2v_data.formats.bands import band_columns, band_in
from a2v_data.formats.known_columns import find_files
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

CSV_WANTED = "file,onset_s,offset_s,label"
MEERKAT_WANTED = "file, start_time_lbl, end_time_lbl, lbl and, where known, foc"


@dataclass(frozen=True)
class _Places:
    """Positions of the columns in a row; `label` None: no such column."""

    onset: int
    offset: int
    label: int | None
    file: int | None
    focal: int | None


def read_csv(text: str, config: AnnotationConfig, sidecar: bool) -> Table:
    """file, onset_s, offset_s, label and, where known, focal (1 or 0), likelihood and channel (from 1, as Raven counts,
    unless there is a 0), with commas, tabs or semicolons between. A table beside its recording needs no file.

    A row that holds nothing but a file says that this recording was listened to and holds no call.
    """
    header, body, delimiter = grid(text, quoted=True)
    return csv_rows(header, body, config, sidecar, delimiter)


def csv_rows(
    header: Header, body: Cells, config: AnnotationConfig, sidecar: bool, delimiter: str = ",", kind: Format = "csv"
) -> Table:
    """Rows with this project's columns, as `read_csv` describes them."""
    files = find_files(header, config)
    wanted = [name for name in CSV_WANTED.split(",") if not (name == "file" and (sidecar or files))]
    if config.label_column or config.default_label:
        wanted.remove("label")
    if missing := [name for name in wanted if header.find(name) is None]:
        raise TableError(
            f"row 1: no column {', '.join(missing)} (the header has {header.listed}); it must have {CSV_WANTED}"
        )
    label = header.label(config.label_column, ("label",), body)
    onset, offset = header.find("onset_s"), header.find("offset_s")
    assert onset is not None and offset is not None
    places = _Places(onset, offset, label, files[0] if files else None, header.find("focal"))
    return _table(kind, header, body, delimiter, places)


def read_birdnet(text: str, config: AnnotationConfig) -> Table:
    """BirdNET's CSV: Start (s), End (s), Scientific name, Common name, Confidence[, File].

    The class is the common name, or else the scientific one, unless `label_column` says otherwise.
    """
    header, body, delimiter = grid(text)
    return birdnet_rows(header, body, config, delimiter)


def birdnet_rows(header: Header, body: Cells, config: AnnotationConfig, delimiter: str = ",") -> Table:
    """Rows with the columns of BirdNET's CSV, as `read_birdnet` describes them."""
    fix = "export BirdNET's CSV again"
    names = (config.label_column,) if config.label_column else ("Common name", "Scientific name", "Label")
    places = _Places(
        header.need("Start (s)", fix=fix),
        header.need("End (s)", fix=fix),
        header.need(*names, fix="name the column that holds the class"),
        header.find("File") if config.file_column is None else find_files(header, config)[0],
        None,
    )
    table = _table("birdnet", header, body, delimiter, places)
    table.windows = True
    return table


def read_meerkat_table(text: str, config: AnnotationConfig, classes: Sequence[str]) -> Table:
    """MeerKAT's label fields as columns, one event a row, with the recording in a column `file`."""
    header, body, delimiter = grid(text)
    return meerkat_rows(header, body, config, classes, delimiter)


def meerkat_rows(
    header: Header, body: Cells, config: AnnotationConfig, classes: Sequence[str], delimiter: str
) -> Table:
    """Rows with the columns start_time_lbl, end_time_lbl, lbl or lbl_cat (a number in `classes`), and foc."""
    fix = f"it must have {MEERKAT_WANTED}"
    number = header.find("lbl_cat") if config.label_column is None and header.find("lbl") is None else None
    label = header.label(config.label_column, ("lbl",), body) if number is None else number
    if label is None and config.default_label is None:
        raise TableError(f"row 1: no column lbl (the header has {header.listed}); {fix}")
    places = _Places(
        header.need("start_time_lbl", fix=fix),
        header.need("end_time_lbl", fix=fix),
        label,
        next(iter(find_files(header, config)), None),
        header.find("foc"),
    )
    table = _table("meerkat", header, body, delimiter, places)
    if number is not None:
        table.rows = [_named(row, classes) for row in table.rows]
    return table


def _named(row: Row, classes: Sequence[str]) -> Row:
    """The class name for a number in `lbl_cat`."""
    number = row.label.removesuffix(".0")
    if number.isdecimal() and int(number) < len(classes):
        return replace(row, label=classes[int(number)])
    problem = f"lbl_cat is {row.label!r}; it must be 0 to {len(classes) - 1} ({', '.join(classes)})"
    return replace(row, problems=(*row.problems, problem))


def _table(kind: str, header: Header, body: Cells, delimiter: str, places: _Places) -> Table:
    whole, broken = whole_rows(with_points(body, delimiter), header, delimiter)
    at, channel = header.likelihood(), header.find("channel")
    channels = [None] * len(whole) if channel is None else channels_of([row[channel] for _, row in whole], None)
    table = Table(kind, problems=broken, likelihood=None if at is None else header.names[at])
    bands = None if kind == "birdnet" else band_columns(header)
    for (number, row), sound in zip(whole, channels, strict=True):
        label = "" if places.label is None else row[places.label]
        file = None if places.file is None else row[places.file]
        focal = "" if places.focal is None else row[places.focal]
        if file and not (row[places.onset] or row[places.offset] or label):
            table.rows.append(Row(f"row {number}", file, None, None, "", silent=True))
            continue
        problems: list[str] = []
        onset_s = seconds(header.names[places.onset], row[places.onset], problems)
        offset_s = seconds(header.names[places.offset], row[places.offset], problems)
        likelihood, unlikely = likelihood_of(header, at, row)
        table.rows.append(
            Row(
                f"row {number}", file, onset_s, offset_s, label, focal, tuple(problems),
                likelihood=likelihood, likelihood_problem=unlikely,
                channels=None if sound is None else frozenset({sound}), band_hz=band_in(bands, row),
            )
        )  # fmt: skip
    return table
