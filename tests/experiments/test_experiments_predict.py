"""`a2v predict`: tables that are read back, likelihoods and embeddings, and what is said of bad recordings."""

from __future__ import annotations

import csv
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from a2v_eval.events import find_events
from a2v_experiments.basics.errors import UserError
from a2v_experiments.predict import stream as predict_stream
from a2v_experiments.predict import work as predict_work
from a2v_experiments.predict.api import predict
from a2v_experiments.predict.settings import settings_for
from a2v_experiments.score.files import read_events
from a2v_model import Detector, load_model
from experiments_faults import small_files
from experiments_predict import (
    CLASSES,
    FLOAT,
    SECONDS,
    THRESHOLDS,
    events_in,
    files_of,
    make_detector,
    rows_of,
    save_detector,
    sound,
    write_recordings,
    write_sound,
)
from experiments_world import RATE, Said
from mlflow import MlflowClient

A2v = Callable[..., Said]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return save_detector(make_detector(folder), folder / "finch")


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(predict_stream.PIECE_S, "cpu", 5.6)  # 8 windows of 1 s that share 0.3 s


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    return write_recordings(tmp_path / "rec")


def test_every_format_is_read_back_with_the_same_events(a2v: A2v, recordings: Path, model: Path, tmp_path: Path):
    out = tmp_path / "out"
    formats = ("raven", "audacity", "csv", "parquet", "json")
    said = a2v("predict", recordings, "--model", model, "--out", out, *FLOAT, *(f"--format={name}" for name in formats))
    assert said.code == 0, said.err
    table = predict(recordings, load_model(model), precision="float32")
    assert set(table.file) == set(SECONDS) and len(table) > 50

    def expected(digits: int) -> list[tuple[str, str, float, float, float]]:
        rows = zip(table.file, table.label, table.onset_s, table.offset_s, table.likelihood, strict=True)
        return sorted((f, label, round(a, 4), round(b, 4), round(p, digits)) for f, label, a, b, p in rows)

    for name in (
        "events.csv",
        "events.parquet",
        "events.json",
        "events.selections.txt",
        "csv",
        "parquet",
        "json",
        "raven",
    ):
        assert events_in(out / name) == expected(6), name
    assert events_in(out) == expected(6)  # the folder itself stands for its table of all events
    assert events_in(out / "audacity", 4) == expected(4)
    for path in (out / "raven", out / "json"):
        said = a2v("evaluate", path, out / "events.csv", "--protocol", "strict", "--json")
        assert said.code == 0, said.err
        (micro,) = [row for row in json.loads(said.out)["protocols"]["strict"]["scores"] if row["class"] == "micro"]
        assert micro["AP"] == micro["F1"] == 1


def test_each_event_has_likelihood_threshold_and_model(a2v: A2v, recordings: Path, model: Path, tmp_path: Path):
    out = tmp_path / "out"
    a2v("predict", recordings, "--model", model, "--out", out, *FLOAT, "--format=raven", "--format=parquet")
    for row in rows_of(out / "events.csv"):
        assert float(row["threshold"]) == THRESHOLDS[row["label"]] and row["model"].startswith("finch@")
    raven = list(csv.DictReader((out / "raven/day1/b.wav.selections.txt").open(), delimiter="\t"))
    assert raven and all(float(row["Threshold"]) == THRESHOLDS[row["Annotation"]] for row in raven)
    assert {row["Begin File"] for row in raven} == {"day1/b.wav"} and raven[0]["High Freq (Hz)"] == "2000.0"
    plain = pq.read_table(out / "parquet/day1/b.flac.parquet").to_pylist()
    assert plain and {row["file"] for row in plain} == {"day1/b.flac"}


