"""`a2v data prepare`, `pack`, `verify` and `a2v bench data`, as a user calls them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data.corpus import Corpus
from a2v_experiments.cluster import session as ray_session
from experiments_world import RATE, RECORDINGS

COMMAND = [sys.executable, "-c", "from a2v_experiments.cli import main; main()"]


def segments(folder: Path) -> dict[str, bytes]:
    paths = [*(folder / "wav").rglob("*"), *(folder / "lbl").rglob("*"), *folder.glob("*.csv")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def test_prepare_and_pack_say_what_they_made(a2v, csv_source: Path, tmp_path: Path):
    said = a2v("data", "prepare", csv_source, "--out", tmp_path / "p", "--segment-s", 1, "--processes", 1)
    assert said.code == 0
    assert f"{tmp_path / 'p'}: {RECORDINGS} recordings (0.6 min) in 48 segments of 1 s at {RATE} Hz" in said.out
    assert f"{RECORDINGS} recordings labelled, with 48 events of 2 classes" in said.out
    said = a2v("data", "prepare", csv_source, "--out", tmp_path / "p", "--segment-s", 1, "--processes", 1, "--json")
    told = json.loads(said.out)
    assert said.code == 0 and told["done_before"] == RECORDINGS and told["segments"] == 48 and told["problems"] == []
    said = a2v("data", "pack", tmp_path / "p", "--out", tmp_path / "s", "--json", "--processes", 1)
    told = json.loads(said.out)
    assert said.code == 0 and told["classes"] == ["sn", "cc"] and told["events"] == 48
    assert [recording.name for recording in Corpus.open(tmp_path / "s").recordings][:2] == ["rec00.wav", "rec01.wav"]


@pytest.mark.parametrize("command", ["prepare", "pack"])
def test_what_was_left_out_is_listed_and_makes_the_exit_code_1(a2v, tmp_path: Path, command: str):
    audio = tmp_path / "tones" / "audio"
    audio.mkdir(parents=True)
    for name in ("a.wav", "b.wav"):
        soundfile.write(audio / name, np.zeros(8000), 8000)
    (audio / "b.wav").write_bytes((audio / "b.wav").read_bytes()[:999])
    (tmp_path / "tones" / "annotations.csv").write_text("file,onset_s,offset_s,label\na.wav,0,0.5,x\n")
    arguments = ["data", command, tmp_path / "tones", "--processes", 1, "--out"]
    said = a2v(*arguments, tmp_path / "text")
    assert said.code == 1 and "left out (1):\n  'b.wav' is truncated: 999 of 16044 bytes are there" in said.out
    said = a2v(*arguments, tmp_path / "json", "--json")
    told = json.loads(said.out)
    assert said.code == 1 and told["recordings"] == 1 and len(told["problems"]) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--channel", "left"], "--channel: must be a number from 0, or mix"),
        (["--channels", "no.csv"], "no.csv: not readable as CSV"),
        (["--sample-rate", "5"], "--sample-rate: Input should be greater than or equal to 100"),
        (["--segment-s", "0"], "--segment-s: Input should be greater than 0"),
        (["--address", "auto"], "--address: is the address of a Ray cluster; give --ray as well"),
        (["--labelled", "some"], "'--labelled'"),
    ],
)
def test_wrong_options_are_one_line(a2v, csv_source: Path, tmp_path: Path, arguments: list[str], told: str):
    said = a2v("data", "prepare", csv_source, "--out", tmp_path / "p", *arguments)
    assert said.code == 2 and told in said.only_line() and not (tmp_path / "p").exists()


def test_a_table_of_channels(a2v, tmp_path: Path):
    audio = tmp_path / "tones" / "audio"
    audio.mkdir(parents=True)
    for name in ("a.wav", "b.wav"):
        soundfile.write(audio / name, np.tile([0.25, 0.5], (8000, 1)), 8000)
    (tmp_path / "tones" / "annotations.csv").write_text("file,onset_s,offset_s,label\na.wav,0,0.5,x\n")
    table = tmp_path / "channels.csv"
    command = ["data", "pack", tmp_path / "tones", "--channels", table, "--channel", "1", "--processes", 1, "--out"]
    table.write_text("file,channel\na.wav,0\nb.wav,mix\n")
    assert a2v(*command, tmp_path / "s").code == 0
    assert (Corpus.open(tmp_path / "s").audio.reshape(2, 8000)[:, 0] == [8192, 12288]).all()
    for text, said in (
        ("file,channel\na.wav,left\n", "row 2: channel is 'left'; it must be a number from 0, or mix"),
        ("file,channel\na.wav,0\na.wav,1\n", "row 3: file 'a.wav' is there twice"),
        ("name,channel\na.wav,0\n", "row 1: must have the columns file,channel"),
        ("file,channel\nz.wav,0\n", "no recording 'z.wav'"),
    ):
        table.write_text(text)
        answer = a2v(*command, tmp_path / "t")
        assert answer.code == 2 and said in answer.only_line()


def test_verify_finds_a_changed_store(a2v, corpus: Corpus, tmp_path: Path):
    shutil.copytree(corpus.folder, tmp_path / "s")
    assert a2v("data", "verify", tmp_path / "s").code == 0
    with (tmp_path / "s" / "audio.i16").open("r+b") as file:
        file.seek(1000)
        file.write(b"\x01\x02\x03")
    said = a2v("data", "verify", tmp_path / "s")
    assert said.code == 1 and "audio.i16: changed since it was written; pack it again" in said.only_line()
    said = a2v("data", "verify", tmp_path / "s", "--json")
    assert said.code == 1 and "audio.i16" in json.loads(said.out)["problem"]
    said = a2v("data", "verify", tmp_path)
    assert said.code == 2 and "no packed store" in said.only_line()


def test_bench_reads_the_same_segments_both_ways(a2v, corpus: Corpus):
    arguments = ["bench", "data", corpus.folder, "--segment-s", 1, "--segments", 20, "--seconds", 0.05]
    told = json.loads(a2v(*arguments, "--processes", 2, "--json").out)
    assert {name: len(speeds) for name, speeds in told["audio_s_per_s"].items()} == {"store": 2, "wav": 2}
    assert min(map(min, told["audio_s_per_s"].values())) > 0
    said = a2v(*arguments, "--processes", 1)
    assert said.code == 0 and "20 segments of 1 s" in said.out and "WAV (soundfile)" in said.out


def make_long_source(folder: Path) -> Path:
    """Eight recordings that together take a second or two."""
    (folder / "audio").mkdir(parents=True)
    sound = np.random.default_rng(0).normal(0, 0.1, 44100 * 120)
    for number in range(8):
        soundfile.write(folder / "audio" / f"r{number}.wav", np.roll(sound, 1000 * number), 44100)
    rows = "".join(f"r{number}.wav,9.5,10.5,x\n" for number in range(8))
    (folder / "annotations.csv").write_text(f"file,onset_s,offset_s,label\n{rows}")
    return folder


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_preparation_goes_on(a2v, tmp_path: Path, kind: signal.Signals):
    """Its processes are gone, and the folder ends as if nothing had happened. Ctrl-C reaches all of them at once."""
    source = make_long_source(tmp_path / "source")
    command = ["data", "prepare", str(source), "--sample-rate", "8000", "--processes", "2", "--out"]
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*COMMAND, *command, str(out)], stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )  # fmt: skip
    journal = out / ".prepare.jsonl"
    while process.poll() is None and not (journal.exists() and len(journal.read_text().splitlines()) >= 3):
        time.sleep(0.01)
    if kind == signal.SIGINT:
        os.killpg(process.pid, kind)
    else:
        process.send_signal(kind)
    _, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143}.get(kind, 130), err
    if kind != signal.SIGKILL:
        assert err.splitlines()[-1] == "a2v: stopped; the same command goes on with what is not done"
        assert "Traceback" not in err
    assert not (out / "prepare.json").exists()
    _wait_for_the_end_of(process.pid)
    said = a2v(*command, out, "--json")
    told = json.loads(said.out)
    assert said.code == 0 and 2 <= told["done_before"] < 8
    assert a2v(*command, tmp_path / "whole").code == 0
    assert segments(out) == segments(tmp_path / "whole")


def _wait_for_the_end_of(group: int) -> None:
    """The processes that the command started end by themselves."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("processes are left")


@pytest.mark.ray
def test_preparing_over_ray_gives_the_same_folder(a2v, csv_source: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")
    arguments = ["data", "prepare", csv_source, "--segment-s", 1, "--out"]
    try:
        said = a2v(*arguments, tmp_path / "ray", "--ray", "--json")
    finally:
        ray_session.stop_ray()
    assert said.code == 0 and json.loads(said.out)["recordings"] == RECORDINGS
    assert a2v(*arguments, tmp_path / "here", "--processes", 1).code == 0
    assert segments(tmp_path / "ray") == segments(tmp_path / "here")


@pytest.mark.ray
def test_a_ray_worker_that_dies_leaves_out_its_task_alone(monkeypatch):
    import ray
    from a2v_data.scheduling import Crash
    from a2v_experiments.cluster.run import on_ray

    monkeypatch.setenv("RAY_ADDRESS", "local")

    def die_at_two(task: int, advance) -> int:
        advance(1.0)
        if task == 2:
            os._exit(1)
        return task

    told: list[float] = []
    try:
        results = dict(on_ray(None)(die_at_two, range(5), told.append))
    finally:
        ray.shutdown()
    assert results == {0: 0, 1: 1, 2: Crash(), 3: 3, 4: 4}
    assert sum(told) >= 4
