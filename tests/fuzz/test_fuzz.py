"""Three hundred mutated inputs, the same ones each time: none ends in a traceback, a hang or a full memory. `make fuzz`
goes on with others."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_families import FAMILIES
from fuzz_mutate import nested
from fuzz_run import MEMORY_MB, Case, run_case

ALL = 300


@pytest.fixture(scope="module")
def fell(tmp_path_factory):
    place = tmp_path_factory.mktemp("fuzz") / "rows.json"
    count = -(-ALL // len(FAMILIES))
    script = Path(__file__).with_name("fuzz.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, script, "--seed", "1", "--count", str(count), "--json", place], env=environment, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    rows = json.loads(place.read_text())
    assert len(rows) == count * len(FAMILIES)
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_mutated_input_is_taken_or_refused_in_a_line(fell, family):
    wrong = [
        f"--family {family} --seed 1 --only {row['number']}: {row['fault']} ({row['what']})\n{row['output']}"
        for row in fell
        if row["family"] == family and row["fault"]
    ]
    assert not wrong, "\n".join(wrong)


def raises():
    raise KeyError("x")


def fills_memory():
    assert b"x" * ((MEMORY_MB + 100) << 20)


def writes_outside():
    Path("given.txt").write_text("changed")


FAULTS = {
    "traceback": raises,
    "memory": fills_memory,
    "written outside: given.txt": writes_outside,
    "control characters ['\\x1b']": lambda: print("\x1b[31m"),
    "long output": lambda: print("x" * 5000),
    "exit code 70": lambda: sys.exit(70),
    "killed by signal 10": lambda: os.kill(os.getpid(), 10),
    "": lambda: print("fine"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(tmp_path, fault):
    folder = tmp_path / "case"
    folder.mkdir()
    (folder / "given.txt").write_text("given")
    assert run_case(Case("", call=FAULTS[fault]), folder).fault == fault


def test_what_a_case_says_must_hold(tmp_path):
    folder = tmp_path / "case"
    folder.mkdir()
    case = Case(
        "", call=lambda: print("one"), check=lambda _, output: "two is missing" if "two" not in output else None
    )
    assert run_case(case, folder).fault == "two is missing"


def test_a_nested_value_is_as_deep_as_asked():
    depth, one = 0, nested(3000)
    while one:
        depth, one = depth + 1, one[0]
    assert depth == 3000