def test_raven_opens_all_recordings_as_one_sequence(a2v: A2v, recordings: Path, model: Path, tmp_path: Path):
    out = tmp_path / "out"
    a2v("predict", recordings, "--model", model, "--out", out, *FLOAT)
    starts = dict(zip(sorted(SECONDS), np.cumsum([0, *(SECONDS[name] for name in sorted(SECONDS))]), strict=False))
    table = list(csv.DictReader((out / "events.selections.txt").open(), delimiter="\t"))
    assert [int(row["Selection"]) for row in table] == list(range(1, len(table) + 1))
    for row in table:
        begin = float(row["Begin Time (s)"]) - starts[row["Begin File"]]
        assert begin == pytest.approx(float(row["File Offset (s)"]), abs=1e-3)


def test_a_recording_without_events_counts_as_listened_to(a2v: A2v, model: Path, tmp_path: Path):
    write_sound(tmp_path / "rec/a.wav", 2)
    out = tmp_path / "out"
    formats = [f"--format={name}" for name in ("csv", "json", "parquet", "audacity", "raven")]
    said = a2v("predict", tmp_path / "rec", "--model", model, "--out", out, *FLOAT, "--threshold", "0.999", *formats)
    assert said.code == 0 and "all         0" in said.out
    for name in ("events.csv", "events.json", "events.parquet", "csv", "json", "parquet", "audacity"):
        found = read_events(out / name)
        assert found.rows == [] and found.silent == ["a.wav"], name
    assert read_events(out / "raven").rows == []


