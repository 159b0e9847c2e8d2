"""`plugins:` of a recipe: where each one's source is, which stages it concerns, and whether its parts do what they
should, before anything is trained."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from a2v_data.documents import reason
from a2v_data.registry import OwnAugmentation, applied
from a2v_eval.registry import EVENT_METHODS, own_runs
from a2v_model.backbone import new_front_end
from a2v_model.heads import apply_head, new_head
from a2v_model.losses import own_loss
from a2v_model.parts import OwnPart
from a2v_model.plugins import MAIN, Plugin, loaded, plugin_of
from a2v_model.registry import OwnFrontEndConfig, OwnHead, OwnLoss
from pydantic import ValidationError
from torch import Tensor

from ..basics.errors import UserError
from .sections import Recipe
from .trainings import FinetuneStage

GROUP = "a2v.plugins"
DOTTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
Stage = Literal["pretrain", "finetune", "evaluate"]
STAGES: tuple[Stage, ...] = ("pretrain", "finetune", "evaluate")
Part = Any  # of the `parts.py` of any of the packages


def find_plugins(names: Any, folder: Path) -> tuple[Plugin, ...]:
    """The plugins that a recipe names, not loaded: Python files or packages (relative to `folder`, else to where the
    command runs; PACKAGE:MODULE imports a module of one), entry points of the group `a2v.plugins`, or modules that can
    be imported. Raises UserError."""
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise UserError(f"plugins = {names!r}: must be a list of Python files, entry points or modules")
    found: dict[str, Plugin] = {}
    for name in names:
        plugin = _find(name, folder)
        if plugin.name in found:
            raise UserError(f"plugins: {name}: there is another plugin of the name {plugin.name}; rename one")
        found[plugin.name] = plugin
    return tuple(found.values())


def _split(name: str) -> tuple[str, str]:
    """Path and entry of PATH:MODULE; a folder's own name may have a colon."""
    path, colon, entry = name.rpartition(":")
    return (path, entry) if colon and DOTTED.fullmatch(entry) else (name, "")


