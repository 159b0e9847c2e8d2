"""Events of likelihoods in blocks equal those of the whole, wherever it is cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from a2v_eval.event_stream import find_events_in_blocks
from a2v_eval.events import EVENT, EventConfig, find_events

RATE = 50.0


def calls(frames: int, classes: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth likelihoods that cross thresholds often, with plateaus of exactly 0, 0.5 and 1."""
    rng = np.random.default_rng(seed)
    slow = np.cumsum(rng.normal(0, 0.2, (frames, classes)), axis=0)
    wave = np.clip(0.4 + 0.5 * np.sin(slow) + rng.normal(0, 0.05, slow.shape), 0, 1)
    for start in rng.integers(0, max(frames - 8, 1), 12):
        wave[start : start + 8, rng.integers(classes)] = rng.choice([0, 0.5, 1])
    return wave.astype(np.float32)


def cut(likelihood: np.ndarray, sizes: list[int] | int) -> Callable[[], Iterator[np.ndarray]]:
    def blocks() -> Iterator[np.ndarray]:
        at = 0
        step = iter(sizes if isinstance(sizes, list) else [sizes] * len(likelihood))
        while at < len(likelihood):
            size = next(step, len(likelihood))
            yield likelihood[at : at + size]
            at += size

    return blocks


CONFIGS = [
    EventConfig(method="avg", window_s=0.1, threshold=0.5),
    EventConfig(method="avg", window_s=0.02, threshold=0.5),
    EventConfig(method="avg", window_s=0.5, threshold=0.3),
    EventConfig(method="avg", window_s=0.08, threshold={"a": 0.2, "b": 0.5, "c": 0.9}),
    EventConfig(method="avg", window_s=0.1, threshold=0.0),
    EventConfig(method="max", window_s=0.1, threshold=0.6),
    EventConfig(method="max", window_s=0.02, threshold=0.5),
    EventConfig(method="avg", window_s=0.02, threshold=0.3, peak_share=0.2, extent_threshold=0.05),
    EventConfig(method="max", window_s=0.04, threshold=0.4, extent_threshold=0.3),
    EventConfig(window_s=0.08, threshold={"a": 0.6, "b": 0.5, "c": 0.4}, extent_threshold={"a": 0.3, "c": 0.1}),
    EventConfig(method="avg", window_s=0.02, threshold=0.05, peak_share=0.35),
    EventConfig(method="avg", window_s=0.08, threshold={"a": 0.2, "b": 0.1, "c": 0.0}, peak_share=0.5),
    EventConfig(method="max", window_s=0.06, threshold=0.05, peak_share=0.35),
    EventConfig(method="max", window_s=0.02, threshold=0.0, min_duration_s=0.06, peak_share=0.5),
    EventConfig(method="canny", window_s=0.1, threshold=0.5, low_threshold=0.3, max_duration_s=0.4),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.method}-{c.window_s}-{c.threshold}-{c.peak_share}")
@pytest.mark.parametrize("sizes", [1, 2, 3, 7, 64, 5000, [0, 1, 0, 5, 400]], ids=str)
def test_blocks_give_the_events_of_the_whole_to_the_bit(config, sizes):
    for frames in (1, 4, 5, 6, 26, 700):
        likelihood = calls(frames, seed=frames)
        whole = find_events(likelihood, RATE, config, classes="abc")
        found = find_events_in_blocks(cut(likelihood, sizes), RATE, config, classes="abc")
        assert found.dtype == EVENT and found.tobytes() == whole.tobytes()
    assert len(whole) > 10  # else the last comparison would say nothing


def test_an_event_across_a_border_is_one_with_the_mean_of_its_frames():
    likelihood = np.zeros((40, 1), np.float32)
    likelihood[8:30, 0] = np.linspace(0.6, 0.9, 22)
    config = EventConfig(window_s=1 / RATE, threshold=0.5)
    (event,) = find_events_in_blocks(cut(likelihood, 20), RATE, config)
    assert (event["start"], event["stop"]) == (8, 30)
    assert (event["onset_s"], event["offset_s"]) == (8 / RATE, 30 / RATE)
    assert event["likelihood"] == pytest.approx(0.75, abs=1e-6)


def test_an_event_that_lasts_to_the_end_is_one():
    likelihood = np.ones((1000, 2), np.float32)
    config = EventConfig(window_s=0.1)
    found = find_events_in_blocks(cut(likelihood, 33), RATE, config)
    assert found.tobytes() == find_events(likelihood, RATE, config).tobytes() and len(found) == 2


def test_no_blocks_hold_no_events():
    for method in ("avg", "canny"):
        config = EventConfig(method=method)
        assert len(find_events_in_blocks(lambda: iter(()), RATE, config, classes="ab")) == 0


def test_nan_is_refused():
    likelihood = calls(50)
    likelihood[30, 1] = np.nan
    for method in ("avg", "max", "canny"):
        with pytest.raises(ValueError, match="NaN"):
            find_events_in_blocks(cut(likelihood, 20), RATE, EventConfig(method=method))
