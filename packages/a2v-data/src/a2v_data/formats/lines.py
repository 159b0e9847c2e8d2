"""Tables without a header: Audacity's label tracks and NIPS4Bplus."""

import re
from dataclasses import replace

from a2v_data.formats.bands import band
from a2v_data.formats.table import NUMBER, Row, Table, cells, seconds

LIKELIHOOD_IN_LABEL = re.compile(r"(.+) ([01]\.\d{4})")
NIPS4BPLUS_NAME = re.compile(r"annotation_(train|test)(\d+)\.csv", re.IGNORECASE)


def read_audacity(text: str) -> Table:
    """start, end, label, separated by tabs; lines that start with a backslash hold frequencies and belong to the
    label above. A fourth field that is a number from 0 to 1 in every row is BirdNET's confidence; other further fields
    are not used. Where every label ends with a likelihood, as `a2v predict` writes them (`cc 0.8731`), it is taken out
    of them."""
    table = Table("audacity")
    fourth: list[str] = []
    for number, row in cells(text, "\t", quoted=False):
        if row[0] == "\\":
            if table.rows and len(row) > 2:
                table.rows[-1] = replace(table.rows[-1], band_hz=band(row[1], row[2]))
            continue
        if len(row) < 2:
            table.problems.append(f"row {number}: one field; a label has start, end and text, separated by tabs")
            continue
        problems: list[str] = []
        onset_s, offset_s = seconds("start", row[0], problems), seconds("end", row[1], problems)
        label = row[2] if len(row) > 2 else ""
        table.rows.append(Row(f"row {number}", None, onset_s, offset_s, label, problems=tuple(problems)))
        fourth.append(row[3] if len(row) > 3 else "")
    if fourth and all(NUMBER.fullmatch(text) and 0 <= float(text) <= 1 for text in fourth):
        table.likelihood, table.windows = "confidence", True
        table.rows = [replace(row, likelihood=float(text)) for row, text in zip(table.rows, fourth, strict=True)]
        return table
    matches = [LIKELIHOOD_IN_LABEL.fullmatch(row.label) for row in table.rows]
    if matches and all(matches):
        table.likelihood = "likelihood"
        table.rows = [
            replace(row, label=match[1], likelihood=float(match[2]))
            for row, match in zip(table.rows, matches, strict=True)
            if match is not None
        ]
    return table


def read_nips4bplus(text: str) -> Table:
    """Starting time, duration (both in seconds), class; one table a recording, empty where it holds no call."""
    table = Table("nips4bplus")
    for number, row in cells(text, ",", quoted=True):
        if len(row) != 3:
            table.problems.append(f"row {number}: {len(row)} fields; it must have starting time, duration, class")
            continue
        problems: list[str] = []
        onset_s, duration_s = seconds("starting time", row[0], problems), seconds("duration", row[1], problems)
        offset_s = None if onset_s is None or duration_s is None else onset_s + duration_s
        table.rows.append(Row(f"row {number}", None, onset_s, offset_s, row[2], problems=tuple(problems)))
    return table
