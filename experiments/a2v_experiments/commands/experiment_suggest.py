"""`a2v experiment suggest`: a recipe for a folder of recordings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..basics.errors import UserError
from ..basics.places import command, pasted
from .annotation_options import table_options
from .options import Json
from .say import say, say_text

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig

    from ..recipe.files import Recipe
    from ..stages.advice import Advice
    from ..suggest.facts import CorpusFacts
    from ..suggest.suggest import Suggestion

SHOWN_PROBLEMS = 5
SUFFIXES = (".yaml", ".yml")


@table_options()
def suggest(
    folder: Annotated[Path, typer.Argument(help="Recordings with their annotations, as `data check` takes them.")],
    minutes: Annotated[float, typer.Option(min=1, help="That `run` may take, by the speed of this machine.")] = 20,
    out: Annotated[Path | None, typer.Option(help="The recipe, a new file; default: NAME_OF_FOLDER.yaml here.")] = None,
    as_json: Json = False,
    *,
    annotations: AnnotationConfig,
) -> None:
    """Write a recipe for a folder of recordings, with the reason for every value. Trains nothing.

    It reads headers and annotations, and times a few training steps here.
    """
    from ..suggest.facts import read_facts
    from ..suggest.suggest import FEW, MANY, recipe_name
    from ..suggest.suggest import suggest as suggestion_for
    from ..suggest.text import to_yaml

    out = out or Path(f"{recipe_name(folder.resolve().name)}.yaml")
    _check_new(out)
    facts = read_facts(folder, annotations=annotations)
    from ..recipe.files import load_recipe, read_recipe
    from ..stages.advice import advice_before
    from ..suggest.budget import updates_for, within_labels

    bases = {name: load_recipe(name) for name in (MANY, FEW)}
    untimed = suggestion_for(facts, bases, minutes)
    parent = read_recipe(untimed.extends.value).tree
    timed = _resolved(untimed, parent, out)
    fits = updates_for(minutes, timed, lambda line: say(f"  {line}", err=True))
    fits = within_labels(fits, timed, Path())
    found = suggestion_for(facts, bases, minutes, fits)
    recipe = _resolved(found, parent, out)
    advice = advice_before(recipe, Path(), None, fits["finetune"].update_s)
    steps = tuple(("experiment", verb, out) for verb in ("plan", "run"))
    text = to_yaml(found, tuple(pasted(["a2v", *step]) for step in steps)).encode()
    with out.open("xb") as file:
        file.write(text)
    if as_json:
        say_text(json.dumps(_plain(found, facts, advice, out), indent=1, ensure_ascii=False))
        return
    _report(found, facts, advice, out, steps)


def _check_new(out: Path) -> None:
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out {out}: a recipe is a YAML file; end its name in .yaml")
    if out.exists():
        raise UserError(f"{out}: exists already, and is left as it is; name another file with --out")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: {out.parent}: no such folder")


def _resolved(found: Suggestion, parent: dict[str, Any], out: Path) -> Recipe:
    """The recipe that the file will load as."""
    from ..recipe.files import RecipeFile, merge

    return RecipeFile(out.name, merge(parent, found.tree)).resolve()


def _report(
    found: Suggestion, facts: CorpusFacts, advice: Advice, out: Path, steps: Sequence[Sequence[object]]
) -> None:
    for problem in facts.problems[:SHOWN_PROBLEMS]:
        say(f"left out: {problem}", err=True)
    if len(facts.problems) > SHOWN_PROBLEMS:
        say(f"... and {len(facts.problems) - SHOWN_PROBLEMS} more; `a2v data stats` lists them", err=True)
    for line in facts.notices:
        say(f"note: {line}", err=True)
    for line in found.head:
        say(line)
    say("", f"{found.extends.value}: {found.extends.why}")
    for line in advice.lines:
        say(line)
    for line in advice.warnings:
        say(f"a2v: {line}", err=True)
    say("", f"{out}: the recipe, with the reason for every value; next:")
    for step in steps:
        say(f"  {command(*step)}")


def _plain(found: Suggestion, facts: CorpusFacts, advice: Advice, out: Path) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "recipe": str(out),
        "extends": found.extends.value,
        "settings": [asdict(setting) for setting in (found.extends, *found.settings)],
        "corpus": {
            "folder": facts.folder,
            "recordings": len(facts.recordings),
            "labelled_recordings": len(facts.labelled),
            "seconds": sum(one.seconds for one in facts.recordings),
            "labelled_seconds": sum(one.seconds for one in facts.labelled),
            "sample_rates": sorted({one.rate for one in facts.recordings}),
            "called_share": facts.called_share,
            "calls": facts.calls,
            "lengths": asdict(facts.lengths),
            "classes": {name: asdict(one) for name, one in facts.classes.items()},
            "left_out": list(facts.problems),
            "notices": list(facts.notices),
        },
        "advice": list(advice.lines),
        "warnings": list(advice.warnings),
    }
