"""Ray's folder where TMPDIR is long, as batch systems make it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from a2v_experiments.cluster import temporary
from a2v_experiments.cluster.temporary import BELOW, session_folder


@pytest.mark.parametrize("length, shorter", [(4, False), (39, False), (40, True), (120, True)])
def test_a_short_folder_where_it_is_needed(length: int, shorter: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/" + (length - 1) * "t")
    assert (session_folder() is not None) == shorter


def test_sockets_can_be_made_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / "scratch_of_slurm" / "job_1355700" / "tmp_of_user_on_node_of_a_long_name"
    monkeypatch.setenv("RAY_TMPDIR", str(long))  # also where it is this one that is too long
    folder = session_folder()
    assert folder is not None and Path(folder).stat().st_uid == os.getuid()
    with socket.socket(socket.AF_UNIX) as one, pytest.raises(OSError, match="too long"):
        one.bind(f"{long}/ray{BELOW}")
    place = Path(folder + BELOW)
    place.parent.mkdir(parents=True)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(place))
    finally:
        place.unlink(missing_ok=True)
        place.parent.rmdir()
        place.parent.parent.rmdir()


def test_a_folder_of_another_user_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/" + 100 * "t")
    monkeypatch.setattr(temporary, "SHORT", (str(tmp_path / "gone"), str(tmp_path)))
    assert session_folder() == f"{tmp_path}/a2v-ray-{os.getuid()}"
    monkeypatch.setattr(temporary, "SHORT", (str(tmp_path / "gone"),))
    assert session_folder() is None  # Ray says what is wrong, and a2v which variable puts it right
