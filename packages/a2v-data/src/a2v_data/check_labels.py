"""What can be wrong in one label file of MeerKAT's layout (its fields: `meerkat.py`). E events."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from a2v_data.check_problem import Expected, Problem
from a2v_data.hdf5 import Hdf5Error, opened, read_values
from a2v_data.meerkat import LABEL_FIELDS, MOST_EVENTS, decoded

FRAME_TOLERANCE = 1.001  # samples by which times and frames may differ: either may have been rounded, up or down


def check_labels(path: Path, name: str, samples: int, expected: Expected) -> tuple[list[str], list[Problem]]:
    """The labels of all events in a label file of a recording of `samples` samples, and what is wrong with it.

    `name` is how problems name it; events are counted from 1, and of each kind the first is reported, with how many
    more there are.
    """
    if path.is_dir():
        return [], [Problem("labels", name, "", "is a folder, not a file")]
    try:
        with opened(path) as file:
            fields = {
                field: np.atleast_1d(read_values(file, field, MOST_EVENTS)) for field in LABEL_FIELDS if field in file
            }
    except Hdf5Error as error:
        return [], [Problem("labels", name, "", f"is not readable as HDF5 ({error}); copy it again")]
    missing = [field for field in LABEL_FIELDS if field not in fields]
    if missing:
        return [], [Problem("fields", name, "", f"lacks {', '.join(missing)}")]
    lengths = {field: array.size for field, array in fields.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{field} {length}" for field, length in lengths.items())
        return [], [Problem("unequal fields", name, "", f"must have one value per event in each field: {told}")]
    try:
        labels = decoded(fields.pop("lbl"))
    except UnicodeDecodeError:
        return [], [Problem("class", name, "", "lbl holds text that is not UTF-8")]
    except Hdf5Error as error:
        return [], [Problem("class", name, "", str(error))]
    for field, array in fields.items():
        if array.dtype.kind not in "iufb":
            return [], [Problem("fields", name, "", f"{field} holds {array.dtype}, not numbers")]
    numbers = {field: array.ravel().astype(np.float64) for field, array in fields.items()}
    problems = [
        *_time_problems(name, numbers, samples, expected.sample_rate),
        *_class_problems(name, numbers, labels, expected.classes),
    ]
    return labels, problems


def _time_problems(name: str, values: dict[str, np.ndarray], samples: int, rate: int) -> list[Problem]:
    onset_E, offset_E = values["start_time_lbl"], values["end_time_lbl"]
    first_E, end_E = values["start_frame_lbl"], values["end_frame_lbl"]
    finite_E = np.isfinite(onset_E) & np.isfinite(offset_E) & np.isfinite(first_E) & np.isfinite(end_E)
    negative_E = finite_E & ((onset_E < 0) | (first_E < 0))
    reversed_E = finite_E & ((offset_E <= onset_E) | (end_E <= first_E))
    # The frame after the last may be one of the file's samples or the first after it.
    beyond_E = finite_E & ((offset_E * rate > samples + FRAME_TOLERANCE) | (end_E > samples))
    apart_E = np.maximum(np.abs(onset_E * rate - first_E), np.abs(offset_E * rate - end_E))
    differ_E = finite_E & (apart_E > FRAME_TOLERANCE)

    def told(event: int) -> str:
        return f"{onset_E[event]:.6g} to {offset_E[event]:.6g} s, frames {first_E[event]:.12g} to {end_E[event]:.12g}"

    return [
        *_first(name, "not finite", ~finite_E, lambda e: f"{told(e)}: must be numbers"),
        *_first(name, "negative", negative_E, lambda e: f"{told(e)}: starts before the recording"),
        *_first(name, "reversed", reversed_E, lambda e: f"{told(e)}: does not end after it starts"),
        *_first(
            name, "beyond the end", beyond_E,
            lambda e: f"{told(e)}: the recording has {samples} frames, {samples / rate:.6g} s",
        ),
        *_first(
            name, "times and frames", differ_E,
            lambda e: f"{told(e)}: {apart_E[e]:.6g} frames apart at {rate} Hz",
        ),
    ]  # fmt: skip


def _class_problems(
    name: str, values: dict[str, np.ndarray], labels: list[str], classes: tuple[str, ...]
) -> list[Problem]:
    known = {label: number for number, label in enumerate(classes)}
    number_E, focal_E = values["lbl_cat"], values["foc"]
    unknown_E = np.array([label not in known for label in labels], bool)
    right_E = np.array([known.get(label, -1) for label in labels], np.float64)
    return [
        *_first(
            name, "class", unknown_E,
            lambda e: f"{labels[e]!r} is no class ({', '.join(classes)})" if labels[e] else "has no class",
        ),
        *_first(
            name, "class number", ~unknown_E & (number_E != right_E),
            lambda e: f"lbl_cat is {number_E[e]:g}, {labels[e]} is number {right_E[e]:g}",
        ),
        *_first(name, "focal", ~np.isin(focal_E, (0, 1)), lambda e: f"foc is {focal_E[e]:g}; it must be 1 or 0"),
    ]  # fmt: skip


def _first(name: str, kind: str, wrong_E: np.ndarray, told: Callable[[int], str]) -> list[Problem]:
    """A problem for the first event that is wrong, where there is one."""
    events = np.flatnonzero(wrong_E)
    if not len(events):
        return []
    more = f" (and {len(events) - 1} more)" if len(events) > 1 else ""
    return [Problem(kind, name, f"event {events[0] + 1}", told(int(events[0])) + more)]
