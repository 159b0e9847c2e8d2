"""Likelihoods to events: goldens of the original, hand-worked cases, a plain loop as second opinion."""

import json
from pathlib import Path

import numpy as np
import pytest
from a2v_eval import LABEL, EvaluationConfig, EventConfig, find_events
from a2v_eval.event_stream import find_events_in_blocks
from a2v_eval.thresholds import ThresholdSweep
from pydantic import ValidationError
from safetensors.numpy import load_file

GOLDENS = Path(__file__).parent / "goldens"
CASES = json.loads((GOLDENS / "g7_events.json").read_text())["cases"]


def config_of(case: dict) -> EventConfig:
    own = {}
    if case["method"] == "canny":
        own = {"low_threshold": case["lowP"], "max_duration_s": case["max_duration_s"]}
    return EventConfig(method=case["method"], window_s=case["sigma_s"], threshold=case["threshold"], **own)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['method']}-{c['threshold']}-x{c['multiplier']}")
def test_paper_events_equal_the_goldens(case):
    likelihood_BTC = load_file(GOLDENS / "g7_likelihoods.safetensors")["likelihood"]
    events = find_events(likelihood_BTC, 200, config_of(case), "paper")
    wanted = case["events"]
    assert len(events) == len(wanted) == case["n_events"]
    column = [np.array(values) for values in zip(*wanted, strict=True)]
    # a later batch (multiplier x batch size segments of 10 s) only shifts the clock and the frame count
    frames, seconds = case["multiplier"] * 2 * 2000, case["multiplier"] * (case["bs"] or 0) * 10
    np.testing.assert_array_equal(events["segment"], column[0])
    np.testing.assert_array_equal(events["class"], column[1])
    np.testing.assert_allclose(events["onset_s"] + seconds, column[2], atol=5e-5)
    np.testing.assert_allclose(events["offset_s"] + seconds, column[3], atol=5e-5)
    np.testing.assert_array_equal(events["segment"] * 2000 + events["start"] + frames, column[4])
    np.testing.assert_array_equal(events["segment"] * 2000 + events["stop"] - 1 + frames, column[5])
    np.testing.assert_allclose(events["likelihood"], column[6].astype(float), atol=2e-6, equal_nan=True)


def test_strict_is_the_same_frames_on_a_half_open_clock_with_the_mean_over_all_of_them():
    likelihood_TC = np.zeros((100, 2), np.float32)
    likelihood_TC[40:50, 1] = np.linspace(0.5, 0.95, 10)
    # a window of 4 frames: its mean is above .3 for windows that start at 39 .. 48, shifted by 2: 41 .. 50
    events = find_events(likelihood_TC, 50, EventConfig(window_s=0.08, threshold=0.3), "strict")
    assert events[["class", "start", "stop"]].tolist() == [(1, 41, 51)]
    assert events["onset_s"][0] == 41 / 50 and events["offset_s"][0] == 51 / 50
    assert events["likelihood"][0] == pytest.approx(np.linspace(0.5, 0.95, 10)[1:].sum() / 10, abs=1e-6)


@pytest.mark.parametrize("method", ["avg", "max", "canny"])
def test_an_event_across_two_adjacent_segments_is_one(method):
    likelihood_BTC = np.full((2, 500, 1), 0.01, np.float32)
    likelihood_BTC.reshape(1000)[480:530] = 0.9  # 20 frames before the border, 30 after it
    config = EventConfig(method=method, window_s=0.05)
    whole = find_events(likelihood_BTC.reshape(1000, 1), 200, config)
    (event,) = find_events(likelihood_BTC, 200, config, adjacent=True)
    assert event.tolist()[2:] == (*whole[0].tolist()[2:4], *whole[0].tolist()[4:])
    assert event["segment"] == 0 and event["start"] < 500 < event["stop"]
    assert event["onset_s"] < 2.5 < event["offset_s"]
    assert {e["segment"].item() for e in find_events(likelihood_BTC, 200, config)} == {0, 1}


def test_adjacent_segments_number_events_from_the_segment_they_start_in():
    likelihood_BTC = np.full((3, 100, 2), 0.01, np.float32)
    likelihood_BTC[1, 20:40, 1] = likelihood_BTC[2, 10:20, 0] = 0.8
    events = find_events(likelihood_BTC, 100, EventConfig(window_s=0.01), adjacent=True)
    assert events[["segment", "class", "start", "stop"]].tolist() == [(2, 0, 10, 20), (1, 1, 20, 40)]
    assert events["onset_s"].tolist() == [2.1, 1.2]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("method", ["avg", "max"])
@pytest.mark.parametrize("width", [1, 4, 7])
def test_equals_a_loop_over_segments_and_classes(seed, method, width):
    rng = np.random.default_rng(seed)
    likelihood_BTC = rng.random((3, 60, 4)).astype(np.float32) * rng.random((3, 1, 4)).astype(np.float32)
    threshold = 0.35
    config = EventConfig(method=method, window_s=width / 100, threshold=threshold)
    wanted = []
    for b, c in np.ndindex(3, 4):
        column = likelihood_BTC[b, :, c].astype(np.float64)
        pool = np.mean if method == "avg" else np.max
        # the pooled likelihood is float32, as the original's
        pooled = [np.float32(pool(column[t : t + width])) for t in range(60 - width + 1)]
        on = [value >= np.float32(threshold) for value in pooled] + [False]
        start = None
        for t, value in enumerate(on):
            if value and start is None:
                start = t
            elif not value and start is not None:
                first, stop = start + width // 2, t + width // 2
                wanted.append((b, c, first, stop, (b * 60 + first) / 100, (b * 60 + stop) / 100))
                start = None
    events = find_events(likelihood_BTC, 100, config, "strict")
    fields = ["segment", "class", "start", "stop", "onset_s", "offset_s"]
    assert events[fields].tolist() == wanted and len(wanted) > 5
    for event in events:
        frames = likelihood_BTC[event["segment"], event["start"] : event["stop"], event["class"]]
        assert event["likelihood"] == pytest.approx(frames.mean(dtype=np.float64), abs=1e-12)


