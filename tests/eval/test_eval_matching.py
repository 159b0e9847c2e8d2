"""Matching: every golden case of `paper`, `strict` by hand, plain loops as second opinion."""

import json
from pathlib import Path

import numpy as np
import pytest
from a2v_eval.bootstrap import confidence_intervals
from a2v_eval.curves import precision_recall_curves
from a2v_eval.evaluation import EvaluationConfig, evaluate
from a2v_eval.labels import LABEL, merge_touching, span_means
from a2v_eval.matching import SPAN, match, overlapping_pairs, pair_iou
from a2v_eval.protocols import score_protocol
from safetensors.numpy import load_file

GOLDENS = Path(__file__).parent / "goldens"
CASES = json.loads((GOLDENS / "g9_event_evaluation.json").read_text())["cases"]
ARRAYS = load_file(GOLDENS / "g9_arrays.safetensors")


def spans(rows) -> np.ndarray:
    """From (class, start, stop, likelihood) or (recording, class, start, stop, likelihood)."""
    return np.array([(0, *row) if len(row) == 4 else tuple(row) for row in rows], dtype=SPAN)


def golden_spans(case: dict, kind: str) -> np.ndarray:
    """The golden's [first, last] intervals, with the paper's mean likelihood over each."""
    intervals = case[kind]
    handmade = case["name"].startswith("handmade")
    likelihood_BTC = ARRAYS["handmade_probs" if handmade else "e2e_probs"]
    rows = []
    for b, of_sample in enumerate([intervals] if handmade else intervals):
        for c, of_class in enumerate(of_sample):
            for first, last in of_class:
                start, stop, class_ = np.array([first]), np.array([last + 1]), np.array([c])
                mean = span_means(likelihood_BTC, np.array([b]), class_, start, stop, open_end=True)[0]
                rows.append((b, c, first, last + 1, mean))
    return spans(rows)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["name"])
class TestPaperGoldens:
    def parts(self, case):
        labels = golden_spans(case, "labels_inclusive")
        predictions = golden_spans(case, "predictions_inclusive")
        n_classes = len(case["ap" if "ap" in case else "ap_segmented"]["per_class"])
        return labels, predictions, n_classes

    def test_entries_and_counts(self, case):
        labels, predictions, n_classes = self.parts(case)
        found = match(labels, predictions, n_classes, "paper", case["iou_threshold"])
        listed = {(b, c): sorted(rows) for b, c, rows in case["entries_sorted"]}
        for (b, c), rows in listed.items():
            mine = found.entries[(found.entries["recording"] == b) & (found.entries["class"] == c)]
            mine = sorted(zip(mine["target"].tolist(), mine["likelihood"].tolist(), strict=True))
            np.testing.assert_allclose(mine, rows, atol=2e-6)
        assert len(found.entries) == sum(len(rows) for rows in listed.values())
        assert case["counts"] == {
            "positive_pairs": len(found.pairs.iou),
            "overlap_pairs_below_iou_counted_as_fp": found.below,
            "false_negatives": found.missed.sum(),
            "unmatched_predictions": found.unmatched.sum(),
        }

    def test_splits_mergers_and_iou(self, case):
        if "splits" not in case:
            return
        labels, predictions, n_classes = self.parts(case)
        found = match(labels, predictions, n_classes, "paper", case["iou_threshold"])
        assert found.splits.tolist() == case["splits"] and found.mergers.tolist() == case["mergers"]
        everything = match(labels, predictions, n_classes, "paper", 0.0)
        for c, wanted in enumerate(case["iou_values_sorted"]):
            of_class = everything.pairs.iou[labels["class"][everything.pairs.label] == c]
            np.testing.assert_allclose(sorted(of_class, reverse=True), wanted, atol=1e-6)

    def test_average_precision(self, case):
        labels, predictions, n_classes = self.parts(case)
        wanted = case.get("ap") or case["ap_segmented"]
        names = [f"c{i}" for i in range(n_classes)]
        n_frames = case.get("T", 2000) * (labels["recording"].max() + 1)
        thresholds_C = np.full(n_classes, case.get("metric_threshold", 0.15))
        iou = case["iou_threshold"]
        scores = score_protocol(labels, predictions, names, n_frames, thresholds_C, "paper", iou, official=True)
        ap = [None if np.isnan(s.ap) else s.ap for s in scores.per_class.values()]
        assert ap == pytest.approx(wanted["per_class"], abs=1e-9)
        assert scores.micro.ap == pytest.approx(wanted["micro"], abs=1e-9)
        assert scores.macro_ap_official == pytest.approx(wanted["macro_official"], abs=1e-9)
        assert scores.undefined == tuple(f"c{i}" for i, v in enumerate(wanted["per_class"]) if v is None)
        report = case.get("classification_report_at_threshold", {})
        for name, row in report.items():
            s = scores.micro if name == "micro avg" else scores.per_class.get(name)
            if s is None:
                continue
            mine = np.nan_to_num([s.precision, s.recall, s.f1, s.positives])  # theirs is 0 where ours is undefined
            np.testing.assert_allclose(mine, list(row.values()), atol=1e-9)


