"""`a2v bench review`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..basics.errors import INTERRUPTED, UserError
from .options import Json, Override, finite
from .say import say, say_text


def review(
    folder: Annotated[Path, typer.Argument(help="Recordings, annotations, and splits.csv (file,split).")],
    out: Annotated[Path, typer.Option(help="New folder for rounds.jsonl (as it goes), .csv, .png.")],
    recipe: Annotated[str, typer.Option(help="A recipe file, or the name of a bundled one: all settings.")] = (
        "few_calls"
    ),
    rounds: Annotated[int, typer.Option(min=1, help="Rounds after the first clips.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, help="Of the first clips and trainings: 0, 1, ...")] = 3,
    first: Annotated[int, typer.Option(min=1, help="Random clips of round 0, the same for all.")] = 8,
    clips: Annotated[int, typer.Option(min=1, help="Clips of each other round.")] = 8,
    clip_s: Annotated[float, typer.Option(min=0.1, callback=finite, help="Seconds of a clip.")] = 3.0,
    updates: Annotated[int, typer.Option(min=1, help="Of each training.")] = 200,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train from random weights in each round; else on from the round before.")
    ] = False,
    arm: Annotated[
        list[str] | None, typer.Option(help="random, suggested, calls, uncertain; repeatable. Default: the first two.")
    ] = None,
    set_: Override = None,
    as_json: Json = False,
) -> None:
    """Simulate a review with the labels as reviewer: are suggested clips worth more than clips at random?

    splits.csv says which recordings are train and test (valid is left alone). In each round some clips of train are
    looked at in full, a detector is trained on all clips so far, and scored on test.
    """
    arms = arm or ["random", "suggested"]
    from ..bench.review_rules import RULES
    from ..review.rehearsal import suggested

    rules = {**RULES, "suggested": suggested}
    for name in arms:
        if name not in rules:
            raise UserError(f"--arm {name}: must be one of {', '.join(rules)}")
    from a2v_data.storage import refuse_existing, write_text_aside
    from a2v_eval.figures import review_figure, save

    from ..bench.review import Looked, Rounds, measure_rounds
    from ..bench.review_report import curves_of, table_csv, text_of, worth

    refuse_existing(out)
    found: list[Looked] = []

    def done(looked: Looked) -> None:
        found.append(looked)
        out.mkdir(parents=True, exist_ok=True)
        with (out / "rounds.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(looked)) + "\n")
        ap = "undefined" if looked.ap is None else f"{looked.ap:.3f}"
        say(
            f"{looked.arm} seed {looked.seed} round {looked.round}: {looked.clips} clips, {looked.labels} labels,"
            f" strict AP on test {ap}, {looked.cpu_s:.0f} CPU-s",
            err=True,
        )

    settings = Rounds(clip_s, first, clips, rounds, updates, not fresh)
    try:
        measure_rounds(folder, recipe, set_ or [], settings, {name: rules[name] for name in arms}, range(seeds), done)
    except KeyboardInterrupt:
        raise UserError(f"stopped; what was measured is in {out / 'rounds.jsonl'}", INTERRUPTED) from None
    save(review_figure(curves_of(found)), out / "rounds.png")
    write_text_aside(out / "rounds.csv", table_csv(found))
    if as_json:
        say_text(
            json.dumps({"settings": asdict(settings), "rows": [asdict(one) for one in found], "worth": worth(found)})
        )
    else:
        say_text(text_of(found))
