"""`a2v experiment run`: the whole graph for one recipe, under one parent run, ending with a table over folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from a2v_data.sources import source_fingerprint
from a2v_eval.comparison import compare_folds, comparison_csv, comparison_text
from a2v_eval.events import PROTOCOLS
from a2v_eval.label_shares import share_csv, share_rows, share_text
from a2v_eval.summary import Spread, csv_table, metric_name, summarise, text_table

from . import stages
from .figures import log_experiment
from .fingerprint import fingerprint
from .recipe import Recipe
from .stage import Context, Result, begin_alone, ending
from .tracking import Store


@dataclass(frozen=True)
class Outcome:
    """An experiment's end: its parent run, the scores of each (label share, fold) and the table over folds."""

    run_id: str
    scores: dict[float, list[dict[str, float]]]
    table: str


def run_experiment(recipe: Recipe, work: Path, store: Store, say: Callable[[str], None]) -> Outcome:
    """Run or reuse every stage; returns when the parent run holds the summary. say(line) tells what happens."""
    source = stages.source_folder(recipe, work)  # before a run is made
    origin = source_fingerprint(source, work / "content-hashes.json", recipe.data.annotations)
    config = recipe.model_dump(mode="json", exclude={"ray"})
    mark = fingerprint("experiment", config, origin)
    found = store.find("experiment", mark)
    tags = {"variant": recipe.variant}
    if found:
        parent = str(found.info.run_id)
    else:
        parent = begin_alone(lambda: store.begin("experiment", mark, recipe.name, config, tags, None), say)
    context = Context(recipe, store, work, parent, say)
    if found:
        return _whole(context, source, origin, finished=True)
    with ending(store, parent):
        return _whole(context, source, origin, finished=False)


def _whole(context: Context, source: Path, origin: str, finished: bool) -> Outcome:
    recipe, store, parent = context.recipe, context.store, context.parent
    data, corpus = stages.prepare(context, source, origin)
    split, folds = stages.make_folds(context, data, corpus)
    pretrained = stages.pretrain(context, corpus)
    results: dict[float, list[Result]] = {}
    for share in recipe.folds.label_shares:
        for fold in recipe.folds.selected:
            done = stages.finetune(context, corpus, (data, split, pretrained), folds, fold, share)
            results.setdefault(share, []).append(done)
    scores = {share: [_scores(store, result.run_id) for result in by_fold] for share, by_fold in results.items()}
    reused = finished and all(result.reused for by_fold in results.values() for result in by_fold)
    if not reused:
        _summarise(context, scores)
        runs = {share: [result.run_id for result in by_fold] for share, by_fold in results.items()}
        log_experiment(context, runs)
        store.log_json(parent, {f"{share:g}": run_ids for share, run_ids in runs.items()}, "finetune_runs.json")
    else:
        context.say(f"summary: reused, run {parent}")
    tables = [_titled_table(share, metrics) for share, metrics in scores.items()]
    if len(scores) > 1:
        tables.append(_share_tables(scores))
    return Outcome(parent, scores, "\n\n".join(tables))


def _scores(store: Store, run_id: str) -> dict[str, float]:
    metrics = store.client.get_run(run_id).data.metrics
    return {name: value for name, value in metrics.items() if "/" in name and not name.startswith("system/")}


def _titled_table(share: float, folds: list[dict[str, float]]) -> str:
    return f"{share:.0%} of the labels\n{text_table(_summaries(folds), class_names(folds))}"


def _share_tables(scores: dict[float, list[dict[str, float]]]) -> str:
    """Class x label share, under both protocols."""
    summaries = {share: summarise(folds) for share, folds in scores.items()}
    return "\n\n".join(share_text(summaries, _all_classes(scores), protocol) for protocol in PROTOCOLS)


def _all_classes(scores: dict[float, list[dict[str, float]]]) -> list[str]:
    """Classes that any fold of any share has a score for."""
    return class_names([fold for folds in scores.values() for fold in folds])


def _summaries(folds: list[dict[str, float]]) -> dict[str, dict[str, Spread]]:
    return {name: summarise(metrics) for name, metrics in _beside_energy(folds).items()}


def _beside_energy(folds: list[dict[str, float]]) -> dict[str, list[dict[str, float]]]:
    """The model's scores, and those of the energy threshold under the same names."""
    model = [{key: value for key, value in fold.items() if not key.startswith("energy/")} for fold in folds]
    prefix = "energy/"
    energy = [
        {key.removeprefix(prefix): value for key, value in fold.items() if key.startswith(prefix)} for fold in folds
    ]
    return {"model": model, "energy": energy}


def class_names(folds: list[dict[str, float]]) -> list[str]:
    """Classes that at least one fold has a score for, in the order of the metrics' names."""
    found = dict.fromkeys(key.removeprefix("AP/") for fold in folds for key in fold if key.startswith("AP/"))
    return [name for name in found if name not in ("micro", "macro")]


def _summarise(context: Context, scores: dict[float, list[dict[str, float]]]) -> None:
    """Means and standard deviations as metrics of the parent, the table as text, and the figure."""
    from a2v_eval.figures import ap_per_class_figure

    store, parent = context.store, context.parent
    for share, folds in scores.items():
        prefix = "" if len(scores) == 1 else f"labels_{share:g}/"
        store.log_metrics(parent, {f"{prefix}{key}": value for key, value in summary_metrics(folds).items()})
        store.client.log_text(parent, _titled_table(share, folds), f"{prefix}scores.txt")
        store.client.log_text(parent, csv_table(_summaries(folds), class_names(folds)), f"{prefix}scores.csv")
        for protocol in PROTOCOLS:
            figure = ap_per_class_figure(_beside_energy(folds), class_names(folds), protocol)
            store.log_figure(parent, figure, f"{prefix}ap_per_class_{protocol}.png")
        _compare_with_energy(context, folds, prefix)
    if len(scores) > 1:
        summaries, classes = {share: summarise(folds) for share, folds in scores.items()}, _all_classes(scores)
        store.client.log_text(parent, _share_tables(scores), "label_shares.txt")
        store.client.log_text(parent, share_csv(summaries, classes), "label_shares.csv")
        store.log_json(parent, share_rows(summaries, classes), "label_shares.json")


def _compare_with_energy(context: Context, folds: list[dict[str, float]], prefix: str) -> None:
    """Paired tests of the model against the energy threshold, where there are folds enough for one."""
    model, energy = _beside_energy(folds).values()
    metrics = [
        metric_name(protocol, "AP", name) for protocol in PROTOCOLS for name in ("micro", "macro", *class_names(folds))
    ]
    tests = compare_folds(model, energy, metrics, context.recipe.folds.count)
    if tests:
        text = comparison_text(tests, "model", "energy")
        context.store.client.log_text(context.parent, text, f"{prefix}model_against_energy.txt")
        context.store.client.log_text(context.parent, comparison_csv(tests), f"{prefix}model_against_energy.csv")


def summary_metrics(folds: list[dict[str, float]]) -> dict[str, float]:
    """`AP/micro_mean`, `AP/micro_std`, ... over folds; `_std` only where there is more than one value."""
    metrics: dict[str, float] = {}
    for name, (mean, std, _) in summarise(folds).items():
        metrics[f"{name}_mean"] = mean
        if std is not None:
            metrics[f"{name}_std"] = std
    return metrics
