"""Tables with the values of streams: CSV, Parquet or HDF5, with times in seconds from the recording's start.

A table has `time_s` and a column for each value; one of several recordings also `file`. Streams of different rates may
share a table: an empty cell is a value that was not measured. An HDF5 file has a dataset for each column, in a group of
the stream's name or at the top; one of several recordings has a group with these for each of them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2v_data.documents import reason
from a2v_data.hdf5 import Hdf5Error, opened, read_values
from a2v_data.parquet_files import ParquetError, read_parquet_table
from a2v_data.storage import check_regular
from a2v_data.streams.config import FILE, TIME, StreamConfig

CSV, PARQUET, HDF5 = (".csv", ".tsv", ".txt"), (".parquet", ".pq"), (".h5", ".hdf5")
SUFFIXES = (*CSV, *PARQUET, *HDF5)
Floats = NDArray[np.float64]
Columns = Mapping[str, Floats]
SHOWN = 60
LONGEST_HEADER = 1 << 16
SECONDS = "must be a number of seconds from the recording's start"


class StreamError(ValueError):
    """A table of streams cannot be used; one line, with the table's name."""


def has_times(path: Path) -> bool:
    """Whether a file has the column `time_s`, which no table of annotations has. Reads its header."""
    import pyarrow.parquet

    try:
        if path.suffix.lower() in PARQUET:
            return TIME in pyarrow.parquet.read_schema(path).names
        if path.suffix.lower() not in CSV:
            return False
        check_regular(path)
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            header = file.readline(LONGEST_HEADER)
    except Exception:  # whoever reads it says what is wrong
        return False
    return TIME in (name.strip().strip('"') for name in re.split("[\t;,]", header))


def read_own(path: Path, shown: str, streams: Mapping[str, StreamConfig]) -> dict[str, Columns]:
    """The columns of each stream that the table of one recording has, by stream, with `time_s`. Raises
    `StreamError`."""
    if path.suffix.lower() in HDF5:
        with _opened(path, shown) as file:
            return _of_group(file, shown, streams)
    table = read_table(path, shown)
    return _of_columns({name: _numbers(table, name, shown) for name in _wanted(table, streams, shown)}, streams)


def read_shared(
    path: Path, shown: str, streams: Mapping[str, StreamConfig]
) -> Iterator[tuple[str, dict[str, Columns]]]:
    """(recording as the table calls it, its columns as `read_own`) of a table of several recordings. Raises
    `StreamError`."""
    if path.suffix.lower() in HDF5:
        with _opened(path, shown) as file:
            for name in _groups(file, shown, streams):
                yield name, _of_group(file[name], f"{shown}, {name!r}", streams)
        return
    table = read_table(path, shown)
    if FILE not in table.column_names:
        raise StreamError(
            f"{shown}: must have the column {FILE}, as it is for all recordings (a table for one belongs into streams/"
            " and is named like it)"
        )
    numbers = {name: _numbers(table, name, shown) for name in _wanted(table, streams, shown)}
    names = np.array([str(name) for name in table.column(FILE).to_pylist()], object)
    known, inverse = np.unique(names.astype(str), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    bounds = np.searchsorted(inverse[order], np.arange(len(known) + 1))
    for number, name in enumerate(known.tolist()):
        rows = order[bounds[number] : bounds[number + 1]]
        yield name, _of_columns({key: values[rows] for key, values in numbers.items()}, streams)


def _of_columns(numbers: Columns, streams: Mapping[str, StreamConfig]) -> dict[str, Columns]:
    return {
        name: {key: numbers[key] for key in (TIME, *config.columns)}
        for name, config in streams.items()
        if set(config.columns) <= numbers.keys()
    }


def _wanted(table: Any, streams: Mapping[str, StreamConfig], shown: str) -> list[str]:
    """The columns to read: the time, and those of each stream that the table has. A stream is there as a whole or not
    at all."""
    there = table.column_names
    if TIME not in there:
        raise StreamError(
            f"{shown}: must have the column {TIME}, seconds from the recording's start; it has {_listed(there)}"
        )
    if doubled := [name for name in there if there.count(name) > 1]:
        raise StreamError(f"{shown}: the column {doubled[0]} is there twice; rename one")
    wanted = [TIME]
    for name in _complete(streams, there, shown):
        wanted += [column for column in streams[name].columns if column not in wanted]
    return wanted


def _complete(streams: Mapping[str, StreamConfig], there: Sequence[str], shown: str) -> list[str]:
    """The streams whose columns are all there; `StreamError` for one that has some of them, or where there is none."""
    found = []
    for name, config in streams.items():
        missing = [column for column in config.columns if column not in there]
        if missing and len(missing) < len(config.columns):
            raise StreamError(f"{shown}: of {name} the column {missing[0]} is missing; it has {_listed(there)}")
        found += [] if missing else [name]
    if not found:
        wanted = "; ".join(f"{name}: {', '.join(config.columns)}" for name, config in streams.items())
        raise StreamError(f"{shown}: has columns of no stream ({wanted}); it has {_listed(there)}")
    return found


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(map(str, names)) or "none"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def read_table(path: Path, shown: str) -> Any:
    """A CSV or Parquet file as pyarrow's table. Raises `StreamError`."""
    import pyarrow as pa
    import pyarrow.csv

    try:
        if path.suffix.lower() in PARQUET:
            return read_parquet_table(path)
        check_regular(path)
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline(LONGEST_HEADER)
        delimiter = max("\t;,", key=header.count)
        table = _read_csv(path, delimiter, ".")
        if delimiter != "," and any(pa.types.is_string(table.schema.field(name).type) for name in _values(table)):
            table = _read_csv(path, delimiter, ",")
        return table
    except UnicodeDecodeError:
        raise StreamError(f"{shown}: is no UTF-8 text; save it as UTF-8") from None
    except ParquetError as error:
        raise StreamError(f"{shown}: {error}") from None
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise StreamError(f"{shown}: is not readable as a table ({reason(error)})") from None


def _read_csv(path: Path, delimiter: str, decimal_point: str) -> Any:
    import pyarrow as pa
    import pyarrow.csv

    table = pyarrow.csv.read_csv(
        path,
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={FILE: pa.string()}, strings_can_be_null=True, decimal_point=decimal_point
        ),
    )
    return table.rename_columns([name.strip() for name in table.column_names])


