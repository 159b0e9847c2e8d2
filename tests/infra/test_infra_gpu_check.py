"""infra/gpu_check.sh: each step has its time, no step stops the next, and what was found lies in the folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = spec_from_file_location("gpu_check", ROOT / "infra" / "gpu_check.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)
    spec.loader.exec_module(module)
    return module


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_step_that_hangs_or_fails_never_stops_the_next(
    check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child"
    hangs = f"import subprocess; subprocess.Popen(['sh', '-c', 'sleep 3; touch {child}']).wait()"
    step = '{"step_s": {"median": 2.0}, "audio_s_per_s": 160.0, "precision": "bfloat16", "peak_memory_gib": 40.0, '
    step += '"teraflops": 494.7, "share_of_peak": 0.5}'
    chosen = [
        check.Step("hangs", 1, python(hangs)),
        check.Step("fails", 20, python("raise SystemExit('32 segments do not fit into the memory')")),
        check.Step("pretrain", 20, python(f"print('''{step}''')")),
    ]
    monkeypatch.setattr(check, "steps", lambda folder, dry: chosen)
    started = time.monotonic()
    assert check.main([str(tmp_path / "out"), "--dry-run"]) == 1
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [one["state"] for one in results] == ["timed out", "failed", "ok"]
    assert results[2]["found"]["step_s"] == {"median": 2.0}
    text = (tmp_path / "out" / "summary.md").read_text()
    assert "32 segments do not fit into the memory" in text
    assert "| pretrain, bfloat16 | 2.000 | 160 | 40.0 | 494.7 | 50.0% |" in text
    time.sleep(max(0.0, started + 4 - time.monotonic()))
    assert not child.exists()  # what it had started was ended with it
    (tmp_path / "out" / "summary.md").unlink()
    assert check.main([str(tmp_path / "out"), "--dry-run", "--limit-s", "0"]) == 1
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {one["state"] for one in results} == {"no time was left"}


def test_its_steps_fit_into_ten_minutes_and_few_files(check: ModuleType, tmp_path: Path) -> None:
    first = [one for one in check.steps(tmp_path, False) if "finetune" not in one.name][:5]
    assert sum(one.limit_s for one in first) < check.LIMIT_S < 600  # tests, the step, compiled, prediction
    assert "--bcl" in first[2].command  # as meerkat/pretrain, so that `experiment plan --measured` takes it
    assert [one.name for one in first][:3] == ["device", "tests", "pretrain meerkat, 32 segments"]


@pytest.mark.slow
@pytest.mark.rehearsal
def test_dry_run(tmp_path: Path) -> None:
    environment = {**os.environ, "A2V_PYTHON": sys.executable, "OUT": str(tmp_path / "out")}
    done = subprocess.run(
        ["bash", str(ROOT / "infra" / "gpu_check.sh"), "--dry-run"], env=environment, cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert done.returncode == 0, results
    assert {one["state"] for one in results} == {"ok"} and len(results) == 5
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"summary.md", "results.json", "check.log", "tests.xml"}
    tests = next(one["found"] for one in results if one["name"] == "tests")
    assert tests["passed"] >= 6 and not tests["failed"] and not tests["left_out"]
    assert done.stdout.endswith((tmp_path / "out" / "summary.md").read_text() + "\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "A2V_PYTHON": sys.executable}
    script = str(ROOT / "infra" / "gpu_check.sh")
    for given, out in ((["here/out"], "ignored"), ([], "there/out")):  # both from where the user stands
        done = subprocess.run(
            ["bash", script, *given], env={**environment, "OUT": out}, cwd=tmp_path, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 1 and "no CUDA device here; --dry-run" in done.stderr
    assert {path.parent for path in tmp_path.rglob("summary.md")} == {tmp_path / "here/out", tmp_path / "there/out"}
