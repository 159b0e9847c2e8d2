"""`a2v data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..basics.errors import INTERRUPTED, UserError
from . import data_annotations, data_import, data_prepare
from .data_check import check
from .data_folds import folds
from .data_preview import preview
from .data_stats import stats
from .options import finite
from .say import say

group = typer.Typer(no_args_is_help=True, help="Make and look at corpora.")
group.command("prepare")(data_prepare.prepare)
group.command("pack")(data_prepare.pack)
group.command("verify")(data_prepare.verify)
group.command("annotations")(data_annotations.show_annotations)
group.add_typer(data_import.group, name="import")


@group.command("synth")
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    minutes: Annotated[float, typer.Option(min=0.2, callback=finite, help="Length of the corpus in minutes.")] = 40.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    accelerometer: Annotated[
        bool,
        typer.Option(
            "--accelerometer",
            help="With what one on the collar would have recorded, in streams/, and digging that sounds as eating.",
        ),
    ] = False,
) -> None:
    """Make a synthetic corpus in MeerKAT's layout. A stand-in: results on it say nothing about real recordings."""
    from a2v_data.synth import synthesise

    from ..basics.progress import advancing, bar

    try:
        with bar("synthesising", 0, "segments") as shown:
            synthesise(out, minutes, seed, advancing(shown), accelerometer)
    except KeyboardInterrupt:
        raise UserError(f"stopped; nothing was written to {out}", INTERRUPTED) from None
    say(f"{out}: {minutes:g} minutes, seed {seed}")


group.command("check")(check)
group.command("folds")(folds)
group.command("stats")(stats)
group.command("preview")(preview)
