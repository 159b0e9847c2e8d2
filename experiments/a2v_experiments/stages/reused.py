"""What is said of a stage that is reused, or that is not although only its code differs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from ..basics.fingerprint import Fingerprint
from ..store import lookup
from ..store.environment import origin
from ..store.tags import COMMIT, DIRTY, FINGERPRINT
from ..store.tracking import CODE, scratch
from . import code
from .specs import StageSpec

MOST = 5  # modules that are named


def mark_of(found: Run, mark: Fingerprint) -> Fingerprint:
    """The fingerprint of a run that is reused for a mark: its own, which is another one where its code was trusted."""
    return Fingerprint(found.data.tags[FINGERPRINT], mark.identity)


def whence(found: Run, spec: StageSpec) -> str:
    """` (commit abc1234, ...)` where a reused run is of another commit than the code that runs, or where one of the two
    is of a checkout with uncommitted changes; nothing else."""
    tags, here = found.data.tags, origin()
    parts = []
    if tags.get(COMMIT) and tags[COMMIT] != here.get(COMMIT):
        parts.append(f"commit {tags[COMMIT][:7]}")
    if tags.get(DIRTY) == "true":
        parts.append("uncommitted changes")
    elif here.get(DIRTY) == "true":
        parts.append("this checkout has uncommitted changes")
    if tags.get(FINGERPRINT) != spec.fingerprint:
        parts.append("its code differs and is trusted")
    elif parts:
        return f" ({', '.join(parts)}; the code of this stage is the same)"
    return f" ({', '.join(parts)})" if parts else ""


def why_not_reused(client: MlflowClient, spec: StageSpec) -> str | None:
    """One line, where there is a finished run that differs in code alone: in which modules, if it says so."""
    found = lookup.of_other_code(client, spec.stage, spec.fingerprint)
    if found is None or lookup.finished(lookup.attempts(client, spec.stage, spec.fingerprint)) is not None:
        return None  # the latter: it was forced
    before = _record(client, found.info.run_id)
    modules = code.differing(before, spec.code) if before else []
    what = "the code of what it is made from differs"
    if modules:
        more = f" and {len(modules) - MOST} more" if len(modules) > MOST else ""
        what = f"code differs: {', '.join(modules[:MOST])}{more}"
    elif not before:
        what = "code differs"
    return f"run {found.info.run_id} is not reused, as {what} (--trust-code reuses it)"


def _record(client: MlflowClient, run_id: str) -> dict[str, Any] | None:
    """What a run keeps of its code; those of before kept nothing."""
    try:
        with scratch() as aside:
            found: dict[str, Any] = json.loads(Path(client.download_artifacts(run_id, CODE, aside)).read_bytes())
            return found
    except (MlflowException, OSError, ValueError):
        return None
