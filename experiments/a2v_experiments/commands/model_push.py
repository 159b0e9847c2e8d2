"""`a2v model push`: a folder as the Hugging Face Hub has models, with its card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ..basics.errors import UserError, light_install
from ..basics.places import DEFAULT_WORK, command, pasted
from .options import Tracking
from .say import say

ModelSource = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A model's folder, or runs:/RUN_ID, models:/NAME@champion, models:/NAME/2."),
]


def push(
    model: ModelSource,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to make.")],
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence", help="Of the model, such as cc-by-4.0. Default: as pushed there before, else not recorded."
        ),
    ] = None,
    tracking_uri: Tracking = None,
) -> None:
    """Write a folder as the Hugging Face Hub has models: model.safetensors, config.json, and the model card README.md.

    Nothing is uploaded. Only a folder with the same model is written to again.
    """
    from ..card.folder import CARD, pushed_licence
    from ..card.folder import push as write
    from ..models import model_folder

    if licence is not None and not licence.strip():
        raise UserError("--licence: is empty; name one, such as cc-by-4.0, or leave the option out")
    with model_folder(model, tracking_uri) as source:
        description = described(model, source, tracking_uri)
        licence = licence.strip() if licence else pushed_licence(folder) or pushed_licence(source)
        card = {**(description.get("card") or {}), **({"licence": licence} if licence else {})}
        told = write(source, folder, {**description, "card": card}, folder.resolve().name)
        size = (folder / "model.safetensors").stat().st_size / 1e6
    brought = ["--allow-plugins"] if description.get("plugins") else []
    say(f"{folder}: model.safetensors ({size:.1f} MB), config.json, and the model card {CARD}")
    for line in told:
        say(f"  {line}")
    if not licence:
        say("  the model's licence is not recorded: --licence says it")
    say("next:")
    say(f"  {command('predict', 'RECORDINGS', '--model', folder, '--out', 'calls', *brought)}")
    say(f"  {pasted(['hf', 'upload', f'USER/{folder.resolve().name}', folder, '.'])}  # pip install huggingface_hub")


def described(model: str, folder: Path, tracking_uri: str | None) -> dict[str, Any]:
    """What describes a model, with what is known of its making under `card`: as its store knows it now where the model
    comes from one, else as its folder kept it, else as the store at hand knows it; without `card` where nothing is."""
    from a2v_model.checkpoints import read_description

    from ..models import is_uri

    description = read_description(folder)
    kept: dict[str, Any] = description.get("card") or {}
    run_id = kept.get("run_id") or (description.get("extra") or {}).get("run_id")
    if not isinstance(run_id, str) or (kept and not is_uri(model)):
        return description
    facts = _facts(run_id, tracking_uri)
    return description if facts is None else {**description, "card": {**kept, **facts}}


def _facts(run_id: str, tracking_uri: str | None) -> dict[str, Any] | None:
    try:
        from ..card.facts import facts_of
        from ..store.reading import existing_client
    except ModuleNotFoundError as error:
        if light_install(error) is None:
            raise
        return None  # a machine that only predicts has no store
    client = existing_client(Path(os.environ.get("A2V_WORK", DEFAULT_WORK)), tracking_uri)
    return None if client is None else facts_of(client, run_id)
