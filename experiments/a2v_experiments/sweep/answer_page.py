"""`sweep.html`: a sweep's answer as a page that needs nothing but itself, and what is logged of it in MLflow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from a2v_eval.effects import Compared, Effect
from a2v_eval.events import Protocol
from a2v_eval.summary import STRICT_FIRST, metric_name

from ..recipe.sections import Recipe
from ..stages.stage import Context
from ..store import links
from ..store.logged_models import local_place
from ..store.lookup import share_prefix
from ..store.names import unique_names
from ..store.tags import ANSWER, CHOSEN_BY, COMMIT, DIRTY
from ..store.tracking import Store, flatten
from .answer import Answer, to_json, told
from .answer_text import answer_lines, difference, metric_title, number, p_text, to_text, worth
from .rows import Row
from .trials import short_names

PAGE, TEMPLATE = "sweep.html", "sweep.html.j2"
MOST_BARS = 40  # trials beside the best one in the figure
LONGEST_TAG = 5000
TICKS = 4
RUN = "RUN"  # in a link, in place of an id


@dataclass(frozen=True)
class Bar:
    """A row of the forest plot: a difference with its interval. Places are in percent of the axis; None: not known."""

    label: str
    difference: str
    p: str
    tie: bool
    at: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Plot:
    """Rows on one axis. zero: place of no difference; ticks: place -> text."""

    title: str
    bars: list[Bar]
    zero: float
    ticks: list[tuple[float, str]]


def log_answer(context: Context, answer: Answer, rows: Sequence[Row]) -> None:
    """answer.txt, answer.json and sweep.html on the sweep's run, its tag in words, and what each value does to the
    score, against the mean of the others, as the metric effect/KEY/VALUE."""
    store, run_id = context.store, context.parent
    store.log_text(run_id, to_text(answer) + "\n", "answer.txt")
    store.log_json(run_id, to_json(answer), "answer.json")
    tags = store.run(run_id).data.tags
    commit = (tags.get(COMMIT), tags.get(DIRTY) == "true")
    address, _ = links.ui_address(context.work, store.uri)
    run_url = links.run_link(address, store.experiment_id, RUN)
    page = page_html(context.recipe, answer, rows, run_id, run_url, commit)
    store.log_text(run_id, page, PAGE)
    store.tag(run_id, CHOSEN_BY, answer.chosen_by)
    store.tag(run_id, ANSWER, "\n".join(answer_lines(answer))[:LONGEST_TAG])
    store.log_metrics(run_id, effect_metrics(answer))


def page_of(store: Store, run_id: str) -> str:
    """Where a sweep's page is: its file on this machine's disk, or what to open in MLflow."""
    place = local_place(store.client, run_id, PAGE)
    return str(place) if place is not None else f"{PAGE} among the artifacts of run {run_id}"


def effect_metrics(answer: Answer) -> dict[str, float]:
    """effect/KEY/VALUE: the value's score minus the mean of the other values', in the same combinations."""
    found = {
        f"effect/{one.key}/{told(value.value).replace('/', '_')}": value.effect.difference
        for one in answer.parameters
        for value in one.values
        if value.effect is not None
    }
    names = unique_names(found)
    return {names[name]: value for name, value in found.items()}


def page_html(
    recipe: Recipe,
    answer: Answer,
    rows: Sequence[Row],
    run_id: str,
    run_url: str,
    commit: tuple[str | None, bool],
) -> str:
    """The page. run_url: of a run's page in MLflow, with RUN for its id; commit: and whether there were changes
    that were not committed."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    lines = answer_lines(answer)
    text: str = environment.get_template(TEMPLATE).render(
        name=recipe.name,
        variant=recipe.variant,
        now=f"{datetime.now():%Y-%m-%d %H:%M}",
        metric=metric_title(answer.metric),
        lines=[line.partition(": ") for line in lines],
        worth=worth(answer),
        plots=plots(answer),
        unpaired=answer.unpaired,
        variants=bool(recipe.sweep and recipe.sweep.variants),
        header=_header(answer, recipe, rows),
        trials=[_trial(answer, recipe, row, rows) for row in rows],
        lost=[row for row in rows if row.status != "finished"],
        run_id=run_id,
        run_url=lambda of: run_url.replace(RUN, of),
        commit=commit[0],
        dirty=commit[1],
        recipe=flatten(recipe.model_dump(mode="json", exclude={"sweep": True}, exclude_defaults=True)),
        swept=_swept(recipe),
    )
    # a name that is not UTF-8 stands among what failed
    return text.encode("utf-8", "replace").decode("utf-8")


def plots(answer: Answer) -> list[Plot]:
    """Each parameter's best value against its others, then the best trial against the others, each on its own axis."""
    keys = short_names(one.key for one in answer.parameters)
    found = []
    for one in answer.parameters:
        best = told(one.values[0].value)
        pairs = {f"{best} over {told(one.values[pair.second].value)}": pair for pair in one.of_best}
        many = f"{one.combinations} combinations of all else" if one.combinations > 1 else "all else equal"
        found.append(_plot(f"{keys[one.key]}, {many}", pairs))
    if answer.best is not None and answer.rest:
        ranked = sorted(answer.rest, key=lambda pair: -answer.means[pair.second])
        left = f" (the nearest {MOST_BARS} of {len(ranked)})" if len(ranked) > MOST_BARS else ""
        pairs = {f"over {answer.names[pair.second]}": pair for pair in ranked[:MOST_BARS]}
        found.append(_plot(f"the best trial, {answer.names[answer.best]}{left}", pairs))
    return [plot for plot in found if plot.bars]


