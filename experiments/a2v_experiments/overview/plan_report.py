"""What `a2v experiment plan` prints: stages, updates, time and disk, as text or as plain data."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from a2v_data.scheduling import cores

from ..basics.progress import bar
from ..basics.tables import duration, text_table
from ..recipe.sections import Recipe
from ..stages import packing
from ..stages.advice import Advice
from ..stages.specs import data_name
from ..sweep.search import needs
from . import plan_costs
from .listing import shortest_ids
from .plan import Plan, Planned
from .plan_audio import Audio, audio_of
from .plan_corpora import PlannedCorpus, corpora_text, planned_corpora
from .plan_costs import TRAININGS, Clock

WHAT = {
    "reused": "reused", "shared": "as above", "continues": "goes on",
    "busy": "another process runs it", "evaluates": "only evaluated", "runs": "runs", "unknown": "runs, unless found",
}  # fmt: skip
KINDS = {
    "prepare": "packing", "folds": "split into folds", "pretrain": "pretraining", "finetune": "finetuning",
    "inner": "inner training", "refit": "refit",
}  # fmt: skip
ONLY_THRESHOLDS = "only its thresholds"  # of a refit whose weights are there


@dataclass(frozen=True)
class Costs:
    """seconds: of each stage of the plan, None where it is not measured; update_s: of one update of finetuning;
    at_once: trials side by side; disk: bytes by what they are for; free: bytes on the disk of the work folder; corpora:
    those that pretraining hears, where they are several."""

    seconds: list[float | None]
    update_s: float | None
    at_once: int
    disk: dict[str, int]
    free: int
    corpora: list[PlannedCorpus]

    @property
    def total_s(self) -> float | None:
        """Seconds until the end, None where nothing was measured."""
        known = [seconds for seconds in self.seconds if seconds is not None]
        return sum(known) / self.at_once if known else None


def costs_of(plan: Plan, base: Recipe, work: Path, measure: bool) -> Costs:
    """Disk of a plan and, with `measure`, its time."""
    trials = len({one.trial for one in plan.stages}) if all(one.times == 1 for one in plan.stages) else None
    at_once = trials_at_once(base, trials)
    seconds: list[float | None] = [None] * len(plan.stages)
    update_s = None
    if measure:
        seconds, update_s = _measured(plan, work)
    here = work if work.is_dir() else next(parent for parent in work.resolve().parents if parent.is_dir())
    disk = plan_costs.disk_bytes(plan.stages, work, at_once)
    return Costs(seconds, update_s, at_once, disk, shutil.disk_usage(here).free, planned_corpora(plan, base, work))


def _measured(plan: Plan, work: Path) -> tuple[list[float | None], float | None]:
    """Seconds of each stage, and of an update of the first finetuning that has some left."""
    audio: dict[str, Audio] = {}
    seconds: list[float | None] = []
    update_s = None
    with bar("measuring", len(plan.stages), "stages") as shown:
        clock = Clock(partial(shown.set_postfix_str, refresh=sys.stderr.isatty()))
        for one in plan.stages:
            spent: float | None = None
            if one.works and one.stage in TRAININGS:
                spent = clock.training_s(one)
                if one.stage in ("finetune", "inner"):
                    update_s = update_s or (clock.update_s(one) if one.updates else None)
                    key = one.recipe.data.model_dump_json()
                    if key not in audio:
                        audio[key] = audio_of(one.recipe.data, work, _corpus(plan, one, work))
                    spent += clock.evaluation_s(one, audio[key]) + clock.validation_s(one, audio[key])
                spent *= one.times
            seconds.append(spent)
            shown.update()
    return seconds, update_s


def packed_corpus(plan: Plan, base: Recipe, work: Path) -> Path | None:
    """The folder of the packed corpus that the recipe's finetuning reads, there or not; None if it is not known."""
    first = plan.stages[0]
    return _corpus(plan, first, work) if first.recipe.data == base.data else None


def _corpus(plan: Plan, of: Planned, work: Path) -> Path | None:
    """The folder of the packed corpus that a stage reads."""
    name = data_name(of.recipe.data_key)
    data = next(one for one in plan.stages if one.trial == of.trial and one.name == name)
    return packing.corpus_folder(work, data.mark.fingerprint) if data.mark.known else None


def trials_at_once(base: Recipe, trials: int | None) -> int:
    """How many trials a sweep runs side by side on this machine; on a cluster as many as its `concurrency`, or 1."""
    if base.sweep is None:
        return 1
    fits = max(1, int(cores() / needs(base.ray)["CPU"])) if base.ray.address is None else base.sweep.concurrency or 1
    return max(1, min(fits, base.sweep.concurrency or fits, trials or fits))


