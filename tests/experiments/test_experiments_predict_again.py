"""`a2v predict` once more in the same folder: what is kept of an interrupted call, done again, added or refused."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from a2v_data.scheduling import in_this_process
from a2v_eval.events import EVENT
from a2v_experiments.predict import call as predict_call
from a2v_experiments.predict import stream as predict_stream
from a2v_experiments.predict.state import Done, open_state
from a2v_model import Detector, load_model
from experiments_predict import (
    FLOAT,
    events_in,
    files_of,
    make_detector,
    save_detector,
    status_of,
    write_recordings,
    write_sound,
)
from experiments_world import Said

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


class Interrupted:
    """A run that is stopped, as by Ctrl-C, when so many pieces are done; counts those that are begun."""

    def __init__(self, after: int | None = None) -> None:
        self.after, self.done = after, 0

    def __call__(self, work, tasks, advance) -> Iterator[tuple[int, object]]:
        for position, result in in_this_process(work, tasks, advance):
            if self.done == self.after:
                raise KeyboardInterrupt
            self.done += 1
            yield position, result


def with_run(monkeypatch: pytest.MonkeyPatch, run: Interrupted) -> Interrupted:
    monkeypatch.setattr(predict_call, "on_cores", lambda count: run)
    monkeypatch.setattr(predict_call, "in_a_child", run)
    return run


EVERYTHING = (
    "--precision",
    "float32",
    "--likelihoods",
    "npz",
    "--embeddings",
    "events",
    "--format=csv",
    "--format=raven",
)


@pytest.mark.parametrize("after", [0, 1, 2, 4])
def test_an_interrupted_call_goes_on(a2v: A2v, monkeypatch, recordings: Path, model: Path, tmp_path: Path, after: int):
    arguments = ("predict", recordings, "--model", model, *EVERYTHING)
    whole = with_run(monkeypatch, Interrupted())
    assert a2v(*arguments, "--out", tmp_path / "whole").code == 0
    assert whole.done == 3 + 1 + 1 + 2
    out = tmp_path / "out"
    with_run(monkeypatch, Interrupted(after))
    said = a2v(*arguments, "--out", out)
    assert said.code == 130 and said.only_line() == "stopped; the same command goes on with what is not done"
    assert not any("/." in f"/{name}" and not name.startswith(".predict/") for name in files_of(out))
    finished = {path: path.stat().st_mtime_ns for path in out.glob("csv/**/*.csv")}
    rest = with_run(monkeypatch, Interrupted())
    said = a2v(*arguments, "--out", out)
    assert said.code == 0 and rest.done == whole.done - after - 1  # the piece that was written last is kept, too
    assert files_of(out) == files_of(tmp_path / "whole")
    assert finished.items() <= {path: path.stat().st_mtime_ns for path in out.glob("csv/**/*.csv")}.items()
    again = with_run(monkeypatch, Interrupted())
    said = a2v(*arguments, "--out", out)
    assert said.code == 0 and again.done == 0 and "4 recordings done before" in said.out
    assert files_of(out) == files_of(tmp_path / "whole")


def test_a_torn_last_line_is_done_again(a2v: A2v, recordings: Path, model: Path, tmp_path: Path):
    out = tmp_path / "out"
    arguments = ("predict", recordings, "--model", model, "--out", out, *FLOAT)
    assert a2v(*arguments).code == 0
    before = files_of(out)
    state = out / ".predict/state.jsonl"
    state.write_bytes(state.read_bytes()[:-30])
    said = a2v(*arguments)
    assert said.code == 0 and "1 recording done" in said.out and files_of(out) == before


WRONG = [
    {"events": [1]}, {"events": {"cc": "1"}}, {"events": {"cc": None}}, {"samples": "x"}, {"name": ["a"]},
    {"rate": 1.5}, {"seconds": None}, {"likelihoods": [1]}, {"likelihoods": {"cc": 1}},
    {"likelihoods": {"cc": [0.1, 0.2]}}, {"likelihoods": {"cc": [0.1, 0.2, "x"]}}, {"stamp": 3}, {"more": 1}, 3, [1],
]  # fmt: skip


@pytest.mark.parametrize("change", WRONG)
def test_a_wrong_type_in_the_state_is_told(tmp_path: Path, change: Any):
    folder = tmp_path / "out/.predict"
    with open_state(tmp_path / "out", {"model": "x"}) as state:
        done = Done("a", "/a.wav", "s", 8000, 8000, 1, {"cc": 2}, 1, 0.5, {"cc": [0.1, 0.9, 2.0]})
        (folder / "events").mkdir()
        state.add(done, np.zeros(0, EVENT))
        state.add(replace(done, name="b", likelihoods=None), np.zeros(0, EVENT))
    with open_state(tmp_path / "out", {"model": "x"}) as state:
        assert state.done == {"a": done, "b": replace(done, name="b", likelihoods=None)}
    head, line, _ = (folder / "state.jsonl").read_text().splitlines()
    wrong = json.loads(line) | change if isinstance(change, dict) else change
    (folder / "state.jsonl").write_text(f"{head}\n{json.dumps(wrong)}\n")
    told = pytest.raises(ValueError, match=r"state\.jsonl: damaged \(.*\); name a new folder")
    with told, open_state(tmp_path / "out", {"model": "x"}):
        pass


def test_a_changed_recording_is_done_again_and_named(a2v: A2v, recordings: Path, model: Path, tmp_path: Path):
    out = tmp_path / "out"
    arguments = ("predict", recordings, "--model", model, "--out", out, *FLOAT)
    a2v(*arguments)
    before = files_of(out)
    write_sound(recordings / "day1/b.wav", 3.0, 17)
    write_sound(recordings / "day3/new.wav", 2.0, 18)
    said = a2v(*arguments)
    assert said.code == 0 and "day1/b.wav: its file changed since it was done; done again" in said.out
    assert {name for name, status in status_of(out).items() if status == "done"} == {"day1/b.wav", "day3/new.wav"}
    changed = {name for name, content in files_of(out).items() if before.get(name) != content}
    expected = {"events.csv", "events.selections.txt"}
    for name in ("day1/b.wav", "day3/new.wav"):
        expected |= {f"raven/{name}.selections.txt", f".predict/events/{name}.npy"}
    assert changed == expected
    assert events_in(out) == events_in(out / "raven")


@pytest.mark.parametrize(
    "option, said",
    [
        (("--threshold", "cc=0.6"), "events.threshold.cc 0.45, now 0.6"),
        (("--method", "max"), "events.method avg, now max"),
        (("--peak-share", "0.35"), "events.peak_share None, now 0.35"),
        (("--min-duration", "0.1"), "min_duration_s None, now 0.1"),
        (("--channel", "mix"), "channel 0, now mix"),
        (("--likelihoods", "npz"), "likelihoods None, now npz"),
        (("--precision", "bfloat16"), "precision float32, now bfloat16"),
    ],
)
def test_other_options_are_refused(a2v: A2v, model: Path, tmp_path: Path, option, said):
    write_sound(tmp_path / "a.wav", 1.5)
    out = tmp_path / "out"
    arguments = ("predict", tmp_path / "a.wav", "--model", model, "--out", out)
    a2v(*arguments, *FLOAT)
    before = files_of(out)
    refused = a2v(*arguments, *FLOAT, *option)
    line = refused.only_line()
    assert refused.code == 2 and said in line and line.endswith("give the same options or name a new folder")
    assert files_of(out) == before


def test_another_model_is_refused(a2v: A2v, model: Path, tmp_path: Path):
    write_sound(tmp_path / "a.wav", 1.5)
    arguments = ("predict", tmp_path / "a.wav", "--out", tmp_path / "out", *FLOAT)
    a2v(*arguments, "--model", model)
    other = load_model(model)
    assert isinstance(other, Detector)
    other.head.bias.data += 1
    refused = a2v(*arguments, "--model", save_detector(other, tmp_path / "other"))
    assert refused.code == 2 and "was begun with model " in refused.only_line()


def test_two_calls_at_once(a2v: A2v, model: Path, tmp_path: Path):
    write_sound(tmp_path / "a.wav", 1.5)
    arguments = ("predict", tmp_path / "a.wav", "--model", model, "--out", tmp_path / "out", *FLOAT)
    a2v(*arguments)
    with (tmp_path / "out/.predict/state.jsonl").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused = a2v(*arguments)
    assert refused.code == 2 and "another `a2v predict` is writing there" in refused.only_line()


def test_a_folder_with_other_things_is_left_alone(a2v: A2v, model: Path, tmp_path: Path):
    write_sound(tmp_path / "rec/a.wav", 1.5)
    refused = a2v("predict", tmp_path / "rec", "--model", model, "--out", tmp_path / "rec")
    assert refused.code == 2 and "exists already" in refused.only_line()


def test_other_formats_need_no_model_again(a2v: A2v, monkeypatch, recordings: Path, model: Path, tmp_path: Path):
    out = tmp_path / "out"
    arguments = ("predict", recordings, "--model", model, "--out", out, "--precision", "float32")
    with_run(monkeypatch, Interrupted())
    a2v(*arguments)
    (out / "raven/a.wav.selections.txt").unlink()
    again = with_run(monkeypatch, Interrupted())
    assert a2v(*arguments, "--format=raven", "--format=json").code == 0 and again.done == 0
    assert events_in(out / "json") == events_in(out / "raven") == events_in(out / "events.json") == events_in(out)


def test_recordings_of_later_calls_are_added(a2v: A2v, recordings: Path, model: Path, tmp_path: Path):
    out = tmp_path / "out"
    a2v("predict", recordings / "day1", "--model", model, "--out", out, *FLOAT)
    said = a2v("predict", recordings / "day2", recordings / "day1", "--model", model, "--out", out, *FLOAT)
    assert said.code == 0
    assert status_of(out) == {"b.flac": "done before", "b.wav": "done before", "day2/c.wav": "done"}
    said = a2v("predict", recordings / "a.wav", "--model", model, "--out", out, *FLOAT)
    assert said.code == 0 and "3 recordings of other calls are in its tables, too" in said.out
    write_sound(tmp_path / "elsewhere/a.wav", 2)
    refused = a2v("predict", tmp_path / "elsewhere", "--model", model, "--out", out, *FLOAT)
    assert refused.code == 2 and "holds 'a.wav' of another recording" in refused.only_line()


def test_a_cut_call_leaves_whole_pieces_only(a2v: A2v, monkeypatch, model: Path, tmp_path: Path):
    """Killed in the middle of a piece: its hidden file is of no use to the next call."""
    path = write_sound(tmp_path / "a.wav", 12.0)
    out = tmp_path / "out"
    arguments = ("predict", path, "--model", model, "--out", out, "--precision", "float32")
    with_run(monkeypatch, Interrupted(1))
    a2v(*arguments)
    (pieces,) = (out / ".predict/pieces").iterdir()
    whole = sorted(p.name for p in pieces.iterdir())
    (pieces / f".{whole[0]}.{os.getpid()}-abcd").write_bytes(b"half")
    with_run(monkeypatch, Interrupted())
    assert a2v(*arguments).code == 0
    assert list((out / ".predict/pieces").iterdir()) == [] and len(events_in(out)) > 10


def test_a_state_folder_of_a_call_that_was_killed_at_its_start_is_taken(
    a2v: A2v, recordings: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "out" / ".predict").mkdir(parents=True)
    assert a2v("predict", recordings, "--model", model, "--out", tmp_path / "out", *FLOAT).code == 0


def test_a_recording_that_is_deleted_during_the_call_is_called_gone(
    a2v: A2v, monkeypatch, recordings: Path, model: Path, tmp_path: Path
) -> None:
    def delete(work, tasks, advance):
        (recordings / "a.wav").unlink()
        yield from in_this_process(work, tasks, advance)

    with_run(monkeypatch, delete)
    said = a2v("predict", recordings, "--model", model, "--out", tmp_path / "out", *FLOAT)
    assert said.code == 1 and "a.wav: is gone: it was there before" in said.out, said
    assert "damaged" not in said.out and status_of(tmp_path / "out")["a.wav"] == "left out"