def test_touching_labels_are_one_under_paper_as_in_the_golden_targets():
    target = ARRAYS["e2e_target"]
    wanted = CASES[2]["labels_inclusive"]
    for b in range(4):
        # one label per frame: they all touch within a run
        c, t = np.nonzero(target[b].T)
        class_, start, stop = merge_touching(c, t, t + 1)
        for index in range(6):
            rows = np.c_[start, stop - 1][class_ == index]
            assert rows.tolist() == wanted[b][index]
    nested = merge_touching(np.array([1, 0, 0, 0]), np.array([3, 10, 0, 2]), np.array([9, 12, 9, 4]))
    assert np.transpose(nested).tolist() == [[0, 0, 9], [0, 10, 12], [1, 3, 9]]


STRICT = {
    "perfect": ([(0, 10, 20, 0)], [(0, 10, 20, 0.9)], [(True, 0.9)], 0),
    "missed": ([(0, 10, 20, 0.9)], [], [], 1),
    "without label": ([], [(0, 10, 20, 0.9)], [(False, 0.9)], 0),
    "other class": ([(0, 10, 20, 0)], [(1, 10, 20, 0.9)], [(False, 0.9)], 1),
    "too little IoU, 3 of 17": ([(0, 10, 20, 0)], [(0, 17, 27, 0.9)], [(False, 0.9)], 1),
    "IoU of exactly .3 is not above it": ([(0, 0, 10, 0)], [(0, 0, 3, 0.9)], [(False, 0.9)], 1),
    "one shared frame of one": ([(0, 10, 11, 0)], [(0, 10, 11, 0.9)], [(True, 0.9)], 0),
    "split: the likelier half is a hit, though the other overlaps more": (
        [(0, 0, 20, 0)],
        [(0, 0, 8, 0.8), (0, 9, 20, 0.7)],
        [(True, 0.8), (False, 0.7)],
        0,
    ),
    "merger: one of the two labels stays missed": (
        [(0, 0, 10, 0), (0, 11, 20, 0)],
        [(0, 0, 20, 0.8)],
        [(True, 0.8)],
        1,
    ),
    "two predictions compete, the loser takes the second label": (
        [(0, 0, 10, 0), (0, 4, 14, 0)],
        [(0, 1, 11, 0.9), (0, 0, 10, 0.6)],
        # the first overlaps label 0 with 9/11 and label 1 with 7/13; the second is left label 1 with 6/14
        [(True, 0.9), (True, 0.6)],
        0,
    ),
}


@pytest.mark.parametrize("name", STRICT)
def test_strict_by_hand(name):
    labels, predictions, wanted, missed = STRICT[name]
    found = match(spans(labels), spans(predictions), 2, "strict", 0.3)
    assert found.entries[["target", "likelihood"]].tolist() == wanted
    assert found.missed.sum() == missed


def test_strict_recall_never_reaches_one_when_a_label_is_missed():
    labels = spans([(0, 0, 10, 0), (0, 20, 30, 0), (0, 40, 50, 0.99)])
    predictions = spans([(0, 0, 10, 0.9), (0, 20, 30, 0.8), (0, 60, 70, 0.1)])
    scores = score_protocol(labels, predictions, ["a", "b"], 100, np.full(2, -np.inf), "strict", 0.3)
    assert scores.per_class["a"].ap == pytest.approx(2 / 3) and scores.per_class["a"].recall == pytest.approx(2 / 3)
    assert scores.per_class["a"].precision == pytest.approx(2 / 3)
    assert np.isnan(scores.per_class["b"].ap) and scores.undefined == ("b",)
    assert scores.macro.ap == pytest.approx(2 / 3) and scores.macro_ap_official == pytest.approx(1 / 3)
    paper = score_protocol(labels, predictions, ["a", "b"], 100, np.full(2, 0.15), "paper", 0.0)
    assert paper.per_class["a"].ap == 1.0  # the original ranks the missed label first, by its own likelihood


def random_spans(rng, n, n_recordings=3, n_classes=2, length=40) -> np.ndarray:
    start = rng.integers(0, 200, n)
    rows = np.empty(n, SPAN)
    rows["recording"], rows["class"] = rng.integers(0, n_recordings, n), rng.integers(0, n_classes, n)
    rows["start"], rows["stop"] = start, start + rng.integers(1, length, n)
    rows["likelihood"] = np.round(rng.random(n), 2)
    return rows


