"""`a2v adapt`: from a model that is there to a detector of one's own classes, on a machine that could not train it.

The backbone stays as it is: what it hears in the labelled recordings is computed once (features.py), and a head is
trained on that (head.py). All labelled recordings are used, a fifth of them to choose weights and thresholds by;
what is told of the model are its scores on these. The result is a run of the MLflow experiment `adapt` and a folder.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.corpus import Corpus
from a2v_data.groups import by_pattern
from a2v_data.labelled import LabelledSetting
from a2v_data.sampling import SamplingConfig
from a2v_data.storage import refuse_existing
from a2v_data.validation import validation_split
from a2v_eval.evaluation import EvaluationConfig
from a2v_model import Detector, FinetuneConfig, Pretrainer, load_model, save_model
from a2v_model.checkpoints import read_description
from a2v_model.config import EarConfig
from safetensors.torch import load_file

from ..basics.errors import UserError
from ..basics.fingerprint import fingerprint
from ..basics.progress import advancing, bar
from ..card.folder import put_card
from ..inference import recording_likelihoods
from ..predict.settings import OVERLAP_S, SEGMENT_S
from ..recipe.labelled import with_rules
from ..recipe.sections import ADAPT, DataConfig, EvaluateStage, RayConfig, Recipe
from ..recipe.streams import streams_for
from ..recipe.trainings import FinetuneStage, OptimizerConfig
from ..recipe.validating import ValidationConfig
from ..stages import packing, stages
from ..stages.backbones import Backbone, fetch_backbone
from ..stages.cards import write_run_card
from ..stages.datasets import datasets_of
from ..stages.evaluation import Labelled, sample_sizes
from ..stages.figures import log_fold
from ..stages.specs import data_spec
from ..stages.stage import Context, begin_alone, ending
from ..store.logged_models import MODEL
from ..store.tags import BACKBONE, HAS_MODEL, LOGGED, VARIANT, input_mark
from ..store.tracking import Store, open_store, scratch
from ..suggest.facts import CorpusFacts, read_facts
from ..suggest.names import name_groups
from ..training import checkpoints
from ..training.spec import TrainingSpec, part
from ..training.watching import watching
from ..training.workers import run_training
from .features import FeatureCache, compute, feature_files, missing, read_features
from .head import RATES, HeadTraining, Trained, head_likelihoods, train_head
from .scores import FinalScores, final_scores, score_rows

EXPERIMENT, STAGE, RECORD = ADAPT, "adapt", "adapt.json"
SHARE = 0.2  # of the labelled recordings, to choose by
PRIOR = 0.01  # likelihood of every class at first
SHORTEST_SEGMENT_S = 1.0
UNFREEZE_RATE, UNFREEZE_SEGMENTS, UNFREEZE_LOOKS = 3e-5, 4, 10


@dataclass(frozen=True)
class AdaptOptions:
    """folder: recordings with annotations; model: a folder or an MLflow URI; out: the model's folder to make; minutes:
    for training the head; unfreeze_updates: of finetuning everything afterwards; annotations: how
    tables are read."""

    folder: Path
    model: str
    out: Path
    minutes: float = 5.0
    head: Literal["linear", "temporal"] = "linear"
    unfreeze_updates: int = 0
    labelled: LabelledSetting = "auto"
    seed: int = 0
    annotations: AnnotationConfig = field(default_factory=AnnotationConfig)


@dataclass(frozen=True)
class Parts:
    """Names of the recordings to train on and of those to choose by; held_out: none is in both."""

    train: list[str]
    scored: list[str]
    held_out: bool

    def told(self) -> str:
        """Which recordings scores are of."""
        few = f"the {len(self.scored)} "
        if self.held_out:
            return f"{few}validation recordings, by which weights and thresholds were chosen: somewhat too good"
        return f"{few}recordings that it was trained on: much too good"


def adapt(options: AdaptOptions, work: Path, tracking_uri: str | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Make the model; returns what is known of it, JSON data (see `_record`). say(line) tells what happens.

    What was done before with the same recordings, model and options is taken from MLflow. Raises UserError or
    ValueError for what cannot be adapted to, before anything is written.
    """
    if options.annotations.weak:
        raise UserError(
            "--weak-labels: adapt learns from calls with their times; with recording-level labels, finetune the model"
            " (backbone: in a recipe, `a2v experiment run`)"
        )
    refuse_existing(options.out)
    facts = read_facts(options.folder, options.labelled, options.annotations)
    backbone = fetch_backbone(options.model, work, tracking_uri)
    source = load_model(backbone.folder)
    detector_config = head_config(source, options.head)
    recipe = with_rules(recipe_for(options, source, facts, detector_config))
    origin = packing.origin_of(recipe.data, work)
    training = HeadTraining(minutes=options.minutes, learning_rate=RATES[options.head], seed=options.seed)
    config = {
        "head": asdict(training),
        "unfreeze_updates": options.unfreeze_updates,
        **recipe.model_dump(mode="json", include={"data": set(DataConfig.model_fields), "finetune": True}),
        "evaluate": recipe.evaluate.model_dump(mode="json"),
    }
    del config["data"]["source"]
    mark = fingerprint(STAGE, config, origin.fingerprint, backbone.fingerprint)
    store = open_store(work, tracking_uri, EXPERIMENT)
    if found := store.find(STAGE, mark):
        return _reuse(store, str(found.info.run_id), options.out, work, say)
    tags = {VARIANT: recipe.variant, BACKBONE: options.model, input_mark("source"): origin.fingerprint}
    name = f"{facts.name} {options.head}"
    run_id = begin_alone(lambda: store.begin(STAGE, mark, name, config, tags, None), say)
    with ending(store, run_id):
        context = Context(recipe, store, work, run_id, say)
        _, corpus = stages.prepare(context, data_spec(recipe.data, origin.fingerprint), origin)
        return _Adaptation(options, context, corpus, backbone, source, training, mark).run()


