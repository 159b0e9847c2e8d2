"""The table over a sweep's trials (`sweep.txt`, `.csv`, `.json`) and the figures of AP against what was tried."""

from __future__ import annotations

import json
from typing import Any

from a2v_eval.events import PROTOCOLS, Protocol
from a2v_eval.figures import TrialPoint, parameter_figure, variant_figure
from a2v_eval.summary import STRICT_FIRST, UNDEFINED_MARK, Spread, metric_name

from ..basics.tables import csv_text, text_table
from ..recipe.sections import Recipe
from ..recipe.sweep import SweepConfig
from ..stages.stage import Context
from ..store.lookup import share_prefix
from ..store.tags import BEST_RUN, BEST_TRIAL
from .rows import Row, best_of
from .trial import score_name
from .trials import short_names, shown

STAGES = {"pretrain": "pretraining", "finetune": "finetuning", "evaluate": "evaluation"}
UNITS = {"mask_length": "frames", "channel_mask_length": "channels", "sample_rate": "Hz", "warmup_updates": "updates"}


def text_report(recipe: Recipe, rows: list[Row]) -> str:
    """One row per trial, a table for each label share; the best trial, and the reason of each that failed."""
    shares = recipe.folds.label_shares
    parts = []
    for share in shares:
        prefix = share_prefix(share, len(shares))
        table = text_table(*_cells(recipe, rows, prefix))
        parts.append(table if len(shares) == 1 else f"{100 * share:g} % of the labels\n{table}")
    name = score_name(recipe)
    best = best_of(rows, name, shares)
    notes = [f"AP: mean ± standard deviation over folds of {recipe.name}"]
    if best is not None:
        notes.append(f"best trial by {name}: {best.name}, run {best.run_id}")
    notes += [
        f"{row.name}: {metric} is undefined in some folds that others have it in; with 0 there, by which it is ranked,"
        f" it is {score:.3f}"
        for row in rows
        for metric, score in row.ranked.items()
    ]
    notes += _heard(rows)
    notes += [f"{row.name}: failed: {row.reason}" for row in rows if row.status == "failed"]
    return "\n\n".join([*parts, "\n".join(notes)])


def _heard(rows: list[Row]) -> list[str]:
    """What pretraining heard of the evaluation recordings, and of which trials it is said, where they differ."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        if row.heard:
            lines.setdefault(row.heard, []).append(row.name)
    return list(lines) if len(lines) < 2 else [f"{', '.join(names)}: {line}" for line, names in lines.items()]


def _cells(recipe: Recipe, rows: list[Row], prefix: str) -> tuple[list[str], list[list[str]]]:
    """What trials are chosen and compared by stands first, then AP of both protocols."""
    sweep = _sweep(recipe)
    names = short_names(sweep.parameters)
    aps = {
        metric_name(protocol, "AP", of): f"{of} {protocol}" for protocol in STRICT_FIRST for of in ("micro", "macro")
    }
    first = {name: name for name in (score_name(recipe), sweep.metric) if name not in aps}
    scores = {**first, **aps}
    header = ["trial"] if sweep.variants else list(names.values())
    header += [*scores.values(), "folds", "status"]
    table = []
    for row in rows:
        values = [row.name] if sweep.variants else [shown(row.parameters.get(key)) for key in names]
        cells = [str(spread) if (spread := _spread(row, prefix, name)) else UNDEFINED_MARK for name in scores]
        table.append([*values, *cells, str(row.folds), row.status])
    return header, table


def _spread(row: Row, prefix: str, metric: str) -> Spread | None:
    name = f"{prefix}{metric}"
    mean = row.metrics.get(f"{name}_mean")
    return None if mean is None else Spread(mean, row.metrics.get(f"{name}_std"), row.folds)


def records(recipe: Recipe, rows: list[Row]) -> list[dict[str, Any]]:
    """One record per trial and label share, in full precision; None where undefined."""
    shares = recipe.folds.label_shares
    found = []
    for row in rows:
        for share in shares:
            record: dict[str, Any] = {"trial": row.name, "label_share": share, "status": row.status, "folds": row.folds}
            record |= row.parameters
            aps = [metric_name(protocol, "AP", of) for protocol in PROTOCOLS for of in ("micro", "macro")]
            for name in dict.fromkeys((score_name(recipe), _sweep(recipe).metric, *aps)):
                spread = _spread(row, share_prefix(share, len(shares)), name)
                record |= {f"{name}_mean": spread.mean if spread else None}
                record |= {f"{name}_std": spread.std if spread else None}
            found.append({**record, "run_id": row.run_id, "reason": row.reason})
    return found


def log_report(context: Context, rows: list[Row]) -> None:
    """Table and figures on the sweep's run, and tags that name the best trial."""
    recipe, store, run_id = context.recipe, context.store, context.parent
    sweep, shares = _sweep(recipe), recipe.folds.label_shares
    found = records(recipe, rows)
    name = score_name(recipe)
    best = best_of(rows, name, shares)
    store.log_text(run_id, text_report(recipe, rows) + "\n", "sweep.txt")
    store.log_text(run_id, csv_text([_plain(record) for record in found]), "sweep.csv")
    store.log_json(run_id, {"metric": name, "best": best.name if best else None, "trials": found}, "sweep.json")
    if best is not None:
        store.tag(run_id, BEST_TRIAL, best.name)
        store.tag(run_id, BEST_RUN, best.run_id)
    for share in shares:
        prefix = share_prefix(share, len(shares))
        for protocol in PROTOCOLS:
            figure = _figure(sweep, rows, prefix, protocol, best)
            if figure is not None:
                store.log_figure(run_id, figure, f"{prefix}ap_against_parameters_{protocol}.png")


def _figure(sweep: SweepConfig, rows: list[Row], prefix: str, protocol: Protocol, best: Row | None) -> Any:
    scores = [_spread(row, prefix, metric_name(protocol, "AP", "micro")) for row in rows]
    if not any(scores):
        return None
    if sweep.variants:
        means = [score.mean if score else None for score in scores]
        return variant_figure([row.name for row in rows], means, [s.std if s else None for s in scores], protocol)
    known = [(row, score) for row, score in zip(rows, scores, strict=True) if score is not None]
    points = [TrialPoint(row.parameters, score.mean, score.std, row.status == "finished") for row, score in known]
    place = next((place for place, (row, _) in enumerate(known) if row is best), None)
    return parameter_figure(points, {key: axis_label(key) for key in sweep.parameters}, protocol, best=place)


def axis_label(key: str) -> str:
    """What stands below a parameter's axis: `pretrain.bcl.window_s` -> 'pretraining: BCL window (s)'."""
    stage, *parts = key.split(".")
    if not parts:
        return key
    unit = UNITS.get(parts[-1], "s" if parts[-1].endswith("_s") else "")
    words = " ".join(parts).removesuffix("_s").replace("_", " ").replace("bcl", "BCL")
    return f"{STAGES.get(stage, stage)}: {words}" + (f" ({unit})" if unit else "")


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """A record for CSV: lists and mappings as JSON, nothing where a value is undefined."""
    return {key: json.dumps(value) if isinstance(value, dict | list) else value for key, value in record.items()}


def _sweep(recipe: Recipe) -> SweepConfig:
    assert recipe.sweep is not None
    return recipe.sweep
