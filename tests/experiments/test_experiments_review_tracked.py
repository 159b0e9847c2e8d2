"""A review as a run in MLflow, and its thresholds in a copy of the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
from a2v_data.storage import file_digest
from a2v_experiments.basics.errors import UserError
from a2v_experiments.predict.settings import not_written
from a2v_experiments.review.calls import open_calls
from a2v_experiments.review.journal import Decision, open_journal
from a2v_experiments.review.numbers import numbers
from a2v_experiments.review.order import ordered
from a2v_experiments.review.report import Report, report_of, write
from a2v_experiments.review.tracked import log, with_thresholds
from a2v_model import load_model
from experiments_predict import FLOAT, events_in, make_detector, save_detector, write_recordings
from experiments_world import Said
from test_experiments_review_report import written


@pytest.fixture
def model(tmp_path: Path) -> Path:
    detector = make_detector(tmp_path)
    detector.thresholds = dict.fromkeys(detector.classes, 0.15)
    numbers_of = dict.fromkeys(detector.classes, 0.1)
    detector.thresholds_from = {"method": "avg", "window_s": 0.1, "F1": numbers_of, "labels": numbers_of}
    return save_detector(detector, tmp_path / "detector")


def reviewed(folder: Path, label: str, model: Path, digest: str | None = None) -> Report:
    table = written(folder)
    text = table.read_text().replace(",cc,", f",{label},")
    table.write_text(text)
    calls = open_calls(table, folder / "audio")
    (calls.folder / "journal.jsonl").unlink()
    digest = digest or file_digest(model / "model.safetensors")[:8]
    calls = replace(calls, model=f"detector@{digest}")
    with open_journal(calls.folder) as journal:
        for event in ordered(calls.events, "random"):
            verdict = "right" if (event.likelihood or 0) > 0.5 else "wrong"
            journal.decide(
                Decision(0, event.id, "event", verdict, event.file, event.label, event.onset_s, event.offset_s)
            )
        found = report_of(calls, journal.state, numbers(calls, journal.state), 0.9, sure=False)
    return found


def test_a_copy_of_the_model_gets_the_thresholds_and_says_where_they_are_from(tmp_path: Path, model: Path) -> None:
    label = load_model(model).classes[0]  # type: ignore[union-attr]
    before = (model / "model.json").read_text()
    report = reviewed(tmp_path / "r", label, model)
    detector, _ = with_thresholds(str(model), report, None)
    assert detector.thresholds[label] == report.thresholds[label] and 0.4 < detector.thresholds[label] < 0.55
    assert all(detector.thresholds[name] == 0.15 for name in detector.classes[1:])
    assert label not in detector.thresholds_from["F1"]  # which was that of the threshold of before
    assert detector.thresholds_from["window_s"] == 0.1
    assert detector.thresholds_from["review"]["precision"][label][3] == 76  # that reach it, all of them judged
    assert (model / "model.json").read_text() == before

    folder = tmp_path / "report"
    write(report, folder)
    run_id = log(report, folder, (detector, {}), tmp_path / "work", None, lambda line: None)
    uri = f"sqlite:///{(tmp_path / 'work' / 'mlflow.db').resolve()}"
    run = mlflow.MlflowClient(uri).get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.metrics[f"judged/{label}"] == 100
    lower, upper = (run.data.metrics[f"precision_{side}/{label}"] for side in ("lower", "upper"))
    assert lower <= run.data.metrics[f"precision/{label}"] <= upper
    said: list[str] = []
    assert log(report, folder, (detector, {}), tmp_path / "work", None, said.append) == run_id
    assert said == [f"review: reused, run {run_id}"]
    from a2v_experiments.models import load_model as load_any

    again = load_any(f"runs:/{run_id}", uri)
    assert again.thresholds[label] == report.thresholds[label]  # type: ignore[union-attr]
    assert json.loads(json.dumps(again.thresholds_from)) == again.thresholds_from  # type: ignore[union-attr]


def test_predictions_of_another_model_are_refused(tmp_path: Path, model: Path) -> None:
    report = reviewed(tmp_path / "r", "a", model, "00000000")
    with pytest.raises(UserError, match="did not make these predictions"):
        with_thresholds(str(model), report, None)


def test_a_model_without_these_classes_is_refused(tmp_path: Path, model: Path) -> None:
    report = reviewed(tmp_path / "r", "yeti", model)
    with pytest.raises(UserError, match="no class has a threshold"):
        with_thresholds(str(model), report, None)


@pytest.mark.parametrize("asked", [(), ("--threshold", "0.35")])
def test_the_copy_finds_just_the_reviewed_events_that_reach_the_threshold(
    a2v: Callable[..., Said], tmp_path: Path, asked: tuple[str, ...]
) -> None:
    """The thresholds of this model are of pooled likelihoods, which as they rise give shorter events with higher means:
    given to `predict` as they are, they would find others than those whose precision was estimated."""
    model = save_detector(make_detector(tmp_path), tmp_path / "finch")
    recordings, first, again = write_recordings(tmp_path / "rec"), tmp_path / "first", tmp_path / "again"
    a2v("predict", recordings, "--model", model, "--out", first, *FLOAT, *asked)
    calls = open_calls(first)
    limit = float(np.quantile([event.likelihood or 0 for event in calls.events if event.label == "cc"], 0.6))
    with open_journal(calls.folder) as journal:
        for event in calls.events:
            verdict = "right" if (event.likelihood or 0) > limit and event.label == "cc" else "wrong"
            span = (event.onset_s, event.offset_s)
            journal.decide(Decision(0, event.id, "event", verdict, event.file, event.label, *span))
    said = a2v("review", "report", first, "--model", model, "--model-out", tmp_path / "copy", "--no-track")
    assert said.code == 0, said.err
    threshold = load_model(tmp_path / "copy").thresholds["cc"]  # type: ignore[union-attr]
    assert a2v("predict", recordings, "--model", tmp_path / "copy", "--out", again, *FLOAT).code == 0
    expected = [row for row in events_in(first / "events.csv") if row[1] == "cc" and row[4] > threshold]
    found = [row for row in events_in(again / "events.csv") if row[1] == "cc"]
    assert 3 < len(expected) < sum(event.label == "cc" for event in calls.events) and found == expected
    if not asked:  # the other class is found as it was
        others = ([row for row in events_in(out / "events.csv") if row[1] == "sn"] for out in (first, again))
        assert next(others) == next(others)
    plain = a2v("review", "report", first, "--no-track").out
    assert "are of an event's likelihood" in plain and "--thresholds " not in plain.partition("next:")[2]


def test_a_model_that_finds_events_in_another_way_is_refused(a2v: Callable[..., Said], tmp_path: Path) -> None:
    model = save_detector(make_detector(tmp_path), tmp_path / "finch")
    recordings, out = write_recordings(tmp_path / "rec"), tmp_path / "out"
    a2v("predict", recordings, "--model", model, "--out", out, *FLOAT, "--window-s", "0.1")
    calls = open_calls(out)
    with open_journal(calls.folder) as journal:
        for event in calls.events:
            span = (event.onset_s, event.offset_s)
            journal.decide(Decision(0, event.id, "event", "right", event.file, event.label, *span))
    said = a2v("review", "report", out, "--model", model, "--model-out", tmp_path / "copy", "--no-track")
    assert said.code == 2 and "window_s was 0.1 there, and is 0.05 in the model" in said.err
    assert not (tmp_path / "copy").exists()


def test_a_class_that_a_review_verified_is_written_though_it_was_not_learned(tmp_path: Path) -> None:
    detector = make_detector(tmp_path)
    label, numbers_of = detector.classes[0], dict.fromkeys(detector.classes, 0.1)
    detector.thresholds_from |= {"F1": numbers_of, "labels": numbers_of}
    model = save_detector(detector, tmp_path / "detector")
    assert set(not_written(load_model(model))) == set(detector.classes)  # type: ignore[arg-type]
    copy, _ = with_thresholds(str(model), reviewed(tmp_path / "r", label, model), None)
    assert set(not_written(copy)) == set(detector.classes[1:])
