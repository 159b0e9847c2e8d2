"""Events of tables by the same rules: by hand, against frames, and against painting time."""

import numpy as np
import pytest
from a2v_eval import EvaluationConfig, evaluate
from a2v_eval.evaluation import MatchConfig
from a2v_eval.event_tables import EVENT_ROW, evaluate_events, one_class_rows, score_time


def rows(*events):
    """(recording, class, onset, offset[, likelihood])"""
    return np.array([event if len(event) == 5 else (*event, np.nan) for event in events], EVENT_ROW)


LABELS = rows((0, 0, 1.0, 2.0), (0, 0, 5.0, 6.0), (1, 0, 1.0, 2.0), (1, 1, 3.0, 3.5))
PREDICTIONS = rows(
    (0, 0, 1.1, 2.0, 0.9),  # IoU .9 with the first
    (0, 0, 5.8, 6.8, 0.8),  # IoU .2 / 1.8 with the second: any overlap only
    (1, 0, 7.0, 8.0, 0.7),  # nothing there
    (1, 1, 3.0, 3.4, 0.2),  # IoU .8
)


def test_both_protocols_by_hand():
    found = evaluate_events(LABELS, PREDICTIONS, ["a", "b"], 2)
    strict, paper = found.strict.per_class["a"], found.paper.per_class["a"]
    # strict: hit, miss, miss of 3 labels
    assert strict.ap == pytest.approx(1 / 3) and (strict.precision, strict.recall) == pytest.approx((1 / 3, 1 / 3))
    # paper: hit .9, hit .8, false .7, and the label in recording 1 with likelihood 0, level with all silence
    assert paper.ap == pytest.approx(2 / 3, abs=1e-6)
    assert (paper.precision, paper.recall) == pytest.approx((2 / 3, 2 / 3))
    assert found.strict.per_class["b"].ap == found.paper.per_class["b"].ap == 1
    # micro strict: .9 hit, .8 false, .7 false, .2 hit of 4 labels
    assert found.strict.micro.ap == pytest.approx(1 / 4 + 1 / 4 * 2 / 4)
    assert found.strict.macro.ap == pytest.approx((1 / 3 + 1) / 2) and found.strict.macro.classes == 2
    assert (found.n_recordings, found.n_frames / found.frame_rate) == (2, pytest.approx(6.8 + 8.0))


def test_the_threshold_moves_the_operating_point_and_not_the_ranking():
    everything = evaluate_events(LABELS, PREDICTIONS, ["a", "b"], 2)
    above = evaluate_events(LABELS, PREDICTIONS, ["a", "b"], 2, threshold=0.75)
    for protocol in ("paper", "strict"):
        assert above.scores(protocol).micro.ap == everything.scores(protocol).micro.ap
        assert above.scores(protocol).micro.predictions == 2
    assert above.strict.micro.precision == 0.5 and above.strict.micro.recall == 0.25
    assert above.paper.micro.precision == 1 and above.paper.micro.recall == 0.5
    kept = PREDICTIONS[PREDICTIONS["likelihood"] > 0.75]
    alone = evaluate_events(LABELS, kept, ["a", "b"], 2)
    for protocol in ("paper", "strict"):
        a, b = above.scores(protocol).micro, alone.scores(protocol).micro
        assert (a.precision, a.recall, a.f1, a.hits) == (b.precision, b.recall, b.f1, b.hits)


def test_splits_are_those_above_the_threshold():
    halves = rows((0, 0, 1.0, 1.5, 0.9), (0, 0, 1.5, 2.0, 0.4))
    for protocol in ("paper", "strict"):
        assert evaluate_events(LABELS, halves, ["a", "b"], 2).scores(protocol).micro.splits == 2
        assert evaluate_events(LABELS, halves, ["a", "b"], 2, threshold=0.5).scores(protocol).micro.splits == 0


