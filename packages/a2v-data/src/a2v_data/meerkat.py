"""The form in which MeerKAT was published: wav/, one HDF5 label file per segment in lbl/, and manifest/.

A label file holds one value per event in each of: start_time_lbl, end_time_lbl (seconds from the segment's
start), start_frame_lbl, end_frame_lbl (samples), lbl (class name), lbl_cat (its number in MEERKAT_CLASSES),
foc (1 where the animal with the recorder called). Folders that `prepare.py` wrote have event_id as well: the number of
the event in its recording, the same for all pieces of an event that a segment's border cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from a2v_data.annotations import Annotation, event_problems
from a2v_data.hdf5 import Hdf5Error, opened, read_numbers, read_values
from a2v_data.table_files import LABEL_SUFFIXES

MEERKAT_CLASSES = ("beep", "synch", "sn", "cc", "ld", "oth", "mo", "al", "soc", "agg", "eating", "focal")
LABEL_FIELDS = (
    "start_time_lbl", "end_time_lbl", "start_frame_lbl", "end_frame_lbl", "lbl", "lbl_cat", "foc",
)  # fmt: skip
MOST_EVENTS = 1_000_000  # in a label file
LONGEST_NAME = 1000  # of a class, characters
NEEDED_FIELDS = ("start_time_lbl", "end_time_lbl", "foc")
EVENT_ID = "event_id"
PREPARED_META, SEGMENTS, RECORDINGS, CLASSES = "prepare.json", "segments.csv", "recordings.csv", "classes.txt"
UNSURE = "unsure.csv"
SYNTHETIC_META = "synth.json"  # see `synth.py`
JOURNAL = ".prepare.jsonl"  # see `journal.py`
PREPARED_TABLES = (SEGMENTS, RECORDINGS, CLASSES, UNSURE)  # what else `prepare.py` writes, see `prepared.py`


def label_path(label_folder: Path, name: str) -> Path | None:
    """The label file of the recording `name` (relative to wav/), None where there is none."""
    for suffix in LABEL_SUFFIXES:
        path = (label_folder / name).with_suffix(suffix)
        if path.is_file():
            return path
    return None


@dataclass(frozen=True)
class LabelFile:
    """Events of one label file, their numbers within the recording where it has them, and what is wrong in it."""

    events: list[Annotation]
    event_ids: list[int] | None
    problems: list[str]


def read_labels(path: Path, name: str, shown: str) -> tuple[list[Annotation], list[str]]:
    """Events of one label file, for recording `name`, and one line for everything that is wrong in it.

    `shown` is how messages name the file; events are counted from 1.
    """
    labels = read_label_file(path, name, shown)
    return labels.events, labels.problems


def read_label_file(path: Path, name: str, shown: str, classes: Sequence[str] = MEERKAT_CLASSES) -> LabelFile:
    """The same with the events' numbers; `classes` are what `lbl_cat` counts, used where `lbl` holds no text."""
    try:
        with opened(path) as file:
            missing = [field for field in NEEDED_FIELDS if field not in file]
            if "lbl" not in file and "lbl_cat" not in file:
                missing.append("lbl")
            if missing:
                needed = ", ".join(NEEDED_FIELDS)
                return LabelFile([], None, [f"{shown}: no field {', '.join(missing)}; it must have {needed}, lbl"])
            onset_s, offset_s = (
                read_numbers(file, key, MOST_EVENTS).ravel().astype(np.float64) for key in NEEDED_FIELDS[:2]
            )
            focal = read_numbers(file, "foc", MOST_EVENTS).ravel().astype(bool)
            labels = _class_names(file, classes)
            ids = read_numbers(file, EVENT_ID, MOST_EVENTS).ravel().astype(int).tolist() if EVENT_ID in file else None
    except Hdf5Error as error:
        return LabelFile([], None, [f"{shown}: not readable as HDF5 labels ({error}); export it again"])
    lengths = {len(onset_s), len(offset_s), len(labels), len(focal), len(labels if ids is None else ids)}
    if len(lengths) != 1:
        wrong = [f"{shown}: its fields have {sorted(lengths)} entries; each must have one per event"]
        return LabelFile([], None, wrong)
    events, problems = [], []
    for number, (onset, offset, label, foc) in enumerate(
        zip(onset_s.tolist(), offset_s.tolist(), labels, focal.tolist(), strict=True), start=1
    ):
        where = f"{shown}, event {number}"
        wrong = event_problems(onset, offset, label)
        if not (np.isfinite(onset) and np.isfinite(offset)):
            wrong = [f"times are {onset} and {offset}; they must be finite numbers of seconds"]
        problems += [f"{where}: {problem}" for problem in wrong]
        events.append(Annotation(name, onset, offset, label, foc, where))
    return LabelFile(events, ids, problems)


