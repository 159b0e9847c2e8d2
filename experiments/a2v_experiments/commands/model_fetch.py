"""`a2v model fetch`: a published checkpoint, from its repository to a model that can be used."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..basics.errors import FAILED, UserError
from ..basics.places import DEFAULT_WORK, command
from .model import import_into
from .options import Work
from .say import say


class PublishedChoice(StrEnum):
    """Which of the authors' checkpoints."""

    pretrained = "meerkat-pretrained"
    finetuned = "meerkat-finetuned"


def fetch(
    name: Annotated[PublishedChoice, typer.Argument(help="Which checkpoint, as in docs/models.md.")],
    file: Annotated[
        str | None, typer.Option("--file", metavar="NAME", help="The file of the dataset, where its name is not told.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", metavar="URL", help="Another Dataverse with this dataset: a mirror.")
    ] = None,
    work: Work = DEFAULT_WORK,
) -> None:
    """Download a checkpoint that the authors of animal2vec published, and import it.

    From doi 10.17617/3.ETPUKU to WORK/downloads, and as a model to WORK/models/NAME. Stopped, the same command goes on.
    """
    from ..published.checkpoints import DOI, HOST, PAPER, choose
    from ..published.checkpoints import fetch as fetch_file
    from ..published.dataverse import FetchError, list_dataset

    out = work / "models" / name.value
    if _is_there(out, file):
        say(f"{out}: is there already")
        _say_next(name, out)
        return
    try:
        dataset = list_dataset(source or HOST, DOI)
        remote = choose(name.value, dataset.files, file)
        say(
            f"{remote}, doi:{DOI}",
            f"  licence   {dataset.licence}",
            f"  cite      {dataset.citation}",
            f"  and       {PAPER}",
        )
        fetched = fetch_file(remote, dataset, work / "downloads")
    except FetchError as error:
        by_hand = f"download the {name.value} checkpoint from https://doi.org/{DOI} in a browser"
        raise UserError(
            f"{error}; by hand: {by_hand}, then {command('model', 'import', 'FILE.pt', '--out', out)}", FAILED
        ) from None
    _import(fetched.path, fetched.origin, out)
    _say_next(name, out)
    say(f"no longer needed: {fetched.path}, {remote.size / 1e6:,.1f} MB")


def _is_there(out: Path, file: str | None) -> bool:
    """Whether `out` is what an earlier call made. Raises UserError or ValueError where it is anything else."""
    from a2v_data.storage import refuse_existing
    from a2v_model.checkpoints import read_description

    if not (out / "model.json").is_file():
        refuse_existing(out)
        return False
    published = read_description(out).get("extra", {}).get("published")
    if not isinstance(published, dict) or file not in (None, published.get("file")):
        raise UserError(f"{out}: exists already and this call did not make it; move it away, or name another --work")
    return True


def _import(path: Path, origin: dict[str, str], out: Path) -> None:
    try:
        import_into(out, path, origin={"published": origin})
    except ValueError as error:
        retry = command("model", "import", path, "--out", out, "--ignore", "KEY")
        raise UserError(f"{error}\nthe download is whole and stays; where a key does not matter: {retry}") from None


def _say_next(name: PublishedChoice, out: Path) -> None:
    keys = ("model=meerkat", "data.sample_rate=8000", "pretrain=null", f"backbone={out}")
    sets = [word for key in keys for word in ("--set", key)]
    lines = [
        ("a head of your own", command("adapt", "FOLDER", "--model", out, "--out", "MINE")),
        ("finetune all of it", command("experiment", "run", "RECIPE", *sets)),
    ]
    if name is PublishedChoice.finetuned:
        lines.insert(0, ("find calls", command("predict", "RECORDINGS", "--model", out, "--out", "CALLS")))
    say("what it can do now:")
    for what, line in lines:
        say(f"  {what:<18}  {line}")
