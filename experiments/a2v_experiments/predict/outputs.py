"""Events as files: one for each recording, in a folder that mirrors where recordings lie, and one of all of them.

    raven/day1/a.wav.selections.txt    events.selections.txt   Raven selection tables; that of all is for the recordings
                                                               opened as one sequence, in the order of recordings.csv
    audacity/day1/a.wav.txt            (none)                  label tracks: `cc 0.8731`; they hold no threshold
                                                               and no model, and each is of one recording
    csv/day1/a.wav.csv                 events.csv              file,onset_s,offset_s,label,likelihood,threshold,model
    parquet/day1/a.wav.parquet         events.parquet          the same columns
    json/day1/a.wav.json               events.json             the same, under recordings

`events.csv` is always written. In CSV, Parquet and JSON a recording without events stands alone, so that it counts as
listened to. A table is whole or not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a2v_data.annotation_writers import PREDICTED, EventRow, annotation_csv, audacity_labels, raven_table
from a2v_data.audio import Channel
from a2v_data.storage import replaced, write_text_aside

FORMATS = ("raven", "audacity", "csv", "parquet", "json")
ENDINGS = {"raven": ".selections.txt", "audacity": ".txt", "csv": ".csv", "parquet": ".parquet", "json": ".json"}
ROWS_AT_ONCE = 100_000


@dataclass(frozen=True)
class Predicted:
    """A recording and its events, by onset. high_hz: its highest frequency; start_s: where it starts in the sequence of
    all recordings; channel: that was listened to, from 0."""

    name: str
    duration_s: float
    high_hz: float
    events: list[EventRow]
    start_s: float = 0.0
    channel: Channel = 0


def table_path(out: Path, format_: str, name: str) -> Path:
    """Of one recording. The name keeps its ending, so that a.wav and a.flac have tables of their own."""
    return out / format_ / f"{name}{ENDINGS[format_]}"


def combined_path(out: Path, format_: str) -> Path | None:
    """Of all recordings; None where the format holds but one."""
    return None if format_ == "audacity" else out / f"events{ENDINGS[format_]}"


def write_table(path: Path, format_: str, predicted: Predicted) -> None:
    """The table of one recording."""
    events = predicted.events
    match format_:
        case "raven":
            write_text_aside(path, raven_table(events, predicted.high_hz, extra=PREDICTED, channel=predicted.channel))
        case "audacity":
            write_text_aside(path, audacity_labels(_with_likelihood(row) for row in events))
        case "csv":
            write_text_aside(path, _csv(predicted))
        case "json":
            write_text_aside(path, json.dumps(_plain(predicted), ensure_ascii=False, indent=1) + "\n")
        case "parquet":
            _write_parquet(path, iter([predicted]))


def write_combined(path: Path, format_: str, recordings: Iterator[Predicted]) -> None:
    """The table of all recordings, which come one after another."""
    if format_ == "parquet":
        _write_parquet(path, recordings)
        return
    with replaced(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        for part in _combined_text(format_, recordings):
            file.write(part)


def _combined_text(format_: str, recordings: Iterator[Predicted]) -> Iterator[str]:
    if format_ == "json":
        yield '{"recordings": ['
        for number, predicted in enumerate(recordings):
            yield (",\n" if number else "\n") + json.dumps(_plain(predicted), ensure_ascii=False)
        yield "\n]}\n"
        return
    empty = annotation_csv([], extra=PREDICTED) if format_ == "csv" else raven_table([], 0, extra=PREDICTED)
    yield empty
    first = 1
    for predicted in recordings:
        if format_ == "csv":
            text = _csv(predicted)
        else:
            starts_s = {predicted.name: predicted.start_s}
            text = raven_table(
                predicted.events, predicted.high_hz, starts_s=starts_s, extra=PREDICTED, first=first,
                channel=predicted.channel,
            )  # fmt: skip
            first += len(predicted.events)
        yield text.removeprefix(empty)


def _csv(predicted: Predicted) -> str:
    return annotation_csv(predicted.events, [] if predicted.events else [predicted.name], PREDICTED)


def _with_likelihood(row: EventRow) -> EventRow:
    return EventRow(row.file, row.onset_s, row.offset_s, f"{row.label} {row.likelihood:.4f}")


def _plain(predicted: Predicted) -> dict[str, Any]:
    events = [
        {
            "onset_s": round(row.onset_s, 6),
            "offset_s": round(row.offset_s, 6),
            "label": row.label,
            "likelihood": round(row.likelihood or 0.0, 6),
            "threshold": row.threshold,
            "model": row.model,
        }
        for row in predicted.events
    ]
    return {"file": predicted.name, "duration_s": round(predicted.duration_s, 6), "events": events}


def _write_parquet(path: Path, recordings: Iterator[Predicted]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number, text = pa.float64(), pa.string()
    columns = {"file": text, "onset_s": number, "offset_s": number, "label": text}
    schema = pa.schema(columns | {"likelihood": number, "threshold": number, "model": text})
    with replaced(path) as aside, pq.ParquetWriter(aside, schema) as writer:
        for rows in _grouped(recordings):
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _grouped(recordings: Iterator[Predicted]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for predicted in recordings:
        rows += [
            {name: getattr(row, name) for name in ("file", "onset_s", "offset_s", "label", *PREDICTED)}
            for row in predicted.events
        ] or [{"file": predicted.name}]
        if len(rows) >= ROWS_AT_ONCE:
            yield rows
            rows = []
    yield rows


def missing_tables(out: Path, formats: Sequence[str], name: str) -> list[str]:
    """The formats in which a recording has no table yet."""
    return [format_ for format_ in formats if not table_path(out, format_, name).is_file()]
