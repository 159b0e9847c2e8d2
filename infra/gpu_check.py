"""What `infra/gpu_check.sh` does, with the standard library alone.

Each step is a process with a time limit of its own; one that fails, hangs or does not fit into memory never stops the
next, and all together end within `LIMIT_S`. The folder has four files, written anew after each step, so that whatever
stops the whole leaves what was found: summary.md to read, results.json with every figure, check.log with all that the
steps printed, tests.xml of the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 580.0
SOURCES = ["packages/a2v-model/src", "packages/a2v-data/src", "packages/a2v-eval/src", "experiments"]
BENCH = [sys.executable, "-m", "a2v_experiments", "bench"]
TORCH = {"A2V_ATTENTION": "torch"}  # not the project's kernel (a2v_model/attention_triton.py)
DEVICE = """
import json, platform, torch
cuda = torch.cuda.is_available()
name = torch.cuda.get_device_name() if cuda else "no CUDA device"
memory = torch.cuda.get_device_properties(0).total_memory / 2**30 if cuda else 0
print(json.dumps({"device": name, "memory_gib": memory, "torch": torch.__version__, "cuda": torch.version.cuda,
                  "python": platform.python_version()}))
"""


@dataclass(frozen=True)
class Step:
    name: str
    limit_s: float
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Done:
    """state: ok, failed or timed out; found: the JSON that the step printed, if any."""

    name: str
    state: str
    seconds: float
    command: str
    found: dict[str, Any] = field(default_factory=dict)
    said: str = ""  # its last words, where it failed


def steps(folder: Path, dry: bool) -> list[Step]:
    """In the order of what is missed most if time runs out."""
    tests = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", f"--junitxml={folder / 'tests.xml'}", "-rs"]
    tests += ["-p", "no:cacheprovider"]
    if dry:
        small = ["--preset", "tiny", "--segment-s", "1", "--steps", "1", "--segments", "2", "--json"]
        return [
            Step("device", 300, [sys.executable, "-c", DEVICE]),
            Step("tests", 600, [*tests, "-k", "golden"]),
            Step("pretrain tiny, 2 segments", 300, [*BENCH, "train", *small, "--bcl", "--profile"]),
            Step("finetune tiny, 2 segments", 300, [*BENCH, "train", "--stage", "finetune", *small]),
            Step("predict tiny", 300, [*BENCH, "predict", "--preset", "tiny", "--minutes", "0.2", "--json"]),
        ]

    def train(segments: int, *more: str, stage: str = "pretrain") -> list[str]:
        mixed = ["--bcl"] if stage == "pretrain" else []  # as meerkat/pretrain does: `experiment plan --measured`
        size = ["--preset", "meerkat", "--stage", stage, "--segments", str(segments)]
        return [*BENCH, "train", *size, *mixed, "--json", *more]

    def predict(preset: str, minutes: int) -> list[str]:
        return [*BENCH, "predict", "--preset", preset, "--minutes", str(minutes), "--json"]

    return [
        Step("device", 30, [sys.executable, "-c", DEVICE]),
        Step("tests", 150, tests),
        Step("pretrain meerkat, 32 segments", 70, train(32, "--profile", "--steps", "5")),
        Step("pretrain meerkat, 32 segments, compiled", 130, train(32, "--compile", "--steps", "5")),
        Step("predict meerkat", 70, predict("meerkat", 60)),
        Step("pretrain meerkat, 8 segments", 50, train(8, "--steps", "5")),
        Step("finetune meerkat, 16 segments", 60, train(16, "--profile", stage="finetune")),
        Step("predict base", 60, predict("base", 120)),
        Step("finetune meerkat, 16 segments, torch's attention", 50, train(16, stage="finetune"), TORCH),
        Step("pretrain meerkat, 32 segments, torch's attention", 60, train(32), TORCH),
        Step("pretrain meerkat, 48 segments", 60, train(48)),
        Step("pretrain base, 64 segments", 40, [*BENCH, "train", "--preset", "base", "--segments", "64", "--json"]),
    ]


def run(step: Step, log: Path, environment: dict[str, str], most_s: float) -> Done:
    """The step, killed with all that it started when its time is over."""
    started = time.monotonic()
    command = " ".join(step.command).replace(str(ROOT) + "/", "").replace(DEVICE, "...")
    if most_s < 5:
        return Done(step.name, "no time was left", 0.0, command)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n=== {step.name}: {command}\n")
        file.flush()
        process = subprocess.Popen(
            step.command, stdout=subprocess.PIPE, stderr=file, text=True, cwd=ROOT,
            env=environment | step.environment,
            start_new_session=True,
        )  # fmt: skip
        state = "failed"
        try:
            out, _ = process.communicate(timeout=min(step.limit_s, most_s))
            state = "ok" if process.returncode == 0 else "failed"
        except subprocess.TimeoutExpired:
            out, state = "", "timed out"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if state == "timed out":
            with contextlib.suppress(subprocess.TimeoutExpired):
                out = process.communicate(timeout=10)[0]
        file.write(out)
    done = Done(step.name, state, time.monotonic() - started, command)
    with contextlib.suppress(ValueError):
        done.found = json.loads(out)
    if state != "ok":
        done.said = "\n".join(log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-4:])[-600:]
    return done


def tests_found(path: Path) -> dict[str, Any]:
    """Of pytest's XML: how many tests passed, failed and were left out, and which failed."""
    try:
        cases = list(ET.parse(path).iter("testcase"))
    except (OSError, ET.ParseError):
        return {}
    failed = [one.get("name") for one in cases if one.find("failure") is not None or one.find("error") is not None]
    skipped = sum(one.find("skipped") is not None for one in cases)
    return {"passed": len(cases) - len(failed) - skipped, "failed": failed, "left_out": skipped}


