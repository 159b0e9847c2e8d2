"""Look into prepared folders, and compare stores."""

from pathlib import Path

import h5py
import numpy as np
import soundfile
from a2v_data.corpus import Corpus


def events_of(corpus: Corpus, name: str) -> list[tuple[str, float, float]]:
    """(class, onset, offset) of one recording."""
    rows = corpus.labels(corpus.indices([name])[0])
    return [(corpus.classes[row["class"]], float(row["onset_s"]), float(row["offset_s"])) for row in rows]


def samples_of(folder: Path, name: str) -> np.ndarray:
    """int16 samples of one segment."""
    return soundfile.read(folder / "wav" / name, dtype="int16")[0]


def fields_of(folder: Path, name: str) -> dict[str, list]:
    """Label fields of one segment."""
    with h5py.File((folder / "lbl" / name).with_suffix(".h5")) as file:
        return {key: file[key][()].tolist() for key in file}


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of every file of a prepared folder that does not depend on when and where it was made."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    skipped = (".prepare.jsonl", "pretrain.tsv")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.name not in skipped}


def times_of(folder: Path) -> dict[str, int]:
    """When each segment and label file was written."""
    paths = [*(folder / "wav").rglob("*.wav"), *(folder / "lbl").rglob("*.h5")]
    return {path.relative_to(folder).as_posix(): path.stat().st_ino for path in paths}


def assert_same(one: Corpus, other: Corpus) -> None:
    """Same samples, same recordings, same events; times to half a sample, which is what cutting may move them."""
    assert one.classes == other.classes and one.recordings == other.recordings
    assert np.array_equal(one.audio, other.audio)
    assert len(one.events) == len(other.events)
    for field in ("recording", "class"):
        assert np.array_equal(one.events[field], other.events[field])
    for field in ("onset_s", "offset_s"):
        assert np.abs(one.events[field] - other.events[field]).max(initial=0) <= 0.5 / one.sample_rate
