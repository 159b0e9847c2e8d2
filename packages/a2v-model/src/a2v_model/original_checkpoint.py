"""Checkpoint files of the original animal2vec: import and export.

A checkpoint is what torch.save made of a dict with `cfg` (or `args`), `model` (tensors by the original's names, and
in pretraining the teacher's under `_ema`), the optimiser's state and logs. Import reads cfg and weights and leaves the
rest; export writes the same form, and under `a2v` what the original has no key for.
"""

import hashlib
import math
import os
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from a2v_model.checkpoints import check_thresholds
from a2v_model.config import FinetuneConfig
from a2v_model.finetuning import Detector
from a2v_model.original_config import OriginalConfig, read_config
from a2v_model.original_export import write_config
from a2v_model.original_fields import original_kinds
from a2v_model.original_names import FINETUNED_BACKBONE, FINETUNED_HEAD, original_name, original_tensor, own_tensor
from a2v_model.pickle_values import shown
from a2v_model.pretraining import Pretrainer
from a2v_model.sizes import sizes_only
from a2v_model.torch_archive import read

TEACHER = "_ema"
MAX_LINES = 1000
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Imported:
    """A model in eval mode, and what is known of its origin (anything JSON can hold)."""

    model: Pretrainer | Detector
    provenance: dict[str, Any]


def import_checkpoint(
    path: str | os.PathLike[str], ignored: Collection[str] = (), progress: Progress | None = None
) -> Imported:
    """Read a checkpoint of the original animal2vec, pretrained or finetuned, float32 or float16.

    Nothing in the file is executed (`torch_archive`). Weights come in float32, every one of them by name and
    shape. `ignored` are configuration keys unknown here that the user vouches for, as the error names them;
    `progress(done, total)` counts tensors. ValueError, with the path and one line for each problem, where the file
    is no such checkpoint, is damaged, holds anything but data, or describes what this package cannot compute.
    """
    path = Path(path)
    contents = read(path)
    weights = contents.get("model") if isinstance(contents, dict) else None
    if not isinstance(weights, dict) or not weights:
        keys = ", ".join(shown(key, 40) for key in list(contents)[:10]) if isinstance(contents, dict) else "none"
        raise ValueError(f"{path}: no weights in it: a checkpoint has them under 'model'; keys here: {keys}")
    carried = contents.get("a2v")
    overrides = carried.get("overrides") if isinstance(carried, dict) else None
    try:
        config = read_config(contents.get("cfg") or contents.get("args"), ignored, overrides)
        model, dtypes = _filled(config, weights, progress)
        _take_thresholds(model, carried)
    except ValueError as error:
        raise _refusal(path, str(error).splitlines()) from error
    provenance = _provenance(path, contents, config, dtypes)
    return Imported(model.eval(), provenance)


def _take_thresholds(model: Pretrainer | Detector, carried: Any) -> None:
    if not isinstance(carried, dict) or not isinstance(model, Detector):
        return
    thresholds, chosen = carried.get("thresholds") or {}, carried.get("thresholds_from") or {}
    if not isinstance(thresholds, dict) or not isinstance(chosen, dict):
        raise ValueError("a2v: thresholds and thresholds_from should be mappings")
    check_thresholds(thresholds, model.classes)
    model.thresholds, model.thresholds_from = thresholds, _readable(chosen)


def _refusal(path: Path, problems: list[str]) -> ValueError:
    more = [f"{path}: and {len(problems) - MAX_LINES} more"] if len(problems) > MAX_LINES else []
    return ValueError("\n".join([f"{path}: {problem}" for problem in problems[:MAX_LINES]] + more))


def _new(config: OriginalConfig) -> Pretrainer | Detector:
    if isinstance(config.objective, FinetuneConfig):
        return Detector(config.model, config.objective, config.classes)
    return Pretrainer(config.model, config.objective)


def _original(own: str, sinc: bool) -> str:
    """The original's name of any tensor of a model here; a teacher's begins with '_ema.'."""
    if own.startswith("teacher."):
        return f"{TEACHER}.{original_name('student.encoder.' + own.removeprefix('teacher.'), sinc)}"
    if own.startswith("backbone."):
        return FINETUNED_BACKBONE + original_name("student." + own.removeprefix("backbone."), sinc)
    return FINETUNED_HEAD + own.removeprefix("head.") if own.startswith("head.") else original_name(own, sinc)


