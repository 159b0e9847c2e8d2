"""What each stage of an experiment is: its configuration, its inputs, its code and so its fingerprint. Functions of
these alone, but for the layout of the source, which says what `labelled: auto` means. From them `a2v experiment run`
runs and `a2v experiment plan` tells what would run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from a2v_data.manifests import manifests_digest
from a2v_data.pack import PackConfig
from pydantic import BaseModel

from ..basics.errors import UserError
from ..basics.fingerprint import Fingerprint, fingerprint
from ..basics.left_out import without_usual
from ..recipe.labelled import with_rule, with_rules
from ..recipe.plugins import Stage, digests
from ..recipe.sections import DataConfig, Recipe
from .code import marks

RANDOM_WEIGHTS = "random weights"


class Dump(Protocol):
    """How a configuration becomes JSON data: whole, as runs show it, or without what is usual, as fingerprints have
    it."""

    def __call__(self, config: BaseModel, **which: Any) -> dict[str, Any]: ...


def whole(config: BaseModel, **which: Any) -> dict[str, Any]:
    """All of a configuration. which: `include` and `exclude`."""
    return config.model_dump(mode="json", **which)


@dataclass(frozen=True)
class StageSpec:
    """One stage. inputs: name -> fingerprint of what it reads, in an order that counts. training: of a finetuning, the
    fingerprint of its model alone, which other evaluations share. marked: its configuration without what is usual
    (None: as it is); code: the parts of the code that it runs (`code.py`)."""

    stage: str
    name: str
    config: dict[str, Any]
    inputs: dict[str, str]
    training: Fingerprint | None = None
    marked: dict[str, Any] | None = None
    code: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> Fingerprint:
        marked = self.config if self.marked is None else self.marked
        return fingerprint(self.stage, marked, *self.inputs.values(), code=marks(self.code))

    @property
    def storage(self) -> str:
        """The name under which its checkpoints lie."""
        return f"{self.stage}-{self.fingerprint[:16]}"


def data_name(key: str) -> str:
    """What the stage that packs a corpus is called. key: see `Recipe.corpora`."""
    return " ".join(["pretraining data" if part == "pretrain_data" else part for part in key.split(".")])


def data_spec(data: DataConfig, origin: str, name: str = "data") -> StageSpec:
    """origin: fingerprint of everything in the source."""
    config, marked = _both(lambda dump: dump(with_rule(data), include=set(PackConfig.model_fields)))
    return StageSpec("prepare", name, config, {"source": origin}, None, marked, ("prepare",))


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
        return StageSpec("folds", "folds", kind, {"data": data, "manifests": given}, code=("folds",))

    def config_by(dump: Dump) -> dict[str, Any]:
        if settings.holdout is None:
            return dump(settings, include={"count", "seed", "group", "scheme", "evaluation_share"})
        return {**dump(settings, include={"seed", "group"}), "count": 1, "holdout": settings.holdout}

    config, marked = _both(config_by)
    return StageSpec("folds", "folds", config, {"data": data}, None, marked, ("folds",))


def pretrain_spec(recipe: Recipe, audio: str, fold: int | None = None) -> StageSpec:
    """audio: fingerprint of what it hears (`heard.py`). Knows the audio only: correcting a label does not repeat a
    pretraining. fold: whose it is, where each fold has its own."""
    name = ("pretrain" if fold is None else f"pretrain fold {fold}") + _seed(recipe)
    config, marked = _both(lambda dump: training_config(recipe, "pretrain", dump))
    return StageSpec("pretrain", name, config, {"audio": audio}, None, marked, ("pretrain",))


def finetune_spec(
    recipe: Recipe, fold: int, share: float, data: str, folds: str, start: str | None, in_trial: bool = False
) -> StageSpec:
    """One fold and label share, with its evaluation. recipe: with the settings of that share (`Recipe.at_share`).

    data, folds, start: fingerprints of these stages; start is that of the pretraining or backbone, None for random
    weights. in_trial: its name leaves the variant out, which the run of its trial, above it, says.
    """
    config, marked = _both(lambda dump: _of_fold(recipe, fold, share, dump))
    code = _training_code(recipe)
    trained = fingerprint("finetune", marked, folds, start or "random", code=marks(code))
    name = f"finetune fold {fold}{_seed(recipe)}" + (f" labels {share:g}" if share != 1 else "")
    name += _variant(recipe, in_trial)
    config, marked = _evaluated(recipe, config, whole), _evaluated(recipe, marked, without_usual)
    if recipe.is_cross_fitted(share):  # what its run says of calls depends on the other folds
        counted = {"counted_over": sorted(recipe.folds.selected)}
        config, marked = config | counted, marked | counted
    inputs = {"folds": folds, "pretrain": start or RANDOM_WEIGHTS, "data": data}
    return StageSpec("finetune", name, config, inputs, trained, marked, (*code, "evaluate"))


def inner_spec(
    recipe: Recipe, part: int, fold: int, share: float, data: str, folds: str, start: str | None, in_trial: bool = False
) -> StageSpec:
    """A fold's training on all parts of its training recordings but one, which it is validated on (`folds.validation:
    cross`); all else as for `finetune_spec`."""
    of_fold = finetune_spec(recipe, fold, share, data, folds, start, in_trial)
    marked = _of_fold(recipe, fold, share, without_usual) | {"part": part}
    trained = fingerprint("inner", marked, folds, start or "random", code=marks(_training_code(recipe)))
    name, own = f"{of_fold.name} without part {part + 1}", {"part": part}
    marked = {**(of_fold.marked or {}), **own}
    return StageSpec("inner", name, {**of_fold.config, **own}, of_fold.inputs, trained, marked, of_fold.code)


def _of_fold(recipe: Recipe, fold: int, share: float, dump: Dump) -> dict[str, Any]:
    training = {**training_config(recipe, "finetune", dump), **_chooses_by(recipe, dump)}
    return {**training, "fold": fold, "label_share": share}


def _training_code(recipe: Recipe) -> tuple[str, ...]:
    """The parts of the code that a fold's training runs."""
    validates = recipe.finetune is not None and recipe.finetune.validation is not None
    return ("finetune", *(["validate"] if validates else []), *(["cross"] if recipe.crosses else []))


def refit_spec(recipe: Recipe, folds: Sequence[str], data: str, start: str | None, in_trial: bool = False) -> StageSpec:
    """The training on all labelled recordings. recipe: as `Recipe.for_refit` has it.

    folds: fingerprints of the finetunings on whose evaluation recordings its thresholds are chosen; its model does not
    depend on them. data, start, in_trial: as for `finetune_spec`.
    """
    config, marked = _both(lambda dump: training_config(recipe, "finetune", dump))
    trained = fingerprint("refit", marked, data, start or "random", code=marks(("finetune",)))
    config, marked = _evaluated(recipe, config, whole), _evaluated(recipe, marked, without_usual)
    inputs = {"data": data, "pretrain": start or RANDOM_WEIGHTS}
    inputs |= {f"finetune {number}": mark for number, mark in enumerate(folds)}
    name = f"refit on all labels{_variant(recipe, in_trial)}"
    return StageSpec("refit", name, config, inputs, trained, marked, ("finetune", "refit"))


def _both(config_by: Callable[[Dump], dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A configuration as runs show it, and as fingerprints have it."""
    return config_by(whole), config_by(without_usual)


def _evaluated(recipe: Recipe, training: dict[str, Any], dump: Dump) -> dict[str, Any]:
    return {**training, "evaluate": {**dump(recipe.evaluate), **_plugins(recipe, "evaluate")}}


def _seed(recipe: Recipe) -> str:
    """What a name says of the seed, where the recipe has several. recipe: as one of `Recipe.by_seed`."""
    return f" seed {recipe.seeds[0]}" if recipe.seeds else ""


def _variant(recipe: Recipe, in_trial: bool) -> str:
    """What a name says of the variant at its end; a trial says it elsewhere."""
    return "" if recipe.variant == "default" or in_trial else f" {recipe.variant}"


def _chooses_by(recipe: Recipe, dump: Dump) -> dict[str, Any]:
    """With validation: how it scores, since that chooses which weights become the model."""
    if recipe.finetune is None or recipe.finetune.validation is None:
        return {}
    from ..training.validation import validation_events  # and with it torch, which nothing else here needs

    settings = recipe.evaluate
    events = dump(validation_events(settings.events))
    scoring = {"events": events, "iou": settings.iou_threshold, "overlap_s": settings.overlap_s}
    scoring |= dump(settings, include={"fit_events"})  # in no dump where it is off
    scoring |= _plugins(recipe, "evaluate")
    return {"scoring": scoring}


def experiment_config(recipe: Recipe, dump: Dump = whole) -> dict[str, Any]:
    """What a whole experiment or trial is: all of its recipe but where it runs and what its recordings may be used
    for."""
    several = recipe.pretrain_data
    licences: Any = {name: {"licence"} for name in several} if isinstance(several, dict) else {"licence"}
    return dump(
        with_rules(recipe),
        exclude={"ray": True, "sweep": True, "data": {"licence"}, "pretrain_data": licences},
    )


def experiment_spec(recipe: Recipe, sources: Sequence[str]) -> StageSpec:
    """A whole experiment; its configuration is what its run has as parameters. sources: fingerprints of what it is
    made from."""
    inputs = {f"source {n}": mark for n, mark in enumerate(sources)}
    config, marked = _both(lambda dump: experiment_config(recipe, dump))
    return StageSpec("experiment", recipe.name, config, inputs, None, marked, code_of(recipe))


def code_of(recipe: Recipe) -> tuple[str, ...]:
    """The parts of the code that any stage of a recipe runs."""
    trainings = [recipe.at_share(share).finetune for share in recipe.folds.label_shares]
    there = {
        "prepare": True,
        "folds": recipe.finetune is not None or recipe.folds.decides_pretraining,
        "pretrain": recipe.pretrain is not None,
        "finetune": recipe.finetune is not None,
        "validate": any(training is not None and training.validation is not None for training in trainings),
        "cross": any(recipe.at_share(share).crosses for share in recipe.folds.label_shares),
        "evaluate": recipe.finetune is not None,
        "refit": recipe.folds.refit,
    }
    return tuple(part for part, runs in there.items() if runs)


def training_config(recipe: Recipe, stage: Literal["pretrain", "finetune"], dump: Dump = whole) -> dict[str, Any]:
    """What a training's result depends on: not when it logs, saves and probes, nor how memory and time are traded. What
    a pretraining hears is in the fingerprint of its audio, and the model that finetuning goes on from in that of its
    start, wherever it lies."""
    settings = getattr(recipe, stage)
    data = recipe.pretrain_source if stage == "pretrain" else recipe.data
    aside = {"log_every", "checkpoint_every", "gradient_checkpointing", "compile", "probe", "hears", "start"}
    config = dump(settings, exclude=aside)
    if stage == "finetune" and config.get("validation") is not None and recipe.folds.validation is not None:
        config["validation"]["share"] = recipe.folds.validation  # its training hears the others only
        if recipe.folds.manifests is not None:  # else the folds' fingerprint has what decides which they are
            usual = type(recipe.folds)()
            own = {"group": recipe.folds.group, "seed": recipe.folds.seed}
            config["validation"] |= {key: value for key, value in own.items() if value != getattr(usual, key)}
    return {"segment_s": data.segment_s, "model": dump(recipe.model), stage: config, **_plugins(recipe, stage)}


def _plugins(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """Digests of the plugins that the stage's result depends on, where there are some."""
    found = digests(recipe, stage)
    return {"plugins": found} if found else {}
