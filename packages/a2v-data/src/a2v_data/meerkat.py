"""The form in which MeerKAT was published: wav/, one HDF5 label file per segment in lbl/, and manifest/.

A label file holds one value per event in each of: start_time_lbl, end_time_lbl (seconds from the segment's
start), start_frame_lbl, end_frame_lbl (samples), lbl (class name), lbl_cat (its number in MEERKAT_CLASSES),
foc (1 where the animal with the recorder called).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from a2v_data.annotations import Annotation, event_problems

MEERKAT_CLASSES = ("beep", "synch", "sn", "cc", "ld", "oth", "mo", "al", "soc", "agg", "eating", "focal")
LABEL_SUFFIXES = (".h5", ".hdf5")
LABEL_FIELDS = (
    "start_time_lbl", "end_time_lbl", "start_frame_lbl", "end_frame_lbl", "lbl", "lbl_cat", "foc",
)  # fmt: skip
# What h5py raises on a damaged file, found by damaging one at random; MemoryError for a size that is not real.
HDF5_ERRORS = (OSError, ValueError, TypeError, KeyError, RuntimeError, MemoryError)
NEEDED_FIELDS = ("start_time_lbl", "end_time_lbl", "foc")


def label_path(label_folder: Path, name: str) -> Path | None:
    """The label file of the recording `name` (relative to wav/), None where there is none."""
    for suffix in LABEL_SUFFIXES:
        path = (label_folder / name).with_suffix(suffix)
        if path.is_file():
            return path
    return None


def read_labels(path: Path, name: str, shown: str) -> tuple[list[Annotation], list[str]]:
    """Events of one label file, for recording `name`, and one line for everything that is wrong in it.

    `shown` is how messages name the file; events are counted from 1.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            missing = [field for field in NEEDED_FIELDS if field not in file]
            if "lbl" not in file and "lbl_cat" not in file:
                missing.append("lbl")
            if missing:
                return [], [
                    f"{shown}: no field {', '.join(missing)}; it must have {', '.join(NEEDED_FIELDS)}, lbl"
                ]
            onset_s, offset_s = (np.asarray(file[key], np.float64).ravel() for key in NEEDED_FIELDS[:2])
            focal = np.asarray(file["foc"]).ravel().astype(bool)
            labels = _class_names(file)
    except HDF5_ERRORS as error:
        return [], [f"{shown}: not readable as HDF5 labels ({error}); export it again"]
    lengths = {len(onset_s), len(offset_s), len(labels), len(focal)}
    if len(lengths) != 1:
        return [], [f"{shown}: its fields have {sorted(lengths)} entries; each must have one per event"]
    events, problems = [], []
    for number, values in enumerate(zip(onset_s, offset_s, labels, focal, strict=True), start=1):
        onset, offset, label, foc = float(values[0]), float(values[1]), values[2], bool(values[3])
        where = f"{shown}, event {number}"
        wrong = event_problems(onset, offset, label)
        if not (np.isfinite(onset) and np.isfinite(offset)):
            wrong = [f"times are {onset} and {offset}; they must be finite numbers of seconds"]
        problems += [f"{where}: {problem}" for problem in wrong]
        events.append(Annotation(name, onset, offset, label, foc, where))
    return events, problems


def _class_names(file) -> list[str]:  # type: ignore[no-untyped-def]  # an open h5py.File
    """Class names from `lbl`, or from the numbers in `lbl_cat` where `lbl` holds no text."""
    if "lbl" in file and file["lbl"].dtype.kind in "SO":
        return decoded(file["lbl"][()])
    numbers = np.asarray(file["lbl_cat" if "lbl_cat" in file else "lbl"]).ravel().astype(int)
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(MEERKAT_CLASSES)):
        raise ValueError(f"class number outside 0 to {len(MEERKAT_CLASSES) - 1}")
    return [MEERKAT_CLASSES[number] for number in numbers]


def decoded(names: np.ndarray) -> list[str]:
    """Class names as text, from bytes or objects. Raises `UnicodeDecodeError` for what is not UTF-8."""
    return [value.decode() if isinstance(value, bytes) else str(value) for value in names.ravel()]


def write_labels(path: Path, events: Sequence[tuple[str, int, int, bool]], sample_rate: int) -> None:
    """Write one label file from (class name, first sample, sample after the last, focal), by onset."""
    import h5py

    events = sorted(events, key=lambda event: event[1:3])
    start = np.array([event[1] for event in events], np.int64)
    end = np.array([event[2] for event in events], np.int64)
    fields = {
        "start_time_lbl": start / sample_rate,
        "end_time_lbl": end / sample_rate,
        "start_frame_lbl": start,
        "end_frame_lbl": end,
        "lbl": np.array([event[0].encode() for event in events], "S8"),
        "lbl_cat": np.array([MEERKAT_CLASSES.index(event[0]) for event in events], np.int64),
        "foc": np.array([event[3] for event in events], np.int64),
    }
    with h5py.File(path, "w", libver="v110") as file:
        for name, values in fields.items():
            # Without times in the file, the same labels give the same bytes.
            file.create_dataset(name, data=values, track_times=False)
