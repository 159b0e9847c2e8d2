"""Augmentation: levels are reached, labels are those of what is heard, nothing comes from elsewhere."""

from pathlib import Path

import numpy as np
import pytest
from a2v_data.augment import (
    AugmentConfig,
    Augmenter,
    BackgroundConfig,
    PasteConfig,
    draw_place,
    faded,
    mark_pasted,
    paste,
)
from a2v_data.corpus import SEGMENT_DTYPE, Corpus
from a2v_data.training_part import TrainingPart
from data_calls import CLASSES, FRAME, RATE, call_corpus, noise, unreadable
from pydantic import ValidationError

N, T = 2000, 200
ONE = {"probability": 1.0, "most": 1, "silent_share": 0.0}
ALL = AugmentConfig(paste=PasteConfig(probability=1, most=4), background=BackgroundConfig(probability=1), gain_db=6.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Crowded recordings: events of all lengths that touch and overlap; the last one is unlabelled."""
    rng = np.random.default_rng(3)
    events = []
    for _ in range(4):
        onset = np.sort(rng.uniform(0, 19, 40))
        length = rng.choice([0.004, 0.05, 0.2, 0.5, 3.0], 40, p=[0.2, 0.3, 0.3, 0.17, 0.03])
        offset = np.minimum(onset + length, 20)
        numbers = rng.integers(0, 3, 40).tolist()
        events.append(list(zip(numbers, onset.tolist(), offset.tolist(), strict=True)))
    audio = [noise(20_000, seed=n) for n in range(5)]
    return call_corpus(tmp_path_factory.mktemp("calls") / "c", audio, [*events, []], unlabelled=[4])


def batch(seed: int, segments: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([5, seed])
    lengths = np.where(np.arange(segments) % 3 == 2, rng.integers(30, N, segments), N)
    waveform = rng.normal(0, 0.05, (segments, N)).astype(np.float32)
    waveform *= np.arange(N) < lengths[:, None]
    return waveform, lengths, np.zeros((segments, T, len(CLASSES)), np.float32)


def test_a_pasted_event_has_the_level_that_was_asked_for(tmp_path: Path) -> None:
    tone = noise(9000, 1.0)
    tone[4000:4300] += 4000 * np.sin(1.1 * np.arange(300)) + 800  # an offset, which is no sound
    part = TrainingPart(call_corpus(tmp_path / "c", [tone], [[(1, 4.0, 4.3)]]), [0])
    reached = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        before = rng.normal(0, 0.01 * 10 ** (seed % 3 / 2), N).astype(np.float32)
        after, target = before.copy(), np.zeros((T, 3), np.float32)
        config = PasteConfig(**ONE, context_s=(0, 0), fade_s=0.0, snr_db=(-4, 15))
        paste(after, target, part, FRAME, config, 0.5, rng)
        heard = np.flatnonzero(after != before)
        first, last = heard[0], heard[-1] + 1
        assert last - first == 300
        level = np.sqrt(np.mean((after - before)[first:last].astype(np.float64) ** 2))
        around = before[max(first - 250, 0) : last + 250]
        reached.append(20 * np.log10(level / around.std()))
        assert target[:, 1].sum() == pytest.approx(30, abs=1) and not target[:, [0, 2]].any()
    assert -4.01 < min(reached) < -3 and 14 < max(reached) < 15.01
    assert np.mean(reached) == pytest.approx(5.5, abs=1)  # uniform
    assert np.std(reached) == pytest.approx(19 / 12**0.5, abs=0.6)


def test_what_cannot_reach_its_level_is_not_pasted_nor_labelled(tmp_path: Path) -> None:
    quiet = np.zeros(9000)
    quiet[4000:4200] = np.resize([1, -1], 200)
    part = TrainingPart(call_corpus(tmp_path / "c", [quiet], [[(1, 4.0, 4.2), (0, 6.0, 6.1)]]), [0])
    loud = np.random.default_rng(0).normal(0, 0.1, N).astype(np.float32)
    for before in (loud, np.zeros(N, np.float32)):
        after, target = before.copy(), np.zeros((T, 3), np.float32)
        for seed in range(20):
            paste(after, target, part, FRAME, PasteConfig(**ONE), 0.5, np.random.default_rng(seed))
        assert (after == before).all() and not target.any()


def test_targets_are_those_of_the_same_event_annotated_there(corpus: Corpus, tmp_path: Path) -> None:
    part, rng = TrainingPart(corpus, range(4)), np.random.default_rng(0)
    places, expected, found = [], [], []
    while len(places) < 150:
        place = draw_place(part, N, PasteConfig(silent_share=0), 0.5, rng)
        assert place is not None
        own = corpus.labels(place.recording)
        starts, ends = np.round(own["onset_s"] * RATE), np.round(own["offset_s"] * RATE)
        if ((starts < place.end) & (ends > place.start)).sum() > 1 or place.end - place.start == N:
            continue  # alone and whole
        event = own[(starts == place.start) & (ends == place.end)][0]
        at = int(rng.integers(0, N - (place.end - place.start) + 1))
        target = np.zeros((T, len(CLASSES)), np.float32)
        mark_pasted(target, part, place, at, FRAME)
        shift = (at - place.start) / RATE
        places.append(place)
        found.append(target)
        expected.append([(int(event["class"]), event["onset_s"] + shift, event["offset_s"] + shift)])
    there = call_corpus(tmp_path / "there", [noise(N)] * len(places), expected)
    segments = np.array([(number, 0) for number in range(len(places))], SEGMENT_DTYPE)
    assert (np.array(found) == there.targets(segments, RATE / FRAME, T)).all()
    assert all(target.any() for target in found)  # an event shorter than a frame has one, too


def test_what_overlaps_a_pasted_event_is_labelled_too(tmp_path: Path) -> None:
    events = [(0, 1.0, 1.4), (1, 1.2, 1.8)]
    part = TrainingPart(call_corpus(tmp_path / "c", [noise(3000)], [events]), [0])
    place = draw_place(part, 200, PasteConfig(silent_share=0), 0.5, np.random.default_rng(0))
    assert place is not None and place.end - place.start == 200  # a cut, as neither fits
    seen = set()
    for seed in range(40):
        place = draw_place(part, N, PasteConfig(silent_share=0), 0.5, np.random.default_rng(seed))
        assert place is not None
        target = np.zeros((T, 3), np.float32)
        mark_pasted(target, part, place, 500, FRAME)
        frames = [np.flatnonzero(target[:, number]).tolist() for number in range(3)]
        if place.start == 1000:
            assert frames == [list(range(50, 90)), list(range(70, 90)), []]
            assert place.last == place.end and place.first < place.start  # no context within the other
        else:
            assert frames == [list(range(50, 70)), list(range(50, 110)), []]
        seen.add(place.start)
    assert seen == {1000, 1200}


def test_neighbours_are_never_in_the_context_nor_events_in_silence(corpus: Corpus) -> None:
    part, rng = TrainingPart(corpus, [0, 2, 3, 4]), np.random.default_rng(0)
    contexts = []
    config = PasteConfig(silent_share=0.4, context_s=(0.0, 0.3))
    for _ in range(3000):
        place = draw_place(part, N, config, 0.5, rng)
        assert place is not None
        assert 0 <= place.first <= place.start < place.end <= place.last <= 20_000
        own = corpus.labels([0, 2, 3, 4][place.recording])
        sounding = np.zeros(20_000, bool)
        for onset, offset in zip(np.round(own["onset_s"] * RATE), np.round(own["offset_s"] * RATE), strict=True):
            sounding[int(onset) : int(offset)] = True
        outside = np.concatenate([sounding[place.first : place.start], sounding[place.end : place.last]])
        assert not outside.any()
        assert sounding[place.start : place.end].any() != place.silent
        contexts.append(place.start - place.first)
        if place.silent:
            assert part.position(place.recording) != 4  # unlabelled: who knows what calls there
            assert place.end - place.start <= 400
    assert max(contexts) > 250


def test_it_is_a_pure_function_of_the_generator(corpus: Corpus) -> None:
    given = batch(0)
    kept = [part.copy() for part in given]

    def augmented(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng, augmenter = np.random.default_rng(seed), Augmenter(TrainingPart(corpus, [3, 1, 0]), FRAME, ALL)
        return *augmenter(*given, rng), augmenter.gains(8, rng)

    first, again, other = augmented(1), augmented(1), augmented(2)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first[0] != other[0]).any() and (first[1] != other[1]).any()
    assert all((a == b).all() for a, b in zip(given, kept, strict=True))
    assert (np.abs(20 * np.log10(first[2])) <= 6.0001).all() and first[2].std() > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_only_training_recordings_are_heard_and_padding_stays(corpus: Corpus, seed: int) -> None:
    guarded = unreadable(corpus, [1, 3])
    augmenter = Augmenter(TrainingPart(guarded, [0, 2]), FRAME, ALL)
    heard = 0
    for number in range(30):
        waveform, lengths, target = batch(number)
        after, marked = augmenter(waveform, lengths, target, np.random.default_rng([seed, number]))
        assert np.isfinite(after).all()
        heard += (after != waveform).any(1).sum()
        for row, length in enumerate(lengths):
            assert not after[row, length:].any() and not marked[row, -(-length // FRAME) :].any()
    assert heard > 200
    reached = Augmenter(TrainingPart(guarded, [0, 1]), FRAME, ALL)(*batch(0), np.random.default_rng(seed))
    assert np.isnan(reached[0]).any()  # the guard works


def test_an_event_longer_than_the_segment_is_cut(tmp_path: Path) -> None:
    part = TrainingPart(call_corpus(tmp_path / "c", [noise(30_000, 3000)], [[(2, 4.0, 24.0)]]), [0])
    starts = []
    for seed in range(50):
        place = draw_place(part, 700, PasteConfig(silent_share=0), 0.5, np.random.default_rng(seed))
        assert place is not None and place.end - place.start == 700 and 4000 <= place.start <= 23_300
        starts.append(place.start)
    assert np.std(starts) > 3000
    target = np.zeros((70, 3), np.float32)
    paste(np.full(700, 0.1, np.float32) * noise(700, 1.0).astype(np.float32), target, part, FRAME,
          PasteConfig(**ONE), 0.5, np.random.default_rng(0))  # fmt: skip
    assert target[:, 2].all() and not target[:, :2].any()


def test_a_background_brings_its_labels_where_it_is_loud(tmp_path: Path) -> None:
    corpus = call_corpus(tmp_path / "c", [noise(N)], [[(1, 0.5, 0.9)]])
    labels = corpus.targets(np.array([(0, 0)], SEGMENT_DTYPE), RATE / FRAME, T)[0]
    sound = corpus.waveforms(np.array([(0, 0)], SEGMENT_DTYPE), N)[0][0]
    for gain_db, labelled in ((-7.9, True), (-8.1, False)):
        config = AugmentConfig(background=BackgroundConfig(probability=1, gain_db=(gain_db, gain_db)))
        waveform, target = np.zeros((1, N), np.float32), np.zeros((1, T, 3), np.float32)
        augmenter = Augmenter(TrainingPart(corpus, [0]), FRAME, config)
        after, marked = augmenter(waveform, np.array([N]), target, np.random.default_rng(0))
        assert np.allclose(after[0], sound * 10 ** (gain_db / 20), atol=1e-7)
        assert (marked[0] == (labels if labelled else 0)).all()


def test_without_events_only_silence_is_pasted(tmp_path: Path) -> None:
    corpus = call_corpus(tmp_path / "c", [noise(9000)], [[]])
    augmenter = Augmenter(TrainingPart(corpus, [0]), FRAME, ALL)
    after, marked = augmenter(*batch(0), np.random.default_rng(0))
    assert not marked.any() and (after != batch(0)[0]).any()


def test_ends_fade() -> None:
    snippet = faded(np.tile([0.9, 1.1, 1.1, 0.9], 50).astype(np.float32), 8)
    assert np.abs(snippet[[0, -1]]).max() < 0.002 and np.abs(snippet[8:-8]) == pytest.approx(0.1, abs=1e-6)
    assert np.isfinite(faded(np.ones(3, np.float32), 8)).all()


@pytest.mark.parametrize(
    "wrong",
    [{"paste": {"snr_db": [15, -4]}}, {"paste": {"most": 0}}, {"paste": {"context_s": [-0.1, 0]}},
     {"background": {"probability": 1.5}}, {"gain_db": -1}, {"pasting": {}}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AugmentConfig.model_validate(wrong)
