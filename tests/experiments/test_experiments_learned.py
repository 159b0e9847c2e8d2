"""A model that has not learned says so, by name: predicting, and after an experiment."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from a2v_eval.thresholds import ThresholdScores
from a2v_experiments.predict import stream as predict_stream
from a2v_experiments.predict.api import predict
from a2v_experiments.predict.extremes import extremes_of
from a2v_experiments.predict.settings import settings_for
from a2v_experiments.pyfunc import EventModel
from a2v_experiments.stages.figures import best_thresholds
from a2v_model import Detector
from experiments_predict import THRESHOLDS, make_detector, save_detector, sound, write_sound
from experiments_world import RATE, Said

A2v = Callable[..., Said]
FLOAT = ("--precision", "float32", "--processes", "1")
KNOWN = {"F1": {"cc": 0.8, "sn": 0.05}, "labels": {"cc": 40, "sn": 12}}
TOLD = "not learned, no events written: sn (F1 0.05 on 12 labels); --all-classes writes them all the same"


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(predict_stream.PIECE_S, "cpu", 2.8)  # 4 windows of 1 s that share 0.3 s


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    made = make_detector(tmp_path)
    made.thresholds_from |= KNOWN
    return made


@pytest.fixture
def model(detector: Detector, tmp_path: Path) -> Path:
    return save_detector(detector, tmp_path / "finch")


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    write_sound(tmp_path / "rec/a.wav", 5.0, 1)
    write_sound(tmp_path / "rec/b.wav", 2.0, 2)
    return tmp_path / "rec"


def labels_in(out: Path) -> set[str]:
    return {row["label"] for row in csv.DictReader((out / "events.csv").open()) if row["label"]}


def test_thresholds_come_with_scores_and_counts():
    scores = ThresholdScores(
        ("a", "rare", "none"), np.array([0.1, 0.5]), np.array([[4, 3], [0, 0], [0, 0]]),
        np.array([[16, 5], [9, 0], [7, 0]]), np.array([5, 2, 0]),
    )  # fmt: skip
    chosen = best_thresholds(scores, {"method": "avg"})
    assert chosen == {
        "thresholds": {"a": 0.5},
        "thresholds_from": {
            "method": "avg", "F1": {"a": 0.6}, "precision": {"a": 0.6}, "recall": {"a": 0.6},
            "labels": {"a": 5, "rare": 2, "none": 0},
        },
    }  # fmt: skip


def test_what_is_not_learned_writes_nothing_and_is_named(a2v: A2v, recordings: Path, model: Path, tmp_path: Path):
    out = tmp_path / "out"
    said = a2v("predict", recordings, "--model", model, "--out", out, *FLOAT, "--report")
    assert said.code == 0 and TOLD in said.out and labels_in(out) == {"cc"}
    row = next(line.split() for line in said.out.splitlines() if line.startswith("sn"))
    assert row == ["sn", "not", "learned"]
    plain = json.loads((out / "predict.json").read_text())
    assert plain["not_learned"] == [{"class": "sn", "reason": "F1 0.05 on 12 labels"}]
    assert any(notice.startswith(TOLD) for notice in plain["notices"])
    assert TOLD in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        (("--all-classes",), {"cc", "sn"}),
        (("--classes", "sn"), {"sn"}),
        (("--threshold", "sn=0.5"), {"cc", "sn"}),
        (("--threshold", "0.5"), {"cc"}),  # names no class
    ],
)
def test_who_asks_for_it_gets_it(a2v: A2v, recordings: Path, model: Path, tmp_path: Path, asked, written):
    out = tmp_path / "out"
    said = a2v("predict", recordings, "--model", model, "--out", out, *FLOAT, *asked)
    assert said.code == 0 and labels_in(out) == written
    assert ("not learned" in said.out) == (asked == ("--threshold", "0.5"))


def test_all_classes_and_some_classes_contradict(a2v: A2v, recordings: Path, model: Path, tmp_path: Path):
    arguments = ("--model", model, "--out", tmp_path / "out", "--classes", "cc", "--all-classes")
    refused = a2v("predict", recordings, *arguments)
    assert refused.code == 2 and "give one of the two" in refused.only_line() and not (tmp_path / "out").exists()


def test_a_folder_of_an_earlier_a2v_goes_on_as_it_was_begun(a2v: A2v, recordings: Path, model: Path, tmp_path: Path):
    """It wrote all classes, and kept no extremes."""
    out = tmp_path / "out"
    arguments = ("predict", recordings, "--model", model, "--out", out, *FLOAT)
    a2v(*arguments, "--all-classes")
    state = out / ".predict/state.jsonl"
    head, *lines = [json.loads(line) for line in state.read_text().splitlines()]
    assert head["options"]["classes"] is None
    for line in lines:
        assert line.pop("likelihoods").keys() == {"cc", "sn"}
    state.write_text("".join(json.dumps(line) + "\n" for line in [head, *lines]))
    write_sound(recordings / "c.wav", 2.0, 3)
    said = a2v(*arguments)
    assert said.code == 0 and "1 recording done" in said.out and "2 recordings done before" in said.out
    assert "was begun with events of all classes and goes on so" in said.out and labels_in(out) == {"cc", "sn"}
    assert json.loads((out / "predict.json").read_text())["likelihoods"]["cc"]["file"] == "c.wav"


def test_python_and_served_models_leave_it_out_too(detector: Detector):
    waveform = sound(3.0)
    with pytest.warns(UserWarning, match="not learned, no events written: sn .*; all_classes=True writes"):
        table = predict(waveform, detector, RATE, precision="float32")
    assert set(table.label) == {"cc"} and table.attrs["notices"][0].startswith("not learned")
    assert set(predict(waveform, detector, RATE, precision="float32", all_classes=True).label) == {"cc", "sn"}
    assert set(EventModel(detector).predict(waveform, {"sample_rate": RATE}).label) == {"cc"}
    detector.thresholds_from["F1"] = {"cc": 0.1, "sn": 0.05}
    assert settings_for(detector)[0].classes == ()
    with pytest.warns(UserWarning, match=r"cc \(F1 0.10 on 40 labels\), sn"):
        assert len(predict(waveform, detector, RATE, precision="float32")) == 0


def test_extremes_in_blocks_are_those_of_the_whole():
    whole_TC = np.random.default_rng(3).random((50, 3)).astype(np.float32)
    whole_TC[[7, 31], 1] = 2.0  # of equal ones the first
    found = extremes_of(lambda: (whole_TC[a:b] for a, b in ((0, 20), (20, 20), (20, 50))), 10.0, ["a", "b", "c"])
    for number, name in enumerate("abc"):
        column_T = whole_TC[:, number]
        assert found[name] == pytest.approx([column_T.min(), column_T.max(), column_T.argmax() / 10], abs=1e-6)
    assert found["b"][2] == 0.7 and extremes_of(lambda: iter([]), 10.0, ["a"]) == {}


def test_where_nothing_is_found_it_says_how_near_it_was(a2v: A2v, recordings: Path, model: Path, tmp_path: Path):
    out = tmp_path / "out"
    high = ("--threshold", "cc=0.999", "--likelihoods", "npz", "--report")
    said = a2v("predict", recordings, "--model", model, "--out", out, *FLOAT, *high)
    assert said.code == 0 and "nothing found; the highest likelihood of each class:" in said.out
    tracks = {name: np.load(out / f"likelihoods/{name}.npz")["likelihoods"] for name in ("a.wav", "b.wav")}
    rows = json.loads((out / "predict.json").read_text())["likelihoods"]
    for number, (name, why) in enumerate((("cc", "below its threshold"), ("sn", "not learned: F1 0.05 on 12 labels"))):
        file = max(tracks, key=lambda of: tracks[of][:, number].max())
        row = rows[name]
        assert (row["file"], row["why_none"]) == (file, why)
        assert row["highest"] == pytest.approx(tracks[file][:, number].max(), abs=1e-3)
        assert row["at_s"] == pytest.approx(tracks[file][:, number].argmax() / 100, abs=1e-6)
        shown = next(line for line in said.out.splitlines() if line.startswith(f"{name} ") and f"  {why}" in line)
        assert shown.split()[-3:] == [f"0:{row['at_s']:05.2f}", f"{row['highest']:.3f}", f"{row['threshold']:g}"]
    assert rows["cc"]["threshold"] == 0.999 and rows["sn"]["threshold"] == THRESHOLDS["sn"]
    page = (out / "report.html").read_text()
    assert "Nothing was found." in page and "below its threshold" in page and "hardly vary" not in said.out


def constant(detector: Detector, folder: Path) -> Path:
    """The same likelihoods whatever it hears: 0.02 and 0.021."""
    with torch.no_grad():
        detector.head.weight.zero_()
        detector.head.bias.copy_(torch.logit(torch.tensor([0.02, 0.021])))
    return save_detector(detector, folder)


def test_a_model_that_says_the_same_of_all_sound_is_called_untrained(
    a2v: A2v, recordings: Path, detector: Detector, tmp_path: Path
):
    detector.thresholds, detector.thresholds_from = {}, {}
    model = constant(detector, tmp_path / "flat")
    said = a2v("predict", recordings, "--model", model, "--out", tmp_path / "out", *FLOAT, "--segment-s", "1")
    assert said.code == 0 and (
        "the model's likelihoods hardly vary (0.020 to 0.021): it has not learned to tell sound from silence; "
        "train longer, see a2v experiment plan" in said.out
    )
    assert "listen there" not in said.out
    assert "hardly vary" in json.loads((tmp_path / "out/predict.json").read_text())["notices"][0]


def test_silence_is_not_the_models_fault(a2v: A2v, recordings: Path, detector: Detector, tmp_path: Path):
    model = constant(detector, tmp_path / "flat")
    said = a2v("predict", recordings, "--model", model, "--out", tmp_path / "out", *FLOAT)
    assert "sound all alike to it, though it has learned cc" in said.out and "train longer" not in said.out


def test_a_model_without_such_knowledge_is_as_before(detector: Detector):
    for known in ({}, {"F1": {"cc": 0.9, "sn": 0.31}}):
        detector.thresholds_from = known
        assert settings_for(detector)[0].classes is None
