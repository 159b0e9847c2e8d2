"""A model on disk: a folder with `model.safetensors` (all tensors) and `model.json` (all else, readable).

Contract: both files are written into a temporary sibling folder, flushed to disk and put in place by rename,
so a folder of the given name is complete or absent; an existing one is replaced, and a crash between the two
renames leaves the old one under `.NAME.old-*`. `model.json` holds the format version, kind (pretrained or
detector), configurations, classes, sample rate, frame rate, parameter counts, a detector's thresholds, the
caller's provenance, and which plugins the model has, whose source lies in `plugins/NAME/`. `write_thresholds` and
`write_card` are all that changes a file of a folder that is in place: by rename, a whole new `model.json` at once.

In a folder as the Hugging Face Hub has models (`a2v model push`) the description is called `config.json`; everything
here reads such a folder too.
"""

import json
import os
import shutil
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from a2v_model.config import FinetuneConfig, ModelConfig, PretrainConfig
from a2v_model.documents import check_types, quoted, read_json, reason
from a2v_model.finetuning import Detector, check_shapes, load_exactly
from a2v_model.parts import UNLOADED, OwnPart
from a2v_model.pickle_values import shown
from a2v_model.plugins import Plugin
from a2v_model.pretraining import Pretrainer
from a2v_model.saved_plugins import load_brought, plugins_of, write_plugins
from a2v_model.sizes import sizes_only

FORMAT_VERSION = 1
WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
HUB_DESCRIPTION = "config.json"  # what the Hub reads, with the same content
TYPES = {
    "kind": str, "sample_rate": int, "frame_rate": float, "classes": list[str], "parameters": dict[str, Any],
    "model": dict[str, Any], "pretrain": dict[str, Any], "finetune": dict[str, Any], "thresholds": dict[str, Any],
    "thresholds_from": dict[str, Any], "extra": dict[str, Any], "plugins": dict[str, Any] | None,
    "card": dict[str, Any],
}  # fmt: skip


