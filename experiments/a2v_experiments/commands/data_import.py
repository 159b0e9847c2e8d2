"""`a2v data import`: published corpora, from their archives to a folder that `a2v data prepare` takes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .say import say, say_text

if TYPE_CHECKING:
    from a2v_data.importers.result import Imported

group = typer.Typer(no_args_is_help=True, help="Make a source folder from a published corpus.")
SHOWN = 20


class Quality(StrEnum):
    A = "A"
    B = "B"
    C = "C"
    D = "D"
    E = "E"


Out = Annotated[Path, typer.Option("--out", help="Folder to make: audio/, annotations.csv, README.md.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON only.")]


@group.command("nips4bplus")
def nips4bplus(
    archives: Annotated[
        list[Path], typer.Argument(help="The challenge's audio (tar.gz) and the annotations (zip), or their folders.")
    ],
    out: Out,
    keep_unknown: Annotated[
        bool, typer.Option("--keep-unknown", help="Keep Unknown and Human, which are none of the 87 classes.")
    ] = False,
    challenge_test: Annotated[
        bool, typer.Option("--challenge-test", help="Take in the 1000 test recordings, for pretraining only.")
    ] = False,
    json: Json = False,
) -> None:
    """NIPS4Bplus: bird song with onsets and offsets; 687 recordings of 5 s, most of them annotated."""
    from a2v_data.importers.nips4bplus import Nips4bplusConfig, import_nips4bplus

    from ..basics.progress import advancing, bar

    config = Nips4bplusConfig(keep_unknown=keep_unknown, challenge_test=challenge_test)
    with bar("importing", 0, "files") as shown:
        found = import_nips4bplus(archives, out, config, progress=advancing(shown))
    _end(found, json)


@group.command("xeno-canto")
def xeno_canto(
    folder: Annotated[Path, typer.Argument(help="Downloaded recordings (XC123456.mp3) and the API's JSON files.")],
    out: Out,
    quality: Annotated[
        list[Quality] | None, typer.Option("--quality", help="Ratings to keep, may be repeated; default: all.")
    ] = None,
    no_derivatives: Annotated[
        bool, typer.Option("--nd/--no-nd", help="Take in recordings whose licence allows no derived works.")
    ] = True,
    exclude: Annotated[
        list[Path] | None, typer.Option("--exclude", help="A folder whose recordings must not come in; repeatable.")
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies.")] = False,
    json: Json = False,
) -> None:
    """xeno-canto: recordings for pretraining, with recordists and licences in recordings.csv."""
    from a2v_data.importers.xeno_canto import XenoCantoConfig, import_xeno_canto

    from ..basics.progress import advancing, bar

    ratings = [rating.value for rating in quality] if quality else None
    config = XenoCantoConfig.model_validate(
        {"quality": ratings, "no_derivatives": no_derivatives, "exclude": exclude or [], "link": link}
    )
    with bar("importing", 0, "recordings") as shown:
        found = import_xeno_canto(folder, out, config, progress=advancing(shown))
    _end(found, json)


def _end(found: Imported, json: bool) -> None:
    """Say what there is now; exit code 1 where something was left out."""
    if json:
        from json import dumps

        say_text(dumps(_as_json(found), indent=2, ensure_ascii=False))
    else:
        say(f"{found.folder}: {found.recordings} recordings ({found.seconds / 3600:.2f} h)")
        if found.labelled:
            say(f"{found.labelled} of them labelled, with {found.events} events")
        for title, lines in (("notices", found.notices), ("left out", found.problems)):
            if lines:
                say("", f"{title}:")
            for line in lines[:SHOWN]:
                say(f"  {line}")
            if len(lines) > SHOWN:
                say(f"  ... and {len(lines) - SHOWN} more (README.md in the folder lists all)")
    if found.problems:
        raise typer.Exit(1)


def _as_json(found: Imported) -> dict[str, Any]:
    return {
        "folder": str(found.folder),
        "recordings": found.recordings,
        "hours": found.seconds / 3600,
        "labelled": found.labelled,
        "events": found.events,
        "notices": found.notices,
        "problems": found.problems,
    }
