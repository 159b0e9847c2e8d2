"""The simulation behind docs/scale.md: what it says of a call without sound or model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "infra" / "scale" / "simulate_predict.py"


def simulated(*arguments: str) -> dict[str, Any]:
    said = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    result: dict[str, Any] = json.loads(said.stdout)
    return result


@pytest.mark.rehearsal
def test_a_simulated_call_is_planned_worked_on_and_found_done_again(tmp_path: Path) -> None:
    """0.1 h are five pieces (80 s by default, windows of 10 s that share 0.5 s: 8 a piece, 38 windows in all)."""
    result = simulated("--recordings", "3", "--hours", "0.1", "--again", "--folder", str(tmp_path))
    first, again = result["first"], result["again"]
    assert first["tasks"] == 15 and first["done"] == 3
    assert first["events"] == again["events"] > 0
    assert again["tasks"] == 0 and again["done"] == 3
    assert list(first["phases"]) == ["find files", "plan", "open", "work", "finish"]
    assert not list(tmp_path.iterdir())  # nothing stays


@pytest.mark.rehearsal
def test_what_is_done_before_is_not_done_again(tmp_path: Path) -> None:
    result = simulated("--recordings", "4", "--done", "--folder", str(tmp_path))
    assert result["first"]["tasks"] == 0 and result["first"]["done"] == 4


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.rehearsal
def test_two_nodes_do_the_tasks(tmp_path: Path) -> None:
    result = simulated("--recordings", "4", "--nodes", "2", "--folder", str(tmp_path))
    assert result["first"]["tasks"] == 4 and result["first"]["done"] == 4
    assert result["first"]["events"] > 0