def _filled(
    config: OriginalConfig, weights: dict[str, Any], progress: Progress | None
) -> tuple[Pretrainer | Detector, Counter[str]]:
    """The model with the file's weights, and how many tensors had which type; ValueError naming all misfits."""
    found = _by_name(weights)
    _check_size(config, found)
    try:
        with sizes_only():  # costs nothing, whatever sizes the file claims
            expected = {name: tensor.shape for name, tensor in _new(config).state_dict().items()}
    except (RuntimeError, OverflowError) as error:
        raise ValueError(f"no model can be built from its configuration: {shown(error)}") from error
    sinc = original_kinds(config.model)[0].sinc
    names = {own: _original(own, sinc) for own in expected}
    optional = _optional(config, found, expected)
    problems = [f"missing weight {name}" for own, name in names.items() if name not in found and own not in optional]
    problems += [f"unexpected weight {shown(name)}" for name in found if name not in names.values()]
    problems += [text for own, name in names.items() if (text := _misfit(own, name, found, expected[own]))]
    if problems:
        raise ValueError("\n".join(problems))
    wanted = sum(shape.numel() for own, shape in expected.items() if names[own] in found)
    if wanted > 2 * _numbers(found) + 1000:  # weights that are views of the same few numbers
        raise ValueError(f"its weights have {wanted:,} numbers but the file has only {_numbers(found):,}")
    model = _new(config)
    dtypes: Counter[str] = Counter()
    with torch.no_grad():
        for done, (own, tensor) in enumerate(model.state_dict().items(), 1):
            if names[own] in found:
                stored = found[names[own]]
                dtypes[str(stored.dtype).removeprefix("torch.")] += 1
                tensor.copy_(own_tensor(own, stored).float().expand_as(tensor))
            elif own.endswith("alibi.scale"):
                tensor.fill_(config.alibi_scale)
            if progress:
                progress(done, len(expected))
        if isinstance(model, Pretrainer) and not _has_teacher(found):
            model.teacher.load_state_dict(model.student.encoder.state_dict())
    return model, dtypes


def _by_name(weights: dict[str, Any]) -> dict[str, Tensor]:
    """All tensors of `model`; the teacher's as '_ema.NAME'."""
    teacher = weights.get(TEACHER)
    found = {name: value for name, value in weights.items() if name != TEACHER}
    if isinstance(teacher, dict):
        found |= {f"{TEACHER}.{name}": value for name, value in teacher.items()}
    wrong = [shown(name) for name, value in found.items() if not _is_weight(name, value)]
    if wrong:
        raise ValueError("\n".join(f"weight {name} is not a tensor of real numbers" for name in wrong))
    return found


def _is_weight(name: Any, value: Any) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor) and value.dtype.is_floating_point


