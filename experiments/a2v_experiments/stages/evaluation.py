"""Score a detector on a fold's evaluation recordings and log scores, tables, events and figures to its run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from a2v_data.corpus import Corpus
from a2v_data.folds import Fold, class_counts
from a2v_eval.any_class import TimestepCounter, TimestepScores, one_class, one_class_config
from a2v_eval.bootstrap import confidence_intervals, intervals_csv
from a2v_eval.evaluation import Collector, Evaluation, EvaluationConfig, evaluate
from a2v_eval.events import PROTOCOLS, EventConfig, find_events, frame_likelihoods
from a2v_eval.figures import fullest_stretch, likelihood_figure
from a2v_eval.label_shares import EVALUATION_LABELS, TRAIN_LABELS, VALIDATION_LABELS
from a2v_eval.presence import PresenceCollector, PresenceScores
from a2v_eval.thresholds import ThresholdSweep
from a2v_model import write_thresholds
from a2v_model.checkpoints import DESCRIPTION
from numpy.typing import NDArray

from ..basics.progress import bar
from ..basics.tables import csv_text
from ..recipe.sections import Recipe
from ..store.logged_models import MODEL
from ..store.tags import FOLD
from ..training.validation_report import validation_metrics
from .figures import FigureData, best_thresholds, log_fold
from .listening import Listener, listener, waveform
from .presence import SCORE as PRESENCE_SCORE
from .presence import Found, by_kind, filled, log_presence, where_known
from .presence import collect as presence_in

if TYPE_CHECKING:
    from .stage import Context

EXAMPLE_S = 10.0  # seconds of the example figure
Labelled = tuple[NDArray[np.float32], NDArray[np.void]]


@dataclass(frozen=True)
class Collectors:
    """What listens to every recording's likelihoods."""

    by_class: Collector
    any_class: Collector
    timesteps: TimestepCounter
    sweep: ThresholdSweep

    @classmethod
    def of(cls, classes: Sequence[str], frame_rate: float, settings: EvaluationConfig) -> Collectors:
        return cls(
            Collector(classes, frame_rate, settings),
            Collector(["any"], frame_rate, one_class_config(settings)),
            TimestepCounter(classes, frame_rate, settings.events),
            ThresholdSweep(classes, frame_rate, settings),
        )

    def add(self, likelihood_TC: NDArray[np.float32], labels: NDArray[np.void]) -> None:
        self.by_class.add(likelihood_TC, labels)
        self.any_class.add(*one_class(likelihood_TC, labels, self.by_class.config.events))
        self.timesteps.add(likelihood_TC, labels)
        self.sweep.add(likelihood_TC, labels)


@dataclass(frozen=True)
class Crossed:
    """What inner folds chose for a model that is trained on all of their recordings: thresholds of events and of
    presence, as `write_thresholds` takes them, their `validation_metrics`, and for how many updates it is trained."""

    thresholds: dict[str, Any]
    presence: dict[str, Any] | None
    metrics: dict[str, float]
    updates: int