def test_blocks_of_columns_change_nothing(monkeypatch):
    likelihood_BTC = load_file(GOLDENS / "g7_likelihoods.safetensors")["likelihood"]
    whole = find_events(likelihood_BTC, 200)
    monkeypatch.setattr("a2v_eval.events.BLOCK_FRAMES", 5000)
    np.testing.assert_array_equal(find_events(likelihood_BTC, 200), whole)


def whole_and_in_blocks(likelihood_TC: np.ndarray, frame_rate: float, config: EventConfig) -> np.ndarray:
    whole = find_events(likelihood_TC, frame_rate, config)
    streamed = find_events_in_blocks(lambda: iter(np.array_split(likelihood_TC, 3)), frame_rate, config)
    np.testing.assert_array_equal(streamed, whole)
    return whole


@pytest.mark.parametrize("method", ["avg", "max"])
@pytest.mark.parametrize("threshold", [0.15, 0.175, 0.5])  # as float32 above, below and equal to the number itself
def test_a_pooled_likelihood_equal_to_the_threshold_is_an_event(method, threshold):
    config = EventConfig(method=method, window_s=0.1, threshold=threshold)
    flat = np.full((100, 1), threshold, np.float32)
    (event,) = whole_and_in_blocks(flat, 100, config)
    assert (event["start"], event["stop"]) == (5, 96)
    assert len(whole_and_in_blocks(np.nextafter(flat, np.float32(0)), 100, config)) == 0
    # what F1 over thresholds counts is what is found there
    sweep = ThresholdSweep(["call"], 100, EvaluationConfig(events=config), thresholds=[threshold, 0.9])
    sweep.add(flat, np.array([(0, 0.05, 0.96)], LABEL))
    assert sweep.result().hits.tolist() == [[1, 0]]


@pytest.mark.parametrize("method", ["avg", "max"])
def test_at_a_threshold_of_zero_there_is_an_event_wherever_there_is_any_likelihood(method):
    likelihood_TC = np.zeros((100, 2), np.float32)
    likelihood_TC[40:50, 1] = 1e-6
    (event,) = whole_and_in_blocks(likelihood_TC, 100, EventConfig(method=method, window_s=0.01, threshold=0.0))
    assert (event["class"], event["start"], event["stop"]) == (1, 40, 50)


# Python's round, as the original's: half a frame goes to the even number. 0.1 s at the baseline's 25 Hz are 2 frames.
@pytest.mark.parametrize(
    "window_s, frame_rate, frames",
    [(0.0125, 200, 2), (0.1, 25, 2), (0.0175, 200, 4), (0.0126, 200, 3), (0.0025, 200, 1), (0.1, 200, 20)],
)
def test_a_window_is_rounded_to_whole_frames(window_s, frame_rate, frames):
    likelihood_TC = np.zeros((60, 1), np.float32)
    likelihood_TC[30] = 0.9
    # the maximum over so many frames makes one frame as long as that
    (event,) = whole_and_in_blocks(likelihood_TC, frame_rate, EventConfig(method="max", window_s=window_s))
    assert event["stop"] - event["start"] == frames


def test_threshold_per_class_by_name():
    likelihood_TC = np.full((50, 2), 0.4, np.float32)
    config = EventConfig(threshold={"song": 0.5, "call": 0.3})
    events = find_events(likelihood_TC, 100, config, classes=["song", "call"])
    assert events["class"].tolist() == [1]
    with pytest.raises(ValueError, match="threshold: given per class"):
        find_events(likelihood_TC, 100, config)
    with pytest.raises(ValueError, match=r"threshold: \['calls', 'call'\]|threshold: \['call', 'calls'\]"):
        find_events(likelihood_TC, 100, config, classes=["song", "calls"])


def test_nothing_gives_nothing():
    for shape in ((0, 3), (5, 3), (0, 100, 3), (100, 0)):
        assert len(find_events(np.zeros(shape, np.float32), 200)) == 0
    assert len(find_events(np.ones((10, 1), np.float32), 200)) == 0  # shorter than the window of 20 frames


def test_refusals_say_what_would_be_right():
    bad = np.zeros((100, 2), np.float32)
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN in segment 0, class 1"):
        find_events(bad, 200)
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        find_events(np.zeros(5, np.float32), 200)
    with pytest.raises(ValueError, match="int64"):
        find_events(np.zeros((5, 2), np.int64), 200)
    with pytest.raises(ValueError, match="frame_rate"):
        find_events(np.zeros((5, 2), np.float32), 0)
    with pytest.raises(ValueError, match="protocol: 'loose'"):
        find_events(np.zeros((5, 2), np.float32), 200, protocol="loose")
    for wrong in ({"window": 1}, {"window_s": 0}, {"threshold": 1.5}, {"method": "median"}):
        with pytest.raises(ValidationError):
            EventConfig(**wrong)
    with pytest.raises(ValidationError, match=r"max_duration_s: 1\.0 has no effect with method avg"):
        EventConfig(max_duration_s=1.0)
    canny = EventConfig(method="canny", max_duration_s=1.0)
    assert EventConfig(**canny.model_dump()) == canny