def test_without_likelihoods_ap_is_undefined_and_the_rest_is_not():
    bare = PREDICTIONS.copy()
    bare["likelihood"] = np.nan
    found = evaluate_events(LABELS, bare, ["a", "b"], 2)
    with_likelihoods = evaluate_events(LABELS, PREDICTIONS, ["a", "b"], 2)
    for protocol in ("paper", "strict"):
        s, t = found.scores(protocol), with_likelihoods.scores(protocol)
        assert np.isnan(s.micro.ap) and np.isnan(s.macro.ap) and s.undefined == ()
        assert (s.micro.precision, s.macro.recall, s.macro.f1) == (t.micro.precision, t.macro.recall, t.macro.f1)
    assert not any("AP" in name for name in found.metrics())
    with pytest.raises(ValueError, match=r"threshold: 0\.5 needs a likelihood"):
        evaluate_events(LABELS, bare, ["a", "b"], 2, threshold=0.5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("iou", [0.0, 0.3, 0.6])
def test_strict_equals_that_of_frames(seed, iou):
    rng = np.random.default_rng(seed)
    recordings, labels, predictions = [], [], []
    for r in range(3):
        likelihood_TC = np.zeros((500, 2), np.float32)
        true = []
        for c in range(2):
            for at in range(20, 440, 60):
                length, shift = rng.integers(5, 40), rng.integers(-10, 10)
                height = np.float32(rng.uniform(0.2, 1))
                if rng.random() < 0.8:
                    true.append((c, at / 100, (at + length) / 100))
                    labels.append((r, *true[-1]))
                if rng.random() < 0.8:
                    likelihood_TC[at + shift : at + shift + length, c] = height
                    predictions.append((r, c, (at + shift) / 100, (at + shift + length) / 100, height))
        recordings.append((likelihood_TC, np.array(true, [("class", "i2"), ("onset_s", "f8"), ("offset_s", "f8")])))
    config = EvaluationConfig(events={"window_s": 0.01, "threshold": 0.1}, iou_threshold=iou)
    by_frame = evaluate(recordings, "ab", 100, config).strict
    by_table = evaluate_events(rows(*labels), rows(*predictions), "ab", 3, MatchConfig(iou_threshold=iou)).strict
    for name in ("a", "b", "micro"):
        mine, theirs = by_table.of(name), by_frame.of(name)
        assert (mine.ap, mine.precision, mine.recall, mine.f1) == pytest.approx(
            (theirs.ap, theirs.precision, theirs.recall, theirs.f1), abs=1e-6
        )
        assert (mine.splits, mine.mergers, mine.hits) == (theirs.splits, theirs.mergers, theirs.hits)


def test_any_class_makes_one_event_of_what_overlaps():
    merged = one_class_rows(
        rows(
            (1, 2, 3.0, 4.0, 0.2),
            (0, 0, 1.0, 2.0, 0.5),
            (1, 1, 3.5, 5.0, 0.9),
            (0, 1, 2.0, 3.0, 0.4),
            (0, 0, 6, 7, 0.1),
        )
    )
    assert merged.tolist() == [(0, 0, 1.0, 3.0, 0.5), (0, 0, 6.0, 7.0, 0.1), (1, 0, 3.0, 5.0, 0.9)]
    assert len(one_class_rows(rows())) == 0


@pytest.mark.parametrize("seed", range(5))
def test_time_equals_painted_milliseconds(seed):
    rng = np.random.default_rng(seed)
    length_s = np.array([3.0, 2.0, 4.0])
    painted = {}
    tables = {}
    for kind in ("label", "prediction"):
        onset = rng.integers(0, 1800, 15)
        recording, long = rng.integers(0, 3, 15), rng.integers(1, 700, 15)
        tables[kind] = rows(
            *[
                (r, i % 3, o / 1000, (o + n) / 1000)
                for i, (r, o, n) in enumerate(zip(recording, onset, long, strict=True))
            ]
        )
        painted[kind] = [np.zeros(int(1000 * s), bool) for s in length_s]
        for r, o, n in zip(recording, onset, long, strict=True):
            painted[kind][r][o : o + n] = True  # beyond the end nothing is painted
    true, said = (np.concatenate(painted[kind]) for kind in ("label", "prediction"))
    found = score_time(tables["label"], tables["prediction"], length_s).to_dict()
    assert found["precision"] == pytest.approx((true & said).sum() / said.sum())
    assert found["recall"] == pytest.approx((true & said).sum() / true.sum())
    assert (found["labelled_s"], found["predicted_s"], found["total_s"]) == pytest.approx(
        (true.sum() / 1000, said.sum() / 1000, 9.0)
    )
    nothing = score_time(rows(), rows(), length_s)
    assert np.isnan(nothing.f1) and nothing.frames == 9_000_000


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ((0, 0, -0.1, 1.0, 0.5), "finite times from 0 on"),
        ((0, 0, 0.1, np.inf, 0.5), "finite times from 0 on"),
        ((0, 0, 1.0, 1.0, 0.5), "an offset after its onset"),
        ((0, 2, 1.0, 1.5, 0.5), "a class within 0 and 1"),
        ((2, 0, 1.0, 1.5, 0.5), "a recording within 0 and 1"),
        ((0, 0, 1.0, 1.5, -0.5), "a likelihood of at least 0"),
    ],
)
def test_a_wrong_event_is_named(wrong, right):
    with pytest.raises(ValueError, match=f"predictions, row 1: .* should have {right}"):
        evaluate_events(LABELS, rows(PREDICTIONS[0].tolist(), wrong), ["a", "b"], 2)
