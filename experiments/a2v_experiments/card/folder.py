"""A model's folder as the Hugging Face Hub has models: model.safetensors, config.json, and its card as README.md.

https://huggingface.co/docs/hub/models-uploading. `config.json` is what describes the model (`a2v_model.checkpoints`),
with two keys that others look for; `plugins/` comes along where the model brings code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from a2v_data.documents import read_json
from a2v_data.storage import file_digest, refuse_existing, replaced, written_aside
from a2v_model.checkpoints import HUB_DESCRIPTION, WEIGHTS, description_path, write_card
from a2v_model.saved_plugins import FOLDER as PLUGINS

from ..basics.errors import UserError
from .text import card_text

CARD = "README.md"


def hub_card(description: Mapping[str, Any], name: str) -> str:
    """The card of a folder that can be loaded."""
    call = "likelihoods" if description["kind"] == "detector" else "embed"
    rows = "(frames, classes), in [0, 1]" if call == "likelihoods" else "(frames, embedding)"
    rate, frames = description["sample_rate"], f"{description['frame_rate']:g} a second"
    brought = ", allow_plugins=True" if description.get("plugins") else ""
    code = [
        "```python",
        "from a2v_model import load_model",
        "",
        f'model = load_model("FOLDER"{brought})  # this one; it needs torch, numpy, pydantic and safetensors only',
        f"found = model.{call}(waveform, {rate})  # {rows}, {frames}",
        "```",
    ]
    if brought:
        code += ["", f"The model brings code of its own, in `{PLUGINS}/`: look at it before you allow it."]
    if call == "likelihoods":
        code += ["", "In recordings of any length and rate: `a2v predict RECORDINGS --model FOLDER --out calls`"]
    return card_text(description, name, code)


def put_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """Facts and card into a model's folder that is in place."""
    _write(folder, {CARD: hub_card(write_card(folder, facts), folder.name)})


def push(source: Path, out: Path, description: Mapping[str, Any], name: str) -> list[str]:
    """Write the model of a folder to another one, new, empty, or with the same weights; all else that is there stays,
    and so does a card that was edited. description: as `card_text` takes it. Returns what is to be told.

    Raises UserError or ValueError where something else is there, or no weights are in `source`.
    """
    if not (source / WEIGHTS).is_file():
        raise UserError(f"{source}: no {WEIGHTS} there; the folder is incomplete")
    config = {"model_type": "animal2vec", "architectures": [_class_of(description)], **description}
    texts = {HUB_DESCRIPTION: json.dumps(config, indent=1) + "\n", CARD: hub_card(description, name)}
    if not out.is_dir() or not any(out.iterdir()):
        refuse_existing(out)
        with written_aside(out) as aside:
            shutil.copyfile(source / WEIGHTS, aside / WEIGHTS)
            _write(aside, texts)
            if (source / PLUGINS).is_dir():
                shutil.copytree(source / PLUGINS, aside / PLUGINS)
        return []
    told = []
    if not _same_model(source, out):
        raise UserError(
            f"{out}: exists already and does not hold this model; name a new folder or remove this one first"
        )
    if _edited(out, name):
        del texts[CARD]
        told.append(f"{out / CARD}: was edited and stays as it is; remove it to have it written again")
    _write(out, texts)
    return told


def pushed_licence(folder: Path) -> str | None:
    """The model's licence that an earlier push wrote into a folder."""
    try:
        found = read_json(folder / HUB_DESCRIPTION)["card"]["licence"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def _class_of(description: Mapping[str, Any]) -> str:
    return "Detector" if description["kind"] == "detector" else "Pretrainer"


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    for file, text in texts.items():
        with replaced(folder / file) as aside:
            aside.write_text(text, encoding="utf-8")


def _same_model(source: Path, out: Path) -> bool:
    """Whether a folder has the weights and the plugins of another, and what describes them is one that a push made."""
    if not (out / WEIGHTS).is_file() or description_path(out) != out / HUB_DESCRIPTION:
        return False
    plugins = [{path.relative_to(one): path.read_bytes() for path in _files(one)} for one in (source, out)]
    return plugins[0] == plugins[1] and file_digest(source / WEIGHTS) == file_digest(out / WEIGHTS)


def _files(folder: Path) -> list[Path]:
    return [path for path in (folder / PLUGINS).rglob("*") if path.is_file()]


def _edited(out: Path, name: str) -> bool:
    """Whether the card is another than the one that was written with the description beside it."""
    if not (out / CARD).is_file():
        return False
    try:
        written = hub_card(read_json(out / HUB_DESCRIPTION), name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True
    return (out / CARD).read_text(encoding="utf-8") != written