def test_bad_recordings_are_left_out_and_harm_nobody(a2v: A2v, recordings: Path, model: Path, tmp_path: Path):
    (recordings / "empty.wav").touch()
    (recordings / "text.flac").write_text("no audio")
    late = sound(30.0, 3)
    late[-2000] = np.nan
    soundfile.write(recordings / "late.wav", late, RATE, subtype="FLOAT")
    soundfile.write(recordings / "cut.flac", sound(30.0, 4), RATE)
    whole = (recordings / "cut.flac").read_bytes()
    (recordings / "cut.flac").write_bytes(whole[: len(whole) * 2 // 3])
    (recordings / "folder.wav").mkdir()
    shutil.copy(recordings / "a.wav", recordings / ("x" * 240 + ".wav"))
    (recordings / "phone.m4a").write_bytes(b"\0\0\0 ftypM4A " + bytes(64))
    (recordings / "logger.wac").write_bytes(b"WAAC" + bytes(64))
    (recordings / "a.m4a").touch()  # a.wav was made of it
    out = tmp_path / "out"
    said = a2v("predict", recordings, "--model", model, "--out", out, *FLOAT)
    bad = {
        "empty.wav",
        "text.flac",
        "late.wav",
        "cut.flac",
        "folder.wav",
        "x" * 240 + ".wav",
        "phone.m4a",
        "logger.wac",
    }
    assert said.code == 1 and "left out (8):" in said.out and said.err == ""
    rows = {row["file"]: row for row in rows_of(out / "recordings.csv")}
    assert {name for name, row in rows.items() if row["status"] == "left out"} == bad
    assert rows["phone.m4a"]["reason"] == "is not read (m4a); convert it: ffmpeg -i phone.m4a phone.wav"
    assert "wac2wav" in rows["logger.wac"]["reason"]
    assert "NaN or infinity, first at 29.5" in rows["late.wav"]["reason"] and "empty" in rows["empty.wav"]["reason"]
    assert {name for name, row in rows.items() if row["status"] == "done"} == set(SECONDS)
    alone = predict([recordings / name for name in SECONDS], load_model(model), precision="float32")
    assert len(events_in(out)) == len(alone)
    assert not list(out.rglob("late*")) and not list((out / ".predict/pieces").iterdir())
    write_sound(recordings / "late.wav", 2.0, 3)  # repaired
    said = a2v("predict", recordings, "--model", model, "--out", out, *FLOAT, "--json")
    plain = json.loads(said.out)
    assert said.code == 1 and {row["file"] for row in plain["left_out"]} == bad - {"late.wav"}
    assert plain["done_now"]["recordings"] == 1 and plain["done_before"] == len(SECONDS)
    assert plain == json.loads((out / "predict.json").read_text())


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
def test_likelihoods_give_the_events_again(a2v: A2v, model: Path, tmp_path: Path, kind: str):
    path = write_sound(tmp_path / "rec/day/a.wav", 13.37)
    out = tmp_path / "out"
    a2v("predict", tmp_path / "rec", "--model", model, "--out", out, *FLOAT, "--likelihoods", kind)
    if kind == "npz":
        with np.load(out / "likelihoods/day/a.wav.npz") as file:
            likelihoods, rate, classes = file["likelihoods"], float(file["frame_rate"]), file["classes"].tolist()
            assert str(file["file"]) == "day/a.wav" and str(file["model"]).startswith("finch@")
    else:
        with h5py.File(out / "likelihoods/day/a.wav.h5") as file:
            likelihoods, rate = file["likelihoods"][:], file.attrs["frame_rate"]
            classes = [name.decode() for name in file["classes"][:]]
    assert likelihoods.shape == (1337, 2) and rate == 100 and classes == CLASSES
    detector = load_model(model)
    assert isinstance(detector, Detector)
    events = find_events(likelihoods, rate, settings_for(detector)[0].events, classes=classes)
    table = predict(path, detector, precision="float32")
    assert sorted(table.onset_s) == sorted(events["onset_s"]) and len(events) > 10


def test_what_is_odd_about_a_file_is_said_and_all_of_it_heard(a2v: A2v, model: Path, tmp_path: Path):
    write_sound(tmp_path / "in" / "a.wav", 3.0, 1)
    content = (tmp_path / "in" / "a.wav").read_bytes()
    promised = struct.pack("<I", len(content))  # the whole file's size, as Frontier Labs' recorders wrote
    (tmp_path / "in" / "a.wav").write_bytes(content[:40] + promised + content[44:])
    said = a2v("predict", tmp_path / "in", "--model", model, "--out", tmp_path / "out", *FLOAT)
    (row,) = rows_of(tmp_path / "out" / "recordings.csv")
    assert said.code == 0 and row["status"] == "done" and float(row["duration_s"]) == 3.0
    assert f"promises {len(content)} bytes of samples, {len(content) - 44} are there" in row["notice"]
    assert f"odd, and read to the end (1):\n  a.wav: {row['notice']}" in said.out
    table = predict(tmp_path / "in", load_model(model), precision="float32")
    assert any(row["notice"] in notice for notice in table.attrs["notices"])


def test_embeddings_of_frames_and_events(a2v: A2v, model: Path, tmp_path: Path):
    write_sound(tmp_path / "rec/a.wav", 9.5)
    for kind in ("frames", "events"):
        said = a2v(
            "predict", tmp_path / "rec", "--model", model, "--out", tmp_path / kind, *FLOAT, "--embeddings", kind
        )
        assert said.code == 0, said.err
    frames = pq.read_table(tmp_path / "frames/embeddings/a.wav.frames.parquet")
    values = np.array(frames["embedding"].to_pylist())
    assert values.shape == (950, 16) and np.allclose(frames["onset_s"], np.arange(950) / 100)
    detector = load_model(model)
    assert isinstance(detector, Detector)
    with np.errstate(all="raise"):
        first = detector.embed(soundfile.read(tmp_path / "rec/a.wav", frames=RATE, dtype="float32")[0]).numpy()
    np.testing.assert_allclose(values[:85], first[:85], atol=1e-4)  # the first window gives its first 85 frames
    events = pq.read_table(tmp_path / "events/embeddings/a.wav.events.parquet").to_pylist()
    assert len(events) == len(rows_of(tmp_path / "events/events.csv")) > 10
    for event in events:
        inside = values[round(event["onset_s"] * 100) : round(event["offset_s"] * 100)]
        np.testing.assert_allclose(event["embedding"], inside.mean(0), atol=1e-5)


def test_more_processes_change_no_bit(a2v: A2v, recordings: Path, model: Path, tmp_path: Path):
    for count in (1, 2):
        said = a2v(
            "predict", recordings, "--model", model, "--out", tmp_path / str(count), "--precision", "float32",
            "--processes", count, "--likelihoods", "npz",
        )  # fmt: skip
        assert said.code == 0, said.err
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")


def test_a_piece_has_one_thread_also_in_the_commands_own_process(a2v: A2v, monkeypatch, model: Path, tmp_path: Path):
    """Two threads would give other last bits than the processes of another call."""
    threads: list[int] = []
    real = predict_stream.window_outputs

    def watched(*arguments):
        threads.append(torch.get_num_threads())
        return real(*arguments)

    monkeypatch.setattr(predict_stream, "window_outputs", watched)
    torch.set_num_threads(2)
    path = write_sound(tmp_path / "a.wav", 3.0)
    assert a2v("predict", path, "--model", model, "--out", tmp_path / "out", *FLOAT).code == 0
    assert set(threads) == {1} and torch.get_num_threads() == 2


def test_a_pretrained_model_knows_no_classes(a2v: A2v, model: Path, tmp_path: Path):
    write_sound(tmp_path / "a.wav", 1.5)
    said = a2v("predict", tmp_path / "a.wav", "--model", tmp_path / "no-model", "--out", tmp_path / "out")
    assert said.code == 2 and "no model.json there" in said.only_line() and not (tmp_path / "out").exists()


def test_settings_of_the_model_are_overridden_by_options(a2v: A2v, model: Path, tmp_path: Path):
    write_sound(tmp_path / "a.wav", 6.0)
    (tmp_path / "thresholds.yaml").write_text("cc: 0.3\nsn: 0.2\n")
    said = a2v(
        "predict", tmp_path / "a.wav", "--model", model, "--out", tmp_path / "out", *FLOAT, "--thresholds",
        tmp_path / "thresholds.yaml", "--threshold", "sn=0.7", "--classes", "sn", "--merge-gap", "sn=0.05",
        "--min-duration", "0.08", "--max-duration", "1", "--window-s", "0.03",
    )  # fmt: skip
    assert said.code == 0, said.err
    options = json.loads((tmp_path / "out/predict.json").read_text())["options"]
    assert options["events"]["threshold"] == {"cc": 0.3, "sn": 0.7} and options["events"]["window_s"] == 0.03
    rows = rows_of(tmp_path / "out/events.csv")
    assert rows and {row["label"] for row in rows} == {"sn"} and {row["threshold"] for row in rows} == {"0.7"}
    onset, offset = (np.array([float(row[key]) for row in rows]) for key in ("onset_s", "offset_s"))
    assert ((offset - onset > 0.079) & (offset - onset < 1.001)).all() and (onset[1:] - offset[:-1] > 0.05).all()


@pytest.mark.parametrize(
    "option, told",
    [
        (("--threshold", "xx=0.3"), "threshold: 'xx' is none of the model's classes cc, sn"),
        (("--threshold", "1.5"), "threshold: 1.5 of cc should be a number from 0 to below 1"),
        (("--threshold", "0.1", "--threshold", "0.2"), "both for all classes"),
        (("--classes", "cc,dog"), "classes: 'dog' is none of the model's classes"),
        (("--merge-gap", "dog=1"), "merge_gap_s: 'dog' is none"),
        (("--overlap-s", "1.0"), "overlap_s: 1.0 s must be less than segment_s, 1.0 s"),
        (("--window-s", "0"), "window_s: Input should be greater than 0"),
        (("--peak-share", "1"), "peak_share: Input should be less than 1"),
        (("--peak-share", "0.3", "--method", "canny"), "peak_share: 0.3 has no effect with method canny"),
        (("--device", "cuda"), "no GPU that torch can use"),
        (("--thresholds", "none.json"), "none.json: No such file"),
    ],
)
def test_wrong_settings_are_one_line(a2v: A2v, monkeypatch, model: Path, tmp_path: Path, option, told):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    write_sound(tmp_path / "a.wav", 1.5)
    said = a2v("predict", tmp_path / "a.wav", "--model", model, "--out", tmp_path / "out", *option)
    assert said.code == 2 and told in said.only_line() and not (tmp_path / "out").exists()


def test_a_name_that_stands_for_two_recordings(monkeypatch, tmp_path: Path):
    from a2v_experiments.predict.plan import find_recordings

    monkeypatch.chdir(tmp_path)
    for name in ("day1/a.wav", "day1/deep/b.flac", "day2/a.wav", "day2/.hidden.wav", "day2/note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("# two days\nday2/a.wav\n\nday1\n")
    (tmp_path / "empty").mkdir()
    cases = {
        ("day1",): {"a.wav", "deep/b.flac"},
        (f"{tmp_path}/day1/",): {"a.wav", "deep/b.flac"},
        (".",): {"day1/a.wav", "day1/deep/b.flac", "day2/a.wav"},
        ("day1", "day2"): {"day1/a.wav", "day1/deep/b.flac", "day2/a.wav"},
        ("day1", "day1/a.wav"): {"a.wav", "deep/b.flac"},
        ("day1/a.wav", "day2/a.wav"): {"day1/a.wav", "day2/a.wav"},
        ("*/a.wav",): {"day1/a.wav", "day2/a.wav"},
        ("day1/**/*.flac",): {"b.flac"},
        ("**",): {"day1/a.wav", "day1/deep/b.flac", "day2/a.wav"},
        ("list.txt",): {"day2/a.wav", "day1/a.wav", "day1/deep/b.flac"},
        ("day1/a.wav",): {"a.wav"},
    }
    for given, names in cases.items():
        found = find_recordings(given)
        assert set(found) == names, given
        assert all(path.is_absolute() and path.as_posix().endswith(name) for name, path in found.items())
    for given, told in (("empty", "holds no recording"), ("*.mp3", "no recording is named"), ("day9", "no such file")):
        with pytest.raises(UserError, match=told):
            find_recordings([given])
    (tmp_path / "list.txt").write_text("day1/a.wav\nday9/a.wav\n")
    with pytest.raises(UserError, match=r"list\.txt, row 2: .*day9"):
        find_recordings(["list.txt"])


def test_a_model_from_mlflow(a2v: A2v, model: Path, new_work: Callable[[str], Path], tmp_path: Path):
    store = f"sqlite:///{new_work('work')}/mlflow.db"
    client = MlflowClient(store)
    experiment = client.create_experiment("finches", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    client.log_artifacts(run, str(model), "model")
    path = write_sound(tmp_path / "rec/a.wav", 3.0)
    said = a2v("predict", path, "--model", f"runs:/{run}", "--tracking-uri", store, "--out", tmp_path / "out", *FLOAT)
    assert said.code == 0, said.err
    rows = rows_of(tmp_path / "out/events.csv")
    assert rows and {row["model"].rpartition("@")[0] for row in rows} == {f"runs:/{run}"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # what was fetched is gone


@pytest.mark.parametrize("call", [1, 2])
def test_a_recording_that_kills_what_reads_it_is_left_out(
    a2v: A2v, recordings: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
):
    """However little there is to do: it is never this process. Again in every call, as a file may be mended."""
    read = predict_work.read_blocks

    def dies(path: Path, *given: Any) -> Any:
        if path.name == "c.wav":
            os._exit(139)
        return read(path, *given)

    monkeypatch.setattr(predict_work, "read_blocks", dies)
    for _ in range(call):
        said = a2v("predict", recordings, "--model", model, "--out", tmp_path / "out", "--precision", "float32")
        assert said.code == 1 and "day2/c.wav: made the process that read it die" in said.out + said.err
    found = rows_of(tmp_path / "out" / "events.csv")
    assert {row["file"] for row in found} == {"a.wav", "day1/b.wav", "day1/b.flac"}


def test_a_piece_asks_for_the_others_once(a2v: A2v, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not for all of them after each: a week in pieces of 80 s has 8 000."""
    asked: list[int] = []
    of_all = predict_work.PieceTask.of_all

    def counted(task: predict_work.PieceTask) -> list[Path]:
        asked.append(1)
        return of_all.__get__(task)

    monkeypatch.setattr(predict_work.PieceTask, "of_all", property(counted))
    monkeypatch.setitem(predict_stream.PIECE_S, "cpu", 1.0)
    write_sound(tmp_path / "rec" / "long.wav", 30.0)
    said = a2v("predict", tmp_path / "rec", "--model", model, "--out", tmp_path / "out", *FLOAT)
    assert said.code == 0 and len(asked) <= 2  # where the last piece is done, and for the tables


@pytest.mark.parametrize("more", [(), ("--embeddings", "frames")])
def test_a_disk_that_fills_up_is_one_line_that_names_the_folder(a2v: A2v, model: Path, tmp_path: Path, more):
    """8 windows of 1 s give 100 frames each of 2 likelihoods, 4 bytes each: about 4 kB a piece, of embeddings (16
    numbers a frame) 36 kB. The pieces' files are begun and do not fit."""
    write_sound(tmp_path / "rec" / "a.wav", 12.0)
    out = tmp_path / "out"
    with small_files(30_000 if more else 3_000):
        said = a2v("predict", tmp_path / "rec", "--model", model, "--out", out, *FLOAT, *more)
    assert said.code == 1 and "Traceback" not in said.err, said.err
    assert (
        said.err.splitlines()[-1] == f"a2v: {out}: no space left on the disk; free some and run the same command again"
    )
    assert not list(out.rglob("*.npy"))
    assert a2v("predict", tmp_path / "rec", "--model", model, "--out", out, *FLOAT, *more).code == 0
    assert [row["status"] for row in rows_of(out / "recordings.csv")] == ["done"]


def test_one_damaged_header_between_whole_recordings(a2v: A2v, model: Path, tmp_path: Path):
    """An RF64 whose ds64 is cut, a W64 with a chunk of 2^63 - 1 bytes, a rate of 1 Hz, samples whose squares are more
    than float32 holds: each has its reason, and the others are done."""
    folder = tmp_path / "rec"
    for name in ("a.wav", "z.wav"):
        write_sound(folder / name, 1.0)
    for form in ("RF64", "W64", "WAV"):
        soundfile.write(folder / f"{form}.wav", sound(1.0), RATE, format=form, subtype="PCM_16")
    rf64, w64, wav = ((folder / f"{form}.wav").read_bytes() for form in ("RF64", "W64", "WAV"))
    (folder / "RF64.wav").write_bytes(rf64[:24])
    (folder / "W64.wav").write_bytes(w64[:56] + struct.pack("<Q", (1 << 63) - 1) + w64[64:])
    (folder / "WAV.wav").write_bytes(wav[:24] + struct.pack("<I", 1) + wav[28:])
    soundfile.write(folder / "loud.wav", sound(1.0) * 1e30, RATE, subtype="FLOAT")
    out = tmp_path / "out"
    said = a2v("predict", folder, "--model", model, "--out", out, *FLOAT)
    assert said.code == 1 and "Traceback" not in said.err, said.err
    reasons = {row["file"]: row["reason"] for row in rows_of(out / "recordings.csv") if row["status"] != "done"}
    assert {row["file"] for row in rows_of(out / "recordings.csv")} - set(reasons) == {"a.wav", "z.wav"}
    assert set(reasons) == {"RF64.wav", "W64.wav", "WAV.wav", "loud.wav"}
    assert "has a sample rate of 1 Hz; 100 to 10000000 Hz are read" in reasons["WAV.wav"]
    assert "holds a sample of" in reasons["loud.wav"]