def _class_names(file, classes: Sequence[str]) -> list[str]:  # type: ignore[no-untyped-def]  # an open h5py.File
    """Class names from `lbl`, or from the numbers in `lbl_cat` where `lbl` holds no text."""
    if "lbl" in file and (texts := read_values(file, "lbl", MOST_EVENTS)).dtype.kind in "SO":
        return decoded(texts)
    numbers = read_numbers(file, "lbl_cat" if "lbl_cat" in file else "lbl", MOST_EVENTS).ravel()
    if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
        raise ValueError("a class number is not finite")
    numbers = numbers.astype(int)
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(classes)):
        raise ValueError(f"class number outside 0 to {len(classes) - 1}")
    return [classes[number] for number in numbers]


def decoded(names: np.ndarray) -> list[str]:
    """Class names as text, from bytes or objects. Raises `UnicodeDecodeError` for what is not UTF-8, `Hdf5Error` for
    what is too long for a name."""
    found = [value.decode() if isinstance(value, bytes) else str(value) for value in names.ravel()]
    if (longest := max(map(len, found), default=0)) > LONGEST_NAME:
        raise Hdf5Error(f"lbl holds a text of {longest} characters; a class name has at most {LONGEST_NAME}")
    return found


def write_labels(path: Path, events: Sequence[tuple[str, int, int, bool]], sample_rate: int) -> None:
    """Write one label file of MeerKAT's classes from (class, first sample, sample after the last, focal), by onset."""
    events = sorted(events, key=lambda event: event[1:3])
    write_events(path, [(n, i / sample_rate, j / sample_rate, f, None) for n, i, j, f in events], sample_rate)


def write_events(
    path: Path,
    events: Sequence[tuple[str, float, float, bool, int | None]],
    sample_rate: int,
    classes: Sequence[str] = MEERKAT_CLASSES,
) -> None:
    """Write one label file from (class, onset and offset in seconds, focal, number in the recording or None).

    `classes`: what `lbl_cat` counts. Times are kept as they are; frames are rounded, an event has at least one.
    """
    import h5py

    onset_s = np.array([event[1] for event in events], np.float64)
    offset_s = np.array([event[2] for event in events], np.float64)
    start = np.rint(onset_s * sample_rate).astype(np.int64)
    names = [event[0].encode() for event in events]
    fields = {
        "start_time_lbl": onset_s,
        "end_time_lbl": offset_s,
        "start_frame_lbl": start,
        "end_frame_lbl": np.maximum(np.rint(offset_s * sample_rate).astype(np.int64), start + 1),
        "lbl": np.array(names, f"S{max([8, *map(len, names)])}"),
        "lbl_cat": np.array([classes.index(event[0]) for event in events], np.int64),
        "foc": np.array([event[3] for event in events], np.int64),
    }
    if events and events[0][4] is not None:
        fields[EVENT_ID] = np.array([event[4] for event in events], np.int64)
    with h5py.File(path, "w", libver="v110") as file:
        for name, values in fields.items():
            # Without times in the file, the same labels give the same bytes.
            file.create_dataset(name, data=values, track_times=False)
