"""The packed corpus: segments lose nothing, waveforms are the samples, frame targets are as defined."""

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from a2v_data.corpus import SEGMENT_DTYPE, Corpus
from a2v_data.corpus_files import EVENT_DTYPE, CorpusWriter
from a2v_data.storage import written_aside

RATE = 1000


def build(
    folder: Path,
    lengths: list[int],
    events: list[tuple[int, int, float, float]],
    unlabelled: tuple[int, ...] = (),
) -> Corpus:
    """Recordings whose samples count on through the whole corpus, so that each value names its position."""
    with written_aside(folder) as aside:
        writer = CorpusWriter(aside, RATE, ["a", "b"])
        position = 0
        for number, length in enumerate(lengths):
            samples = np.arange(position, position + length, dtype=np.int16)
            writer.add(f"r{number}.wav", samples, number not in unlabelled, RATE, length, 1.0)
            position += length
        writer.finish(np.array(events, EVENT_DTYPE), source={"audio_folder": "/somewhere"}, problems=[], notices=[])
    return Corpus.open(folder)


def at(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(list(pairs), SEGMENT_DTYPE)


def test_segments_cover_every_sample(tmp_path: Path) -> None:
    corpus = build(tmp_path / "c", [2500, 400, 1000, 3000], [], unlabelled=(2,))
    assert corpus.segments(1.0).tolist() == [
        (0, 0), (0, 1000), (0, 1500),  # the last one is shifted back to end with the recording
        (1, 0),  # shorter than a segment: one, padded
        (2, 0),
        (3, 0), (3, 1000), (3, 2000),
    ]  # fmt: skip
    assert corpus.segments(1.0, labelled_only=True)["recording"].tolist() == [0, 0, 0, 1, 3, 3, 3]
    assert corpus.segments(1.0, 0.6, recordings=[0]).tolist() == [(0, 0), (0, 600), (0, 1200), (0, 1500)]
    assert len(corpus.segments(1.0, recordings=[])) == 0
    with pytest.raises(ValueError, match=r"hop_s: 2\.0 is longer"):
        corpus.segments(1.0, 2.0)
    with pytest.raises(ValueError, match="segment_s: 0 s holds no sample"):
        corpus.segments(0)


def test_waveforms_are_the_stored_samples(tmp_path: Path) -> None:
    corpus = build(tmp_path / "c", [2500, 400, 1000], [])
    waveform, lengths = corpus.waveforms(at((0, 1500), (1, 0), (2, 250)), 1000)
    assert waveform.dtype == np.float32 and lengths.tolist() == [1000, 400, 750]
    assert np.array_equal(waveform[0] * 32768, np.arange(1500, 2500))
    assert np.array_equal(waveform[1] * 32768, np.r_[np.arange(2500, 2900), np.zeros(600)])
    assert np.array_equal(waveform[2] * 32768, np.r_[np.arange(3150, 3900), np.zeros(250)])


def frames_of(corpus: Corpus, start: int = 0, frame_rate: float = 10.0, frames: int = 10) -> list[list[int]]:
    target = corpus.targets(at((0, start)), frame_rate, frames)
    assert target.shape == (1, frames, 2) and set(np.unique(target)) <= {0.0, 1.0}
    return [np.flatnonzero(target[0, :, number]).tolist() for number in range(2)]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ((0.10, 0.30), [1, 2]),  # frames [.1, .2) and [.2, .3), centres .15 and .25
        ((0.15, 0.25), [1, 2]),  # onset on a centre: it is in. The middle, .2, is in frame 2
        ((0.16, 0.34), [2]),  # centres .15 and .35 are outside
        ((0.16, 0.35), [2]),  # offset on a centre: it is out
        ((0.16, 0.36), [2, 3]),
        ((0.11, 0.14), [1]),  # no centre inside: the frame of the middle, .125
        ((0.17, 0.22), [1]),  # middle .195, though more than a third of it is in frame 2
        ((0.95, 1.45), [9]),  # goes on after the segment: the middle, 1.2, is not in it
        ((0.96, 1.02), [9]),  # middle .99
        ((0.97, 1.05), []),  # middle 1.01 is in the next segment
        ((0.00, 2.00), list(range(10))),
    ],
)
def test_frame_targets(tmp_path: Path, event: tuple[float, float], expected: list[int]) -> None:
    corpus = build(tmp_path / "c", [3000], [(0, 1, *event)])
    assert frames_of(corpus) == [[], expected]


