"""One recipe without a sweep: the whole graph under one parent run, ending with a table over folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from a2v_eval.comparison import compare_folds, comparison_csv, comparison_text
from a2v_eval.events import PROTOCOLS
from a2v_eval.label_shares import VALIDATION_LABELS, share_csv, share_rows, share_text
from a2v_eval.presence import PRESENCE, presence_csv, presence_text
from a2v_eval.summary import STRICT_FIRST, Spread, csv_table, metric_name, summarise, text_table

from ..cluster.session import start_beside
from ..recipe.sections import Recipe
from ..store import lookup
from ..store.lookup import share_prefix
from ..store.tags import PRETRAINED, VARIANT
from ..store.tracking import Store
from ..training.probe_report import PROBE
from .cards import write_cards
from .code import record
from .cross_fit import OTHER_FOLDS, cross_fit
from .figures import log_experiment
from .graph import BySeed as ResultsBySeed
from .graph import Folds, Results, Sources, find_sources, run_graph
from .kept import keep_recipe
from .presence import log_experiment_presence
from .seeds import BySeed, Scores, over_seeds, seed_metrics, seeds_named, seeds_text
from .specs import experiment_spec
from .stage import Context, begin_alone, ending

VALIDATED = "thresholds chosen on validation recordings"
AfterFold = Callable[[BySeed], None]


@dataclass(frozen=True)
class Outcome:
    """An experiment's end: its parent run, the scores of each (label share, fold), as means over its seeds, and the
    table over folds. models: label share -> the runs that hold the models of its folds, of the first seed. refit: the
    run with the model for new recordings, trained on all labels, where the recipe wants one."""

    run_id: str
    scores: Scores
    table: str
    models: dict[float, list[str]] = field(default_factory=dict)
    refit: str | None = None

    @property
    def best_model(self) -> str | None:
        """The run whose model is the one to use: trained on all labels, else of the first fold with most labels."""
        return self.refit or (self.models[max(self.models)][0] if self.models else None)


def run_experiment(recipe: Recipe, work: Path, store: Store, say: Callable[[str], None]) -> Outcome:
    """Run or reuse every stage; returns when the parent run holds the summary. say(line) tells what happens."""
    sources = find_sources(recipe, work, store.uri)  # before a run is made
    spec = experiment_spec(recipe, sources.fingerprints)
    found = store.find(spec.stage, spec.fingerprint)
    tags = {VARIANT: recipe.variant}
    if found:
        parent = str(found.info.run_id)
    else:
        start_beside(recipe.ray)
        code = record(spec.code)
        parent = begin_alone(
            lambda: store.begin(spec.stage, spec.fingerprint, spec.name, spec.config, tags, None, code=code), say
        )
    context = Context(recipe, store, work, parent, say)
    if found:
        return complete(context, sources, finished=True)
    with ending(store, parent):
        keep_recipe(store, parent, recipe)
        return complete(context, sources)


def complete(
    context: Context, sources: Sources, after_fold: AfterFold | None = None, finished: bool = False
) -> Outcome:
    """Every stage of the context's recipe, and the summary on its parent run.

    after_fold(scores so far) is called after each fold of each seed but the last. finished: the parent has a summary
    already, which is made again only if a stage ran.
    """
    results = run_graph(
        context, sources, lambda so_far: after_fold(_scores_of(context, so_far)) if after_fold else None
    )
    if context.recipe.finetune is None:
        return _pretrained(context, results)
    by_seed = {
        seed: cross_fit(context, folds, _scores_of_folds(context, folds)) for seed, folds in results.folds.items()
    }
    scores = over_seeds(by_seed)
    runs = {share: [result.run_id for folds in results.folds.values() for result in folds[share]] for share in scores}
    trained = [one for folds in results.folds.values() for by_fold in folds.values() for one in by_fold]
    reused = finished and all(result.reused for result in trained)
    if not reused:
        write_cards(context, trained + ([results.refit] if results.refit else []))
        _summarise(context, by_seed, results.heard)
        log_experiment(context, runs)
        if any(present_names(folds) for folds in scores.values()):
            log_experiment_presence(context, runs)
    else:
        context.say(f"summary: reused, run {context.parent}")
    tables = [_titled_table(context.recipe, share, by_seed) for share in scores]
    if len(scores) > 1 and _all_classes(scores):
        tables.append(_share_tables(scores))
    if results.heard:
        tables.append(results.heard)
    store = context.store
    first = next(iter(results.folds.values()))
    models = {share: [model_run(store, one.run_id) for one in by_fold] for share, by_fold in first.items()}
    refit = results.refit.run_id if results.refit else None
    return Outcome(context.parent, scores, "\n\n".join(tables), models, refit)


def model_run(store: Store, run_id: str) -> str:
    """The run that holds a finetuning's model: its own, or that of the same training with another evaluation."""
    return lookup.model_run(store.run(run_id))


def _pretrained(context: Context, results: Results) -> Outcome:
    """The end of an experiment that only pretrains: where the model is, and how well it predicts."""
    assert results.pretrained is not None
    run_id = results.pretrained.run_id
    write_cards(context, [results.pretrained])
    metrics = context.store.run(run_id).data.metrics
    kept = ("loss", "target_variance", "prediction_variance", "update", PROBE)
    context.store.log_metrics(context.parent, {f"pretrain/{key}": metrics[key] for key in kept if key in metrics})
    context.store.tag(context.parent, PRETRAINED, run_id)
    lines = [
        f"pretrained for {metrics['update']:.0f} updates, loss {metrics['loss']:.4g}",
        f"its model: runs:/{run_id}",
        f"finetune it: --set pretrain=null --set backbone=runs:/{run_id}",
    ]
    return Outcome(context.parent, {}, "\n".join(lines))