def head_config(source: Pretrainer | Detector, head: Literal["linear", "temporal"]) -> FinetuneConfig:
    """How the adapted detector is finetuned: its own settings where it is one, binary cross entropy, every class rare
    at first."""
    if isinstance(source, Detector):
        kept = source.config.model_dump()
    else:
        dim = source.model_config.encoder.dim
        kept = {"average_layers": source.averaged, "channel_mask_length": min(64, dim // 4)}
    return FinetuneConfig(
        **{**kept, "head": head, "head_prior": PRIOR, "focal": False, "loss": None, "head_only_updates": 0}
    )


def recipe_for(
    options: AdaptOptions, source: Pretrainer | Detector, facts: CorpusFacts, config: FinetuneConfig
) -> Recipe:
    """The recipe of which this is a part: data at the model's rate, windows, and finetuning all of it."""
    front_end = source.model_config.front_end
    frame_s = Fraction(front_end.stride, front_end.sample_rate)
    known = source.thresholds_from if isinstance(source, Detector) else {}
    # windows longer than every recording would be padding
    longest_s = max(max(one.seconds for one in facts.labelled), SHORTEST_SEGMENT_S)
    wanted = min(float(known.get("segment_s", SEGMENT_S)), longest_s)
    segment_s = float(max(1, round(Fraction(wanted) / frame_s)) * frame_s)
    keep_rates = front_end.frame_rate if isinstance(front_end, EarConfig) and front_end.any_rate else None
    overlap_s = min(float(known.get("overlap_s", OVERLAP_S)), segment_s / 2)
    updates = max(1, options.unfreeze_updates)
    stage = FinetuneStage(
        **config.model_dump(), updates=updates, segments=UNFREEZE_SEGMENTS, sampling=SamplingConfig(),
        weight_average=0.99, validation=ValidationConfig(every=max(1, updates // UNFREEZE_LOOKS)),
        optimizer=OptimizerConfig(learning_rate=UNFREEZE_RATE, warmup_updates=updates // 10), seed=options.seed,
        log_every=max(1, updates // 50),
    )  # fmt: skip
    return Recipe(
        name=EXPERIMENT,
        data=DataConfig(
            source=str(options.folder), sample_rate=front_end.sample_rate, keep_rates=keep_rates,
            labelled=options.labelled, segment_s=segment_s, annotations=options.annotations,
            streams=streams_for(options.folder, source.model_config),
        ),
        model=source.model_config, pretrain=None, finetune=stage,
        evaluate=EvaluateStage(fit_events=True, overlap_s=overlap_s),
    )  # fmt: skip


def parts_of(corpus: Corpus, seed: int) -> tuple[Parts, list[str]]:
    """Which labelled recordings are trained on, and what is worth knowing about it, a line each.

    Recordings whose names begin alike (an animal, a site, a day) stay together, as in suggested recipes.
    """
    names = [one.name for one in corpus.recordings if one.labelled]
    classes_of = {
        name: frozenset(corpus.classes[number] for number in corpus.labels(row)["class"])
        for name, row in zip(names, corpus.indices(names), strict=True)
    }
    pattern = name_groups(classes_of).pattern
    split = validation_split(corpus, names, SHARE, seed, by_pattern(pattern) if pattern else "recording")
    if split.validation is None:
        return Parts(names, names, False), [*split.notices, "scores are of the recordings that it is trained on"]
    return Parts(split.train, split.validation, True), list(split.notices)


class _Adaptation:
    """One run: features, head, and the rest where that is asked for."""

    def __init__(
        self, options: AdaptOptions, context: Context, corpus: Corpus, backbone: Backbone,
        source: Pretrainer | Detector, training: HeadTraining, mark: str,
    ) -> None:  # fmt: skip
        self.options, self.corpus, self.backbone = options, corpus, backbone
        self.store, self.run_id, self.say = context.store, context.parent, context.say
        self.store.name_classes(self.run_id, corpus.classes)
        self.training, self.mark = training, mark
        self.parts, notices = parts_of(corpus, options.seed)
        for notice in notices:
            self.say(f"  {notice}")
        recipe = stages.fitted(context.recipe, corpus, self.parts.train)
        self.context = replace(context, recipe=recipe)
        assert recipe.finetune is not None
        self.stage, self.data, self.scoring = recipe.finetune, recipe.data, part(recipe.evaluate, EvaluationConfig)
        self.train, self.scored = corpus.indices(self.parts.train), corpus.indices(self.parts.scored)
        torch.manual_seed(options.seed)
        self.detector = Detector(source.model_config, head_config(source, options.head), list(corpus.classes))
        self.detector.load_backbone(source.state_dict())
        self.kept_head = _same_head(source, self.detector)
        if self.kept_head and isinstance(source, Detector):
            self.detector.load_head(source)
        self.detector.eval()

    def run(self) -> dict[str, Any]:
        cached = self._features()
        features = read_features(cached.pop("files"))
        trained = self._train_head(features)
        found = ((head_likelihoods(self.detector.head, features[row]), self.corpus.truth(row)) for row in self.scored)
        scores = self._scores(found)
        told: dict[str, Any] = {"head": asdict(trained)}
        if self.options.unfreeze_updates:
            detector, told["unfrozen"] = self._unfreeze(scores)
            if told["unfrozen"]["kept"]:
                self.detector, scores = detector, told["unfrozen"].pop("scores")
            told["unfrozen"].pop("scores", None)
        record = self._record(scores, cached, told)
        self._log(scores, record)
        return record

    def _features(self) -> dict[str, Any]:
        """Compute what is not there; says before how much that is."""
        data, recipe = self.data, self.context.recipe
        self.detector.to("cuda" if torch.cuda.is_available() else "cpu")
        cache = FeatureCache(
            self.context.work / "features", self.backbone.fingerprint, data.segment_s, recipe.evaluate.overlap_s
        )
        files = feature_files(cache, self.detector, self.corpus, sorted({*self.train, *self.scored}))
        left = missing(cache, self.detector, self.corpus, files)
        dim, rate = self.detector.model_config.encoder.dim, self.detector.frame_rate
        there = len(files) - len(left.recordings)
        told = f"features: {left.seconds / 60:.1f} min of audio to compute, {left.bytes / 1e6:.1f} MB on disk ({dim}"
        told += f" numbers a frame, {rate:g} frames a second, float16)"
        self.say(told + (f"; {there} recordings are there already" if there else ""))
        began = time.perf_counter()
        with bar("features", left.windows, f"windows of {data.segment_s:g} s") as shown:
            compute(cache, self.detector, self.corpus, files, shown.update)
        seconds = time.perf_counter() - began
        self.detector.to("cpu")
        return {
            "files": files,
            "folder": str(cache.place(self.detector)),
            "bytes": left.all_bytes,
            "computed_audio_seconds": left.seconds,
            "seconds": seconds,
        }

    def _train_head(self, features: dict[int, Any]) -> Trained:
        prefix = "head/" if self.options.unfreeze_updates else ""

        def log(update: int, metrics: dict[str, float]) -> None:
            self.store.log_metrics(self.run_id, {f"{prefix}{key}": value for key, value in metrics.items()}, update)

        with bar("head", self.training.updates, "updates") as shown:
            trained = train_head(
                self.detector, features, self.corpus, self.train, self.scored, self.scoring, self.training,
                not self.kept_head, log, advancing(shown),
            )  # fmt: skip
        ap = "undefined" if trained.best_ap is None else f"{trained.best_ap:.3g}"
        self.say(
            f"head: {trained.updates} updates in {trained.seconds:.0f} s; strict AP {ap} at update"
            f" {trained.best_update}, whose weights are kept"
        )
        return trained

    def _scores(self, recordings: Iterator[Labelled]) -> FinalScores:
        chosen = {
            **self.scoring.events.model_dump(mode="json", exclude={"threshold"}),
            "segment_s": self.data.segment_s,
            "overlap_s": self.context.recipe.evaluate.overlap_s,
            "score": "F1, strict protocol",
            "iou_threshold": self.scoring.iou_threshold,
            "recordings": self.parts.told(),
        }
        return final_scores(recordings, self.corpus.classes, self.detector.frame_rate, self.scoring, chosen)

    def _unfreeze(self, before: FinalScores) -> tuple[Detector, dict[str, Any]]:
        """Finetune all of the model by the ordinary loop. Kept where strict AP is no lower than with the head alone."""
        place = self.context.work / "checkpoints"
        name = f"{STAGE}-{self.mark[:16]}"
        start = place / f"{name}-start"
        save_model(self.detector, start, {})
        overlap_s = self.context.recipe.evaluate.overlap_s
        spec = TrainingSpec(
            corpus=str(self.corpus.folder.resolve()), recordings=self.parts.train, segment_s=self.data.segment_s,
            model=self.detector.model_config, finetune=self.stage, classes=self.detector.classes,
            backbone=str(start.resolve()), keep_head=True, validation=self.parts.scored if self.parts.held_out else [],
            overlap_s=overlap_s, scoring=self.scoring,
        )  # fmt: skip
        began = time.perf_counter()
        with watching(self.store, self.run_id, "finetuning", self.stage.updates, self.say):
            last = run_training(spec, RayConfig(), place, name, self.store.uri, self.run_id)
        detector = Detector(self.detector.model_config, self.detector.config, self.detector.classes)
        detector.load_state_dict(load_file(checkpoints.final_weights(last)))
        detector.to("cuda" if torch.cuda.is_available() else "cpu")
        found = recording_likelihoods(detector, self.corpus, self.scored, self.data.segment_s, overlap_s)
        scores = self._scores((likelihood_TC, self.corpus.truth(row)) for row, likelihood_TC in found)
        kept = scores.strict_ap >= before.strict_ap
        self.say(
            f"all of it: {self.stage.updates} updates; strict AP {scores.strict_ap:.3g}, with the head alone"
            f" {before.strict_ap:.3g}: {'it' if kept else 'the head alone'} is the model"
        )
        for folder in (start, place / name):
            shutil.rmtree(folder, ignore_errors=True)
        facts = {"updates": self.stage.updates, "seconds": time.perf_counter() - began, "kept": kept}
        return detector.cpu().eval(), {**facts, "strict_ap": scores.strict_ap, "scores": scores}

    def _record(self, scores: FinalScores, cached: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
        """What `a2v adapt --json` prints."""
        classes = list(self.corpus.classes)
        return {
            "model": str(self.options.out),
            "run_id": self.run_id,
            "tracking_uri": self.store.uri,
            "backbone": self.options.model,
            "head": self.options.head,
            "classes": classes,
            "recordings": {
                "train": len(self.parts.train), "scored": len(self.parts.scored), "held_out": self.parts.held_out,
                "told": self.parts.told(),
            },
            "scores": score_rows(scores.metrics, scores.thresholds, classes),
            "thresholds": scores.thresholds["thresholds"],
            "features": cached,
            "training": told,
        }  # fmt: skip

    def _log(self, scores: FinalScores, record: dict[str, Any]) -> None:
        """Metrics, figures and the model into the run, and the model to its folder."""
        from ..pyfunc import log_detector

        store, run_id = self.store, self.run_id
        self.detector.thresholds = scores.thresholds["thresholds"]
        self.detector.thresholds_from = scores.thresholds["thresholds_from"]
        provenance = {"run_id": run_id, "experiment": EXPERIMENT, "adapted_from": self.options.model}
        provenance |= {"backbone": self.backbone.fingerprint, "updates": record["training"]["head"]["updates"]}
        with scratch() as aside:
            folder = Path(aside) / MODEL
            save_model(self.detector, folder, provenance)
            log_detector(store, run_id, self.detector, folder)
        held = self.parts.scored if self.parts.held_out else []
        sizes = sample_sizes(self.corpus, self.parts.train, held)
        store.log_metrics(run_id, scores.metrics | sizes, 0, run_id)
        parts = {"training": self.parts.train, "validation": held}
        store.log_inputs(run_id, datasets_of(self.corpus, self.context.recipe.data.source, **parts))
        store.log_json(run_id, record, RECORD)
        log_fold(self.context, run_id, scores.figures, scores.thresholds["thresholds_from"])
        store.finish_model(run_id)
        store.tag(run_id, HAS_MODEL, LOGGED)
        save_model(self.detector, self.options.out, provenance)
        put_card(self.options.out, write_run_card(self.context, run_id))


def _same_head(source: Pretrainer | Detector, detector: Detector) -> bool:
    if not isinstance(source, Detector):
        return False
    return source.classes == detector.classes and source.config.head == detector.config.head


def _reuse(store: Store, run_id: str, out: Path, work: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """What a finished run of the same left."""
    say(f"adapt: reused, run {run_id}")
    folder = Path(store.fetch(run_id, MODEL, work))
    description = read_description(folder)
    save_model(load_model(folder), out, description["extra"])
    if "card" in description:
        put_card(out, description["card"])
    record: dict[str, Any] = json.loads(Path(store.fetch(run_id, RECORD, work)).read_text(encoding="utf-8"))
    return record | {"model": str(out)}
