"""Event methods of plugins: in evaluation, in blocks, and what they may give."""

from __future__ import annotations

import numpy as np
import pytest
from a2v_eval import EventConfig, evaluate, find_events
from a2v_eval.evaluation import EvaluationConfig
from a2v_eval.event_stream import find_events_in_blocks
from a2v_eval.presence import presence_scores
from a2v_eval.registry import EVENT_METHODS, register_event_method
from pydantic import BaseModel, ValidationError


class Section(BaseModel):
    """Every frame above the threshold, and so many frames after the last of them."""

    after: int = 1


def longer(likelihood_NT, threshold_N, frame_rate, config):
    rows, starts, stops = [], [], []
    for row, (likelihood_T, threshold) in enumerate(zip(likelihood_NT, threshold_N, strict=True)):
        above = np.flatnonzero(likelihood_T >= threshold)
        for run in np.split(above, np.flatnonzero(np.diff(above) > 1) + 1):
            rows.append(row)
            starts.append(run[0])
            stops.append(min(run[-1] + 1 + config.after, len(likelihood_T)))
    return np.array(rows, int), np.array(starts, int), np.array(stops, int)


@pytest.fixture(autouse=True)
def _registered():
    register_event_method("longer", config=Section)(longer)
    yield
    EVENT_METHODS.parts.clear()


LIKELIHOOD = np.array([[0.1, 0.9], [0.8, 0.1], [0.6, 0.1], [0.1, 0.1], [0.1, 0.1], [0.1, 0.7]], np.float32)  # T, C


def test_its_events_have_the_mean_likelihood_of_their_frames():
    config = EventConfig(method="longer", threshold=0.5, options={"after": 2})
    events = find_events(LIKELIHOOD, 10.0, config)
    assert [tuple(event) for event in events[["class", "start", "stop"]]] == [(0, 1, 5), (1, 0, 3), (1, 5, 6)]
    assert events["likelihood"] == pytest.approx([(0.8 + 0.6 + 0.1 + 0.1) / 4, (0.9 + 0.1 + 0.1) / 3, 0.7], abs=1e-6)
    assert events["offset_s"].tolist() == [0.5, 0.3, 0.6]
    short = config.model_copy(update={"min_duration_s": 0.3})
    assert find_events(LIKELIHOOD, 10.0, short)["stop"].tolist() == [5, 3]


def test_in_blocks_it_finds_the_same_with_settings_of_each_class():
    own = {"threshold": {"a": 0.7, "b": 0.5}, "min_duration_s": {"a": 0.0, "b": 0.2}}
    config = EventConfig(method="longer", **own)
    whole = find_events(LIKELIHOOD, 10.0, config, classes=["a", "b"])
    assert whole["stop"].tolist() == [3, 2]
    blocks = find_events_in_blocks(lambda: [LIKELIHOOD[:2], LIKELIHOOD[2:]], 10.0, config, ["a", "b"])
    assert blocks.tolist() == whole.tolist()
    canny = EventConfig(method="canny", min_duration_s={"a": 0.0, "b": 0.2})
    assert len(find_events_in_blocks(lambda: [LIKELIHOOD], 10.0, canny, ["a", "b"])) == len(
        find_events(LIKELIHOOD, 10.0, canny, classes=["a", "b"])
    )


def test_an_evaluation_uses_it():
    labels = np.array([(0, 0.1, 0.5)], [("class", "<i2"), ("onset_s", "<f8"), ("offset_s", "<f8")])
    scores = {}
    for after in (0, 2):  # 2 of 4 labelled frames, or all of them
        config = EvaluationConfig(events={"method": "longer", "threshold": 0.5, "options": {"after": after}})
        scores[after] = evaluate([(LIKELIHOOD, labels)], ["a", "b"], 10.0, config).scores("strict", 0.6).per_class["a"]
    assert scores[0].recall == 0 and scores[2].recall == 1 and scores[2].precision == 1
    events = EventConfig(method="longer")
    assert presence_scores(LIKELIHOOD, 10.0, events).tolist() == pytest.approx([0.8, 0.9])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"method": "nearer"},
            "is 'nearer'; must be one of avg, max, canny, boxes, longer, or the name of a method that",
        ),
        (
            {"method": "longer", "options": {"afer": 1}},
            "event_method longer of plugin .*: afer: unknown key; did you mean",
        ),
        ({"method": "longer", "window_s": 0.2}, "window_s: 0.2 has no effect with method longer of a plugin"),
        ({"method": "longer", "low_threshold": 0.2}, "low_threshold: 0.2 has no effect"),
        ({"method": "avg", "options": {"after": 1}}, "options: have no effect with method avg"),
    ],
)
def test_wrong_settings_are_told(given, told):
    with pytest.raises(ValidationError, match=told):
        EventConfig(**given)
    assert "options" not in EventConfig().model_dump() and EventConfig(method="longer").options == {"after": 1}


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        (lambda *_: [], "gives a list"),
        (lambda *_: ([0], [0.5], [1]), "whole numbers"),
        (lambda *_: ([0], [0, 1], [1, 2]), "as long as one another"),
        (lambda *_: ([0], [2], [7]), "outside of the 2 rows of 6 frames"),
        (lambda *_: ([0, 0], [0, 1], [2, 3]), "overlap"),
    ],
)
def test_events_that_cannot_be_are_told(gives, told):
    register_event_method("wrong")(gives)
    with pytest.raises(ValueError, match=f"event_method wrong of plugin .*{told}"):
        find_events(LIKELIHOOD, 10.0, EventConfig(method="wrong"))
