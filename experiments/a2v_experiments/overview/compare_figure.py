"""`a2v experiment compare --figure`: the precision-recall curves of what is compared, over each other.

They are drawn from the numbers that each fold's run keeps (`figure_data.json`): no model, no recording is needed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from a2v_eval.events import Protocol
from a2v_eval.figure_style import LINES
from a2v_eval.figures import precision_recall_figure, save
from a2v_eval.summary import STRICT_FIRST
from mlflow import MlflowClient

from ..basics.errors import FAILED, UserError
from ..stages.figures import DATA, FigureData, read_data
from ..store.tags import FOLD, STAGE, VARIANT
from .compare import Side


def places(file: Path) -> dict[Protocol, Path]:
    """Where the figure of each protocol goes: `strict` under the name that was given, `paper` beside it."""
    beside = file.with_name(f"{file.stem}_paper{file.suffix}")
    return {protocol: file if protocol == "strict" else beside for protocol in STRICT_FIRST}


def draw_curves(client: MlflowClient, found: Sequence[Side], file: Path) -> list[Path]:
    """Write a figure for each protocol (see `places`): a panel for each class and one for all pooled (micro), in it a
    curve for each side and label share, the mean over its folds.

    Raises UserError where there are more curves than can be told apart, or a fold's run has no numbers for them; then
    nothing is written.
    """
    curves = [(side, share) for side in found for share in sorted(side.shares)]
    if len(curves) > len(LINES):
        raise UserError(f"--figure: {len(curves)} curves; at most {len(LINES)} can be told apart, name fewer runs")
    several = len({share for _, share in curves}) > 1
    names = [f"{_title(side)}, {100 * share:g} %" if several else _title(side) for side, share in curves]
    with tempfile.TemporaryDirectory() as aside:
        data = [[_read(client, run.info.run_id, aside) for run in side.fold_runs(share)] for side, share in curves]
    classes = list(dict.fromkeys(name for folds in data for fold in folds for name in fold.classes))
    written = []
    for protocol, place in places(file).items():
        variants = {
            name: [fold.curves["model"][protocol] for fold in folds] for name, folds in zip(names, data, strict=True)
        }
        save(precision_recall_figure(variants, classes, protocol), place)
        written.append(place)
    return written


def _title(side: Side) -> str:
    """The letter that stands for it in the tables, and what tells it from the others: the variant of a trial, the
    experiment and its variant, the fold of a finetuning."""
    tags = side.run.data.tags
    variant, name = tags.get(VARIANT, ""), side.config.get("name", side.run.info.run_name)
    if tags[STAGE] == "trial":
        return f"{side.letter}: {variant}"
    if tags[STAGE] == "finetune":
        return f"{side.letter}: {name}, fold {tags[FOLD]}"
    return f"{side.letter}: {name}" + (f", {variant}" if variant not in ("", "default") else "")


def _read(client: MlflowClient, run_id: str, folder: str) -> FigureData:
    if DATA not in {item.path for item in client.list_artifacts(run_id)}:
        raise UserError(f"run {run_id} has no {DATA} (it is of an earlier a2v), so its curves cannot be drawn", FAILED)
    own = Path(folder) / run_id
    own.mkdir(exist_ok=True)
    return read_data(Path(client.download_artifacts(run_id, DATA, str(own))))