def to_json(plan: Plan, base: Recipe, costs: Costs, advice: Advice) -> dict[str, Any]:
    """Plain data, numbers in full; seconds and bytes."""
    listed = [
        {
            "trial": one.trial, "stage": one.stage, "name": one.name, "state": one.state, "run_id": one.run_id,
            "fingerprint": one.mark.fingerprint if one.mark.known else None, "updates": one.updates * one.times,
            "label_share": one.share, "times": one.times, "seconds": seconds,
        }
        for one, seconds in zip(plan.stages, costs.seconds, strict=True)
    ]  # fmt: skip
    return {
        "experiment": base.name, "variant": base.variant, "finished_run": plan.finished, "stages": listed,
        "trials": _n_trials(plan, base), "folds": base.folds.selected if base.finetune else [],
        "label_shares": base.folds.label_shares if base.finetune else [],
        "updates": sum(one.updates * one.times for one in plan.stages), "seconds": costs.total_s,
        "trials_at_once": costs.at_once, "disk_bytes": costs.disk, "free_bytes": costs.free, "notes": plan.notes,
        **({"corpora": [vars(one) for one in costs.corpora]} if costs.corpora else {}),
        "advice": list(advice.lines), "warnings": [*warnings(costs), *advice.warnings],
    }  # fmt: skip


def _n_trials(plan: Plan, base: Recipe) -> int:
    if base.sweep is None:
        return 0
    return max(len({one.trial for one in plan.stages}), *(one.times for one in plan.stages))


def to_text(plan: Plan, base: Recipe, costs: Costs, advice: Advice) -> str:
    """The stages as a table, then totals, time, disk, what finetuning hears, and what cannot be known yet."""
    parts = [_title(plan, base), _table(plan, costs), "\n".join(_totals(plan, base, costs))]
    if costs.corpora:
        parts.append(corpora_text(costs.corpora))
    if advice.lines:
        parts.append("\n".join(advice.lines))
    if plan.notes:
        parts.append("not known yet:\n" + "\n".join(f"  {note}" for note in plan.notes))
    return "\n\n".join(parts)


def _title(plan: Plan, base: Recipe) -> str:
    parts = [f"experiment {base.name}"] + ([f"variant {base.variant}"] if base.variant != "default" else [])
    if base.sweep is not None:
        parts.append(f"{_n_trials(plan, base)} trials ({'variants' if base.sweep.variants else base.sweep.search})")
    if base.finetune is None:
        return ", ".join([*parts, "pretraining only"])
    shares = ", ".join(f"{share:.0%}" for share in base.folds.label_shares)
    folds = len(base.folds.selected)
    seeds = [f"{len(base.seeds)} seed{'s' if len(base.seeds) > 1 else ''}"] if base.seeds else []
    return ", ".join([*parts, f"{folds} fold{'s' if folds != 1 else ''}", *seeds, f"{shares} of the labels"])


def _table(plan: Plan, costs: Costs) -> str:
    short = shortest_ids([one.run_id for one in plan.stages if one.run_id])
    rows, last = [], None
    trials = any(one.trial for one in plan.stages)
    for one, seconds in zip(plan.stages, costs.seconds, strict=True):
        if one.state == "shared" and one.stage in ("prepare", "folds"):
            continue  # as nearly every trial does
        run = f", run {short[one.run_id]}" if one.run_id else ""
        name = f"{one.times} x {one.name}" if one.times > 1 else one.name
        trial = [one.trial or "" if one.trial != last else ""] if trials else []
        updates = f"{one.updates * one.times:,}" if one.updates else ""
        what = ONLY_THRESHOLDS if one.stage == "refit" and one.state == "evaluates" else WHAT[one.state]
        rows.append([*trial, name, f"{what}{run}", updates, "" if seconds is None else duration(seconds)])
        last = one.trial
    head = [*(["trial"] if trials else []), "stage", "", "updates", "time"]
    return text_table(head, rows, left=len(head) - 2)


def _totals(plan: Plan, base: Recipe, costs: Costs) -> list[str]:
    if not any(one.works for one in plan.stages):
        whole = f", run {plan.finished}" if plan.finished else ""
        return [f"nothing is left to run{whole}"]
    counts: Counter[str] = Counter()
    for one in plan.stages:
        if one.works:
            counts["evaluation" if one.state == "evaluates" else KINDS[one.stage]] += one.times
    runs = [f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items() if count]
    updates = sum(one.updates * one.times for one in plan.stages)
    lines = [f"to run  {', '.join(runs)}" + (f"; {updates:,} updates" if updates else "")]
    if costs.total_s is not None:
        lines.append(f"time    about {duration(costs.total_s)} {_where(base, costs)}")
        lines.append("        measured by a few steps; validation and scoring count, packing and the summary do not")
    used = [f"{_bytes(size)} {what}" for what, size in costs.disk.items() if size]
    lines.append(f"disk    {'about ' + ', '.join(used) if used else 'hardly any'}; {_bytes(costs.free)} are free")
    return lines


def _where(base: Recipe, costs: Costs) -> str:
    workers = f"{base.ray.num_workers} workers" if base.ray.num_workers else "in this process"
    many = f", {costs.at_once} trials at once" if costs.at_once > 1 else ""
    where = "with this machine's speed on the cluster" if base.ray.address else "on this machine"
    return f"{where} ({workers}{many})"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def warnings(costs: Costs) -> Sequence[str]:
    """What would go wrong for certain."""
    needed = sum(costs.disk.values())
    return [f"the disk has {_bytes(costs.free)} free, and {_bytes(needed)} are needed"] if needed > costs.free else []
