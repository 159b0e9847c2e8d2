"""A model that finetuning starts from instead of a pretraining: found, checked against the recipe, fingerprinted."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a2v_model.checkpoints import WEIGHTS, read_description

from ..basics.errors import UserError
from ..models import fetch_model, is_uri
from ..recipe.sections import Recipe
from ..store.tracking import flatten

WITHOUT_SHAPE = (
    "dropout", "attention_dropout", "activation_dropout", "mlp_output_dropout", "prenet_dropout", "layerdrop",
    "prenet_layerdrop", "init_std",
)  # fmt: skip


@dataclass(frozen=True)
class Backbone:
    """A model's folder, where its user said that it is, and the fingerprint of its content."""

    folder: Path
    source: str
    fingerprint: str


def find_backbone(recipe: Recipe, work: Path, tracking_uri: str) -> Backbone | None:
    """The recipe's backbone, None where it names none; one in MLflow is fetched to WORK/backbones.

    Raises UserError or ValueError where there is no model, or one whose sizes are not the recipe's.
    """
    if recipe.backbone is None:
        return None
    return fetch_backbone(recipe.backbone, work, tracking_uri, lambda folder: _check(recipe, folder))


def fetch_backbone(
    source: str, work: Path, tracking_uri: str | None, check: Callable[[Path], None] = lambda folder: None
) -> Backbone:
    """A model's folder, or one in MLflow, fetched to WORK/backbones. check(folder) raises where it does not fit.

    Raises UserError or ValueError where there is no model.
    """
    if not is_uri(source):
        return _checked(source, Path(source), check)
    place = work / "backbones"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".fetching-") as aside:
        fetched = fetch_model(source, Path(aside), tracking_uri)
        found = _checked(source, fetched, check)
        kept = place / found.fingerprint[:16]
        if not kept.exists():
            shutil.move(fetched, kept)
    return Backbone(kept, source, found.fingerprint)


def _check(recipe: Recipe, folder: Path) -> None:
    shapes = _shapes(read_description(folder)["model"])
    wanted = _shapes(recipe.model.model_dump(mode="json"))
    for key, value in wanted.items():
        if shapes.get(key) != value:
            raise UserError(
                f"backbone: {recipe.backbone}: its model has {key} = {shapes.get(key)}, the recipe model.{key} ="
                f" {value}; they must be equal"
            )


def _checked(source: str, folder: Path, check: Callable[[Path], None]) -> Backbone:
    if not folder.exists():
        raise UserError(f"backbone: {folder}: no such folder; a model's folder, or its URI in MLflow (runs:/RUN_ID)")
    description = read_description(folder)
    check(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise UserError(f"backbone: {folder}: no {WEIGHTS} there; the folder is incomplete")
    content = hashlib.sha256(json.dumps(_shapes(description["model"]), sort_keys=True).encode())
    with weights.open("rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    return Backbone(folder, source, content.hexdigest())


def _shapes(model: dict[str, Any]) -> dict[str, str]:
    """What decides a model's tensors and what they compute, without the rates of dropout."""
    return {key: value for key, value in flatten(model).items() if key.rpartition(".")[2] not in WITHOUT_SHAPE}
