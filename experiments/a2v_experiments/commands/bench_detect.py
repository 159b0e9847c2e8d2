"""`a2v bench detect`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..basics.errors import INTERRUPTED, UserError
from ..basics.places import DEFAULT_WORK, pasted
from .options import Json, Override, Tracking, Work, finite
from .say import say, say_text


def detect(
    folder: Annotated[Path, typer.Argument(help="Recordings, annotations, and splits.csv (file,split).")],
    cpu_seconds: Annotated[
        float, typer.Option(min=0.1, callback=finite, help="Of the processor, for each training.")
    ] = 150.0,
    recipe: Annotated[str, typer.Option(help="A recipe file, or the name of a bundled one: all settings.")] = (
        "few_calls"
    ),
    preset: Annotated[str | None, typer.Option(help="This project's model; default: the recipe's own.")] = None,
    peer: Annotated[str, typer.Option(help="Preset of the model beside it.")] = "crnn",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each, with seeds 0, 1, ...")] = 1,
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of the labelled train recordings.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of that share.")] = 0,
    pretrain_updates: Annotated[
        int | None, typer.Option(min=1, help="Pretrain this project's model on train, within the budget.")
    ] = None,
    pretrain_share: Annotated[
        float | None, typer.Option(min=0.01, max=0.9, help="The same, for this share of the budget.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Pretrained model that this project's starts from; its cost is not counted.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="AP on valid against processor time: png, pdf, svg.")] = None,
    set_: Override = None,
    peer_set: Annotated[list[str] | None, typer.Option("--peer-set", help="Override a key of the peer.")] = None,
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
    as_json: Json = False,
) -> None:
    """Train this project's detector and a supervised one for the same processor time; score both on test.

    splits.csv says which recordings to train on, to choose on (weights and event settings) and to score. Both have the
    same recipe; --set changes both, but for what belongs to a model, which changes this project's. Tracked in MLflow,
    experiment bench-detect.
    """
    if not 0 < share <= 1:
        raise UserError(f"--share {share:g}: must be above 0 and at most 1")
    _check_figure(figure)
    if backbone is not None and (pretrain_updates is not None or pretrain_share is not None):
        raise UserError("--backbone: is pretrained already; leave --pretrain-updates and --pretrain-share out")
    from a2v_model import PRESETS

    for option, name in (("--preset", preset), ("--peer", peer)):
        if name is not None and name not in PRESETS:
            raise UserError(f"{option} {name}: must be one of {', '.join(PRESETS)}")
    from ..bench.detect import EXPERIMENT, Bench, check, curves_of, measure_detectors
    from ..bench.detect_recipe import Asked
    from ..bench.detect_report import text_of
    from ..bench.detect_training import Budget
    from ..store.tracking import open_store

    pretrained = pretrain_updates is not None or pretrain_share is not None
    asked = Asked(recipe, preset, peer, share, backbone, pretrained, set_ or [], peer_set or [])
    budget = Budget(cpu_seconds, pretrain_updates, pretrain_share)
    checked = check(Bench(folder, asked, budget, range(seeds), seed, pasted(["a2v", *sys.argv[1:]])))
    store = open_store(work, tracking_uri, EXPERIMENT)
    try:
        found = measure_detectors(checked, work, store, lambda line: say(line, err=True))
    except KeyboardInterrupt:
        raise UserError("stopped; a measurement begins anew", INTERRUPTED) from None
    if figure is not None:
        from a2v_eval.figures import save

        save(curves_of(found), figure)
    say_text(json.dumps(found, indent=1, allow_nan=False) if as_json else text_of(found))


def _check_figure(path: Path | None) -> None:
    if path is not None and path.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"--figure {path}: must end in .png, .pdf or .svg")
