"""A model that finetuning starts from instead of a pretraining: found, checked against the recipe, fingerprinted.

Either a `backbone`, whose head is left, or a detector that `finetune.start` names, which goes on with all its weights.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from a2v_model.checkpoints import WEIGHTS, read_description
from a2v_model.config import FinetuneConfig
from a2v_model.parts import UNLOADED
from a2v_model.saved_plugins import load_brought, needed_parts

from ..basics.errors import UserError
from ..models import fetch_model, is_uri
from ..recipe.sections import Recipe
from ..store.names import flatten

START = "finetune.start"
WITHOUT_SHAPE = (
    "dropout", "attention_dropout", "activation_dropout", "mlp_output_dropout", "prenet_dropout", "layerdrop",
    "prenet_layerdrop", "init_std", "stream_dropout", "gap_s",
)  # fmt: skip


@dataclass(frozen=True)
class Backbone:
    """A model's folder, where its user said that it is, and the fingerprint of its content. goes_on: it is a detector
    whose head is kept too."""

    folder: Path
    source: str
    fingerprint: str
    goes_on: bool = False

    @property
    def description(self) -> dict[str, Any]:
        """What its `model.json` says."""
        return read_description(self.folder)

    @property
    def run_id(self) -> str | None:
        """The run that trained it, which this store may know or not."""
        found = self.description.get("extra", {}).get("run_id")
        return found if isinstance(found, str) else None


def find_backbone(recipe: Recipe, work: Path, tracking_uri: str) -> Backbone | None:
    """The recipe's backbone or what its finetuning goes on from, None where it names none; one in MLflow is fetched to
    WORK/backbones.

    Raises UserError or ValueError where there is no model, or one whose sizes are not the recipe's.
    """
    named = named_start(recipe)
    if named is None:
        return None
    key, source = named
    return fetch_backbone(source, work, tracking_uri, lambda folder: _check(recipe, key, source, folder), key)


def named_start(recipe: Recipe) -> tuple[str, str] | None:
    """The key of the recipe that names a model to start from, and what it says."""
    if recipe.start is not None:
        return START, recipe.start
    return None if recipe.backbone is None else ("backbone", recipe.backbone)


def fetch_backbone(
    source: str,
    work: Path,
    tracking_uri: str | None,
    check: Callable[[Path], None] = lambda folder: None,
    key: str = "backbone",
) -> Backbone:
    """A model's folder, or one in MLflow, fetched to WORK/backbones. check(folder) raises where it does not fit; key:
    who names it in the recipe.

    Raises UserError or ValueError where there is no model.
    """
    if not is_uri(source):
        return _checked(source, Path(source), check, key)
    place = work / "backbones"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, prefix=".fetching-") as aside:
        fetched = fetch_model(source, Path(aside), tracking_uri)
        found = _checked(source, fetched, check, key)
        kept = place / found.fingerprint[:16]
        if not kept.exists():
            shutil.move(fetched, kept)
    return replace(found, folder=kept)


def kept_classes(start: Backbone, classes: Sequence[str]) -> str:
    """One line about the head that finetuning goes on with: which classes it knows, which are new, and which are gone.

    Raises UserError where it knows none of the classes.
    """
    known = start.description["classes"]
    kept, new, gone = (
        [name for name in classes if name in known], [name for name in classes if name not in known],
        [name for name in known if name not in classes],
    )  # fmt: skip
    if not kept:
        raise UserError(
            f"{START}: {start.source}: it knows none of the classes ({', '.join(classes)}), but {', '.join(known)};"
            " name it as backbone, which leaves its head, or map labels to classes that it knows"
            " (data.annotations.mapping)"
        )
    parts = [f"goes on with {len(kept)} of the {len(known)} classes of its model's head"]
    parts += [f"new: {', '.join(new)}"] if new else []
    parts += [f"dropped, as no label has them: {', '.join(gone)}"] if gone else []
    return f"{START}: {'; '.join(parts)}"


def _check(recipe: Recipe, key: str, source: str, folder: Path) -> None:
    description = read_description(folder)
    if key == START:
        _check_head(recipe, source, description)
    shapes = _shapes(description["model"])
    wanted = _shapes(recipe.model.model_dump(mode="json"))
    if not description["model"].get("streams"):  # its streams are learned from here on
        wanted = {name: value for name, value in wanted.items() if not name.startswith("streams.")}
    for name in [*wanted, *(shapes.keys() - wanted.keys())]:  # what is off is in no dump
        value = wanted.get(name)
        if shapes.get(name) != value:
            raise UserError(
                f"{key}: {source}: its model has {name} = {shapes.get(name)}, the recipe model.{name} ="
                f" {value}; they must be equal"
            )


def _check_head(recipe: Recipe, source: str, description: dict[str, Any]) -> None:
    """Whether it is a detector with the recipe's kind of head on the same layers."""
    if description["kind"] != "detector":
        raise UserError(
            f"{START}: {source}: it is pretrained and not finetuned yet, so there is no head to go on from; name it as"
            f" backbone (--set backbone={source})"
        )
    own = FinetuneConfig.model_validate(description["finetune"], context={UNLOADED: True})
    by_share = {f"finetune_by_share.{share:g}": stage for share, stage in recipe.finetune_by_share.items()}
    for stage, wanted in {"finetune": recipe.finetune, **by_share}.items():
        for field in ("head", "average_layers"):
            if wanted is not None and getattr(own, field) != getattr(wanted, field):
                raise UserError(
                    f"{START}: {source}: its model has {field} = {getattr(own, field)}, the recipe {stage}.{field} ="
                    f" {getattr(wanted, field)}; they must be equal"
                )


def _checked(source: str, folder: Path, check: Callable[[Path], None], key: str) -> Backbone:
    if not folder.exists():
        raise UserError(f"{key}: {folder}: no such folder; a model's folder, or its URI in MLflow (runs:/RUN_ID)")
    description = read_description(folder)
    check(folder)
    plugins = load_brought(folder, description, False)  # what nobody agreed to is refused here, before anything is done
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise UserError(f"{key}: {folder}: no {WEIGHTS} there; the folder is incomplete")
    content = hashlib.sha256(json.dumps(_shapes(description["model"]), sort_keys=True).encode())
    with weights.open("rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    for kind, named in needed_parts(description):  # the same weights compute something else with another code
        for plugin in plugins:
            if named in plugin.registers.get(kind, []):
                content.update(plugin.digest.encode())
    if key == START:  # from the same model as a backbone another detector comes
        content.update(json.dumps([START, description["classes"]]).encode())
    return Backbone(folder, source, content.hexdigest(), key == START)


def _shapes(model: dict[str, Any]) -> dict[str, str]:
    """What decides a model's tensors and what they compute, without the rates of dropout."""
    return {key: value for key, value in flatten(model).items() if key.rpartition(".")[2] not in WITHOUT_SHAPE}