def test_frame_targets_count_from_the_segments_start(tmp_path: Path) -> None:
    corpus = build(tmp_path / "c", [3000, 100], [(0, 0, 1.16, 1.36), (0, 1, 0.97, 1.05), (1, 0, 0.0, 0.1)])
    assert frames_of(corpus, start=1000) == [[2, 3], [0]]  # the second one's middle, 1.01, is in frame 0
    assert frames_of(corpus, start=1150) == [[0, 1], []]  # frames begin at 1.15 s, centres at 1.20 and 1.30
    assert frames_of(corpus, start=0) == [[], []]
    assert corpus.targets(at((1, 0)), 10.0, 2)[0].tolist() == [[1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("seed", range(5))
def test_frame_targets_against_the_definition(tmp_path: Path, seed: int) -> None:
    """The definition in plain loops, on random events and segments."""
    rng = np.random.default_rng(seed)
    onset = rng.uniform(0, 4.8, 40)
    events = [
        (0, int(c), float(t), min(float(t + d), 5.0))
        for c, t, d in zip(rng.integers(0, 2, 40), onset, rng.exponential(0.05, 40) + 1e-3, strict=True)
    ]
    corpus = build(tmp_path / "c", [5000], events)
    starts = rng.integers(0, 4000, 8)
    found = corpus.targets(at(*[(0, int(start)) for start in starts]), 40.0, 40)
    expected = np.zeros_like(found)
    for row, start in enumerate(starts / RATE):
        for _, number, begin, end in events:
            for frame in range(40):
                low, high = start + frame / 40, start + (frame + 1) / 40
                if begin <= (low + high) / 2 < end or low <= (begin + end) / 2 < high:
                    expected[row, frame, number] = 1
    assert np.array_equal(found, expected)
    assert 0 < expected.mean() < 1


def test_labels_and_names(tmp_path: Path) -> None:
    corpus = build(tmp_path / "c", [1000] * 3, [(2, 0, 0.5, 0.6), (0, 1, 0.3, 0.4), (0, 0, 0.1, 0.2)])
    assert [tuple(event) for event in corpus.labels(0)] == [(0, 0, 0.1, 0.2), (0, 1, 0.3, 0.4)]
    assert len(corpus.labels(1)) == 0 and len(corpus.labels(2)) == 1
    assert corpus.indices(["r2.wav", "r0.wav"]) == [2, 0]
    with pytest.raises(ValueError, match=r"no recording 'x\.wav' \(1 of 2 unknown\)"):
        corpus.indices(["r0.wav", "x.wav"])


def test_pickling_sends_the_name_not_the_audio(tmp_path: Path) -> None:
    corpus = build(tmp_path / "c", [20_000], [(0, 0, 0.1, 0.2)])
    assert len(pickle.dumps(corpus)) < 1000
    again = copy.copy(corpus)  # by the same road as pickling
    assert np.array_equal(again.events, corpus.events) and np.array_equal(again.audio, corpus.audio)


def test_a_corpus_is_complete_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), written_aside(tmp_path / "c") as aside:
        CorpusWriter(aside, RATE, ["a"]).add("r", np.ones(9, np.int16), True, RATE, 9, 1.0)
        raise RuntimeError("power cut")
    assert list(tmp_path.iterdir()) == []
    build(tmp_path / "c", [10], [])
    with pytest.raises(ValueError, match="exists already"):
        build(tmp_path / "c", [10], [])


def test_damage_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no packed corpus \(corpus\.json is missing\)"):
        Corpus.open(tmp_path)
    corpus = build(tmp_path / "c", [100], [(0, 0, 0.01, 0.02)])
    corpus.verify()
    audio, events, meta = (tmp_path / "c" / name for name in ("audio.i16", "events.npy", "corpus.json"))
    content = audio.read_bytes()
    audio.write_bytes(content[:-1] + b"\x7f")
    with pytest.raises(ValueError, match="changed since it was written"):
        Corpus.open(tmp_path / "c").verify()
    audio.write_bytes(content[:-2])
    with pytest.raises(ValueError, match=r"198 bytes, corpus\.json says 200"):
        Corpus.open(tmp_path / "c")
    audio.write_bytes(content)
    original = events.read_bytes()
    events.write_bytes(original[:-1] + b"\x01")
    with pytest.raises(ValueError, match=r"events\.npy: missing or changed"):
        Corpus.open(tmp_path / "c")
    events.write_bytes(original)
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "format_version": 99}))
    with pytest.raises(ValueError, match="format version 99, this a2v reads 3"):
        Corpus.open(tmp_path / "c")
    meta.write_text("{")
    with pytest.raises(ValueError, match="not a corpus description"):
        Corpus.open(tmp_path / "c")