def _find(name: str, folder: Path) -> Plugin:
    path, entry = _split(name)
    is_path = path.endswith(".py") or "/" in path
    for place in (folder / path, Path(path)):
        if place.is_file() and place.suffix == ".py" and not entry:
            return _read(name, place.stem, {MAIN: place})
        if place.is_dir() and (place / MAIN).is_file():
            return _read(name, place.name, _package(place), entry)
    if is_path or not DOTTED.fullmatch(name):
        raise UserError(f"plugins: {name}: no such Python file, neither beside the recipe nor where this runs")
    points = {point.name: point.module for point in entry_points(group=GROUP)}
    module = points.get(name, name)
    top, _, entry = module.partition(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        known = f"; entry points: {', '.join(sorted(points))}" if points else ""
        raise UserError(
            f"plugins: {name}: no file of this name, no entry point of the group {GROUP}, and no module that can be"
            f" imported here{known}"
        )
    origin = Path(spec.origin)
    files = {MAIN: origin} if origin.name != MAIN else _package(origin.parent)
    return _read(name, name.replace(".", "_"), files, entry)


def _package(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.py"))}


def _read(said: str, name: str, files: dict[str, Path], entry: str = "") -> Plugin:
    try:
        texts = {path: place.read_bytes().decode().replace("\r\n", "\n") for path, place in files.items()}
        return Plugin(name=name, files=texts, entry=entry)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"plugins: {said}: cannot be read: {error}") from None
    except ValidationError as error:
        raise UserError(f"plugins: {said}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None


def write_files(plugin: Plugin, folder: Path) -> str:
    """Put a plugin's source below a folder, so that a recipe there finds it; returns what `plugins:` calls it there."""
    single = list(plugin.files) == [MAIN]
    for path, text in plugin.files.items():
        place = folder / "plugins" / (f"{plugin.name}.py" if single else f"{plugin.name}/{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    named = f"plugins/{plugin.name}.py" if single else f"plugins/{plugin.name}"
    return f"{named}:{plugin.entry}" if plugin.entry else named


def parts_of(recipe: Recipe, stage: Stage) -> list[Part]:
    """The parts of plugins that a stage's result depends on. evaluate: as finetuning's scores are made."""
    if stage == "evaluate":
        events = recipe.evaluate.events
        return [EVENT_METHODS.get(events.method)] if events.is_own else []
    own: list[Any] = [recipe.model.front_end]
    if stage == "finetune" and recipe.finetune is not None:
        own += [recipe.finetune.head, recipe.finetune.loss, *recipe.finetune.augmentations]
    return [one.part for one in own if isinstance(one, OwnPart | OwnAugmentation)]


def asks_first(recipe: Recipe) -> bool:
    """Whether a detector of the recipe brings code without which it cannot predict, so that its user has to agree."""
    head = recipe.finetune.head if recipe.finetune is not None else None
    return isinstance(recipe.model.front_end, OwnPart) or isinstance(head, OwnPart) or recipe.evaluate.events.is_own


def digests(recipe: Recipe, stage: Stage) -> dict[str, str]:
    """Name -> digest of the plugins that a stage's result depends on. Raises UserError for a part of a plugin that the
    recipe does not name."""
    found: dict[str, str] = {}
    for part in parts_of(recipe, stage):
        plugin = plugin_of(part)
        if plugin is None or recipe.plugins.get(plugin.name) != plugin.digest:
            raise UserError(
                f"{part.name} is registered by {part.plugin}, which is none of the recipe's plugins; name its file"
                " there (plugins: [FILE.py])"
            )
        found[plugin.name] = plugin.digest
    return dict(sorted(found.items()))


def plugins_for(recipe: Recipe, *stages: Stage) -> list[Plugin]:
    """The source of the plugins that some stages depend on."""
    wanted = {digest: None for stage in stages for digest in digests(recipe, stage).values()}
    return [plugin for plugin in map(loaded, wanted) if plugin is not None]


def check_parts(recipe: Recipe, where: str) -> None:
    """Try every part of a plugin on something tiny. Raises UserError, naming recipe, key and plugin, for what does not
    give what it should. No random number that training would draw is drawn."""
    stages: dict[str, FinetuneStage | None] = {"finetune": recipe.finetune}
    stages |= {f"finetune_by_share.{share:g}": stage for share, stage in recipe.finetune_by_share.items()}
    with torch.random.fork_rng(devices=[]):
        if isinstance(recipe.model.front_end, OwnFrontEndConfig):
            _try(f"{where}: model.front_end", recipe.model.front_end.part, lambda: _front_end(recipe))
        for key, stage in stages.items():
            if stage is not None:
                _check_finetuning(f"{where}: {key}", stage, recipe)
        events = recipe.evaluate.events
        if events.is_own:
            _try(f"{where}: evaluate.events", EVENT_METHODS.get(events.method), lambda: _events(recipe))
    for of_recipe in STAGES:
        digests(recipe, of_recipe)


def _check_finetuning(where: str, stage: FinetuneStage, recipe: Recipe) -> None:
    head, loss = stage.head, stage.loss
    if isinstance(head, OwnHead):
        _try(f"{where}.head", head.part, lambda: _head(stage, recipe.model.encoder.dim))
    if loss is not None:
        _try(f"{where}.loss", loss.part, lambda: _loss(loss))
    for number, own in enumerate(stage.augmentations):
        _try(f"{where}.augmentations.{number}", own.part, partial(_augmentation, own, recipe))


def _try(where: str, part: Part, check: Callable[[], None]) -> None:
    try:
        check()
    except ValueError as error:
        told = " ".join(str(error).split())
        named = told if part.plugin in told else f"{part.name} of plugin {part.plugin}: {told}"
        raise UserError(f"{where}: {named}") from None
    except Exception as error:  # whatever the plugin's code raises
        told = f"{type(error).__name__}: {reason(error)}"
        raise UserError(f"{where}: {part.name} of plugin {part.plugin} fails on a tiny input: {told}") from error


def _loss(loss: OwnLoss) -> None:
    logits = torch.linspace(-3, 3, 12).reshape(2, 3, 2).requires_grad_()
    targets = torch.tensor([0.0, 1.0, 0.3]).repeat(4).reshape(2, 3, 2)
    for shape in ((2, 3, 2), (6, 2)):
        values = own_loss(loss, logits.reshape(shape), targets.reshape(shape))
        if not bool(torch.isfinite(values).all()):
            raise ValueError("gives values that are not finite, for logits of -3 to 3 and targets of 0 to 1")
    if not values.requires_grad:
        raise ValueError("gives a loss without a gradient; compute it from the logits with torch alone")
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    if not bool(torch.isfinite(gradient).all()):
        raise ValueError("gives a gradient that is not finite, for logits of -3 to 3")


def _head(stage: FinetuneStage, dim: int) -> None:
    head, features_BTD = new_head(dim, 2, stage).eval(), torch.randn(2, 7, dim)
    for valid in (None, torch.arange(7)[None] < torch.tensor([[7], [5]])):
        _same_shape(apply_head(head, features_BTD, valid), (2, 7, 2), f"logits of features (2, 7, {dim}) and 2 classes")


def _front_end(recipe: Recipe) -> None:
    config = recipe.model.front_end
    module = new_front_end(config).eval()
    for samples in (max(config.shortest, config.stride), max(config.shortest, 5 * config.stride)):
        frames = config.frames(samples)
        if samples >= 5 * config.stride and frames < samples // config.stride:
            raise ValueError(
                f"frames({samples}) is {frames}; must be at least {samples // config.stride}, one a stride"
            )
        _same_shape(module(torch.randn(2, samples)), (2, frames, config.width), f"frames of waveforms (2, {samples})")


def _same_shape(given: Any, shape: tuple[int, ...], what: str) -> None:
    if not isinstance(given, Tensor) or tuple(given.shape) != shape:
        got = f"a tensor {tuple(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
        raise ValueError(f"gives {got}; must be {shape}, {what}")
    if not bool(torch.isfinite(given).all()):
        raise ValueError(f"gives values that are not finite, as {what}")


def _augmentation(own: OwnAugmentation, recipe: Recipe) -> None:
    front_end, rng = recipe.model.front_end, np.random.default_rng(0)
    samples = round(recipe.data.segment_s * front_end.sample_rate)
    target_TC = np.zeros((-(-samples // front_end.stride), 2), np.float32)
    target_TC[: len(target_TC) // 2, 0] = 1
    applied(own, rng.normal(size=samples).astype(np.float32), target_TC, front_end.sample_rate, rng)


def _events(recipe: Recipe) -> None:
    events = recipe.evaluate.events
    likelihood_NT = np.tile(np.array([0.1, 0.2, 0.9, 0.8, 0.1, 0.1, 0.6, 0.1], np.float32), (2, 3))
    own_runs(events.method, events.options, likelihood_NT, np.array([0.15, 0.5]), recipe.model.front_end.frame_rate)


def names_of(plugins: Iterable[Plugin]) -> dict[str, str]:
    """Name -> digest, as a recipe holds its plugins."""
    return {plugin.name: plugin.digest for plugin in plugins}


def absolute(names: Any, folder: Path) -> Any:
    """What a recipe file says of plugins, with the files beside it named so that they are found from anywhere."""
    if not isinstance(names, Sequence) or isinstance(names, str):
        return names
    return [_absolute(name, folder) if isinstance(name, str) else name for name in names]


def _absolute(name: str, folder: Path) -> str:
    path, _ = _split(name)
    beside = (folder / path).is_file() or (folder / path / MAIN).is_file()
    return f"{(folder / path).absolute()}{name.removeprefix(path)}" if beside else name
