"""`a2v model promote`: which version of a registered model is in use."""

from __future__ import annotations

from typing import Annotated

import typer

from ..basics.errors import UserError
from ..basics.places import DEFAULT_WORK
from .options import Tracking, Work
from .say import say, say_text


def promote(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `a2v experiment run --register NAME` named it.")],
    version: Annotated[str | None, typer.Option("--version", help="Its number; default: the candidate.")] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Which score says that it is better; default: strict/mAP/micro.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also if it scores lower or cannot be compared.")] = False,
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
) -> None:
    """Make a version the champion (models:/NAME@champion), with its scores beside those of the present one."""
    from ..overview import registering
    from ..store.reading import existing_client

    client = existing_client(work, tracking_uri)
    if client is None:
        raise UserError(f"{tracking_uri or work}: no tracking store here; name the folder with --work")
    found = registering.look_at(client, name, version, metric)
    say_text("\n".join(found.lines))
    if found.against is not None and not force:
        raise UserError(f"not promoted: {found.against}; --force promotes it all the same")
    if found.against is not None:
        say(found.against)
    say(registering.promote(client, name, found.version))
