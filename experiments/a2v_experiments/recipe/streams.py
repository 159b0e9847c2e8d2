"""What is recorded beside sound: said once, in `data.streams`, of which the model's streams follow unless it is given
its own; none, `model.streams: {}`, where it is to hear sound alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2v_data.streams.folder import has_streams

if TYPE_CHECKING:
    from a2v_model.config import ModelConfig

    from .sections import DataConfig

Tree = dict[str, Any]
ALIKE = ("columns", "rate")


def with_streams(tree: Tree) -> Tree:
    """A recipe's keys; a model of which nothing is said hears the streams of `data`."""
    data, model = tree.get("data"), tree.get("model")
    streams = data.get("streams") if isinstance(data, Mapping) else None
    if not streams or not isinstance(model, Mapping) or model.get("streams") is not None:
        return tree
    return {**tree, "model": {**model, "streams": streams}}


def streams_for(folder: Path, model: ModelConfig) -> dict[str, Any]:
    """`data.streams` of recordings for a model: those that it hears, where the folder has tables."""
    return {name: one.model_dump() for name, one in model.streams.items()} if has_streams(folder) else {}


def check_streams(key: str, data: DataConfig, model: ModelConfig, started: bool) -> None:
    """Raises ValueError where the model hears a stream that `data` does not name, a corpus for pretraining has one that
    the model does not hear, or they have different ones by the same name. key: where the recipe says it; started: the
    model has learned before, and may go on with data that lack its streams."""
    lacking = [name for name in model.streams if name not in data.streams]
    if key == "data" and lacking and not started:
        raise ValueError(f"model.streams.{lacking[0]}: data.streams has none by that name; name it there, too")
    for name, stream in data.streams.items():
        heard = model.streams.get(name)
        if heard is None and (key == "data" or not model.streams):  # packed, for other variants
            continue
        if heard is None:
            known = ", ".join(model.streams) or "none"
            raise ValueError(
                f"{key}.streams.{name}: the model does not hear it (it hears {known}); name it in data.streams, too, or"
                " leave it out"
            )
        for field in ALIKE:
            own, models = getattr(stream, field), getattr(heard, field)
            if own != models:
                raise ValueError(
                    f"{key}.streams.{name}.{field} is {_text(own)}, and the model's {_text(models)}"
                    f" (model.streams.{name}.{field}); they must be equal"
                )


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else f"{value:g}"