def _scores_of(context: Context, folds: ResultsBySeed) -> BySeed:
    return {seed: _scores_of_folds(context, one) for seed, one in folds.items()}


def _scores_of_folds(context: Context, folds: Folds) -> Scores:
    store = context.store
    return {share: [scores_of_run(store, result.run_id) for result in by_fold] for share, by_fold in folds.items()}


def scores_of_run(store: Store, run_id: str) -> dict[str, float]:
    """The metrics of a finetuning's evaluation."""
    metrics = lookup.defined_metrics(store.run(run_id))
    return {name: value for name, value in metrics.items() if "/" in name and not name.startswith("system/")}


def _titled_table(recipe: Recipe, share: float, by_seed: BySeed) -> str:
    folds = over_seeds(by_seed)[share]
    at = OTHER_FOLDS if recipe.is_cross_fitted(share) else _validated(folds)
    tables = []
    if class_names(folds):
        tables.append(text_table(_summaries(folds), class_names(folds), calls_of="model", calls_at=at))
    if present := present_names(folds):
        model, energy = _summaries(folds).values()
        tables.append(presence_text(model, present, at, {"energy": energy}))
    title = f"{share:.0%} of the labels"
    if len(by_seed) > 1:
        title += f", {seeds_named(list(by_seed))}"
        tables.append(seeds_text(by_seed, share))
    return "\n\n".join([f"{title}\n{tables[0]}", *tables[1:]])


def _validated(folds: list[dict[str, float]]) -> str | None:
    """Where calls are counted, if validation recordings chose it; a recipe may want some where there can be none."""
    return VALIDATED if all(any(key.startswith(VALIDATION_LABELS) for key in fold) for fold in folds) else None


def _share_tables(scores: Scores) -> str:
    """Class x label share, under both protocols."""
    summaries = {share: summarise(folds) for share, folds in scores.items()}
    return "\n\n".join(share_text(summaries, _all_classes(scores), protocol) for protocol in STRICT_FIRST)


def _all_classes(scores: Scores) -> list[str]:
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


def present_names(folds: list[dict[str, float]]) -> list[str]:
    """The same, for presence per recording."""
    prefix = f"{PRESENCE}AP/"
    return list(dict.fromkeys(key.removeprefix(prefix) for fold in folds for key in fold if key.startswith(prefix)))


def _summarise(context: Context, by_seed: BySeed, heard: str | None) -> None:
    """Means and standard deviations as metrics of the parent, the table as text, and the figure. heard: said below the
    table, see `Results`."""
    from a2v_eval.figures import ap_per_class_figure

    store, parent, scores = context.store, context.parent, over_seeds(by_seed)
    log_means(context, by_seed)
    for share, folds in scores.items():
        prefix = share_prefix(share, len(scores))
        table = "\n".join(filter(None, (_titled_table(context.recipe, share, by_seed), heard)))
        store.log_text(parent, table, f"{prefix}scores.txt")
        if present := present_names(folds):
            store.log_text(parent, presence_csv(_summaries(folds)["model"], present), f"{prefix}presence.csv")
        if not class_names(folds):
            continue
        store.log_text(parent, csv_table(_summaries(folds), class_names(folds)), f"{prefix}scores.csv")
        for protocol in PROTOCOLS:
            figure = ap_per_class_figure(_beside_energy(folds), class_names(folds), protocol)
            store.log_figure(parent, figure, f"{prefix}ap_per_class_{protocol}.png")
        _compare_with_energy(context, folds, prefix)
    if len(scores) > 1 and _all_classes(scores):
        summaries, classes = {share: summarise(folds) for share, folds in scores.items()}, _all_classes(scores)
        store.log_text(parent, _share_tables(scores), "label_shares.txt")
        store.log_text(parent, share_csv(summaries, classes), "label_shares.csv")
        store.log_json(parent, share_rows(summaries, classes), "label_shares.json")


def log_means(context: Context, by_seed: BySeed) -> None:
    """Means and standard deviations over the folds and seeds so far, as metrics of the parent."""
    scores = over_seeds(by_seed)
    for share, folds in scores.items():
        prefix = share_prefix(share, len(scores))
        means = {**summary_metrics(folds), **seed_metrics(by_seed, share)}
        context.store.log_metrics(context.parent, {f"{prefix}{key}": value for key, value in means.items()})


def _compare_with_energy(context: Context, folds: list[dict[str, float]], prefix: str) -> None:
    """Paired tests of the model against the energy threshold, where there are folds enough for one."""
    model, energy = _beside_energy(folds).values()
    metrics = [
        metric_name(protocol, "AP", name) for protocol in PROTOCOLS for name in ("micro", "macro", *class_names(folds))
    ]
    tests = compare_folds(model, energy, metrics, 1 / context.recipe.folds.evaluated_share)
    if tests:
        text = comparison_text(tests, "model", "energy")
        context.store.log_text(context.parent, text, f"{prefix}model_against_energy.txt")
        context.store.log_text(context.parent, comparison_csv(tests), f"{prefix}model_against_energy.csv")


def summary_metrics(folds: list[dict[str, float]]) -> dict[str, float]:
    """`AP/micro_mean`, `AP/micro_std`, ... over folds; `_std` only where there is more than one value. Of several seeds
    each fold is their mean, and `seed_metrics` has the deviation over seeds."""
    metrics: dict[str, float] = {}
    for name, (mean, std, _) in summarise(folds).items():
        metrics[f"{name}_mean"] = mean
        if std is not None:
            metrics[f"{name}_std"] = std
    return metrics
