"""The options of `a2v predict`; thresholds and durations of classes as they are typed, or as a file has them."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a2v_data.audio import Channel
from a2v_data.documents import MOST_YAML_BYTES, json_of, read_document, reason, shortened, shown, yaml_of

from ..basics.errors import UserError

Values = float | dict[str, float]


@dataclass(frozen=True)
class Choice:
    """What is chosen for a call; every piece of its work is handed it. model: where it lies. formats: of tables.
    settings: as `settings_for` takes them, None where not given. likelihoods: npz or hdf5; embeddings: frames or
    events. device: auto, cpu or cuda; the work never sees auto. batch: windows at once; None: as suits the device.
    streams: the folder with what was recorded beside sound; None: that of the recordings (`beside.py`).
    """

    model: str
    formats: tuple[str, ...]
    settings: dict[str, Any]
    likelihoods: str | None = None
    embeddings: str | None = None
    channel: Channel = 0
    device: str = "auto"
    precision: str = "auto"
    batch: int | None = None
    streams: str | None = None
    processes: int | None = None
    ray: bool = False
    address: str | None = None
    tracking_uri: str | None = None


def threshold_of(path: Path | None, given: Sequence[str] | None) -> Values | None:
    """What `--thresholds FILE` and `--threshold` say together; the latter stands above the file. Raises UserError."""
    of_file = read_thresholds(path) if path is not None else None
    of_options = _values("--threshold", given)
    if of_file is None or of_options is None:
        return of_file if of_options is None else of_options
    if not isinstance(of_options, dict):
        raise UserError(f"--threshold {of_options:g}: is for all classes, and so is --thresholds; give one of them")
    return of_file | of_options


def seconds_of(option: str, given: Sequence[str] | None) -> Values | None:
    """One number, or class -> number; None where nothing is given. Raises UserError."""
    return _values(option, given)


def read_thresholds(path: Path) -> dict[str, float]:
    """Class -> threshold, from JSON or YAML (a mapping, or a model.json with one), or CSV (class,threshold). Raises
    UserError."""
    try:
        text = read_document(path, MOST_YAML_BYTES)
        if path.suffix.lower() == ".csv":
            rows = list(csv.DictReader(text.splitlines()))
            if any(row.get("class") is None or row.get("threshold") is None for row in rows) or not rows:
                raise UserError(f"{path}: must have the columns class,threshold and a row for each class")
            found: Any = {row["class"].strip(): row["threshold"] for row in rows}
        elif path.suffix.lower() in (".yaml", ".yml"):
            found = yaml_of(text)
        else:
            found = json_of(text)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; name a file of thresholds") from None
    except Exception as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: is not readable ({reason(error)})") from None
    if isinstance(found, dict) and isinstance(found.get("thresholds"), dict):
        found = found["thresholds"]
    if not isinstance(found, dict) or not found:
        raise UserError(f"{path}: must hold class: threshold for each class")
    return {str(name): _number(f"{path}: threshold of {shortened(name)}", value) for name, value in found.items()}


def _values(option: str, given: Sequence[str] | None) -> Values | None:
    if not given:
        return None
    of_class: dict[str, float] = {}
    of_all: float | None = None
    for text in given:
        name, equals, value = text.rpartition("=")
        number = _number(f"{option} {shortened(text)}", value)
        if not equals:
            if of_all is not None:
                raise UserError(f"{option}: {of_all:g} and {number:g} are both for all classes; give one")
            of_all = number
        elif name in of_class:
            raise UserError(f"{option}: {name!r} is given twice")
        else:
            of_class[name] = number
    if of_all is None:
        return of_class
    if of_class:
        raise UserError(f"{option}: give one value for all classes, or CLASS=VALUE for each; not both")
    return of_all


def _number(what: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise UserError(f"{what}: {shown(value)} should be a number of at least 0")
    return number
