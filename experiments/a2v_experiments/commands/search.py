"""`a2v search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..basics.errors import INTERRUPTED, UserError
from .options import AllowPlugins, Json, Tracking, check_new
from .say import say, say_text


def search(
    clip: Annotated[str, typer.Argument(help="An audio file, or FILE@START-END (seconds) of one of the recordings.")],
    calls: Annotated[
        Path, typer.Option("--in", help="Folder of `a2v predict`, or a table of events: its recordings are searched.")
    ],
    recordings: Annotated[
        Path | None, typer.Option(help="Where the recordings lie; needed with a table, or where they were moved.")
    ] = None,
    start: Annotated[float | None, typer.Option(min=0, help="Of the call in CLIP, s. Default: its start.")] = None,
    end: Annotated[float | None, typer.Option(min=0, help="Of the call in CLIP, s. Default: its end.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many stretches to list.")] = 20,
    model: Annotated[
        str | None,
        typer.Option(
            help="Any model, pretrained ones too: its folder, runs:/RUN_ID or models:/NAME/VERSION. Default: the one"
            " used last here, or that of the calls."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New table of what was found, for `a2v review`.")] = None,
    label: Annotated[str | None, typer.Option(help="Its class in that table. Default: the clip's name.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Default: one for each core, or 4 for a GPU.")] = None,
    tracking_uri: Tracking = None,
    allow_plugins: AllowPlugins = False,
    as_json: Json = False,
) -> None:
    """List the stretches of recordings that sound most like a clip: a first handful of calls, without any label.

    The model hears all recordings once; what it hears is kept beside the calls, so that later searches take seconds.
    """
    from dataclasses import asdict
    from json import dumps

    from ..basics.places import command
    from ..basics.progress import hours_bar
    from ..review.calls import open_calls
    from ..review.search import as_text, folder_of, read_query, write_found
    from ..review.search import search as run_search

    if out is not None:
        check_new(out)
    opened = open_calls(calls, recordings)
    query = read_query(clip, start, end, opened)
    name = label if label is not None else query.name
    if not name.strip() or any(character in name for character in "\n\r\t\0"):
        raise UserError("--label: is empty or holds a tab or a line break; should be a class")
    try:
        with hours_bar("hearing") as shown:
            found, left_out = run_search(opened, query, top, shown, model, processes, tracking_uri)
    except KeyboardInterrupt:
        raise UserError("stopped; the same command goes on with what is not done", INTERRUPTED) from None
    if out is not None:
        write_found(out, found, name)
    if as_json:
        say_text(dumps({"found": [asdict(one) for one in found], "left_out": left_out}, ensure_ascii=False, indent=1))
        return
    say_text(as_text(found))
    for file, why in {**opened.left_out, **left_out}.items():
        say(f"not searched: {file}: {why}")
    if query.bare:
        say(
            "a call without its surroundings is heard otherwise: more is found with a clip that has a second around it,"
        )
        say("and --start and --end of the call in it")
    if out is None:
        say("similarity: cosine, 1 is the same; --out TABLE.csv keeps these, to look at them with a2v review")
    else:
        say(f"{out}: these as {name}; look at them:")
        say(f"  {command('review', out, '--recordings', recordings or folder_of(opened))}")
