"""Event-aware sampling: shares and classes as asked for, events where they should be, recordings never left."""

from pathlib import Path

import numpy as np
import pytest
from a2v_data.corpus import Corpus
from a2v_data.sampling import ActiveConfig, SamplingConfig, activity, draw_active, draw_segments
from a2v_data.training_part import TrainingPart
from data_calls import FRAME, RATE, call_corpus, noise

SAMPLES = 2000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Recordings 0 and 1 to train on, 1 with a rare class and events at its very ends; 2 is not to be heard;
    3 is shorter than a segment; 4 has no event and an odd length."""
    events = [
        [(1, 4 + 2 * n, 4.3 + 2 * n) for n in range(16)],
        [(0, 30.0, 30.2), (2, 0.0, 0.05), (2, 39.98, 40.003)],
        [(0, 1.0, 2.0)] * 3,
        [(2, 0.2, 0.4)],
        [],
    ]
    audio = [noise(samples, seed=n) for n, samples in enumerate([40_000, 40_003, 30_000, 700, 9_999])]
    return call_corpus(tmp_path_factory.mktemp("calls") / "c", audio, events)


def draw(part: TrainingPart, config: SamplingConfig, count: int, seed: int = 0) -> np.ndarray:
    return draw_segments(part, SAMPLES, FRAME, count, config, np.random.default_rng(seed))


def test_classes_are_drawn_by_count_to_the_power(corpus: Corpus) -> None:
    part = TrainingPart(corpus, [0, 1, 3])
    for power, weights in ((0.5, (1, 4, 3**0.5)), (0.0, (1, 1, 1)), (1.0, (1, 16, 3))):
        rng = np.random.default_rng(1)
        drawn = [part.events.number[part.events.draw(power, rng)] for _ in range(6000)]
        share = np.bincount(drawn, minlength=3) / 6000
        assert share == pytest.approx(np.array(weights) / sum(weights), abs=0.02)


def test_the_event_share_is_that_of_segments_with_an_event(corpus: Corpus) -> None:
    part = TrainingPart(corpus, [1, 4])  # 50 s, of whose segments drawn uniformly few hold an event
    plain = draw(part, SamplingConfig(event_share=0), 3000)
    eager = draw(part, SamplingConfig(event_share=0.6), 3000)

    def share(segments: np.ndarray) -> float:
        return float(corpus.targets(segments, RATE / FRAME, SAMPLES // FRAME).any((1, 2)).mean())

    assert share(draw(part, SamplingConfig(event_share=1), 500)) == 1
    assert share(eager) == pytest.approx(0.6 + 0.4 * share(plain), abs=0.03)
    assert (plain["recording"] == 1).mean() == pytest.approx(40_003 / 50_002, abs=0.03)  # by length


def test_an_event_lies_anywhere_in_its_segment_and_whole(corpus: Corpus) -> None:
    part = TrainingPart(corpus, [1])
    segments = draw(part, SamplingConfig(event_share=1, class_power=0), 6000)
    place = 30_000 - segments["start"]  # of the rare event, which is far from the ends
    place = place[(place >= 0) & (place + 200 <= SAMPLES)]
    assert (segments["start"] % FRAME == 0).mean() > 0.6  # but for those that end with the recording
    shares = np.histogram(place, bins=6, range=(0, SAMPLES - 200))[0] / len(place)
    assert shares == pytest.approx(np.full(6, 1 / 6), abs=0.03) and len(place) > 2500
    ends = segments[segments["start"] > 35_000]
    assert len(ends) and (ends["start"] == 40_003 - SAMPLES).all()  # the only start that holds the last event
    assert (segments["start"] >= 0).all() and (segments["start"] + SAMPLES <= 40_003).all()


def test_a_segment_shorter_than_its_event_lies_on_it(tmp_path: Path) -> None:
    corpus = call_corpus(tmp_path / "c", [noise(30_000)], [[(0, 7.0, 16.0)]])
    segments = draw(TrainingPart(corpus, [0]), SamplingConfig(event_share=1), 500)
    assert (segments["start"] >= 7000).all() and (segments["start"] + SAMPLES <= 16_000).all()
    assert segments["start"].min() < 7300 and segments["start"].max() > 13_700


def test_short_recordings_no_events_and_nothing_to_train_on(corpus: Corpus) -> None:
    short = draw(TrainingPart(corpus, [3]), SamplingConfig(event_share=1), 50)
    assert (short["recording"] == 3).all() and (short["start"] == 0).all()
    silent = draw(TrainingPart(corpus, [4]), SamplingConfig(event_share=1), 2000)
    assert (silent["recording"] == 4).all() and silent["start"].std() > 2000  # anywhere
    assert silent["start"].max() == 9_999 - SAMPLES  # up to the last sample
    with pytest.raises(ValueError, match="no recording to train on"):
        TrainingPart(corpus, [])


def test_activity_is_of_what_stands_out_at_any_level_and_not_of_gaps() -> None:
    steady = [activity(noise(16_000, seed=seed).astype(np.float32) * gain) for seed in range(20) for gain in (1e-4, 1)]
    assert max(steady) < 8
    call = noise(16_000).astype(np.float32)
    call[8000:9000] += 1200 * np.sin(np.arange(1000))
    assert activity(call) > 12
    gap = noise(16_000).astype(np.float32)
    gap[:12_000] = 0
    assert activity(gap) < 12  # digital silence before noise is no call
    assert activity(np.zeros(16_000, np.float32)) == activity(np.ones(30, np.float32)) == 0


@pytest.mark.slow
def test_pretraining_prefers_stretches_in_which_something_happens(tmp_path: Path) -> None:
    audio = noise(100_000)
    for start in range(5000, 100_000, 10_000):
        audio[start : start + 700] += 3000 * np.sin(0.9 * np.arange(700))
    part = TrainingPart(call_corpus(tmp_path / "c", [audio], [[]]), [0])

    def share(active_share: float) -> float:
        config = ActiveConfig(active_share=active_share)
        drawn = draw_active(part, SAMPLES, FRAME, 600, config, np.random.default_rng(0))
        place = (5350 - drawn["start"]) % 10_000  # of the next call's middle
        return float(((place > 0) & (place < SAMPLES)).mean())

    chance = share(0)
    assert chance == pytest.approx(0.2, abs=0.05)
    assert share(1) == pytest.approx(1 - 0.8**4, abs=0.1)  # one of four
    assert share(0.5) == pytest.approx((chance + share(1)) / 2, abs=0.06)
