"""Tables of any program: their columns are named by the user, or called as programs call them (`known_columns`)."""

from typing import Final

from a2v_data.annotation_config import AnnotationConfig, TimeUnit
from a2v_data.formats.bands import band_columns, band_in
from a2v_data.formats.known_columns import (
    Times,
    birdnet_like,
    find_files,
    find_label,
    find_times,
    joined,
    of_kaleidoscope,
    unit_of,
)
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

COLUMNS: Final = "columns"
PER_SECOND = {"s": 1.0, "ms": 1000.0}


def read_columns(text: str, config: AnnotationConfig, sidecar: bool) -> Table:
    """A table with a header, commas, tabs or semicolons between its fields, one event a row."""
    header, body, delimiter = grid(text)
    return column_rows(header, body, config, sidecar, delimiter)


def column_rows(header: Header, body: Cells, config: AnnotationConfig, sidecar: bool, delimiter: str = ",") -> Table:
    """Rows of any table. A row that holds nothing but its recording says that it was listened to and holds no call.

    Raises `TableError` for a column that is missing, or where several may be meant.
    """
    times, files = find_times(header, config, body), find_files(header, config)
    label = find_label(header, config, body)
    if label is None and config.default_label is None and body:
        raise TableError(
            f"row 1: no column that holds the class (the header has {header.listed}); name it with label_column, "
            "or give default_label"
        )
    if not files and not sidecar and body:
        raise TableError(
            f"row 1: no column that holds the recording (the header has {header.listed}); name it with file_column, "
            "or name the table like its recording (monday.wav: monday.csv)"
        )
    named = (config.onset_column is not None, config.offset_column is not None or config.duration_column is not None)
    units = _units(header, times, config, named)
    classified = birdnet_like(header, body)
    whole, broken = whole_rows(with_points(body, delimiter), header, delimiter)
    at, focal, channel = header.likelihood(), header.find("focal", "foc"), header.find("channel")
    first = 0 if of_kaleidoscope(header) else None
    channels = [None] * len(whole) if channel is None else channels_of([row[channel] for _, row in whole], first)
    table = Table("birdnet" if classified else COLUMNS, problems=broken, windows=classified)
    table.likelihood = None if at is None else header.names[at]
    bands = None if classified else band_columns(header)
    for (number, row), sound in zip(whole, channels, strict=True):
        name = "" if label is None else row[label]
        file = (joined(row, files) or None) if files else None
        last = times.last
        if file and not (row[times.onset.at] or (last and row[last.at]) or name):
            table.rows.append(Row(f"row {number}", file, None, None, "", silent=True))
            continue
        problems: list[str] = []
        onset, offset = _span(header, row, times, units, problems)
        likelihood, unlikely = likelihood_of(header, at, row)
        table.rows.append(
            Row(
                f"row {number}", file or ("" if files else None), onset, offset, name,
                "" if focal is None else row[focal], tuple(problems), likelihood=likelihood,
                likelihood_problem=unlikely, channels=None if sound is None else frozenset({sound}),
                in_samples="samples" in units, band_hz=band_in(bands, row),
            )
        )  # fmt: skip
    said = times.onset.unit or (times.last and times.last.unit)
    if not (config.time_unit or said or classified or of_kaleidoscope(header)) and table.rows:
        names = " and ".join(header.names[time.at] for time in (times.onset, times.last) if time)
        table.notices.append(f"times in {names} are taken as seconds; if they are not, say their unit with time_unit")
    elif times.last and bool(times.onset.unit) != bool(times.last.unit) and not config.time_unit and table.rows:
        bare, other = (times.last, times.onset) if times.onset.unit else (times.onset, times.last)
        table.notices.append(
            f"times in {header.names[bare.at]} are taken as {other.unit}, as those in {header.names[other.at]}; if they"
            " are not, say so in its name (duration_s, duration_ms)"
        )
    return table


def in_seconds(config: AnnotationConfig, format_: str) -> None:
    """Raise `TableError` where another unit is asked for of a table of a format whose times are seconds."""
    if config.time_unit not in (None, "s"):
        raise TableError(
            f"row 1: its times are seconds, as it is {format_}, but time_unit is {config.time_unit}; name the columns "
            "of times (onset_column, offset_column or duration_column), or leave time_unit out"
        )


def _units(
    header: Header, times: Times, config: AnnotationConfig, named: tuple[bool, bool]
) -> tuple[TimeUnit, TimeUnit]:
    """Of the start, and of the end or the length."""
    onset = unit_of(header, times.onset, times.last, config, named[0])
    last = onset if times.last is None else unit_of(header, times.last, times.onset, config, named[1])
    if (onset == "samples") != (last == "samples"):
        raise TableError(
            f"row 1: {header.names[times.onset.at]} is in {onset}, the end in {last}; name two columns of one unit "
            "with onset_column and offset_column"
        )
    return onset, last


def _span(
    header: Header, row: list[str], times: Times, units: tuple[TimeUnit, TimeUnit], problems: list[str]
) -> tuple[float | None, float | None]:
    """Start and end of an event, in seconds, or in samples where the columns hold these."""
    onset = _time(header, row, times.onset.at, units[0], problems)
    if times.last is None:
        return onset, onset
    last = _time(header, row, times.last.at, units[1], problems)
    if times.length is not None and onset is not None and last is not None:
        last += onset
    return onset, last


def _time(header: Header, row: list[str], at: int, unit: TimeUnit, problems: list[str]) -> float | None:
    value = seconds(header.names[at], row[at], problems)
    return None if value is None else value / PER_SECOND.get(unit, 1.0)