def describe(model: Pretrainer | Detector, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """What `model.json` says about a model."""
    front_end = model.model_config.front_end
    teacher = sum(p.numel() for p in model.teacher.parameters()) if isinstance(model, Pretrainer) else 0
    detector = isinstance(model, Detector)
    description = {
        "format_version": FORMAT_VERSION,
        "kind": "detector" if detector else "pretrained",
        "sample_rate": front_end.sample_rate,
        "frame_rate": front_end.frame_rate,
        "classes": model.classes if isinstance(model, Detector) else [],
        "parameters": {"model": sum(p.numel() for p in model.parameters()) - teacher, "teacher": teacher},
        "model": model.model_config.model_dump(mode="json"),
        "finetune" if detector else "pretrain": model.config.model_dump(mode="json"),
    }
    if isinstance(model, Detector):
        description |= {"thresholds": model.thresholds, "thresholds_from": model.thresholds_from}
    return description | {"extra": extra or {}}


def save_model(
    model: Pretrainer | Detector, folder: str | os.PathLike[str], extra: dict[str, Any], plugins: Sequence[Plugin] = ()
) -> None:
    """Write `model` and provenance `extra` (anything JSON can hold) as a folder, complete or not at all. plugins: what
    the model is used with beside those of its parts, which are saved anyway: methods that find events."""
    if model.of_rate:
        raise ValueError(f"a model for {model.sample_rate} Hz only (for_rate): save the model that it was made of")
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.parent / f".{folder.name}.new-{uuid.uuid4().hex[:8]}"
    aside.mkdir()
    try:
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, aside / WEIGHTS)
        described = describe(model, extra) | write_plugins(aside, [*plugins, *plugins_of(model)])
        (aside / DESCRIPTION).write_text(json.dumps(described, indent=1) + "\n")
        shutil.copymode(aside / DESCRIPTION, aside / WEIGHTS)  # safetensors writes for the owner's eyes only
        for name in (WEIGHTS, DESCRIPTION):
            _flush(aside / name)
        _put_in_place(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _put_in_place(aside: Path, folder: Path) -> None:
    """Rename; a folder cannot be renamed over a full one, so the old one steps aside first."""
    old = None
    if folder.exists():
        old = folder.parent / f".{folder.name}.old-{uuid.uuid4().hex[:8]}"
        folder.rename(old)
    aside.rename(folder)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def description_path(folder: str | os.PathLike[str]) -> Path:
    """The file of a model's folder that describes it, there or not: `model.json`, or `config.json` where only that is
    there."""
    own, hub = Path(folder) / DESCRIPTION, Path(folder) / HUB_DESCRIPTION
    return hub if hub.is_file() and not own.is_file() else own


def read_description(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What describes a model (`description_path`); ValueError where it is missing, unreadable or of a newer format."""
    path = description_path(folder)
    if ":/" in str(folder) and not path.is_file():
        raise ValueError(f"{folder}: is a URI, not a folder; a2v_experiments.models.load_model fetches it from MLflow")
    if Path(folder).is_file():
        raise ValueError(
            f"{folder}: is a file, not a model's folder (with {WEIGHTS} and {DESCRIPTION}); a checkpoint of the "
            "original becomes one with `a2v model import FILE.pt --out DIR`"
        )
    if not path.is_file():
        raise ValueError(f"{folder}: no {DESCRIPTION} there; expected a folder written by save_model")
    try:
        description = read_json(path)
        version = description["format_version"]
        if isinstance(version, bool) or not isinstance(version, int):
            raise ValueError(f"format_version is {quoted(version)}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a model description ({error})") from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path}: format version {version} is newer than {FORMAT_VERSION}, the newest known here: update a2v-model"
        )
    try:
        check_types(description, TYPES)
    except ValueError as error:
        raise ValueError(f"{path}: not a model description ({error})") from error
    return cast(dict[str, Any], description)


def write_thresholds(
    folder: str | os.PathLike[str], thresholds: Mapping[str, float], thresholds_from: Mapping[str, Any]
) -> None:
    """Write into a detector's `model.json` which likelihood is an event's, class -> threshold in [0, 1); replaces
    what stood there, weights and all else stay.

    thresholds_from: how and on what they were chosen (anything JSON can hold): event settings, protocol, recordings.
    ValueError, before anything is written, where the folder is no detector or a class or value does not fit.
    """
    description, path = read_description(folder), description_path(folder)
    if description["kind"] != "detector":
        raise ValueError(f"{path}: a {description['kind']} model knows no classes, so it has no thresholds")
    description |= {"thresholds": dict(thresholds), "thresholds_from": dict(thresholds_from)}
    check_thresholds(description["thresholds"], description["classes"])
    _replace(path, description)


def write_card(folder: str | os.PathLike[str], card: Mapping[str, Any]) -> dict[str, Any]:
    """Write what is known of a model's making (`card`: anything JSON can hold) into its description; replaces what
    stood there, weights and all else stay. Returns the description. ValueError where the folder has none."""
    description = read_description(folder) | {"card": dict(card)}
    _replace(description_path(folder), description)
    return description


def _replace(path: Path, description: Mapping[str, Any]) -> None:
    aside = path.with_name(f".{path.name}.new-{uuid.uuid4().hex[:8]}")
    try:
        aside.write_text(json.dumps(description, indent=1) + "\n")
        _flush(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def check_thresholds(thresholds: Mapping[str, float], classes: Sequence[str]) -> None:
    """ValueError for a threshold of a class that the model does not know, or outside [0, 1)."""
    for name, value in thresholds.items():
        if name not in classes:
            raise ValueError(f"thresholds: {quoted(name)} is none of the model's classes {quoted(list(classes), 300)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise ValueError(f"thresholds: {quoted(value)} of {quoted(name)} should be a number within [0, 1)")


def load_model(folder: str | os.PathLike[str], allow_plugins: bool | Collection[str] = False) -> Pretrainer | Detector:
    """The model of a folder that `save_model` or `a2v model push` wrote, on the CPU in eval mode; ValueError (one line)
    if it cannot.

    allow_plugins: whether code that the model brings may be run (all of it, or plugins of these digests), beside what
    is loaded in this process already and what A2V_ALLOW_PLUGINS=1 allows. Without, a model of which it is the front end
    or the head is refused; a loss, which only training needs, is left out.
    """
    description = read_description(folder)
    brought = load_brought(Path(folder), description, allow_plugins)
    weights = Path(folder) / WEIGHTS
    if not weights.is_file():
        raise ValueError(f"{folder}: no {WEIGHTS} there; the folder is incomplete")
    found = weight_shapes(weights)
    try:
        expected = _expected(description, found)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{description_path(folder)}: cannot build the model: {reason(error)}") from error
    try:
        if expected is not None:
            check_shapes(expected, found)
        model = _build(description)
        load_exactly(model, load_file(weights))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{weights}: {error}") from error
    model.plugins = brought
    return model.eval()


def weight_shapes(weights: Path) -> dict[str, list[int]]:
    """Name -> shape of the tensors in a file, of which only the header is read. ValueError (one line) where it is
    damaged."""
    try:
        with safe_open(weights, framework="pt") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{weights}: {shown(error)}") from error


def _expected(description: dict[str, Any], found: Mapping[str, list[int]]) -> dict[str, list[int]] | None:
    """The shapes of the tensors that a description asks for, before any of them is made; None of what a plugin makes.

    `found`: those in the file. A configuration of more layers than that is refused: building them takes long.
    """
    model = ModelConfig.model_validate(description["model"])
    encoder, front_end = model.encoder, model.front_end
    depths = ("depth", "prenet_depth", "positional_depth")
    layers = sum(getattr(encoder, name, 0) for name in depths) + len(getattr(front_end, "layers", ()))
    if layers > len(found):
        raise ValueError(f"the configuration has {layers} layers, {WEIGHTS} only {len(found)} weights")
    if isinstance(front_end, OwnPart) or isinstance((description.get("finetune") or {}).get("head"), dict):
        return None
    with sizes_only():  # takes no memory, whatever sizes the description has
        return {name: list(tensor.shape) for name, tensor in _build(description).state_dict().items()}


def _build(description: dict[str, Any]) -> Pretrainer | Detector:
    model = ModelConfig.model_validate(description["model"])
    if description["kind"] == "pretrained":
        return Pretrainer(model, PretrainConfig.model_validate(description["pretrain"]))
    if description["kind"] == "detector":
        finetune = FinetuneConfig.model_validate(description["finetune"], context={UNLOADED: True})
        detector = Detector(model, finetune, list(description["classes"]))
        check_thresholds(description.get("thresholds", {}), detector.classes)
        detector.thresholds = dict(description.get("thresholds", {}))  # a model of before there were any has none
        detector.thresholds_from = dict(description.get("thresholds_from", {}))
        return detector
    raise KeyError(f"kind = {description['kind']}: must be pretrained or detector")
