"""`a2v predict --ray`: the same bits as on one machine, also where a worker dies."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from a2v_experiments.cluster import session as ray_session
from a2v_experiments.predict import stream as predict_stream
from experiments_predict import make_detector, save_detector, write_sound
from experiments_world import call_quietly


@pytest.fixture
def _ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RAY_ADDRESS", "local")  # not a cluster that somebody else runs on this machine
    yield
    ray_session.stop_ray()


class Killer(threading.Thread):
    """Kills a process that works on a piece as soon as another piece is done."""

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self.out, self.killed, self.stop = out, 0, threading.Event()

    def run(self) -> None:
        while not self.killed and not self.stop.wait(0.02):
            if next(self.out.glob(".predict/pieces/*/[0-9]*.npy"), None) is None:
                continue
            for process in psutil.Process().children(recursive=True):
                if self._works(process):
                    process.kill()
                    self.killed = process.pid
                    return

    def _works(self, process: psutil.Process) -> bool:
        try:
            return " ".join(process.cmdline()).startswith("ray::_call")
        except psutil.Error:
            return False


@pytest.mark.ray
@pytest.mark.usefixtures("_ray")
def test_a_worker_that_dies_costs_its_piece_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = save_detector(make_detector(tmp_path), tmp_path / "model")
    for number, seconds in enumerate((60.0, 45.0, 3.0)):
        write_sound(tmp_path / f"rec/{number}.wav", seconds, number)
    (tmp_path / "rec/bad.wav").write_text("no audio")
    monkeypatch.setitem(predict_stream.PIECE_S, "cpu", 5.6)
    options = ("predict", tmp_path / "rec", "--model", model, "--precision", "float32", "--likelihoods", "npz")
    killer = Killer(tmp_path / "ray")
    killer.start()
    said = call_quietly(*options, "--out", tmp_path / "ray", "--ray")
    killer.stop.set()
    assert killer.killed and said.code == 1 and "left out (1)" in said.out, said
    alone = call_quietly(*options, "--out", tmp_path / "alone", "--processes", "1")
    assert alone.code == 1
    for path in [*(tmp_path / "alone").glob("likelihoods/*"), tmp_path / "alone/events.csv"]:
        other = tmp_path / "ray" / path.relative_to(tmp_path / "alone")
        assert other.read_bytes() == path.read_bytes(), path