def summary(done: list[Done], dry: bool) -> str:
    """Markdown: the device, each step, and of the benchmarks what ratios to the goals are made of."""
    device = next((one.found for one in done if one.name == "device"), {})
    lines = ["# GPU check" + (", a dry run on the CPU: its figures mean nothing" if dry else ""), ""]
    if device:
        memory = f", {device['memory_gib']:.0f} GiB" if device["memory_gib"] else ""
        lines += [f"{device['device']}{memory}; torch {device['torch']}, Python {device['python']}", ""]
    lines += ["| step | state | s |", "|---|---|---|"]
    lines += [f"| {one.name} | {one.state} | {one.seconds:.0f} |" for one in done]
    tests = next((one.found for one in done if one.name == "tests"), {})
    if tests:
        lines += ["", f"Tests: {tests['passed']} passed, {len(tests['failed'])} failed, {tests['left_out']} left out."]
        lines += [f"- failed: {name}" for name in tests["failed"]]
    trained = [one for one in done if "step_s" in one.found]
    if trained:
        lines += ["", "| training | step, s | audio s / s | GiB | TFLOP/s | share of bfloat16 peak |"]
        lines += ["|---|---|---|---|---|---|"]
    for one in trained:
        found = one.found
        share = f"{found['share_of_peak']:.1%}" if "share_of_peak" in found else "-"
        lines.append(
            f"| {one.name}, {found['precision']} | {found['step_s']['median']:.3f} | {found['audio_s_per_s']:.0f} | "
            f"{found['peak_memory_gib']:.1f} | {found['teraflops']:.1f} | {share} |"
        )
    predicted = [one for one in done if "times_real_time" in one.found]
    if predicted:
        lines += ["", "| prediction | x real time | of a process | outside the model |", "|---|---|---|---|"]
    for one in predicted:
        found = one.found
        lines.append(
            f"| {one.name}, {found['precision']}, {found['processes']} processes | {found['times_real_time']:.0f} | "
            f"{found['times_real_time_of_a_process']:.0f} | {found['share_outside_model']:.1%} |"
        )
    for one in done:
        if one.found.get("profile"):
            lines += ["", f"Where the time goes, {one.name}:", ""]
            lines += [f"- {row['share']:.1%} {row['operation']} ({row['calls']} calls)" for row in one.found["profile"]]
    for one in done:
        if one.said:
            lines += ["", f"{one.name} {one.state}:", "", "```", one.said, "```"]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="infra/gpu_check.sh", description="Tests and benchmarks on a GPU.")
    parser.add_argument("folder", nargs="?", default=os.environ.get("OUT") or "gpu-check", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, in tiny sizes")
    parser.add_argument("--limit-s", type=float, help=f"for all steps together; {LIMIT_S:g}, of a dry run 1800")
    given = parser.parse_args(arguments)
    limit_s = given.limit_s if given.limit_s is not None else 1800.0 if given.dry_run else LIMIT_S
    folder, end = given.folder.resolve(), time.monotonic() + limit_s
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "check.log"
    log.write_text("", encoding="utf-8")
    (folder / "tests.xml").unlink(missing_ok=True)
    path = os.pathsep.join([str(ROOT / source) for source in SOURCES] + [os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    if given.dry_run:
        environment |= {"A2V_GPU_TESTS_ON": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    done: list[Done] = []
    for step in steps(folder, given.dry_run):
        print(f"{step.name} ...", flush=True)
        one = run(step, log, environment, end - time.monotonic())
        if step.name == "tests":
            one.found = tests_found(folder / "tests.xml")
        done.append(one)
        print(f"{step.name}: {one.state}, {one.seconds:.0f} s", flush=True)
        (folder / "results.json").write_text(json.dumps([asdict(one) for one in done], indent=1), encoding="utf-8")
        (folder / "summary.md").write_text(summary(done, given.dry_run), encoding="utf-8")
        if step.name == "device" and not given.dry_run and one.found.get("device") == "no CUDA device":
            print("no CUDA device here; --dry-run tries the check without one", file=sys.stderr)
            return 1
    print((folder / "summary.md").read_text(encoding="utf-8"))
    return 0 if all(one.state == "ok" for one in done) else 1


if __name__ == "__main__":
    sys.exit(main())