def _values(table: Any) -> list[str]:
    return [name for name in table.column_names if name != FILE]


def _numbers(table: Any, name: str, shown: str) -> Floats:
    """A column as float64 (n,), NaN where it is empty; `StreamError` with the row of what is no number."""
    import pyarrow as pa

    column = table.column(name)
    try:
        values: Floats = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        try:
            found = column.to_pylist()
        except Exception:  # dates that Python has not
            found = []
        for row, value in enumerate(found):
            if value is not None and not _is_number(value):
                text = str(value)[:SHOWN]
                wanted = SECONDS if name == TIME else "must be a number, or empty"
                raise StreamError(f"{shown}, row {row + 2}: {name} is {text!r}; {wanted}") from None
        raise StreamError(f"{shown}: {name} holds {column.type}; must be numbers") from None
    values = values.astype(np.float64)
    if name == TIME and (wrong := np.flatnonzero(~np.isfinite(values))).size:
        raise StreamError(f"{shown}, row {int(wrong[0]) + 2}: {TIME} is empty; {SECONDS}")
    return values


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]  # what is asked
    except (TypeError, ValueError):
        return False
    return True


@contextmanager
def _opened(path: Path, shown: str) -> Iterator[Any]:
    try:
        with opened(path, StreamError) as file:
            yield file
    except Hdf5Error as error:
        raise StreamError(f"{shown}: is not readable as HDF5 ({error})") from None


def _groups(file: Any, shown: str, streams: Mapping[str, StreamConfig]) -> list[str]:
    """Names of the recordings' groups, those in groups of groups too (`day1/monday.wav`)."""
    import h5py

    found: list[str] = []

    def look(name: str, node: Any) -> None:
        inside = any(name.startswith(f"{above}/") for above in found)
        if isinstance(node, h5py.Group) and not inside and any(key in node for key in (TIME, *streams)):
            found.append(name)

    file.visititems(look)
    if not found:
        raise StreamError(f"{shown}: must have a group for each recording, with {TIME} and the columns in it")
    return found


def _of_group(node: Any, shown: str, streams: Mapping[str, StreamConfig]) -> dict[str, Columns]:
    import h5py

    found: dict[str, Columns] = {}
    at_top = {name: config for name, config in streams.items() if not isinstance(node.get(name), h5py.Group)}
    for name in (name for name in streams if name not in at_top):
        found |= _of_datasets(node[name], f"{shown}, {name}", {name: streams[name]})
    if TIME in node or not found:
        found |= _of_datasets(node, shown, at_top or dict(streams))
    return found


def _of_datasets(node: Any, shown: str, streams: Mapping[str, StreamConfig]) -> dict[str, Columns]:
    if TIME not in node:
        raise StreamError(
            f"{shown}: must have {TIME}, seconds from the recording's start; it has {_listed(list(node))}"
        )
    names = [TIME]
    for name in _complete(streams, list(node), shown):
        names += [column for column in streams[name].columns if column not in names]
    read = {name: _dataset(node, name, shown) for name in names}
    if len({len(values) for values in read.values()}) > 1:
        counts = ", ".join(f"{name} {len(values)}" for name, values in read.items())
        raise StreamError(f"{shown}: its columns have different lengths ({counts}); each must have a value per time")
    return _of_columns(read, streams)


def _dataset(group: Any, name: str, shown: str) -> Floats:
    import h5py

    node, where = group[name], f"{shown}: {name}"
    if not isinstance(node, h5py.Dataset) or node.ndim != 1 or node.dtype.kind not in "iuf":
        raise StreamError(f"{where} must be a dataset of numbers, one for each time")
    try:
        read = read_values(group, name).astype(np.float64)
    except Hdf5Error as error:
        raise StreamError(f"{shown}: {error}") from None
    if name == TIME and not np.isfinite(read).all():
        raise StreamError(f"{where} must be numbers of seconds")
    return read
