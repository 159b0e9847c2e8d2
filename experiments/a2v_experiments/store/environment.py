"""What a run was made with: git commit and what is not committed, the command, package versions, hardware."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

from .tags import COMMAND, COMMIT, DIRTY, INSTALLED, LOCK

ORIGIN = "origin.json"  # in this package, of code that was submitted to a cluster (submission.py)
UNCOMMITTED = "uncommitted.diff"  # beside it, and an artifact of runs
MOST_DIFF = 2**20  # bytes
LOCK_FILE = "requirements.lock"
MOST_COMMAND = 5000  # characters that a tag may have
WORKER = "default_worker.py"  # what Ray calls the command of a process that it starts
PACKAGES = ("a2v", "a2v-model", "a2v-data", "a2v-eval", "torch", "ray", "mlflow", "optuna", "numpy", "h5py")


@lru_cache
def origin() -> dict[str, str]:
    """Tags: who ran it, the commit that this code stands at, whether the checkout had uncommitted changes, and the hash
    of its lock of packages.

    Without commit and lock when the code does not stand in a git checkout. Code that was submitted to a cluster brings
    these tags with it, and `a2v.job`.
    """
    here = Path(__file__).parents[1]  # the package
    if (here / ORIGIN).is_file():
        brought: dict[str, str] = json.loads((here / ORIGIN).read_text(encoding="utf-8"))
        return brought
    tags = {"mlflow.source.name": "a2v", "mlflow.source.type": "LOCAL", "mlflow.user": _user()}
    commit = _git(here, "rev-parse", "HEAD")
    if commit is None:
        return tags
    dirty = bool(_git(here, "status", "--porcelain"))
    lock = Path(_git(here, "rev-parse", "--show-toplevel") or here) / LOCK_FILE
    locked = {LOCK: hashlib.sha256(lock.read_bytes()).hexdigest()} if lock.is_file() else {}
    return {**tags, COMMIT: commit, DIRTY: str(dirty).lower(), **locked}


@lru_cache
def uncommitted() -> str | None:
    """What of the checkout that this code stands in is not committed, as git shows it (of files that git does not know
    nothing), at most MOST_DIFF bytes; None where there is nothing. Code that was submitted brings it along."""
    here = Path(__file__).parents[1]
    if (here / ORIGIN).is_file():
        brought = here / UNCOMMITTED
        return brought.read_text(encoding="utf-8") if brought.is_file() else None
    found = _git(here, "diff", "HEAD")
    if not found:
        return None
    whole = found.encode("utf-8")
    if len(whole) <= MOST_DIFF:
        return found + "\n"
    cut = whole[:MOST_DIFF].decode("utf-8", "ignore")
    return f"{cut}\n[cut: {len(whole)} bytes, of which the first {MOST_DIFF} are here]\n"


@lru_cache
def process_tags() -> dict[str, str]:
    """Tags: the command that this process runs, without passwords in URLs, and the hash of all installed packages with
    their versions (they stand in environment.json). A process that Ray started has no command of its own."""
    program, *arguments = sys.argv or [""]
    command = without_passwords(shlex.join([Path(program).name, *arguments]))[:MOST_COMMAND]
    installed = hashlib.sha256(json.dumps(_installed()).encode()).hexdigest()
    return {INSTALLED: installed, **({} if Path(program).name in (WORKER, "") else {COMMAND: command})}


def without_passwords(text: str) -> str:
    """The text without `user:password@` in its URLs."""
    return re.sub(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s'\"]*@", r"\1", text)


@lru_cache
def _installed() -> list[str]:
    """NAME==VERSION of every installed package."""
    return sorted({f"{one.name.lower()}=={one.version}" for one in distributions() if one.name})


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


@lru_cache
def describe_environment() -> dict[str, Any]:
    """Package versions and hardware, as JSON data."""
    import psutil
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "installed": _installed(),
        "cpu": _cpu(),
        "cpu_cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus,
    }


def _cpu() -> str:
    """The model of the processor, as far as the system tells."""
    try:
        known = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        known = ""
    found = re.search(r"^model name\s*:\s*(.+)$", known, re.MULTILINE)
    return found[1].strip() if found else platform.processor()
