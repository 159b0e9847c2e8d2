"""evaluate(): from likelihoods and labels in seconds to named metrics, against goldens and by hand."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from a2v_eval import LABEL, EvaluationConfig, EventConfig, evaluate
from a2v_eval.evaluation import Collector
from safetensors.numpy import load_file

GOLDENS = Path(__file__).parent / "goldens"
CASES = json.loads((GOLDENS / "g9_event_evaluation.json").read_text())["cases"][2:]
ARRAYS = load_file(GOLDENS / "g9_arrays.safetensors")
NAMES = [f"c{i}" for i in range(6)]


def labels(*rows) -> np.ndarray:
    return np.array(list(rows), dtype=LABEL)


def golden_recordings(case):
    for b, likelihood_TC in enumerate(ARRAYS["e2e_probs"]):
        rows = [
            (c, first / 200, (last + 1) / 200)
            for c, of_class in enumerate(case["labels_inclusive"][b])
            for first, last in of_class
        ]
        yield likelihood_TC, labels(*rows)


def bumps(n_frames, n_classes, *events, height=0.9):
    likelihood_TC = np.full((n_frames, n_classes), 0.01, np.float32)
    for class_, start, stop in events:
        likelihood_TC[start:stop, class_] = height
    return likelihood_TC


SHORT = EvaluationConfig(events=EventConfig(window_s=0.01))  # one frame at 100 Hz: events are the frames above


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["name"])
def test_paper_from_end_to_end_equals_the_goldens(case):
    config = EvaluationConfig(
        events=EventConfig(threshold=case["metric_threshold"]), paper_iou_threshold=case["iou_threshold"]
    )
    found = evaluate(golden_recordings(case), NAMES, 200, config).metrics()
    wanted = case["ap_segmented"]
    for name, value in zip(NAMES, wanted["per_class"], strict=True):
        assert found.get(f"AP/{name}") == (value if value is None else pytest.approx(value, abs=1e-9))
    assert found["AP/micro"] == pytest.approx(wanted["micro"], abs=1e-9)
    defined = [value for value in wanted["per_class"] if value is not None]
    assert found["AP/macro"] == pytest.approx(np.mean(defined), abs=1e-9)
    report = case["classification_report_at_threshold"]
    for name, key in (("c0", "c0"), ("c4", "c4"), ("micro", "micro avg")):
        assert found[f"precision/{name}"] == pytest.approx(report[key]["precision"], abs=1e-9)
        assert found[f"recall/{name}"] == pytest.approx(report[key]["recall"], abs=1e-9)
        assert found[f"F1/{name}"] == pytest.approx(report[key]["f1-score"], abs=1e-9)
    # class 5 never occurs: its AP is undefined and left out, not 0 and not 1; its predictions are all wrong
    assert "strict/AP/c5" not in found and found["strict/precision/c5"] == 0 and "F1/c5" not in found


def test_strict_by_hand_over_recordings_of_different_length():
    recordings = [
        (bumps(300, 2, (0, 10, 30), (0, 100, 120)), labels((0, 0.10, 0.30), (0, 2.0, 2.5), (1, 0.5, 0.6))),
        (bumps(80, 2, (0, 40, 50), (1, 0, 80), height=0.6), labels((0, 0.40, 0.50))),
        (bumps(10, 2), labels()),
    ]
    result = evaluate(recordings, ["a", "b"], 100, SHORT)
    m = result.metrics()
    # class a: likelihoods .9 (hit), .9 (false), .6 (hit) of 3 labels: 1/3 * 1/2 + 1/3 * 2/3
    assert m["strict/AP/a"] == pytest.approx(1 / 6 + 2 / 9)
    assert m["strict/AP/b"] == 0 and m["strict/AP/macro"] == pytest.approx((1 / 6 + 2 / 9) / 2)
    # micro: the false .6 of class b joins the last step: 1/4 * 1/2 + 1/4 * 2/4
    assert m["strict/AP/micro"] == pytest.approx(1 / 4)
    assert m["strict/precision/micro"] == 0.5 and m["strict/recall/micro"] == 0.5 and m["strict/F1/micro"] == 0.5
    assert (result.strict.micro.labels, result.strict.micro.predictions) == (4, 4)
    assert result.n_frames == 390 and result.n_recordings == 3
    row = result.table()[0]
    assert (row["class"], row["labels"], row["predictions"]) == ("a", 3, 3)
    assert row["AP strict"] == pytest.approx(1 / 6 + 2 / 9) and row["recall strict"] == pytest.approx(2 / 3)
    assert [row["class"] for row in result.table()] == ["a", "b", "micro", "macro"]
    assert result.table()[3]["F1 strict"] == pytest.approx(((4 / 6) + 0) / 2)  # class a: 2 of 3 and 2 of 3; b: 0


@pytest.mark.parametrize("seed", range(4))
def test_cutting_the_stream_differently_changes_nothing(seed):
    # silent recordings between, and another order, leave every score as it is
    case = CASES[seed % 2]
    recordings = list(golden_recordings(case))
    whole = evaluate(recordings, NAMES, 200)
    order = np.random.default_rng(seed).permutation(4)
    shuffled = evaluate((recordings[i] for i in order), NAMES, 200)
    assert shuffled.metrics() == pytest.approx(whole.metrics(), abs=1e-12)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["name"])
def test_segments_in_one_block_equal_one_after_the_other(case):
    config = EvaluationConfig(events=EventConfig(threshold=case["metric_threshold"]))
    one_by_one = evaluate(golden_recordings(case), NAMES, 200, config)
    recordings = list(golden_recordings(case))
    collector = Collector(NAMES, 200, config)
    collector.add(*recordings[0])
    number = np.repeat(np.arange(3), [len(rows) for _, rows in recordings[1:]])
    order = np.random.default_rng(0).permutation(len(number))  # labels in any order
    rest = np.concatenate([rows for _, rows in recordings[1:]])
    collector.add_segments(np.stack([likelihood for likelihood, _ in recordings[1:]]), rest[order], number[order])
    in_a_block = collector.evaluation()
    assert in_a_block.metrics() == pytest.approx(one_by_one.metrics(), abs=1e-12)
    assert in_a_block.recording_frames.tolist() == [2000] * 4
    for protocol in ("paper", "strict"):
        np.testing.assert_array_equal(in_a_block.predictions[protocol], one_by_one.predictions[protocol])
    with pytest.raises(ValueError, match="segment: should be one number within 0 and 2 for each label"):
        collector.add_segments(np.zeros((3, 10, 6), np.float32), rest[:1], np.array([3]))
    with pytest.raises(ValueError, match="likelihood: 2 classes should be 6"):
        collector.add_segments(np.zeros((3, 10, 2), np.float32), rest[:0], np.array([], int))


def test_macro_leaves_out_classes_without_labels_and_says_how_many_are_left():
    # a: found; b: labelled, nothing predicted there; c: predicted, never labelled
    recordings = [(bumps(200, 3, (0, 10, 30), (2, 50, 60)), labels((0, 0.1, 0.3), (1, 1.0, 1.2)))]
    found = evaluate(recordings, ["a", "b", "c"], 100, SHORT)
    macro = found.strict.macro
    assert macro.classes == 2 and (macro.ap, macro.recall, macro.f1) == (0.5, 0.5, 0.5)
    assert macro.precision == 1  # of b it is undefined, and c is no part of macro
    assert found.strict.micro.precision == 0.5 and found.strict.undefined == ("c",)
    metrics = found.metrics()
    assert metrics["strict/F1/macro"] == 0.5 and "strict/AP/c" not in metrics and "strict/F1/c" not in metrics
    record = json.loads(found.to_json())
    assert record["macro_classes"] == 2 and record["table"][2]["AP strict"] is None


def test_mean_average_precision_over_iou():
    # IoU 10 / 16 = .625 for class a: 6 of 9 thresholds; class b exact
    recordings = [(bumps(200, 2, (0, 10, 23), (1, 50, 60)), labels((0, 0.13, 0.26), (1, 0.5, 0.6)))]
    found = evaluate(recordings, ["a", "b"], 100, SHORT)
    assert found.mean_ap["a"] == pytest.approx(6 / 9) and found.mean_ap["b"] == 1
    assert found.metrics()["strict/mAP/macro"] == pytest.approx((6 / 9 + 1) / 2)
    assert json.loads(found.to_json())["ap_over_iou"]["strict"]["0.7"]["a"] == 0


def test_labels_that_touch_are_one_under_paper_and_two_under_strict():
    recordings = [(bumps(100, 1, (0, 10, 30)), labels((0, 0.1, 0.2), (0, 0.2, 0.3)))]
    result = evaluate(recordings, ["a"], 100, SHORT)
    assert result.paper.micro.labels == 1 and result.strict.micro.labels == 2
    assert result.paper.micro.ap == 1 and result.strict.micro.ap == 0.5
    assert result.strict.micro.mergers == 2 and result.paper.micro.mergers == 0


def test_perfect_likelihoods_score_one_for_any_iou_threshold():
    recordings = [(bumps(500, 3, (0, 50, 90), (2, 100, 101)), labels((0, 0.5, 0.9), (2, 1.0, 1.01)))] * 3
    result = evaluate(recordings, "abc", 100, SHORT)
    for protocol in ("paper", "strict"):
        for row in result.ap_over_iou(protocol).values():
            assert (row["micro"], row["macro"], row["a"]) == (1, 1, 1) and np.isnan(row["b"])
    assert result.strict.undefined == ("b",)


def test_strict_ap_falls_with_the_iou_threshold_as_the_overlap_says():
    # 10 of 16 frames shared: IoU .625
    recordings = [(bumps(100, 1, (0, 10, 23)), labels((0, 0.13, 0.26)))]
    over = evaluate(recordings, ["a"], 100, SHORT).ap_over_iou("strict")
    assert list(over) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert [row["micro"] for row in over.values()] == [1, 1, 1, 1, 1, 1, 0, 0, 0]


def test_json_holds_the_table_and_knows_no_nan():
    recordings = [(bumps(100, 2, (0, 10, 23)), labels((0, 0.1, 0.23)))]
    record = json.loads(evaluate(recordings, ["a", "b"], 100, SHORT).to_json())
    assert record["undefined"] == ["b"] and record["table"][1]["AP strict"] is None
    assert record["table"][0]["AP paper"] == 1 and record["recordings"] == 1
    assert record["config"]["iou_threshold"] == 0.3 and record["config"]["events"]["threshold"] == 0.15


def test_entries_rebuild_ap():
    result = evaluate(golden_recordings(CASES[0]), NAMES, 200)
    from sklearn.metrics import average_precision_score

    entries = result.entries("paper")
    ap = average_precision_score(entries["target"], entries["likelihood"])
    assert result.metrics()["AP/micro"] == pytest.approx(ap)
    strict = result.entries("strict")
    share = strict["target"].sum() / result.strict.micro.labels
    ap = average_precision_score(strict["target"], strict["likelihood"]) * share
    assert result.metrics()["strict/AP/micro"] == pytest.approx(ap)


def test_no_recordings_is_all_undefined():
    result = evaluate([], ["a"], 100)
    assert set(result.metrics()) == {f"{p}{k}/micro" for p in ("", "strict/") for k in ("splits", "mergers")}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((2, 0.1, 0.2), "label row 1: class 2 should be within 0 and 1"),
        ((-3, 0.1, 0.2), "label row 0: class -3 should be a class, -1"),
        ((0, 0.3, 0.2), "label row 1: offset_s 0.2 should be after its onset_s"),
        ((0, -0.1, 0.2), "label row 1: onset_s -0.1 should be within the recording"),
        ((0, 3.1, 3.2), "label row 1: onset_s 3.1 should be within the recording"),
        ((0, np.nan, 3.2), "label row 1: offset_s 3.2"),
    ],
)
def test_a_bad_label_names_recording_and_row(row, message):
    good = (bumps(100, 2), labels((0, 0.1, 0.2)))
    with pytest.raises(ValueError, match=f"recording 1: {message}"):
        evaluate([good, (bumps(100, 2), labels((0, 0.1, 0.2), row))], ["a", "b"], 100)


def test_bad_likelihoods_and_classes_are_refused():
    nothing = labels()
    with pytest.raises(ValueError, match=r"recording 0: likelihood: shape \(100, 2\) should be \(frames, 1"):
        evaluate([(bumps(100, 2), nothing)], ["a"], 100)
    with pytest.raises(ValueError, match="recording 0: likelihood: NaN"):
        evaluate([(np.full((100, 1), np.nan), nothing)], ["a"], 100)
    for classes in ([], ["a", "a"], ["a", "micro"]):
        with pytest.raises(ValueError, match="classes:"):
            evaluate([], classes, 100)
    with pytest.raises(ValueError, match="without field offset_s"):
        evaluate([(bumps(100, 1), np.zeros(1, [("class", "i2"), ("onset_s", "f8")]))], ["a"], 100)


def test_import_is_cheap():
    heavy = ("matplotlib", "scipy", "torch", "sklearn")
    code = f"import sys, a2v_eval; print([name for name in {heavy} if name in sys.modules])"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert seen.strip() == "[]"
