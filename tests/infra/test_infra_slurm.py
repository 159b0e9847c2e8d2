"""infra/slurm/a2v.sbatch, run where `srun` starts its command on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).parents[2] / "infra" / "slurm" / "a2v.sbatch"
JOB = 900_000 + os.getpid() % 10_000
SCONTROL = "#!/bin/bash\ntr , '\\n' <<< \"$3\"\n"
SRUN = '#!/bin/bash\necho "srun $*" >> "$LOG"\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n'
# an experiment that tells what it was given, and runs until it is stopped
EXPERIMENT = f"""#!{sys.executable}
import json, os, signal, sys, time
import ray
ray.init(log_to_driver=False, logging_level="ERROR")
alive = [node for node in ray.nodes() if node["Alive"]]
told = {{"nodes": len(alive), "cpus": ray.cluster_resources()["CPU"], "arguments": sys.argv[1:]}}
def stop(*_):
    open(os.environ["TOLD"] + ".stopped", "w").close()
    os._exit(130)
signal.signal(signal.SIGTERM, stop)
with open(os.environ["TOLD"] + ".new", "w") as file:
    json.dump(told, file)
os.rename(os.environ["TOLD"] + ".new", os.environ["TOLD"])
time.sleep(300)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: Ray's sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="a2v", ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    write_program(folder / "slurm" / "scontrol", SCONTROL)
    write_program(folder / "slurm" / "srun", SRUN)
    environment = {
        **os.environ, "PATH": f"{folder / 'slurm'}:{os.environ['PATH']}", "LOG": str(folder / "srun.log"),
        "TOLD": str(folder / "told.json"), "RAY_TMPDIR": str(folder), "A2V_BIN": str(folder / "bin"),
        "SLURM_JOB_ID": str(JOB), "SLURM_JOB_NODELIST": "127.0.0.1,localhost", "SLURM_CPUS_PER_TASK": "3",
        "SLURM_SUBMIT_DIR": str(folder),
    }  # fmt: skip
    return subprocess.Popen(
        ["bash", str(SCRIPT), *arguments], env=environment, cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def of_this_job() -> list[str]:
    """Processes of the job's Ray cluster; its port tells them."""
    port = f":{20000 + JOB % 10000}"
    return [
        line
        for line in (" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]))
        if port in line
    ]


@pytest.mark.ray
def test_the_job_has_all_its_nodes_and_stops_as_for_ctrl_c(folder: Path) -> None:
    for name in ("ray", "python"):
        write_program(folder / "bin" / name, f'#!/bin/bash\nexec {Path(sys.executable).parent / name} "$@"\n')
    write_program(folder / "bin" / "a2v", EXPERIMENT)
    job = start(folder, "many_calls.yaml", "--set", "ray.num_workers=5", "--work", "/shared")
    deadline = time.monotonic() + 120
    while not (folder / "told.json").exists():
        assert job.poll() is None and time.monotonic() < deadline, job.communicate()[0]
        time.sleep(0.2)
    told = json.loads((folder / "told.json").read_text())
    assert (told["nodes"], told["cpus"]) == (2, 6)
    assert told["arguments"] == [
        *["experiment", "run", "many_calls.yaml", "--set", "ray.num_workers=2", "--set", "ray.cpus_per_worker=3"],
        *["--set", "ray.num_workers=5", "--work", "/shared"],  # the later one counts
    ]
    assert of_this_job()
    job.send_signal(signal.SIGTERM)
    out, _ = job.communicate(timeout=90)
    assert job.returncode == 143, out
    assert (folder / "told.json.stopped").exists() and not of_this_job()


def test_each_node_gets_its_step_and_the_job_ends_as_the_experiment_does(folder: Path) -> None:
    for name, text in {
        "ray": "exec sleep 300",
        "python": 'until [ "$(cat "$LOG" 2>/dev/null | wc -l)" -ge "$2" ]; do sleep 0.1; done',  # so many nodes joined
        "a2v": 'echo "a2v $RAY_AUTH_TOKEN"; exit 1',
    }.items():
        write_program(folder / "bin" / name, f"#!/bin/bash\n{text}\n")
    job = start(folder, "many_calls.yaml")
    out, _ = job.communicate(timeout=60)
    assert job.returncode == 1
    [token] = [line.split() for line in out.splitlines() if line.startswith("a2v ")]
    assert len(token[1]) == 64  # a key of the job's own
    head, other = (folder / "srun.log").read_text().splitlines()
    assert "--nodelist=127.0.0.1 " in head and " --head " in head and f"--port={20000 + JOB % 10000}" in head
    assert "--nodelist=localhost " in other and f"--address=127.0.0.1:{20000 + JOB % 10000}" in other


def test_what_is_missing_is_said(folder: Path) -> None:
    without_recipe = start(folder)
    assert "name a recipe" in without_recipe.communicate(timeout=30)[0] and without_recipe.returncode == 2
    without_ray = start(folder, "many_calls.yaml")
    assert f"no Ray in {folder / 'bin'}" in without_ray.communicate(timeout=30)[0] and without_ray.returncode == 2
