"""Folders that are complete or invisible: what killed calls leave goes, and what one that runs builds stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from a2v_data.state_lines import open_lines
from a2v_data.storage import written_aside

BUILDS = """
import sys, time
from pathlib import Path
from a2v_data.storage import written_aside
with written_aside(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("x")
    print("building", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def building(tmp_path: Path):
    """A process that is in the middle of writing tmp_path/out."""
    process = subprocess.Popen([sys.executable, "-c", BUILDS, tmp_path / "out"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "building\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_what_a_killed_process_left_is_removed_by_the_next(building: subprocess.Popen, tmp_path: Path) -> None:
    os.kill(building.pid, signal.SIGKILL)
    building.wait()
    assert len(hidden(tmp_path)) == 1
    with written_aside(tmp_path / "out") as folder:
        (folder / "whole").write_text("x")
    assert hidden(tmp_path) == [] and [path.name for path in (tmp_path / "out").iterdir()] == ["whole"]


def test_what_a_running_process_builds_stays(building: subprocess.Popen, tmp_path: Path) -> None:
    (theirs,) = hidden(tmp_path)
    with written_aside(tmp_path / "out") as folder:
        assert sorted([theirs, folder.name]) == hidden(tmp_path)
    assert hidden(tmp_path) == [theirs] and (tmp_path / theirs / "half").read_text() == "x"


def test_nothing_else_is_removed(tmp_path: Path) -> None:
    others = (
        ".out.partial-12",
        ".out.partial-x-0123abcd",
        ".output.partial-12-0123abcd",
        ".out",
        "out.partial-1-0123abcd",
    )
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / ".out.partial-1-0123abcd").write_text("a file")
    (tmp_path / ".out.partial-2-0123abcd").symlink_to(tmp_path / ".out")
    (tmp_path / ".out.partial-3-0123abcd").mkdir()
    with written_aside(tmp_path / "out"):
        pass
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*others, ".out.partial-1-0123abcd", ".out.partial-2-0123abcd", "out"}


def opened(out: Path, path: Path) -> None:
    with open_lines(path, out, {"a": 1}, 1, "a2v test"):
        pass


@pytest.mark.parametrize("inside", [(), ("events",), ("events/day1", "pieces/abc")])
def test_a_state_folder_without_a_file_is_begun(tmp_path: Path, inside: tuple[str, ...]) -> None:
    for name in ("", *inside):
        (tmp_path / "out" / ".state" / name).mkdir(parents=True, exist_ok=True)
    opened(tmp_path / "out", tmp_path / "out" / ".state" / "state.jsonl")
    assert (tmp_path / "out" / ".state" / "state.jsonl").read_text() == '{"version": 1, "options": {"a": 1}}\n'


@pytest.mark.parametrize("other", ["mine.txt", ".state/mine.txt", ".state/events/a.npy", "folder/"])
def test_a_folder_with_other_things_is_refused(tmp_path: Path, other: str) -> None:
    (tmp_path / "out" / ".state").mkdir(parents=True)
    place = tmp_path / "out" / other
    (place if other.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
    if not other.endswith("/"):
        place.write_text("x")
    with pytest.raises(ValueError, match="out: exists already; name a new folder or remove this one first"):
        opened(tmp_path / "out", tmp_path / "out" / ".state" / "state.jsonl")


@pytest.mark.parametrize("text", ["", '{"version": 1, "opt'])
def test_a_state_whose_first_line_is_not_whole_is_begun(tmp_path: Path, text: str) -> None:
    path = tmp_path / "out" / "state.jsonl"
    path.parent.mkdir()
    path.write_text(text)
    opened(tmp_path / "out", path)
    assert path.read_text() == '{"version": 1, "options": {"a": 1}}\n'
