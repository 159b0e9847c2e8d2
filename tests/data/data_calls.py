"""A small packed corpus for the tests of sampling and augmentation, every sample and event given."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from a2v_data.corpus import Corpus
from a2v_data.corpus_files import EVENT_DTYPE, CorpusWriter
from a2v_data.storage import written_aside

RATE, FRAME = 1000, 10  # 100 frames a second
CLASSES = ["rare", "common", "third"]
Events = Sequence[tuple[int, float, float]]  # class, onset, offset in s


def call_corpus(
    folder: Path, audio: Sequence[np.ndarray], events: Sequence[Events], unlabelled: Sequence[int] = ()
) -> Corpus:
    with written_aside(folder) as aside:
        writer = CorpusWriter(aside, RATE, CLASSES)
        for number, samples in enumerate(audio):
            stored = np.round(samples).astype(np.int16)
            writer.add(f"r{number}.wav", stored, number not in unlabelled, RATE, len(samples), 1.0)
        rows = [(number, *event) for number, own in enumerate(events) for event in own]
        writer.finish(np.array(rows, EVENT_DTYPE), source={"audio_folder": "x"}, problems=[], notices=[])
    return Corpus.open(folder)


def noise(samples: int, level: float = 300, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([9, seed]).normal(0, level, samples)


def unreadable(corpus: Corpus, recordings: Sequence[int]) -> Corpus:
    """The same, but for samples of some recordings that turn whatever they are added to into no number."""
    audio = np.array(corpus.audio, np.float32)
    for number in recordings:
        recording = corpus.recordings[number]
        audio[recording.offset : recording.offset + recording.n_samples] = np.nan
    return replace(corpus, audio=audio)
