"""`a2v experiment list`: what is in a tracking store, one row per experiment's or trial's run and label share."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from a2v_eval.summary import UNDEFINED_MARK
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ..basics.tables import duration, text_table
from ..store import lookup
from ..store.claims import owner_is_gone
from ..store.tags import COMMIT, DIRTY, PRUNED, ROUND, STAGE, SWEEP, VARIANT

SHORTEST_ID = 8  # characters of a run id that are shown, more where they would be ambiguous
SCORES = ("strict/AP/micro", "AP/micro")
PRESENCE_SCORE = "presence/mAP/micro"  # where recordings are labelled as a whole only


@dataclass(frozen=True)
class Row:
    """One label share of an experiment's run, or of a trial's. sweep: the run id of the sweep that a trial belongs to;
    trials: of a sweep, how many there are (it has no folds and scores of its own); folds: with seeds, each fold counts
    for each of them; scores: metric -> (mean, std or None), over the folds done; started: ms since 1970; seconds: from
    its start to its end, or to now; gone: reads RUNNING, but its process is no more; refit: the run with its model for
    new recordings, trained on all labels;
    round: of review, where it is one of several."""

    experiment: str
    run_id: str
    sweep: str | None
    trials: int | None
    variant: str
    status: str
    gone: bool
    started: int
    seconds: float
    label_share: float
    folds_done: int
    folds: int
    scores: dict[str, tuple[float, float | None]]
    commit: str | None
    dirty: bool
    refit: str | None
    round: int | None


def rows(client: MlflowClient) -> list[Row]:
    """Every experiment's run, the newest first, its label shares in the recipe's order; below a sweep its trials."""
    names, trials = lookup.experiment_names(client), lookup.trials_of(client)
    found = []
    for run in lookup.of_stage(client, "experiment"):
        below = trials.get(run.info.run_id, [])
        found += _of_run(run, names, len(below) if SWEEP in run.data.tags else None)
        found += [row for trial in below for row in _of_run(trial, names)]
    return found


def _of_run(run: Run, names: dict[str, str], trials: int | None = None) -> list[Row]:
    shares, folds = planned(run)
    if trials is not None:
        shares, folds = [1.0], []
    done, tags, info = lookup.seed_runs(run), run.data.tags, run.info
    commit = tags.get(COMMIT)
    return [
        Row(
            experiment=names[info.experiment_id],
            run_id=info.run_id,
            sweep=tags.get(MLFLOW_PARENT_RUN_ID) if tags[STAGE] == "trial" else None,
            trials=trials,
            variant=tags.get(VARIANT, ""),
            status="PRUNED" if tags.get(PRUNED) == "true" else info.status,
            gone=info.status == "RUNNING" and owner_is_gone(run),
            started=info.start_time,
            seconds=((info.end_time or time.time() * 1000) - info.start_time) / 1000,
            label_share=share,
            folds_done=sum(len(shares.get(share, {})) for shares in done.values()),
            folds=len(folds) * max(1, len(json.loads(run.data.params.get("seeds", "[0]")))),
            scores=_scores(run, lookup.share_prefix(share, len(shares))),
            commit=commit,
            dirty=tags.get(DIRTY) == "true",
            refit=lookup.refit_run(run),
            round=int(tags[ROUND]) if ROUND in tags else None,
        )
        for share in shares
    ]


def planned(run: Run) -> tuple[list[float], list[int]]:
    """Label shares and folds that an experiment's run is about, from its parameters."""
    params = run.data.params
    shares = json.loads(params.get("folds.label_shares", "[1.0]"))
    chosen = params.get("folds.run", "None")
    if chosen != "None":
        return shares, json.loads(chosen)
    number = 1 if params.get("folds.holdout", "None") != "None" else int(params.get("folds.count", "1"))
    return shares, list(range(number))


def _scores(run: Run, prefix: str) -> dict[str, tuple[float, float | None]]:
    metrics = run.data.metrics
    return {
        name: (metrics[f"{prefix}{name}_mean"], metrics.get(f"{prefix}{name}_std"))
        for name in (*SCORES, PRESENCE_SCORE)
        if f"{prefix}{name}_mean" in metrics
    }


def to_json(found: Sequence[Row]) -> list[dict[str, Any]]:
    """Plain data: a score is {mean, std}, times are ISO 8601 (UTC) and seconds."""
    records = []
    for row in found:
        scores = {name: {"mean": mean, "std": std} for name, (mean, std) in row.scores.items()}
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.started / 1000))
        records.append({**asdict(row), "scores": scores, "started": started})
    return records


def to_text(found: Sequence[Row]) -> str:
    """The table, aligned; what belongs to a run stands in the first of its rows only."""
    short = shortest_ids([row.run_id for row in found])
    shares, rounds = any(row.label_share != 1 for row in found), any(row.round is not None for row in found)
    columns = {"AP/micro strict": SCORES[0], "AP/micro paper": SCORES[1]}
    if any(PRESENCE_SCORE in row.scores for row in found):
        columns["mAP/micro presence"] = PRESENCE_SCORE
    head = ["experiment", "run", "variant", "status", "started", "duration", *(["round"] if rounds else [])]
    head += [*(["labels"] if shares else []), "folds"]
    table, last = [], ""
    for row in found:
        first = row.run_id != last
        start = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.started / 1000))
        name = f"  {row.experiment}" if row.sweep else row.experiment
        run = [name, short[row.run_id], row.variant, row.status, start, duration(row.seconds)]
        run += [UNDEFINED_MARK if row.round is None else str(row.round)] if rounds else []
        cells = run if first else [""] * len(run)
        cells += [f"{row.label_share:.0%}"] if shares else []
        commit = f"{row.commit[:8]}{'*' if row.dirty else ''}" if row.commit else UNDEFINED_MARK
        scores = [_score(row, name) for name in columns.values()]
        folds = f"{row.folds_done}/{row.folds}" if row.trials is None else f"{row.trials} trials"
        table.append([*cells, folds, *scores, commit if first else ""])
        last = row.run_id
    return text_table([*head, *columns, "commit"], table, left=5)


def notes(found: Sequence[Row]) -> list[str]:
    """What the table's signs mean, and runs whose process is gone."""
    short = shortest_ids([row.run_id for row in found])
    lines = ["AP/micro: mean ± standard deviation over the folds"] if any(row.scores for row in found) else []
    lines += ["commit*: with uncommitted changes"] if any(row.dirty for row in found) else []
    for run_id, refit in dict.fromkeys((row.run_id, row.refit) for row in found if row.refit):
        lines.append(f"{short[run_id]}: its model for new recordings, trained on all labels, is runs:/{refit}")
    for run_id in dict.fromkeys(row.run_id for row in found if row.gone):
        lines.append(
            f"{short[run_id]}: reads RUNNING, but its process is gone; the same `experiment run` goes on with it"
        )
    return lines


def _score(row: Row, name: str) -> str:
    if name not in row.scores:
        return UNDEFINED_MARK
    mean, std = row.scores[name]
    return f"{mean:.3f}" if std is None else f"{mean:.3f} ± {std:.3f}"


def shortest_ids(run_ids: Sequence[str]) -> dict[str, str]:
    """Run id -> its shortest beginning, of 8 characters or more, that no other of them has."""
    ids = sorted(set(run_ids))
    length = SHORTEST_ID
    while len({run_id[:length] for run_id in ids}) < len(ids):
        length += 1
    return {run_id: run_id[:length] for run_id in ids}
