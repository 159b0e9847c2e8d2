"""What is not known counts neither way: against crops and removals, by counting frames, and by hand."""

import numpy as np
import pytest
from a2v_data.intervals import IGNORED as MASKED
from a2v_data.intervals import UNKNOWN as UNSURE
from a2v_eval import LABEL, EvaluationConfig, EventConfig, evaluate
from a2v_eval.any_class import TimestepCounter, one_class
from a2v_eval.event_tables import EVENT_ROW, evaluate_events, one_class_rows, score_time
from a2v_eval.matching import SPAN
from a2v_eval.thresholds import ThresholdSweep
from a2v_eval.unsure import IGNORED, UNKNOWN, covered

RATE = 100
CONFIG = EvaluationConfig(events=EventConfig(window_s=0.01, threshold=0.3))
CLASSES = ("a", "b")


def blocks(frames, *events):
    """Likelihoods (T, 2): (class, onset, offset, likelihood) in frames."""
    likelihood_TC = np.zeros((frames, 2), np.float32)
    for class_, onset, offset, likelihood in events:
        likelihood_TC[onset:offset, class_] = likelihood
    return likelihood_TC


def labels(*rows):
    return np.array([(class_, onset / RATE, offset / RATE) for class_, onset, offset in rows], LABEL)


def drawn(seed, frames=400):
    """Likelihoods and labels, neither of which crosses frame 100, 200 or 300."""
    rng = np.random.default_rng(seed)
    events, true = [], []
    for first in range(0, frames, 100):
        for _ in range(3):
            onset = first + int(rng.integers(2, 70))
            offset = onset + int(rng.integers(4, 26))
            events.append((int(rng.integers(2)), onset, offset, float(rng.uniform(0.3, 1))))
            shift = int(rng.integers(-2, 3))
            true.append((int(rng.integers(2)), onset + shift, offset + shift))
    return blocks(frames, *events), labels(*true)


def test_the_numbers_of_both_packages_are_the_same():
    assert (IGNORED, UNKNOWN) == (MASKED, UNSURE)


@pytest.mark.parametrize("seed", range(8))
def test_outside_a_region_nothing_counts(seed):
    """Everything equals the scores of the region alone, cut out of the recording."""
    likelihood_TC, true = drawn(seed)
    inside = true[(true["onset_s"] >= 0.99) & (true["offset_s"] <= 2.99)]
    masked = np.concatenate([inside, labels((IGNORED, 0, 100), (IGNORED, 300, 400))])
    cut = inside.copy()
    cut["onset_s"] = np.maximum(cut["onset_s"] - 1, 0)
    cut["offset_s"] -= 1
    crop = likelihood_TC[100:300]
    whole, alone = (evaluate([pair], CLASSES, RATE, CONFIG) for pair in ((likelihood_TC, masked), (crop, cut)))
    assert whole.metrics() == pytest.approx(alone.metrics(), nan_ok=True)
    assert whole.n_frames == alone.n_frames == 200
    counts = []
    for frames_TC, given in ((likelihood_TC, masked), (crop, cut)):
        steps = TimestepCounter(CLASSES, RATE, CONFIG.events)
        steps.add(frames_TC, given)
        sweep = ThresholdSweep(CLASSES, RATE, CONFIG)
        sweep.add(frames_TC, given)
        any_class = evaluate([one_class(frames_TC, given)], ["any"], RATE, CONFIG)
        counts.append((steps.scores().to_dict(), sweep.result().to_plain(), any_class.metrics()))
    assert counts[0][0] == pytest.approx(counts[1][0], nan_ok=True)
    assert counts[0][1] == counts[1][1]
    assert counts[0][2] == pytest.approx(counts[1][2], nan_ok=True)


def test_a_prediction_on_an_unknown_call_counts_neither_way():
    found = blocks(300, (0, 20, 40, 0.9), (0, 100, 120, 0.8), (1, 200, 220, 0.7))
    true = labels((0, 20, 40), (UNKNOWN, 98, 121))
    strict = evaluate([(found, true)], CLASSES, RATE, CONFIG).strict
    assert (strict.per_class["a"].precision, strict.per_class["a"].recall) == (1, 1)
    assert strict.micro.precision == 0.5  # that of b is false: nothing is there
    sure = evaluate([(found, true[:1])], CLASSES, RATE, CONFIG).strict
    assert sure.per_class["a"].precision == 0.5


