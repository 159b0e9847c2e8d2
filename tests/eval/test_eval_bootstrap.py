"""Confidence intervals over recordings: against scoring each drawn set anew, and against closed forms."""

import csv
import io

import numpy as np
import pytest
from a2v_eval import LABEL, EvaluationConfig, EventConfig, evaluate
from a2v_eval.bootstrap import _sampled, confidence_intervals, intervals_csv

CONFIG = EvaluationConfig(events=EventConfig(window_s=0.01, threshold=0.15))


def recordings(seed, n=6, n_classes=3, quiet_class=True):
    """Random events and labels; the last class is never labelled, and some recordings hold nothing."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        likelihood_TC = np.zeros((400, n_classes), np.float32)
        rows = []
        for _ in range(rng.integers(0, 6)):
            class_, start, length = rng.integers(0, n_classes), rng.integers(0, 350), rng.integers(5, 40)
            likelihood_TC[start : start + length, class_] = np.round(rng.uniform(0.2, 1), 1)  # with ties
            if class_ < n_classes - 1 and rng.random() < 0.7:
                rows.append((class_, (start + rng.integers(0, 8)) / 100, (start + length) / 100 + 0.05))
            if rng.random() < 0.3:
                rows.append((0, 3.7, 3.9))
        made.append((likelihood_TC, np.array(rows, LABEL)))
    return made


@pytest.mark.parametrize("protocol", ["paper", "strict"])
@pytest.mark.parametrize("seed", range(4))
def test_each_draw_is_scored_as_the_recordings_repeated(seed, protocol, monkeypatch):
    data = recordings(seed)
    whole = evaluate(data, "abc", 100, CONFIG)
    times_DR = np.random.default_rng(seed).multinomial(6, np.full(6, 1 / 6), size=12)
    monkeypatch.setattr("a2v_eval.bootstrap.BLOCK_ENTRIES", 50)
    sampled = _sampled(whole, protocol, times_DR.astype(float))
    prefix = "strict/" if protocol == "strict" else ""
    for draw, times_R in enumerate(times_DR):
        again = [data[r] for r in np.repeat(np.arange(6), times_R)]
        wanted = evaluate(again, "abc", 100, CONFIG).metrics()
        for score, by_name in sampled.items():
            for name, values_D in by_name.items():
                found, value = values_D[draw], wanted.get(f"{prefix}{score}/{name}")
                assert np.isnan(found) if value is None else found == pytest.approx(value, abs=1e-9), (score, name)


def test_the_share_of_hits_has_the_spread_of_a_binomial():
    # 200 recordings with one label each, 140 of them found: recall .7 with standard error sqrt(.7 * .3 / 200)
    likelihood_TC = np.zeros((100, 1), np.float32)
    likelihood_TC[20:40] = 0.9
    label = np.array([(0, 0.2, 0.4)], LABEL)
    silent = np.zeros_like(likelihood_TC)
    whole = evaluate([(likelihood_TC if r < 140 else silent, label) for r in range(200)], ["a"], 100, CONFIG)
    recall = confidence_intervals(whole, "strict", draws=4000, level=0.95)["recall"]["a"]
    error = np.sqrt(0.7 * 0.3 / 200)
    assert recall.value == 0.7 and recall.defined == 1
    assert recall.low == pytest.approx(0.7 - 1.96 * error, abs=0.01)
    assert recall.high == pytest.approx(0.7 + 1.96 * error, abs=0.01)


def test_the_seed_decides_and_undefined_classes_have_no_interval():
    whole = evaluate(recordings(0), "abc", 100, CONFIG)
    first = confidence_intervals(whole, "strict", draws=50, seed=3)
    assert first == confidence_intervals(whole, "strict", draws=50, seed=3)
    assert first != confidence_intervals(whole, "strict", draws=50, seed=4)
    assert set(first["AP"]) == {"a", "b", "micro", "macro"} and "c" in first["precision"]
    for interval in first["AP"].values():
        assert interval.low <= interval.value <= interval.high and 0 < interval.defined <= 1
    rows = list(csv.DictReader(io.StringIO(intervals_csv({"strict": first}))))
    assert rows[0]["protocol"] == "strict" and {row["score"] for row in rows} == {"AP", "precision", "recall", "F1"}
    assert float(rows[0]["low"]) == first[rows[0]["score"]][rows[0]["class"]].low


def test_refusals():
    one = evaluate(recordings(0)[:1], "abc", 100, CONFIG)
    with pytest.raises(ValueError, match="1 recordings"):
        confidence_intervals(one, "strict")
    several = evaluate(recordings(0), "abc", 100, CONFIG)
    with pytest.raises(ValueError, match=r"level 1\.0"):
        confidence_intervals(several, "strict", level=1.0)
