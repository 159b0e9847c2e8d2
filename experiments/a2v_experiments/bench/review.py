"""How fast a detector gets better by review: clips that are suggested against clips at random, labels as reviewer.

A first handful of clips, the same for each arm, is looked at in full; a detector is trained on what is known, some
clips are chosen among the train recordings, what calls in them is revealed, and so on. Every training has as many
updates, from fresh weights or on from the round before (`Rounds.goes_on`), so arms differ by their labels alone.
Nothing of valid and test is trained on.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from a2v_data.corpus import Corpus
from a2v_data.pack import PackConfig, pack
from a2v_data.recording_names import RecordingNames
from a2v_data.scheduling import on_cores
from a2v_data.sources import open_source
from a2v_eval.evaluation import EvaluationConfig, evaluate
from a2v_model import Detector, save_model, threads
from numpy.typing import NDArray

from ..basics.errors import UserError
from ..inference import recording_features_and_likelihoods
from ..recipe.sections import Recipe
from ..stages.specs import data_spec
from ..stages.stages import fitted
from ..training.group import Group
from ..training.loop import train
from ..training.spec import TrainingSpec, part
from ..training.tasks import build_task
from .detect_recipe import recipe_for
from .detect_scores import Windows, labelled, ranking_settings
from .detect_training import keep_final_weights, warming_up
from .review_corpus import Clip, calls_in, cut, revealed
from .splits import read_splits, with_labels

RANDOM = "random"


@dataclass(frozen=True)
class Clips:
    """Clips as a detector hears them. likelihoods: of each clip (T, C); features: what its head sees (T, D); calls: how
    many of each class were found in them (N, C), zeros where nobody looked."""

    clips: Sequence[Clip]
    likelihoods: Sequence[NDArray[np.float32]]
    features: Sequence[NDArray[np.float32]]
    frame_rate: float
    calls: NDArray[np.int64]


Rule = Callable[[Clips, Clips, int, np.random.Generator], list[int]]
"""Which N of the first to look at, by position, when the second were looked at already."""


@dataclass(frozen=True)
class Rounds:
    """What is simulated. first: clips of round 0; clips: of each other one; updates: of each training; goes_on: a
    training starts from the model of the round before."""

    clip_s: float = 3.0
    first: int = 8
    clips: int = 8
    rounds: int = 5
    updates: int = 200
    goes_on: bool = False


@dataclass(frozen=True)
class Looked:
    """One arm, seed and round: what was looked at in all, and the scores on test."""

    arm: str
    seed: int
    round: int
    clips: int
    minutes: float
    labels: int
    classes: int
    ap: float | None
    map: float | None
    cpu_s: float


def measure_rounds(
    folder: Path,
    recipe: str,
    overrides: Sequence[str],
    rounds: Rounds,
    rules: Mapping[str, Rule | None],
    seeds: Sequence[int],
    done: Callable[[Looked], None],
) -> None:
    """`simulate` on a folder with splits.csv. Raises UserError or ValueError where recipe or folder are wrong."""
    chosen = recipe_for(recipe, overrides, folder)
    source = open_source(folder, chosen.data.annotations)
    parts = read_splits(folder, RecordingNames(source.audio_folder, source.names))
    with tempfile.TemporaryDirectory(prefix="a2v-bench-") as aside:
        config = PackConfig(**data_spec(chosen.data, "").config)
        corpus = pack(folder, Path(aside) / "corpus", config, run=on_cores(), strict=True)
        parts = with_labels(parts, corpus, 1.0, 0)
        simulate(chosen, corpus, (parts.train, parts.test), rounds, rules, seeds, done)


def simulate(
    recipe: Recipe,
    corpus: Corpus,
    parts: tuple[Sequence[str], Sequence[str]],
    rounds: Rounds,
    rules: Mapping[str, Rule | None],
    seeds: Sequence[int],
    done: Callable[[Looked], None],
) -> None:
    """Every arm with every seed, told round by round. parts: names of train and test recordings; rules: arm -> how its
    clips are chosen, None for at random."""
    clips = cut(corpus, parts[0], rounds.clip_s)
    for seed in seeds:
        if not any(calls_in(corpus, clip).any() for clip in _order(clips, seed)[: rounds.first]):
            raise UserError(f"seed {seed}: none of its {rounds.first} first clips holds a call; give more with --first")
    with threads(1), tempfile.TemporaryDirectory(prefix="a2v-review-") as scratch:
        for seed in seeds:
            began: tuple[Looked, Detector] | None = None
            arms = {arm: _Arm(recipe, corpus, parts[1], rounds, rule, clips, seed) for arm, rule in rules.items()}
            for number in range(rounds.rounds + 1):  # in turn, so that what is done so far can be compared
                for arm, one in arms.items():
                    one.choose(number)
                    if number == 0 and began is not None:
                        looked, one.model = Looked(**{**asdict(began[0]), "arm": arm, "cpu_s": 0.0}), began[1]
                    else:
                        looked = one.look(arm, number, Path(scratch))
                        began = began or (looked, one.detector)
                    done(looked)


def _order(clips: Sequence[Clip], seed: int) -> list[Clip]:
    """One order of all clips for every arm: random ones are its next, so that arms begin alike."""
    return [clips[at] for at in np.random.default_rng([seed, 11]).permutation(len(clips))]


class _Arm:
    """One arm with one seed."""

    def __init__(
        self, recipe: Recipe, corpus: Corpus, test: Sequence[str], rounds: Rounds, rule: Rule | None,
        clips: Sequence[Clip], seed: int,
    ) -> None:  # fmt: skip
        self.recipe, self.corpus, self.test, self.rounds, self.rule, self.seed = (
            recipe, corpus, test, rounds, rule, seed,
        )  # fmt: skip
        self.order = _order(clips, seed)
        self.taken: list[Clip] = []
        self.model: Detector | None = None

    @property
    def detector(self) -> Detector:
        assert self.model is not None
        return self.model

    def choose(self, number: int) -> None:
        """Clips of this round, which are looked at from now on."""
        seen = set(self.taken)
        left = [clip for clip in self.order if clip not in seen]
        if number == 0 or self.rule is None:
            self.taken += left[: self.rounds.first if number == 0 else self.rounds.clips]
            return
        every = heard_by(self.detector, self.corpus, [*left, *self.taken], self.recipe)
        open_, known = among(every, range(len(left))), among(every, range(len(left), len(every.clips)))
        known = replace(known, calls=np.array([calls_in(self.corpus, clip) for clip in self.taken]))
        rng = np.random.default_rng([self.seed, 12, number])
        self.taken += [left[at] for at in self.rule(open_, known, self.rounds.clips, rng)]

    def look(self, arm: str, number: int, scratch: Path) -> Looked:
        """Train on what was looked at, and score."""
        begun = time.process_time()
        with tempfile.TemporaryDirectory(dir=scratch) as aside:
            known = revealed(self.corpus, self.taken, Path(aside) / "corpus")
            start = None
            if self.model is not None and self.rounds.goes_on:
                start = Path(aside) / "start"
                save_model(self.model, start, {})
            self.model, settings = trained(self.recipe, known, self.rounds.updates, self.seed, start, Path(aside))
            labels = len(known.events)
            classes = len(np.unique(known.events["class"]))
        ap, map_ = scores(self.model, self.corpus, self.test, self.recipe, settings)
        minutes = sum(clip.offset_s - clip.onset_s for clip in self.taken) / 60
        cpu_s = time.process_time() - begun
        return Looked(arm, self.seed, number, len(self.taken), minutes, labels, classes, ap, map_, cpu_s)


def among(every: Clips, places: Sequence[int]) -> Clips:
    """Some of them, by position."""
    return Clips(
        [every.clips[at] for at in places], [every.likelihoods[at] for at in places],
        [every.features[at] for at in places], every.frame_rate, every.calls[list(places)],
    )  # fmt: skip


def trained(
    recipe: Recipe, known: Corpus, updates: int, seed: int, start: Path | None, scratch: Path
) -> tuple[Detector, EvaluationConfig]:
    """A detector trained on the annotated recordings of a corpus, and the event settings that its labels ask for."""
    assert recipe.finetune is not None
    names = [one.name for one in known.recordings if one.labelled]
    changes = {
        "updates": updates, "optimizer": warming_up(recipe.finetune, updates // 5), "validation": None, "seed": seed,
        "checkpoint_every": updates + 1,
        "head_only_updates": min(recipe.finetune.head_only_updates, updates // 5),
    }  # fmt: skip
    spec = TrainingSpec(
        corpus=str(known.folder.resolve()), recordings=names, segment_s=recipe.data.segment_s, model=recipe.model,
        classes=list(known.classes), finetune=recipe.finetune.model_copy(update=changes),
        backbone=str(start) if start else None, keep_head=start is not None,
    )  # fmt: skip
    task = build_task(spec, torch.device("cpu"))
    written: list[Callable[[Path], None]] = []
    train(task, spec.loop, Group(), None, lambda update, found: None, lambda update, write: written.append(write),
          lambda: [])  # fmt: skip
    keep_final_weights(task, written, scratch)
    return task.model, part(fitted(recipe, known, names).evaluate, EvaluationConfig)


def scores(
    model: Detector, corpus: Corpus, names: Sequence[str], recipe: Recipe, settings: EvaluationConfig
) -> tuple[float | None, float | None]:
    """Strict AP and mAP, micro, on these recordings."""
    assert recipe.finetune is not None
    windows = Windows(recipe.data.segment_s, recipe.evaluate.overlap_s, recipe.finetune.precision)
    found = labelled(model, corpus, names, windows)
    frame_rate = model.model_config.front_end.frame_rate
    metrics = evaluate(found, corpus.classes, frame_rate, ranking_settings(settings)).metrics()
    return metrics.get("strict/AP/micro"), metrics.get("strict/mAP/micro")


def heard_by(model: Detector, corpus: Corpus, clips: Sequence[Clip], recipe: Recipe) -> Clips:
    """The clips as the model hears them in their recordings."""
    assert recipe.finetune is not None
    frame_rate, by_name = model.model_config.front_end.frame_rate, {}
    names = sorted({clip.recording for clip in clips})
    for number, features_TD, likelihood_TC in recording_features_and_likelihoods(
        model, corpus, corpus.indices(names), recipe.data.segment_s, recipe.evaluate.overlap_s,
        precision=recipe.finetune.precision,
    ):  # fmt: skip
        by_name[corpus.recordings[number].name] = features_TD, likelihood_TC
    begins = [round(clip.onset_s * frame_rate) for clip in clips]
    ends = [round(clip.offset_s * frame_rate) for clip in clips]
    spans = [slice(begin, max(end, begin + 1)) for begin, end in zip(begins, ends, strict=True)]
    likelihoods = [by_name[clip.recording][1][span] for clip, span in zip(clips, spans, strict=True)]
    features = [by_name[clip.recording][0][span] for clip, span in zip(clips, spans, strict=True)]
    return Clips(clips, likelihoods, features, frame_rate, np.zeros((len(clips), len(corpus.classes)), np.int64))
