"""What a frozen backbone hears in recordings, computed once and kept: a head can then be trained in seconds.

Contract. WORK/features/MARK/ holds a file per recording, NAME.npy: float16 (T, D), T = ceil(samples / samples per
frame). MARK is of everything in the model and the settings that features depend on, NAME of the recording's samples at
the model's rate: what is there is right, whatever folder the recording lies in and whatever its labels say. A file is
written aside and renamed, so it is whole or not there; a stop loses the recording at hand, and two processes that make
the same file both leave a right one.

T frames, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from a2v_data.corpus import Corpus
from a2v_data.storage import require_free_space, write_array_aside
from a2v_model import Detector, in_bfloat16
from numpy.typing import NDArray

from ..basics.fingerprint import fingerprint
from ..inference import recording_features, recording_stretches

Features = NDArray[np.float16]
HEADER_BYTES = 128  # of an .npy file
LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class FeatureCache:
    """Where the features of one model's backbone are kept, and how they are made.

    backbone: fingerprint of the model's weights and sizes. segment_s, overlap_s: windows, in seconds, as in prediction.
    precision: as in recipes.
    """

    folder: Path
    backbone: str
    segment_s: float
    overlap_s: float
    precision: str = "auto"

    def place(self, model: Detector) -> Path:
        """The folder of all features that this model makes with these windows on this machine."""
        device = next(model.parameters()).device
        config = {
            "average_layers": model.averaged,
            "segment_s": self.segment_s,
            "overlap_s": self.overlap_s,
            "precision": "bfloat16" if in_bfloat16(self.precision, device) else "float32",
        }
        return self.folder / fingerprint("features", config, self.backbone)[:16]


@dataclass(frozen=True)
class Missing:
    """What is still to be computed. seconds: of audio; windows: of it; bytes: on disk, all_bytes with what is there
    already."""

    recordings: list[int]
    seconds: float
    windows: int
    bytes: int
    all_bytes: int


def recording_mark(corpus: Corpus, recording: int) -> str:
    """Fingerprint of a recording's samples as they are packed."""
    one = corpus.recordings[recording]
    samples_N = np.ascontiguousarray(corpus.audio[one.offset : one.offset + one.n_samples])
    return hashlib.blake2b(samples_N.data, digest_size=16).hexdigest()


def feature_files(cache: FeatureCache, model: Detector, corpus: Corpus, recordings: Sequence[int]) -> dict[int, Path]:
    """Recording -> its file, whether it is there or not."""
    folder = cache.place(model)
    return {number: folder / f"{recording_mark(corpus, number)}.npy" for number in recordings}


def frames_of(model: Detector, corpus: Corpus, recording: int) -> int:
    """Frames of a recording; one that has begun counts."""
    stride = model.for_rate(corpus.rate(recording)).model_config.front_end.stride
    return -(-corpus.recordings[recording].n_samples // stride)


def missing(cache: FeatureCache, model: Detector, corpus: Corpus, files: dict[int, Path]) -> Missing:
    """What `compute` would do for these files."""

    def size(recording: int) -> int:
        return HEADER_BYTES + 2 * frames_of(model, corpus, recording) * model.model_config.encoder.dim

    left = [number for number, path in files.items() if not path.is_file()]
    stretches = recording_stretches(corpus, left, model.model_config.front_end, cache.segment_s, cache.overlap_s)
    windows = sum(len(one.windows) for one in stretches)
    return Missing(left, corpus.seconds(left), windows, sum(map(size, left)), sum(map(size, files)))


def compute(
    cache: FeatureCache,
    model: Detector,
    corpus: Corpus,
    files: dict[int, Path],
    progress: Callable[[int], object] = lambda windows: None,
) -> None:
    """Compute and write the files that are not there. progress is called with the number of windows done since.

    Raises ValueError where the disk has no room for them, before anything is computed, or features are no numbers.
    """
    left = missing(cache, model, corpus, files)
    if not left.recordings:
        return
    place = cache.place(model)
    require_free_space(place, left.bytes)
    place.mkdir(parents=True, exist_ok=True)
    found = recording_features(
        model, corpus, left.recordings, cache.segment_s, cache.overlap_s, precision=cache.precision, progress=progress
    )
    for recording, features_TD in found:
        if not np.isfinite(features_TD).all():
            raise ValueError(f"{corpus.recordings[recording].name}: the model's features hold NaN: its weights are bad")
        write_array_aside(files[recording], np.clip(features_TD, -LARGEST, LARGEST).astype(np.float16))


def read_features(files: dict[int, Path]) -> dict[int, Features]:
    """Recording -> its features (T, D), memory-mapped."""
    return {recording: np.load(path, mmap_mode="r") for recording, path in files.items()}