def _numbers(found: dict[str, Tensor]) -> int:
    """How many numbers the file has for them, those that tensors share counted once."""
    storages = ((tensor.untyped_storage(), tensor.itemsize) for tensor in found.values())
    return sum({storage.data_ptr(): storage.nbytes() // size for storage, size in storages}.values())


def _has_teacher(found: dict[str, Tensor]) -> bool:
    return any(name.startswith(f"{TEACHER}.") for name in found)


def _optional(config: OriginalConfig, found: dict[str, Tensor], expected: Collection[str]) -> set[str]:
    """Own names that a file may lack: a teacher as a whole (it starts as the student), scales that are not learned."""
    learned = original_kinds(config.model)[1].learned_alibi_scale
    fixed = set() if learned else {name for name in expected if name.endswith("alibi.scale")}
    teacher = set() if _has_teacher(found) else {name for name in expected if name.startswith("teacher.")}
    return fixed | teacher


def _check_size(config: OriginalConfig, found: dict[str, Tensor]) -> None:
    """A configuration that asks for more layers or channels than the file has numbers would only fill the memory."""
    front_end, encoder = original_kinds(config.model)
    layers = encoder.depth + encoder.prenet_depth + encoder.positional_depth + len(front_end.layers)
    decoder = getattr(config.objective, "decoder", None)
    layers += decoder.depth if decoder else 0
    if layers > len(found):
        raise ValueError(f"its configuration has {layers} layers but the file has only {len(found)} weights")
    widths = [
        encoder.dim,
        encoder.dim * encoder.mlp_ratio,
        front_end.filters,
        *(layer[0] for layer in front_end.layers),
    ]
    widest = max([*widths, decoder.dim if decoder else 0])
    numbers = _numbers(found)
    if not widest <= numbers:
        raise ValueError(f"its configuration has layers of {widest:g} channels but the file has only {numbers} numbers")


def _misfit(own: str, name: str, found: dict[str, Tensor], shape: torch.Size) -> str | None:
    if name not in found:
        return None
    wanted = list(original_tensor(own, torch.empty(shape, device="meta")).shape)
    size = list(found[name].shape)
    one_for_all_heads = own.endswith("alibi.scale") and math.prod(size) == 1 and len(size) == len(wanted)
    return None if size == wanted or one_for_all_heads else f"weight {name} is {size}, should be {wanted}"


def _provenance(path: Path, contents: dict[str, Any], config: OriginalConfig, dtypes: Counter[str]) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    history = contents.get("optimizer_history")
    last = history[-1] if isinstance(history, list) and history and isinstance(history[-1], dict) else {}
    updates = last.get("num_updates")
    kept = ("model", "cfg", "args", "a2v")
    cfg: dict[str, Any] = contents.get("cfg") or contents.get("args") or {}
    parts = ("model", "task", "criterion", "optimization", "optimizer", "lr_scheduler")
    carried = contents.get("a2v")
    own = carried.get("provenance") if isinstance(carried, dict) else None
    teacher = "from the file" if contents["model"].get(TEACHER) else "a copy of the student"
    if isinstance(config.objective, FinetuneConfig):
        teacher = "none"
    source: dict[str, Any] = {
        "file": path.name,
        "sha256": digest,
        "bytes": path.stat().st_size,
        "updates": updates if isinstance(updates, int) else None,
        "weights": dict(dtypes),
        "teacher": teacher,
        "dropped": [shown(key, 40) for key, value in contents.items() if key not in kept and _holds_something(value)],
        "not_taken_over": config.notes,
        "bcl": config.bcl,
        "config": {key: value for key, value in cfg.items() if key in parts} if "model" in cfg else cfg,
    }
    return {"imported": _readable(source)} | ({"before_export": _readable(own)} if own else {})


def _holds_something(value: Any) -> bool:
    return not (value is None or (isinstance(value, (dict, list, tuple)) and not value))


def _readable(value: Any) -> Any:
    """Plain data as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): _readable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_readable(item) for item in value]
    finite = isinstance(value, float) and math.isfinite(value)
    return value if finite or isinstance(value, (str, int, type(None))) else shown(value)


def export_checkpoint(
    model: Pretrainer | Detector,
    path: str | os.PathLike[str],
    updates: int = 0,
    provenance: dict[str, Any] | None = None,
) -> list[str]:
    """Write `model` as a file in the original's form, complete or not at all; an existing one is refused.

    The optimiser's state and logs of the original's trainer are left empty. Returns the fields ('name = value') that
    the original has no key for: `import_checkpoint` reads them back, the original does not see them. ValueError, one
    line for each, for fields that the original cannot express.
    """
    path = Path(path)
    if path.exists() or path.is_symlink():
        raise ValueError(f"{path}: exists already; name a new file or remove this one first")
    cfg, overrides, told = write_config(model)
    sinc = original_kinds(model.model_config)[0].sinc
    weights: dict[str, Any] = {}
    teacher: dict[str, Tensor] = {}
    for own, tensor in model.state_dict().items():
        name = _original(own, sinc)
        value = original_tensor(own, tensor.detach().cpu().contiguous())
        if own.startswith("teacher."):
            teacher[name.removeprefix(f"{TEACHER}.")] = value
        else:
            weights[name] = value
    if teacher:
        weights[TEACHER] = teacher
    carried: dict[str, Any] = {"overrides": overrides, "provenance": provenance or {}}
    if isinstance(model, Detector) and model.thresholds:
        carried |= {"thresholds": model.thresholds, "thresholds_from": model.thresholds_from}
        told = [*told, *(f"threshold of {name} = {value:g}" for name, value in model.thresholds.items())]
    contents = {
        "args": None,
        "cfg": cfg,
        "model": weights,
        "criterion": None,
        "optimizer_history": [{"num_updates": updates}],
        "task_state": {},
        "extra_state": {},
        "a2v": carried,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.parent / f".{path.name}.new-{uuid.uuid4().hex[:8]}"
    try:
        with aside.open("xb") as file:
            torch.save(contents, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return told