@pytest.mark.parametrize("seed", range(10))
def test_pairs_equal_a_double_loop_even_where_intervals_overlap_their_own_kind(seed):
    rng = np.random.default_rng(seed)
    labels, predictions = random_spans(rng, rng.integers(0, 60)), random_spans(rng, rng.integers(0, 60))
    wanted = {
        (i, j)
        for i, a in enumerate(labels)
        for j, b in enumerate(predictions)
        if (a["recording"], a["class"]) == (b["recording"], b["class"])
        and len(set(range(a["start"], a["stop"])) & set(range(b["start"], b["stop"])))
    }
    label, prediction = overlapping_pairs(labels, predictions)
    assert len(label) == len(wanted) and set(zip(label.tolist(), prediction.tolist(), strict=True)) == wanted
    for i, j in wanted:
        a, b = (set(range(s["start"], s["stop"])) for s in (labels[i], predictions[j]))
        iou = pair_iou(labels[i : i + 1], predictions[j : j + 1], "strict")[0]
        assert iou == pytest.approx(len(a & b) / len(a | b))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("iou_threshold", [0.0, 0.3])
def test_strict_equals_the_choice_one_prediction_at_a_time(seed, iou_threshold):
    rng = np.random.default_rng(seed)
    labels, predictions = random_spans(rng, 150), random_spans(rng, 150)
    free = set(range(len(labels)))
    hits = set()
    for j in np.argsort(-predictions["likelihood"], kind="stable").tolist():
        p = predictions[j]
        best, best_iou = None, iou_threshold
        for i in sorted(free):
            a = labels[i]
            if (a["recording"], a["class"]) != (p["recording"], p["class"]):
                continue
            common = max(0, min(a["stop"], p["stop"]) - max(a["start"], p["start"]))
            iou = common / (a["stop"] - a["start"] + p["stop"] - p["start"] - common)
            if iou > best_iou:
                best, best_iou = i, iou
        if best is not None:
            free.remove(best)
            hits.add(j)
    found = match(labels, predictions, 2, "strict", iou_threshold)
    assert set(np.flatnonzero(found.entries["target"]).tolist()) == hits and len(hits) > 20
    assert set(np.flatnonzero(found.missed).tolist()) == free
    assert len(set(found.pairs.label.tolist())) == len(hits) == len(set(found.pairs.prediction.tolist()))


def test_splits_and_mergers_count_all_that_take_part():
    labels = spans([(0, 0, 30, 0), (1, 0, 10, 0), (1, 12, 20, 0), (1, 22, 30, 0)])
    predictions = spans([(0, 0, 9, 0.9), (0, 10, 20, 0.8), (0, 21, 30, 0.7), (1, 0, 30, 0.9)])
    for protocol, iou in (("paper", 0.0), ("strict", 0.3)):
        found = match(labels, predictions, 2, protocol, iou)
        assert found.splits.tolist() == [3, 0] and found.mergers.tolist() == [0, 3]


def test_refusals():
    with pytest.raises(ValueError, match="protocol: 'loose' should be one of paper, strict"):
        match(spans([]), spans([]), 1, "loose", 0.3)
    with pytest.raises(ValueError, match=r"iou_threshold: 1\.0"):
        match(spans([]), spans([]), 1, "strict", 1.0)


def test_a_detector_that_predicts_nothing_has_no_ap_under_paper_rather_than_a_perfect_one():
    classes, settings = ["cc", "sn"], EvaluationConfig()
    likelihood_TC = np.full((400, 2), 0.01, np.float32)
    labels = np.zeros(2, LABEL)
    labels["onset_s"], labels["offset_s"], labels["class"] = [0.5, 1.2], [0.7, 1.4], [0, 1]
    recordings = [(likelihood_TC, labels), (likelihood_TC, labels)]
    silent = evaluate(recordings, classes, 200.0, settings)
    metrics = silent.metrics()
    assert not [name for name in metrics if name.startswith("AP/")]
    assert metrics["strict/AP/micro"] == metrics["strict/mAP/micro"] == 0
    assert "AP" not in confidence_intervals(silent, "paper", draws=20)
    assert not precision_recall_curves(silent, "paper")
    likelihood_TC = likelihood_TC.copy()
    likelihood_TC[100:140, 0] = 0.9  # one class is found; of the other nothing is said
    metrics = evaluate([(likelihood_TC, labels)], classes, 200.0, settings).metrics()
    assert metrics["AP/cc"] == 1 == metrics["AP/macro"] and "AP/sn" not in metrics