def evaluate_model(
    context: Context, run_id: str, model_run: str, corpus: Corpus, fold: Fold, validation: Sequence[str] = (),
    crossed: Crossed | None = None,
) -> None:  # fmt: skip
    """Score the fold's evaluation recordings, in one pass.

    Recordings that are labelled as a whole only (`Corpus.weak`) are scored by presence (`presence/...`, see
    `a2v_eval.presence`); where the corpus has some, so are those with events. Of a fold that evaluates none of the
    latter that is all there is.

    validation: held out training recordings, on which the threshold of each class is chosen; what counts calls of a
    class (F1, precision, recall, found, ...) is then at these thresholds. crossed: instead, what inner folds chose.
    Without either, it is at the recipe's (until the folds choose one another's, see `cross_fit`), and the thresholds of
    the model are the best on the evaluation recordings. What ranks (AP, mAP), what asks for no class (`any_class`,
    `timestep`), `scores.csv`, `evaluation.json` and `example.png` have the recipe's.

    Metrics: both protocols (`AP/micro`, `strict/AP/micro`, ...), calls (`strict/found/CLASS`, `strict/predicted/CLASS`,
    `strict/labelled/CLASS`), events whatever their class (`any_class/F1`), timesteps (`timestep/F1`), sample sizes
    (`labels/train/CLASS` of what was trained on, `labels/validation/CLASS`, `labels/evaluation/CLASS`),
    `validation/...` for what ranks on the validation recordings (`validation/strict/mAP/micro`), and `energy/...` for
    the baseline. Artifacts: tables, confidence intervals over recordings, figures.
    """
    recipe, store = context.recipe, context.store
    assert recipe.finetune is not None
    heard = listener(recipe, store.fetch(model_run, "model", context.work), corpus)
    recordings = corpus.indices(fold.evaluation)
    frame_rate = heard.frame_rate
    settings = recipe.evaluate
    collected = Collectors.of(corpus.classes, frame_rate, settings)
    chosen = _chosen_on(context, run_id, len(validation), len(recordings))
    if crossed is None:
        thresholds, presence_at, validated = _choose(context, heard, corpus, validation, chosen)
    else:
        thresholds, presence_at, validated = crossed.thresholds, crossed.presence, crossed.metrics
    store.log_metrics(run_id, validated, recipe.finetune.updates, model_run)
    counted = None if thresholds is None else at_thresholds(thresholds["thresholds"], collected.by_class)
    presence = _presence_collector(corpus, frame_rate, settings)
    for likelihood_TC, labels in _with_labels(heard, corpus, recordings, presence=presence):
        collected.add(likelihood_TC, labels)
        if counted is not None:
            counted.add(likelihood_TC, labels)
    trained = [name for name in fold.train if name not in set(validation)]
    metrics = sample_sizes(corpus, trained, trained if crossed else validation, fold.evaluation)
    best: dict[str, Any] | None = None
    if presence is not None:
        best = _log_presence(context, run_id, model_run, presence.result(), presence_at, chosen)
        energy = presence_in(corpus, _loudness(heard, corpus, recordings), frame_rate, settings.events).metrics()
        baseline = {f"energy/{key}": value for key, value in energy.items() if "AP/" in key}
        store.log_metrics(run_id, baseline, recipe.finetune.updates)
    if by_kind(corpus, fold.evaluation)[0]:
        of_events = _log_events(
            context, run_id, model_run, heard, corpus, recordings, collected, counted, chosen, metrics
        )
        best = of_events if best is None else filled(of_events, best)
    else:
        store.log_metrics(run_id, metrics, recipe.finetune.updates, model_run)
    _log_example(context, run_id, heard, corpus, recordings)
    if model_run == run_id:  # that of another run stays as it was
        chosen_at = thresholds or best
        assert chosen_at is not None
        keep_thresholds(context, run_id, chosen_at)


def _choose(
    context: Context, heard: Listener, corpus: Corpus, validation: Sequence[str], chosen: dict[str, Any]
) -> tuple[dict[str, Any] | None, dict[str, Any] | None, dict[str, float]]:
    """Thresholds that are the best on the validation recordings, for events and for presence per recording, as
    `write_thresholds` takes them, and `validation_metrics`; None without any. Thresholds for events are those for
    presence where no recording has events, and for classes of which there is no event."""
    if not validation:
        return None, None, {}
    settings, frame_rate = context.recipe.evaluate, heard.frame_rate
    presence = _presence_collector(corpus, frame_rate, settings)
    events = Collector(corpus.classes, frame_rate, settings)
    sweep = ThresholdSweep(corpus.classes, frame_rate, settings)
    for labelled in _with_labels(heard, corpus, corpus.indices(validation), "choosing thresholds", presence):
        events.add(*labelled)
        sweep.add(*labelled)
    strong = by_kind(corpus, validation)[0]
    scores = events.evaluation().metrics() if strong else {}
    of_events = best_thresholds(sweep.result(), chosen, SHARED_LABELS)
    if presence is None:
        return of_events, None, validation_metrics(scores)
    found = presence.result()
    of_presence = best_thresholds(found.thresholds(), {**chosen, "score": PRESENCE_SCORE}, SHARED_LABELS)
    best = filled(of_events, of_presence) if strong else of_presence
    return best, of_presence, validation_metrics(scores | found.metrics())


def _presence_collector(corpus: Corpus, frame_rate: float, settings: EvaluationConfig) -> PresenceCollector | None:
    """Where the corpus has recordings that are labelled as a whole only."""
    return PresenceCollector(corpus.classes, frame_rate, settings.events) if corpus.weak else None


