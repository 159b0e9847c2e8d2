"""What a run was made with: git commit, package versions, hardware."""

from __future__ import annotations

import getpass
import json
import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .tags import COMMIT, DIRTY

ORIGIN = "origin.json"  # in this package, of code that was submitted to a cluster (submission.py)
PACKAGES = ("a2v", "a2v-model", "a2v-data", "a2v-eval", "torch", "ray", "mlflow", "optuna", "numpy", "h5py")


@lru_cache
def origin() -> dict[str, str]:
    """Tags: who ran it, and the commit that this code stands at and whether the checkout had uncommitted changes.

    Without the commit when the code does not stand in a git checkout. Code that was submitted to a cluster brings
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
    return {**tags, COMMIT: commit, DIRTY: str(dirty).lower()}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _git(folder: Path, *command: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


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
        "cpu_cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus,
    }