def test_an_unknown_call_that_is_not_found_is_not_missed():
    true = labels((0, 20, 40), (UNKNOWN, 100, 120))
    for protocol in ("paper", "strict"):
        scores = evaluate([(blocks(300, (0, 20, 40, 0.9)), true)], CLASSES, RATE, CONFIG).scores(protocol)
        assert (scores.micro.recall, scores.micro.ap) == (1, 1)


def test_a_label_is_found_on_an_unknown_call_too():
    """Somebody heard an `a` in the middle of calls that nobody could name."""
    found = blocks(300, (0, 100, 120, 0.8), (1, 100, 120, 0.8))
    strict = evaluate([(found, labels((0, 100, 120), (UNKNOWN, 50, 150)))], CLASSES, RATE, CONFIG).strict
    assert (strict.micro.precision, strict.micro.recall) == (1, 1)


def test_a_prediction_that_lies_half_outside_does_not_count():
    scores = [
        evaluate([(blocks(300, (0, first, first + 20, 0.9)), labels((IGNORED, 100, 300)))], CLASSES, RATE, CONFIG)
        for first in (89, 90)  # 9 of 20 frames are outside, or 10
    ]
    assert [len(one.predictions["strict"]) for one in scores] == [1, 0]


def test_without_a_class_an_unknown_call_is_a_call():
    found, true = blocks(300, (0, 20, 40, 0.9)), labels((0, 20, 40), (UNKNOWN, 100, 120))
    strict = evaluate([one_class(found, true)], ["any"], RATE, CONFIG).strict
    assert (strict.micro.recall, strict.micro.precision) == (0.5, 1)
    steps = TimestepCounter(CLASSES, RATE, CONFIG.events)
    steps.add(found, true)
    assert steps.scores().recall == pytest.approx(20 / 40)


def rows(*events):
    return np.array(list(events), EVENT_ROW)


def test_tables_are_scored_alike():
    true = rows((0, 0, 0.2, 0.4, np.nan), (0, UNKNOWN, 0.98, 1.21, np.nan), (0, IGNORED, 2.0, 3.0, np.nan))
    said = rows((0, 0, 0.2, 0.4, 0.9), (0, 0, 1.0, 1.2, 0.8), (0, 1, 2.1, 2.3, 0.7), (0, 1, 1.5, 1.7, 0.6))
    scores = evaluate_events(true, said, CLASSES, 1)
    assert scores.strict.per_class["a"].precision == 1
    assert scores.strict.per_class["b"].precision == 0
    assert len(scores.predictions["strict"]) == len(scores.predictions["paper"]) == 2
    strict = evaluate_events(one_class_rows(true), one_class_rows(said), ["any"], 1).strict
    assert strict.micro.recall == 1
    assert strict.micro.precision == pytest.approx(2 / 3)
    time = score_time(true, said, np.array([3.0])).to_dict()
    assert time["total_s"] == pytest.approx(2.0)
    assert time["labelled_s"] == pytest.approx(0.43)
    assert time["precision"] == pytest.approx(0.4 / 0.6)


@pytest.mark.parametrize("seed", range(10))
def test_covered_counts_frames(seed):
    rng = np.random.default_rng(seed)

    def spans(count):
        found = np.zeros(count, SPAN)
        found["recording"] = rng.integers(0, 3, count)
        found["start"] = rng.integers(0, 80, count)
        found["stop"] = found["start"] + rng.integers(1, 20, count)
        return found

    some, others = spans(12), spans(9)
    frames = np.zeros((3, 120), bool)
    for one in others:
        frames[one["recording"], one["start"] : one["stop"]] = True
    wanted = [frames[one["recording"], one["start"] : one["stop"]].sum() for one in some]
    assert covered(some, others).tolist() == wanted