def _log_presence(
    context: Context, run_id: str, model_run: str, scores: PresenceScores, at: dict[str, Any] | None,
    chosen: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Metrics, counted at the thresholds `at` if there are some, and artifacts; returns the best thresholds."""
    assert context.recipe.finetune is not None
    metrics = scores.metrics(None if at is None else at["thresholds"])
    context.store.log_metrics(run_id, metrics, context.recipe.finetune.updates, model_run)
    log_presence(context, run_id, scores)
    best = best_thresholds(scores.thresholds(), {**chosen, "score": PRESENCE_SCORE})
    context.store.log_json(run_id, best, "thresholds_presence.json")
    return best


def _log_events(
    context: Context, run_id: str, model_run: str, heard: Listener, corpus: Corpus, recordings: list[int],
    collected: Collectors, counted: Collector | None, chosen: dict[str, Any], more: dict[str, float],
) -> dict[str, Any]:  # fmt: skip
    """What is scored by events: metrics and artifacts of `evaluate_model`; returns the best thresholds."""
    recipe, store, settings = context.recipe, context.store, context.recipe.evaluate
    assert recipe.finetune is not None
    frame_rate = collected.by_class.frame_rate
    recordings = [recording for recording in recordings if corpus.recordings[recording].name not in corpus.weak]
    scores, any_scores = collected.by_class.evaluation(), collected.any_class.evaluation()
    steps = collected.timesteps.scores()
    energy = evaluate(_energy(heard, corpus, recordings), corpus.classes, frame_rate, pooling_settings(settings))
    metrics = scores.metrics() | scores.call_counts() | _any_class_metrics(any_scores, steps)
    if counted is not None:
        metrics |= operating_point(counted.evaluation())
    metrics |= more
    baseline = {f"energy/{key}": value for key, value in energy.metrics().items() if "AP/" in key}
    store.log_metrics(run_id, metrics, recipe.finetune.updates, model_run)
    store.log_metrics(run_id, baseline, recipe.finetune.updates)
    record = scores.to_dict() | {"any_class": any_scores.table()[0], "timesteps": steps.to_dict()}
    store.log_json(run_id, record, "evaluation.json")
    store.log_text(run_id, csv_text(scores.table()), "scores.csv")
    if scores.n_recordings > 1:
        intervals = {protocol: confidence_intervals(scores, protocol) for protocol in PROTOCOLS}
        store.log_text(run_id, intervals_csv(intervals), "confidence_intervals.csv")
    data = FigureData.of({"model": scores, "energy": energy}, collected.sweep.result())
    log_fold(context, run_id, data, chosen)
    return best_thresholds(data.thresholds, chosen)


def keep_thresholds(context: Context, run_id: str, thresholds: dict[str, Any]) -> None:
    """The run's model knows its thresholds, and is what it will stay. thresholds: what `write_thresholds` takes."""
    folder = Path(context.store.fetch(run_id, MODEL, context.work))
    write_thresholds(folder, **thresholds)
    context.store.put_back(run_id, folder / DESCRIPTION, MODEL)
    context.store.finish_model(run_id)


SHARED_LABELS = 10.0  # a class with fewer labels to choose on than these leans on what suits all classes


def choose_thresholds(
    labelled: Iterable[Labelled],
    classes: Sequence[str],
    frame_rate: float,
    settings: EvaluationConfig,
    chosen: dict[str, Any],
) -> dict[str, Any]:
    """The best threshold of each class on some recordings, given as likelihoods (T, C) and labels: what
    `write_thresholds` takes. chosen: how and on what, see `_chosen_on`."""
    sweep = ThresholdSweep(classes, frame_rate, settings)
    for likelihood_TC, labels in labelled:
        sweep.add(likelihood_TC, labels)
    return best_thresholds(sweep.result(), chosen, SHARED_LABELS)


def at_thresholds(thresholds: dict[str, float], ranked: Collector) -> Collector:
    """A collector like `ranked` that finds events at these thresholds; classes without one, since none of their labels
    was found, have that of EventConfig."""
    default = EventConfig.model_fields["threshold"].default
    of_each = {name: thresholds.get(name, default) for name in ranked.classes}
    events = ranked.config.events.model_copy(update={"threshold": of_each})
    return Collector(ranked.classes, ranked.frame_rate, ranked.config.model_copy(update={"events": events}))


def operating_point(scores: Evaluation) -> dict[str, float]:
    """Those metrics that say what is found at thresholds, and not how well events are ranked."""
    ranking = ("AP/", "mAP/")
    counted = {k: v for k, v in scores.metrics().items() if not k.removeprefix("strict/").startswith(ranking)}
    return counted | scores.call_counts()


def _chosen_on(context: Context, run_id: str, n_validation: int, n_evaluation: int) -> dict[str, Any]:
    """What a model's thresholds hold for: the event settings, and on which recordings they are the best."""
    fold = context.store.run(run_id).data.tags[FOLD]
    return holds_for(
        context.recipe,
        f"{n_validation} validation recordings, held out of the training part of fold {fold}"
        if n_validation
        else f"the {n_evaluation} evaluation recordings of fold {fold}: scores on them at these thresholds are"
        " too good",
    )


def holds_for(recipe: Recipe, recordings: str) -> dict[str, Any]:
    """What thresholds hold for: the recipe's event settings. recordings: on which they are the best."""
    settings = recipe.evaluate
    return {
        **settings.events.model_dump(mode="json", exclude={"threshold"}),
        "segment_s": recipe.data.segment_s,
        "overlap_s": settings.overlap_s,
        "score": "F1, strict protocol",
        "iou_threshold": settings.iou_threshold,
        "recordings": recordings,
    }


def _any_class_metrics(scores: Evaluation, timesteps: TimestepScores) -> dict[str, float]:
    """`any_class/F1`, `any_class/strict/F1`, `timestep/F1`, ...: the paper's NIPS4Bplus tables."""
    of_any = {name.removesuffix("/any"): value for name, value in scores.metrics().items() if name.endswith("/any")}
    found = {f"any_class/{name}": value for name, value in of_any.items()}
    steps = {f"timestep/{name}": timesteps.to_dict()[name] for name in ("precision", "recall", "F1")}
    return found | {name: value for name, value in steps.items() if value is not None}


def sample_sizes(
    corpus: Corpus, train: Sequence[str], validation: Sequence[str] = (), evaluation: Sequence[str] = ()
) -> dict[str, float]:
    """Labels of each class in the recordings that were trained on, and in those for validation and evaluation, as far
    as there are any."""
    sizes: dict[str, float] = {}
    counts_RC = class_counts(corpus)
    for prefix, names in ((TRAIN_LABELS, train), (VALIDATION_LABELS, validation), (EVALUATION_LABELS, evaluation)):
        if not names:
            continue
        counts_C = counts_RC[corpus.indices(list(names))].sum(0)
        sizes |= {f"{prefix}/{name}": float(n) for name, n in zip(corpus.classes, counts_C, strict=True)}
    return sizes


def _with_labels(
    heard: Listener, corpus: Corpus, recordings: list[int], doing: str = "evaluating",
    presence: PresenceCollector | None = None,
) -> Iterator[Labelled]:  # fmt: skip
    """Those that are labelled as a whole only go to `presence` alone."""
    with bar(doing, len(recordings), "recordings") as shown:
        for recording, likelihood in heard.likelihoods(recordings, doing):
            shown.update()
            weak = corpus.recordings[recording].name in corpus.weak
            if presence is not None:
                known = where_known(corpus, recording, likelihood, presence.frame_rate)
                presence.add(known, corpus.present(recording), weak)
            if not weak:
                yield likelihood, corpus.truth(recording)


def _energy(heard: Listener, corpus: Corpus, recordings: list[int]) -> Iterator[Labelled]:
    """The baseline that needs no model: the same loudness curve as the likelihood of every class."""
    for recording, likelihood_TC in _loudness(heard, corpus, recordings):
        yield likelihood_TC, corpus.truth(recording)


def pooling_settings(settings: EvaluationConfig) -> EvaluationConfig:
    """Settings for what has likelihoods of frames only: method `boxes` becomes `avg`."""
    if settings.events.method != "boxes":
        return settings
    own = settings.events.model_dump(include={"threshold", "min_duration_s"})
    return settings.model_copy(update={"events": EventConfig(**own)})


def _loudness(heard: Listener, corpus: Corpus, recordings: list[int]) -> Iterator[Found]:
    for recording, loudness_T in heard.loudness(recordings):
        yield recording, np.repeat(loudness_T[:, None], len(corpus.classes), axis=1).astype(np.float32)


def _log_example(context: Context, run_id: str, heard: Listener, corpus: Corpus, recordings: list[int]) -> None:
    """The seconds with the most labels, of the recording that has the most, with likelihoods and events."""
    settings, frame_rate = context.recipe.evaluate, heard.frame_rate
    busiest = max(recordings, key=lambda one: (len(corpus.labels(one)), int(corpus.present(one).sum())))
    (_, likelihood_TC), *_ = heard.likelihoods([busiest], "drawing the example")
    shown_TC = frame_likelihoods(likelihood_TC, frame_rate, settings.events)
    waveform_N, rate = waveform(corpus, busiest), corpus.rate(busiest)
    start_s = fullest_stretch(corpus.labels(busiest), corpus.duration_s(busiest), EXAMPLE_S)
    frame = int(start_s * frame_rate)
    start_s = frame / frame_rate  # so that the waveform and the likelihoods begin at once
    first = round(start_s * rate)
    figure = likelihood_figure(
        waveform_N[first : first + round(EXAMPLE_S * rate)],
        rate,
        shown_TC[frame : frame + round(EXAMPLE_S * frame_rate)],
        frame_rate,
        corpus.labels(busiest),
        find_events(likelihood_TC, frame_rate, settings.events, classes=corpus.classes),
        corpus.classes,
        threshold=settings.events.thresholds(len(corpus.classes), corpus.classes).tolist(),
        start_s=start_s,
        title=corpus.recordings[busiest].name,
    )
    context.store.log_figure(run_id, figure, "example.png")