def _plot(title: str, pairs: Mapping[str, Compared]) -> Plot:
    ends = [0.0, *(end for pair in pairs.values() for end in _ends(pair.effect))]
    low, high = min(ends), max(ends)
    room = 0.04 * (high - low or 1.0)
    low, high = low - room, high + room

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    bars = [
        Bar(
            label,
            difference(pair.effect),
            p_text(pair.p) if pair.p is not None else pair.effect.note,
            pair.tie,
            place(pair.effect.difference),
            None if pair.effect.low is None else place(pair.effect.low),
            None if pair.effect.high is None else place(pair.effect.high),
        )
        for label, pair in pairs.items()
    ]
    return Plot(title, bars, place(0.0), [(place(tick), text) for tick, text in _ticks(low, high)])


def _ends(effect: Effect) -> list[float]:
    return [end for end in (effect.low, effect.high, effect.difference) if end is not None]


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Round numbers on an axis, 0 among them where it is on it."""
    rough = (high - low) / TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = size * next(times for times in (1, 2, 5, 10) if times * size >= rough)
    digits = max(0, -math.floor(math.log10(step)))
    first, last = math.ceil(low / step), math.floor(high / step)
    return [(count * step, number(count * step, digits) if count else "0") for count in range(first, last + 1)]


def _swept(recipe: Recipe) -> dict[str, str]:
    """What is swept: key -> its values."""
    sweep = recipe.sweep
    assert sweep is not None
    if sweep.variants:
        return {name: ", ".join(f"{key}={told(value)}" for key, value in changes.items()) or "the recipe as it is"
                for name, changes in sweep.variants.items()}  # fmt: skip
    return {
        key: ", ".join(map(told, choice))
        if isinstance(choice, list)
        else f"{told(choice.ends[0])} to {told(choice.ends[1])}{', logarithmic' if choice.log else ''}"
        for key, choice in sweep.parameters.items()
    }


def _header(answer: Answer, recipe: Recipe, rows: Sequence[Row]) -> list[str]:
    """Columns of the trials' table, after the trial's name."""
    assert recipe.sweep is not None
    chosen = [f"{metric_title(answer.chosen_by)} (chosen by)"] if answer.on_validation else []
    return [*short_names(recipe.sweep.parameters).values(), *chosen, *_metrics(answer, recipe, rows).values(), "folds"]


def _metrics(answer: Answer, recipe: Recipe, rows: Sequence[Row]) -> dict[str, str]:
    """Metric -> how its column is headed: that of the answer, and AP of both protocols, where a trial has it."""
    shares = recipe.folds.label_shares
    names = [answer.metric, *(metric_name(protocol, "AP", "micro") for protocol in STRICT_FIRST)]
    paper: dict[str, Protocol] = {metric_name("paper", "AP", "micro"): "paper"}
    return {name: f"{metric_title(name)}{f' {paper[name]}' if name in paper else ''}" 
        for name in dict.fromkeys(names)
        if name == answer.metric or any(row.score(name, shares) is not None for row in rows)
    }  # fmt: skip


def _trial(answer: Answer, recipe: Recipe, row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """A row of the table: cells as text and by what they are sorted."""
    assert recipe.sweep is not None
    shares = recipe.folds.label_shares
    cells: list[tuple[str, Any]] = [
        (told(row.parameters[key]), row.parameters[key]) if key in row.parameters else ("", "")
        for key in recipe.sweep.parameters
    ]
    if answer.on_validation:
        cells.append(_score(row, answer.chosen_by, shares))
    cells += [_score(row, metric, shares) for metric in _metrics(answer, recipe, rows)]
    cells.append((str(row.folds), row.folds))
    return {"name": row.name, "run_id": row.run_id, "status": _mark(answer, row), "cells": cells}


def _mark(answer: Answer, row: Row) -> str:
    """Best, tied with it, worse or better on the folds, or not compared; of trials that do not count their status."""
    if answer.best is None or row.name not in answer.names:
        return row.status
    if row.name == answer.names[answer.best]:
        return "best"
    if row.name in answer.apart:
        return "not compared"
    if row.name in answer.tied:
        return "tied"
    return "better" if any(one.lost and answer.names[one.second] == row.name for one in answer.rest) else "worse"


def _score(row: Row, metric: str, shares: list[float]) -> tuple[str, float | str]:
    """Mean over folds and label shares, with the deviation over folds where there is one share."""
    mean = row.score(metric, shares)
    if mean is None:
        return "–", ""
    std = row.metrics.get(f"{share_prefix(shares[0], len(shares))}{metric}_std") if len(shares) == 1 else None
    return (number(mean, 3) if std is None else f"{number(mean, 3)} ± {number(std, 3)}"), mean
