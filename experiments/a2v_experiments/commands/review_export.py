"""`a2v review export`: what was decided becomes a folder that a recipe trains on."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .annotation_options import table_options
from .options import Json
from .say import say, say_text

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig

    from ..review.export import Exported


class TableChoice(StrEnum):
    """Programs that tables are written for."""

    raven = "raven"
    audacity = "audacity"


@table_options("old", "with-", of="Tables of --with: ", without=["weak"])
def export(
    calls: Annotated[Path, typer.Argument(help="Folder of `a2v predict`, or a table, that was reviewed.")],
    out: Annotated[Path, typer.Option(help="Folder to make: links to the recordings, labels, regions.")],
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of the recordings: needed with a table, or where they were moved.")
    ] = None,
    formats: Annotated[
        list[TableChoice] | None, typer.Option("--format", help="Tables beside annotations.csv; may be repeated.")
    ] = None,
    old_source: Annotated[
        Path | None,
        typer.Option("--with", help="An annotated folder to unite with: what was reviewed replaces its labels there."),
    ] = None,
    as_json: Json = False,
    *,
    old: AnnotationConfig,
) -> None:
    """Write what was decided in a review as a folder of recordings and labels, for `--set data.source=FOLDER`.

    Only what was looked at counts: clips in full (regions.csv), else the decided events. Unsure ones and predictions
    that nobody decided on are neither learned nor scored. Nothing is copied; recordings are linked.
    """
    from json import dumps

    from ..review.calls import open_calls
    from ..review.export import export as write

    opened = open_calls(calls, recordings)
    done = write(opened, out, [one.value for one in formats or ()], old_source, old)
    following = list(_next_steps(done))
    if as_json:
        result = {
            **done.record, "folder": str(done.folder), "recordings": done.recordings, "classes": done.classes,
            "old_labels_kept": done.kept, "old_labels_replaced": done.replaced, "notices": done.notices,
            "next": following,
        }  # fmt: skip
        say_text(dumps(result, indent=1, ensure_ascii=False))
        return
    for line in [*_summary(done, old_source), *(f"note: {line}" for line in done.notices)]:
        say(line)
    say("", "next:")
    for line in following:
        say(f"  {line}")


def _summary(done: Exported, old_source: Path | None) -> Iterator[str]:
    said = done.record
    counts = ", ".join(f"{said[name]} {name}" for name in ("right", "other", "wrong", "unsure"))
    yield f"{done.folder}: {done.recordings} recordings, {said['reviewed_minutes']:.1f} min reviewed in full"
    yield f"{said['decisions']} decisions: {counts} ({said['drawn']} of them drawn), {said['seen']} stretches seen"
    yield f"labels: {said['labels']} ({', '.join(f'{n} {name}' for name, n in done.classes.items()) or 'none'})"
    if old_source is not None:
        yield f"{done.kept} old labels kept, {done.replaced} replaced"


def _next_steps(done: Exported) -> Iterator[str]:
    """Calls that can be pasted, with the channel that was heard and the model that found the calls."""
    from ..basics.places import command
    from ..models import is_uri, split_name

    channel, model = done.record["channel"], done.record["model"]
    yield command("data", "annotations", done.folder, *(() if channel == 0 else ("--channel", channel)))
    yield command("experiment", "suggest", done.folder)
    sets = [f"data.source={done.folder}"]
    sets += [] if channel == 0 else [f"data.channel={channel}"]
    named, _ = split_name(model)
    sets += [f"finetune.start={named if is_uri(named) else 'MODEL'}"] if model else []
    yield command("experiment", "run", "RECIPE", *(part for one in sets for part in ("--set", one)))
