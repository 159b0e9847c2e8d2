"""What each stage of an experiment is: its configuration, its inputs and so its fingerprint. Functions of these alone,
but for the layout of the source, which says what `labelled: auto` means. From them `a2v experiment run` runs and
`a2v experiment plan` tells what would run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from a2v_data.manifests import manifests_digest
from a2v_data.pack import PackConfig

from ..basics.errors import UserError
from ..basics.fingerprint import fingerprint
from ..recipe.labelled import with_rule, with_rules
from ..recipe.plugins import Stage, digests
from ..recipe.sections import DataConfig, Recipe

RANDOM_WEIGHTS = "random weights"


@dataclass(frozen=True)
class StageSpec:
    """One stage. inputs: name -> fingerprint of what it reads, in an order that counts. training: of a finetuning, the
    fingerprint of its model alone, which other evaluations share."""

    stage: str
    name: str
    config: dict[str, Any]
    inputs: dict[str, str]
    training: str | None = None

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.stage, self.config, *self.inputs.values())

    @property
    def storage(self) -> str:
        """The name under which its checkpoints lie."""
        return f"{self.stage}-{self.fingerprint[:16]}"


def data_spec(data: DataConfig, origin: str, name: str = "data") -> StageSpec:
    """origin: fingerprint of everything in the source."""
    config = with_rule(data).model_dump(mode="json", include=set(PackConfig.model_fields))
    return StageSpec("prepare", name, config, {"source": origin})


def given_folds(recipe: Recipe) -> str | None:
    """Digest of the manifests that the recipe names, None where it names none. Raises UserError where they are not."""
    if recipe.folds.manifests is None:
        return None
    try:
        return manifests_digest(Path(recipe.folds.manifests))
    except ValueError as error:
        raise UserError(f"folds.manifests: {error}") from None


def folds_spec(recipe: Recipe, data: str) -> StageSpec:
    """data: fingerprint of the data stage. Raises UserError where the folder of its manifests is not there."""
    settings = recipe.folds
    given = given_folds(recipe)
    if given is not None:
        kind = {"count": settings.number, "holdout": settings.holdout is not None}
        return StageSpec("folds", "folds", kind, {"data": data, "manifests": given})
    config = settings.model_dump(mode="json", include={"count", "seed", "group", "scheme", "evaluation_share"})
    if settings.holdout is not None:
        config = {key: value for key, value in config.items() if key in ("seed", "group")}
        config |= {"count": 1, "holdout": settings.holdout}
    return StageSpec("folds", "folds", config, {"data": data})


def pretrain_spec(recipe: Recipe, audio: str, fold: int | None = None) -> StageSpec:
    """audio: fingerprint of what it hears (`heard.py`). Knows the audio only: correcting a label does not repeat a
    pretraining. fold: whose it is, where each fold has its own."""
    name = ("pretrain" if fold is None else f"pretrain fold {fold}") + _seed(recipe)
    return StageSpec("pretrain", name, training_config(recipe, "pretrain"), {"audio": audio})


def finetune_spec(
    recipe: Recipe, fold: int, share: float, data: str, folds: str, start: str | None, in_trial: bool = False
) -> StageSpec:
    """One fold and label share, with its evaluation. recipe: with the settings of that share (`Recipe.at_share`).

    data, folds, start: fingerprints of these stages; start is that of the pretraining or backbone, None for random
    weights. in_trial: its name leaves the variant out, which the run of its trial, above it, says.
    """
    config = {**training_config(recipe, "finetune"), **_chooses_by(recipe), "fold": fold, "label_share": share}
    trained = fingerprint("finetune", config, folds, start or "random")
    name = f"finetune fold {fold}{_seed(recipe)}" + (f" labels {share:g}" if share != 1 else "")
    name += _variant(recipe, in_trial)
    config = {**config, "evaluate": {**recipe.evaluate.model_dump(mode="json"), **_plugins(recipe, "evaluate")}}
    if recipe.is_cross_fitted(share):  # what its run says of calls depends on the other folds
        config["counted_over"] = sorted(recipe.folds.selected)
    inputs = {"folds": folds, "pretrain": start or RANDOM_WEIGHTS, "data": data}
    return StageSpec("finetune", name, config, inputs, trained)


def inner_spec(
    recipe: Recipe, part: int, fold: int, share: float, data: str, folds: str, start: str | None, in_trial: bool = False
) -> StageSpec:
    """A fold's training on all parts of its training recordings but one, which it is validated on (`folds.validation:
    cross`); all else as for `finetune_spec`."""
    of_fold = finetune_spec(recipe, fold, share, data, folds, start, in_trial)
    config = {**training_config(recipe, "finetune"), **_chooses_by(recipe), "fold": fold, "label_share": share}
    trained = fingerprint("inner", config | {"part": part}, folds, start or "random")
    name = f"{of_fold.name} without part {part + 1}"
    return StageSpec("inner", name, {**of_fold.config, "part": part}, of_fold.inputs, trained)


def refit_spec(recipe: Recipe, folds: Sequence[str], data: str, start: str | None, in_trial: bool = False) -> StageSpec:
    """The training on all labelled recordings. recipe: as `Recipe.for_refit` has it.

    folds: fingerprints of the finetunings on whose evaluation recordings its thresholds are chosen; its model does not
    depend on them. data, start, in_trial: as for `finetune_spec`.
    """
    config = training_config(recipe, "finetune")
    trained = fingerprint("refit", config, data, start or "random")
    config = {**config, "evaluate": {**recipe.evaluate.model_dump(mode="json"), **_plugins(recipe, "evaluate")}}
    inputs = {"data": data, "pretrain": start or RANDOM_WEIGHTS}
    inputs |= {f"finetune {number}": mark for number, mark in enumerate(folds)}
    return StageSpec("refit", f"refit on all labels{_variant(recipe, in_trial)}", config, inputs, trained)


def _seed(recipe: Recipe) -> str:
    """What a name says of the seed, where the recipe has several. recipe: as one of `Recipe.by_seed`."""
    return f" seed {recipe.seeds[0]}" if recipe.seeds else ""


def _variant(recipe: Recipe, in_trial: bool) -> str:
    """What a name says of the variant at its end; a trial says it elsewhere."""
    return "" if recipe.variant == "default" or in_trial else f" {recipe.variant}"


def _chooses_by(recipe: Recipe) -> dict[str, Any]:
    """With validation: how it scores, since that chooses which weights become the model."""
    if recipe.finetune is None or recipe.finetune.validation is None:
        return {}
    from ..training.validation import validation_events  # and with it torch, which nothing else here needs

    settings = recipe.evaluate
    events = validation_events(settings.events).model_dump(mode="json")
    scoring = {"events": events, "iou": settings.iou_threshold, "overlap_s": settings.overlap_s}
    scoring |= settings.model_dump(mode="json", include={"fit_events"})  # in no dump where it is off
    scoring |= _plugins(recipe, "evaluate")
    return {"scoring": scoring}


def experiment_config(recipe: Recipe) -> dict[str, Any]:
    """What a whole experiment or trial is: all of its recipe but where it runs."""
    return with_rules(recipe).model_dump(mode="json", exclude={"ray", "sweep"})


def experiment_spec(recipe: Recipe, sources: Sequence[str]) -> StageSpec:
    """A whole experiment; its configuration is what its run has as parameters. sources: fingerprints of what it is
    made from."""
    marks = {f"source {n}": mark for n, mark in enumerate(sources)}
    return StageSpec("experiment", recipe.name, experiment_config(recipe), marks)


def training_config(recipe: Recipe, stage: Literal["pretrain", "finetune"]) -> dict[str, Any]:
    """What a training's result depends on: not when it logs, saves and probes, nor how memory and time are traded. What
    a pretraining hears is in the fingerprint of its audio, and the model that finetuning goes on from in that of its
    start, wherever it lies."""
    settings = getattr(recipe, stage)
    data = recipe.pretrain_source if stage == "pretrain" else recipe.data
    aside = {"log_every", "checkpoint_every", "gradient_checkpointing", "compile", "probe", "hears", "start"}
    config = settings.model_dump(mode="json", exclude=aside)
    if stage == "finetune" and config.get("validation") is not None and recipe.folds.validation is not None:
        config["validation"]["share"] = recipe.folds.validation  # its training hears the others only
        if recipe.folds.manifests is not None:  # else the folds' fingerprint has what decides which they are
            usual = type(recipe.folds)()
            own = {"group": recipe.folds.group, "seed": recipe.folds.seed}
            config["validation"] |= {key: value for key, value in own.items() if value != getattr(usual, key)}
    return {
        "segment_s": data.segment_s,
        "model": recipe.model.model_dump(mode="json"),
        stage: config,
        **_plugins(recipe, stage),
    }


def _plugins(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """Digests of the plugins that the stage's result depends on, where there are some."""
    found = digests(recipe, stage)
    return {"plugins": found} if found else {}
