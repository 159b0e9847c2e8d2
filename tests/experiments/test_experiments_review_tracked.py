"""A review as a run in MLflow, and its thresholds in a copy of the model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from a2v_data.storage import file_digest
from a2v_experiments.basics.errors import UserError
from a2v_experiments.review.calls import open_calls
from a2v_experiments.review.journal import Decision, open_journal
from a2v_experiments.review.numbers import numbers
from a2v_experiments.review.order import ordered
from a2v_experiments.review.report import Report, report_of, write
from a2v_experiments.review.tracked import log, with_thresholds
from a2v_model import load_model
from experiments_predict import make_detector, save_detector
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
