"""Parquet files that anybody may have written: a table is read within bounds, and whatever is wrong is one line.

A few bytes can stand for millions of equal rows, or for one long text in each of them.
"""

from pathlib import Path
from typing import Any

from a2v_data.documents import reason
from a2v_data.storage import check_regular

LARGE = 1 << 30  # bytes of values that are read in any case
MOST_PADDING = 20  # times as many bytes as the file has, where that is more
VALUE_BYTES = 8


class ParquetError(ValueError):
    """A file cannot be used; one line, without its name."""


def read_parquet_table(path: Path, most_rows: int | None = None) -> Any:
    """pyarrow's table of one file.

    Raises `ParquetError` where the file is damaged, has more rows than `most_rows`, or its values are so much larger
    than the file that they are no measurements.
    """
    import pyarrow.parquet as pq

    try:
        check_regular(path)
        with pq.ParquetFile(path) as file:
            meta, most = file.metadata, max(LARGE, MOST_PADDING * path.stat().st_size)
            if most_rows is not None and meta.num_rows > most_rows:
                raise ParquetError(f"has {meta.num_rows} rows; it may have {most_rows}: divide it")
            counts = [meta.row_group(at).column(of).num_values for at in range(meta.num_row_groups)
                      for of in range(meta.num_columns)]  # fmt: skip
            if max(sum(counts), meta.num_rows) * VALUE_BYTES > most:
                raise ParquetError("holds many times as many values as bytes; write it again as it was measured")
            columns = [meta.schema.column(at) for at in range(meta.num_columns)]
            # as dictionaries, a text that many rows have is there once
            texts = [one.path for one in columns if one.physical_type == "BYTE_ARRAY" and not one.max_repetition_level]
        table = pq.read_table(path, partitioning=None, read_dictionary=texts)
        table.validate(full=True)
        if sum(_text_bytes(column) for column in table.columns) > most:
            raise ParquetError("holds texts that are many times as long as the file")
        return _plain(table)
    except ParquetError:
        raise
    except Exception as error:  # on damaged files nearly anything
        raise ParquetError(f"is not readable as Parquet ({reason(error)}); export it again") from error


def _plain(table: Any) -> Any:
    """Its texts in each row, and no dictionaries."""
    import pyarrow as pa

    types = [one.type.value_type if pa.types.is_dictionary(one.type) else one.type for one in table.schema]
    return table.cast(pa.schema([one.with_type(kind) for one, kind in zip(table.schema, types, strict=True)]))


def _text_bytes(column: Any) -> int:
    """Bytes of all texts of a column of dictionaries, each row counted."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_dictionary(column.type):
        return 0
    lengths = (
        pc.sum(pc.take(pc.binary_length(one.dictionary), one.indices).cast(pa.int64())).as_py() for one in column.chunks
    )
    return sum(length or 0 for length in lengths)
