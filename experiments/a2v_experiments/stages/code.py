"""What code each stage's result depends on, and the mark that a fingerprint has of it.

The mark is `v` and a number where the code is the one that code_versions.json was written for: a release that computes
the same finds what an earlier one made. Else it is the digest of the code: an edited stage runs again, and the same
edit is found again. Not the CLI, the store, Ray, progress, tables and figures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from ..basics.code_versions import pinned
from ..basics.source_code import Closure, Sources, installed

X = "a2v_experiments"
AROUND = frozenset(
    {
        f"{X}.basics", f"{X}.cluster", f"{X}.models", f"{X}.pyfunc", f"{X}.store", f"{X}.stages.stage",
        f"{X}.stages.rounds", f"{X}.training.checkpoints", f"{X}.training.probe", f"{X}.training.probe_recordings",
        f"{X}.training.probe_report", f"{X}.training.validation_report:summary", f"{X}.recipe.sections:Recipe",
        f"{X}.recipe.plugins", "a2v_model.parts", "a2v_data.parts", "a2v_eval.parts", "a2v_model.plugins",
        "a2v_data.scheduling", "a2v_model.recomputation", "a2v_model.execution:compile_model",
    }
)  # fmt: skip
FIGURES = frozenset(
    {
        "a2v_eval.figures", "a2v_eval.figure_style", "a2v_eval.figures_scores", "a2v_eval.figures_confusion",
        "a2v_eval.figures_events", "a2v_eval.figures_precision", f"{X}.stages.figures:log_fold",
        f"{X}.stages.evaluation:_log_example", f"{X}.stages.presence:log_presence",
    }
)  # fmt: skip
SCORING = frozenset({"a2v_eval", f"{X}.training.validation", f"{X}.training.validation_report", f"{X}.inference"})
LOOP, TURNS = f"{X}.training.loop:train", f"{X}.training.turns:TaskOfTurns"
PARTS = {
    "prepare": (("a2v_data.pack:pack",), AROUND),
    "folds": ((f"{X}.stages.splits:split", "a2v_data.manifests:write_manifests"), AROUND),
    "pretrain": ((f"{X}.training.tasks:PretrainTask", TURNS, LOOP), AROUND | SCORING),
    "finetune": (
        (f"{X}.training.tasks:FinetuneTask", TURNS, LOOP, "a2v_data.folds:label_share"),
        AROUND | SCORING | {"a2v_model.pretraining"},
    ),
    "validate": (
        (
            f"{X}.training.validation:score_validation",
            f"{X}.training.validation:Validation",
            f"{X}.stages.splits:held_out",
        ),
        AROUND | FIGURES | {"a2v_model.pretraining", "a2v_model.losses"},
    ),
    "cross": ((f"{X}.stages.inner:crossing",), AROUND | FIGURES | {"a2v_model.pretraining", "a2v_model.losses"}),
    "evaluate": (
        (f"{X}.stages.evaluation:evaluate_model", f"{X}.stages.cross_fit:cross_fit", f"{X}.stages.stages:fitted"),
        AROUND | FIGURES | {"a2v_model.pretraining", "a2v_model.losses"},
    ),
    "refit": ((f"{X}.stages.refit:out_of_fold", f"{X}.stages.refit:labelled"), AROUND | FIGURES),
}


def modules(part: str, sources: Sources, configurations: Iterable[str] | None = None) -> dict[str, str]:
    """Module -> digest of what the part uses of it. configurations: MODULE:CLASS of those whose values fingerprints
    have (None: as they are pinned)."""
    entries, cut = PARTS[part]
    known = pinned()["left_out"] if configurations is None else configurations
    return sources.digests(Closure(entries, cut, frozenset(known)))


def digest(of: dict[str, str]) -> str:
    """One digest of `modules`."""
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _here(part: str) -> tuple[dict[str, str], str]:
    found = modules(part, installed())
    return found, mark(part, digest(found))


def mark(part: str, found: str) -> str:
    """The mark of a part whose code has this digest."""
    known = pinned()["code"].get(part)
    return f"{part} v{known['version']}" if known and known["digest"] == found else f"{part} {found}"


def marks(parts: Sequence[str]) -> list[str]:
    """The marks of parts, of the code that runs."""
    return [_here(part)[1] for part in parts]


def record(parts: Sequence[str]) -> dict[str, Any]:
    """What a run keeps of the code of its parts: their marks, and of each module a digest."""
    return {part: {"mark": _here(part)[1], "modules": _here(part)[0]} for part in parts}


def differing(before: dict[str, Any], parts: Sequence[str]) -> list[str]:
    """The modules in which the code that runs differs from that of an earlier `record`; none where its marks are the
    same."""
    found: set[str] = set()
    for part in parts:
        now, own = _here(part)
        then = before.get(part, {})
        if then.get("mark") != own:
            old = then.get("modules", {})
            found |= {name for name in now | old if now.get(name) != old.get(name)}
    return sorted(found)
