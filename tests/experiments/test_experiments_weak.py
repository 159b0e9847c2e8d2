"""Finetuning on labels of whole recordings: what is heard, that presence is learned from it, and a run to its end."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.corpus import Corpus
from a2v_data.pack import PackConfig, pack
from a2v_experiments.basics.errors import UserError
from a2v_experiments.recipe.files import Recipe, load_recipe
from a2v_experiments.stages.advice import advice_on
from a2v_experiments.stages.presence import check_weak, where_known
from a2v_experiments.stages.specs import finetune_spec
from a2v_experiments.stages.splits import split
from a2v_experiments.store.lookup import metrics_of
from a2v_experiments.training.spec import TrainingSpec
from a2v_experiments.training.tasks import build_task
from a2v_experiments.training.weak_bags import BagSampler
from a2v_model import Detector, load_model
from experiments_runs import World
from experiments_training import run_loop
from experiments_world import (
    CLASSES,
    RATE,
    SEGMENT_S,
    STRIDE,
    TONES,
    call_quietly,
    make_recipe,
    recipe_tree,
    write_recipe,
)

CALLED = ["wren?", "wren!"]
CLIPS = 32
SAMPLES = int(2.5 * RATE)  # three windows of a second, the last two share half of one
NAMES = [f"clip{number:02d}.wav" for number in range(CLIPS)]
EAR = {
    "front_end": {
        "kind": "ear", "sample_rate": RATE, "filters": 16, "stem": [8, 8], "band_masks": 0, "time_mask_probability": 0,
    },
    "encoder": {"kind": "convolutions", "dim": 16, "depth": 2, "dropout": 0.0},
}  # fmt: skip
LEARNS = {
    "average_layers": 1, "channel_mask_length": 0, "mask_length": 0, "head_only_updates": 0, "freeze_front_end": False,
    "layerdrop": 0, "head_dropout": 0.0, "segments": 12, "micro_batches": 1, "bcl": None, "focal": False,
    "optimizer": {"learning_rate": 0.01, "warmup_updates": 5}, "log_every": 60, "checkpoint_every": 60,
}  # fmt: skip


def presence(number: int) -> list[str]:
    """Each class in half of the clips, all four combinations alike."""
    return [name for bit, name in enumerate(CLASSES) if number >> bit & 1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of noise, with one short call somewhere of each class that clips.csv names; the last 8 by events."""
    folder: Path = tmp_path_factory.mktemp("weak") / "clips"
    (folder / "audio").mkdir(parents=True)
    events = []
    for number, name in enumerate(NAMES):
        rng = np.random.default_rng([9, number])
        sound = rng.normal(0, 0.05, SAMPLES)
        for label in presence(number):
            start = int(rng.integers(0, SAMPLES - 600))
            sound[start : start + 600] += 0.4 * np.sin(2 * np.pi * TONES[label] * np.arange(600) / RATE)
            events.append([name, start / RATE, (start + 600) / RATE, label])
        soundfile.write(folder / "audio" / name, sound, RATE, subtype="PCM_16")
        if not presence(number):
            events.append([name, "", "", ""])
    for table, header, rows in (
        (
            "clips.csv",
            ["file", *CLASSES],
            [[n, *(int(c in presence(i)) for c in CLASSES)] for i, n in enumerate(NAMES)],
        ),
        ("last.csv", ["file", "onset_s", "offset_s", "label"], [row for row in events if row[0] in NAMES[-8:]]),
    ):
        with (folder / table).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
    return folder


def packed(source: Path, out: Path, strong: bool) -> Corpus:
    """The clips as a corpus; strong: the last 8 by their events."""
    folder = out / "source"
    shutil.copytree(source, folder)
    if strong:
        (folder / "last.csv").rename(folder / "annotations.csv")
    else:
        (folder / "last.csv").unlink()
    config = PackConfig(sample_rate=RATE, annotations=AnnotationConfig(weak="clips.csv"), focal_class=False)
    return pack(folder, out / "corpus", config)


@pytest.fixture(scope="module")
def weak(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return packed(source, tmp_path_factory.mktemp("only"), strong=False)


@pytest.fixture(scope="module")
def mixed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return packed(source, tmp_path_factory.mktemp("mixed"), strong=True)


def ear_recipe(folder: Path, **changes: object) -> Recipe:
    tree = recipe_tree(pretrain=None, model=EAR, data__source=str(folder), **changes)
    tree["finetune"] |= LEARNS
    return load_recipe(str(write_recipe(folder / "ear.yaml", tree)))


def spec(folder: Path, corpus: Corpus, names: list[str], **changes: object) -> TrainingSpec:
    recipe = ear_recipe(folder)
    assert recipe.finetune is not None
    return TrainingSpec(
        corpus=str(corpus.folder), recordings=names, segment_s=SEGMENT_S, model=recipe.model, classes=CLASSES,
        finetune=recipe.finetune.model_copy(update=changes), overlap_s=0.3,
    )  # fmt: skip


def test_every_frame_of_a_recording_counts_once(weak: Corpus) -> None:
    sampler = BagSampler(weak, list(range(CLIPS)), RATE, STRIDE, RATE // STRIDE, 12, 2, 3)
    assert sampler.batch == 4  # recordings of three windows are worth 12 segments
    seen = []
    for update in range(4):
        for micro in range(2):
            bags = sampler.draw(update, micro)
            again = sampler.draw(update, micro)
            assert np.array_equal(bags.segments, again.segments)
            seen += [int(bags.segments["recording"][3 * place]) for place in range(4)]
            for place in range(4):
                rows = bags.recording == place
                starts = bags.segments["start"][rows][:, None] + STRIDE * np.arange(RATE // STRIDE)
                assert sorted(starts[bags.counted[rows]]) == list(range(0, SAMPLES, STRIDE))
                assert bags.presence[place].tolist() == [name in presence(seen[place - 4]) for name in CLASSES]
    assert sorted(seen) == list(range(CLIPS))  # an epoch


def test_share_and_weight_of_the_loss(tmp_path: Path, mixed: Corpus) -> None:
    def stepped(names: list[str], segments: int, **weak: float) -> tuple[float, float]:
        config = spec(tmp_path, mixed, names).finetune
        assert config is not None
        one = spec(tmp_path, mixed, names, weak=config.weak.model_copy(update=weak), segments=segments)
        step = build_task(one, torch.device("cpu")).step(0, 0, torch.Generator().manual_seed(1))
        return float(step.loss_sum.detach()), float(step.frames)

    half, heavy, none = stepped(NAMES, 4), stepped(NAMES, 4, weight=3.0), stepped(NAMES, 4, share=0.0)
    assert half[1] == heavy[1] == none[1] == 4 * RATE // STRIDE
    of_recordings = (heavy[0] - half[0]) / 2
    two, four = stepped(NAMES[-8:], 2), stepped(NAMES[-8:], 4)  # those with events alone
    assert half[0] == pytest.approx(two[0] + of_recordings, rel=1e-5) and two[1] == half[1] / 2
    assert none[0] == four[0]  # as if the others were not there
    wholly = stepped(NAMES[:-8], 4)  # twice the share, and of the mean over recordings
    assert wholly[1] == half[1] and wholly[0] == pytest.approx(2 * of_recordings, rel=0.5)


def test_presence_is_learned_from_labels_of_whole_recordings_alone(tmp_path: Path, weak: Corpus) -> None:
    held = NAMES[20:]
    chance = np.mean([name in presence(number) for number in range(20, CLIPS) for name in CLASSES])
    found, places = [], []
    for seed in range(3):
        one = spec(tmp_path, weak, NAMES[:20], updates=40, seed=seed, precision="float32")
        training = run_loop(one, tmp_path / str(seed))
        task = build_task(one.model_copy(update={"validation": held}), torch.device("cpu"))
        task.model.load_state_dict(training.weights(40))
        found.append(task.score(task.model).scores.micro)
        places.append(_hits(task.model, weak, list(range(20, CLIPS))))
    assert chance == 0.5 and min(found) > 0.8, found
    assert np.mean(places) > 0.6, places  # and when it calls, though nobody said it: a call is 6 % of a clip


def _hits(model: Detector, corpus: Corpus, recordings: list[int]) -> float:
    """Share of the calls in which the likeliest frame of their clip and class lies."""
    hits = []
    for number in recordings:
        rng = np.random.default_rng([9, number])
        rng.normal(0, 0.05, SAMPLES)
        sound = corpus.audio[corpus.recordings[number].offset :][:SAMPLES] / np.float32(32768)
        likelihood_TC = model.likelihoods(sound)
        for label in presence(number):
            start = int(rng.integers(0, SAMPLES - 600))
            peak = int(likelihood_TC[:, CLASSES.index(label)].argmax()) * STRIDE
            hits.append(start - 2 * STRIDE <= peak < start + 600 + 2 * STRIDE)
    return float(np.mean(hits))


def test_long_recordings_are_refused_before_anything_is_trained(tmp_path: Path, weak: Corpus) -> None:
    check_weak(ear_recipe(tmp_path), weak)
    with pytest.raises(UserError, match=r"max_s = 2: 32 of 32 recordings .* are longer \(longest: clip00.wav, 2 s\)"):
        check_weak(make_recipe(tmp_path, ["finetune.weak={max_s: 2}"]), weak)
    with pytest.raises(UserError, match=r"finetune\.weak\.share = 0: all labels are of whole recordings"):
        check_weak(make_recipe(tmp_path, ["finetune.weak={share: 0}"]), weak)


def test_what_nobody_annotated_says_nothing_of_presence(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "source"
    shutil.copytree(source, folder)
    (folder / "last.csv").unlink()
    (folder / "annotations.csv").write_text(f"file,onset_s,offset_s,label\nclip03.wav,0.9,1.08,{CLASSES[0]}\n")
    (folder / "regions.csv").write_text("file,onset_s,offset_s\nclip03.wav,0.5,1\n")
    config = PackConfig(sample_rate=RATE, annotations=AnnotationConfig(weak="clips.csv"), focal_class=False)
    corpus = pack(folder, tmp_path / "corpus", config)
    likelihood_TC = np.full((25, len(CLASSES)), 0.5, np.float32)
    assert where_known(corpus, 4, likelihood_TC, 10) is likelihood_TC
    known_TC = where_known(corpus, 3, likelihood_TC, 10)
    call, other = corpus.classes.index(CLASSES[0]), corpus.classes.index(CLASSES[1])
    assert np.flatnonzero(known_TC[:, other]).tolist() == [5, 6, 7, 8, 9]
    assert np.flatnonzero(known_TC[:, call]).tolist() == [5, 6, 7, 8, 9, 10]  # an event that reaches out is whole


def test_advice_tells_the_two_kinds_apart(tmp_path: Path, mixed: Corpus) -> None:
    recipe = ear_recipe(tmp_path, folds__count=4, folds__run=[0])
    lines = "\n".join(advice_on(recipe, mixed, split(recipe, mixed)).lines)
    assert "hears 18 recordings (45 s) labelled as a whole" in lines and "labelled calls: " in lines


def test_fingerprints_without_it_are_those_of_before(tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path)
    assert "weak" not in recipe.model_dump(mode="json")["finetune"]
    assert "weak" not in recipe.model_dump(mode="json")["data"]["annotations"]
    changed = make_recipe(tmp_path, ["finetune.weak={share: 0.25}"])
    marks = {finetune_spec(one, 0, 1, "data", "folds", None).fingerprint for one in (recipe, changed)}
    assert len(marks) == 2


@pytest.fixture(scope="module")
def world(source: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two folds and the refit on labels of whole recordings alone, with validation; classes are called as MLflow does
    not take them, and would take them for one."""
    folder = tmp_path_factory.mktemp("weak_run")
    shutil.copytree(source, folder / "source")
    (folder / "source" / "last.csv").unlink()
    mapping = "".join(f"{label},{name}\n" for label, name in zip(CLASSES, CALLED, strict=True))
    (folder / "source" / "map.csv").write_text(f"label,class\n{mapping}", encoding="utf-8")
    (folder / "work").mkdir()
    shutil.copy(empty_database, folder / "work" / "mlflow.db")
    tree = recipe_tree(
        pretrain=None, model=EAR, data__source=str(folder / "source"), data__labelled="auto",
        data__annotations={"weak": "clips.csv", "mapping": "map.csv"},
        folds={"count": 3, "run": [0, 1], "refit": True, "validation": 0.2},
        evaluate={"fit_events": True, "overlap_s": 0.3},
    )  # fmt: skip
    tree["finetune"] |= {**LEARNS, "updates": 20, "validation": {"every": 10}}
    recipe = write_recipe(folder / "weak.yaml", tree)
    return World(folder / "work", recipe, call_quietly("experiment", "run", recipe, "--work", folder / "work"))


def test_an_experiment_runs_to_its_end(world: World) -> None:
    assert world.first.code == 0, world.first.err
    assert "presence" in world.first.out and "strict" not in world.first.out
    assert "presence mAP of validation" in world.first.out
    assert all(re.search(rf"^{re.escape(name)} .* 0\.\d\d ", world.first.out, re.M) for name in CALLED)
    runs = world.runs("finetune")
    assert len(runs) == 2
    for run in runs:
        metrics = metrics_of(run)
        assert metrics["presence/recordings/weak"] == metrics["presence/recordings"] > 9
        assert {"presence/mAP/micro", "presence/F1/micro"} <= metrics.keys()
        of_classes = {f"{of}/{name}" for of in ("presence/AP", "presence/F1", "energy/presence/AP") for name in CALLED}
        assert of_classes <= metrics.keys()
        assert not any(name.startswith(("AP/", "strict/")) for name in metrics)
    assert {"presence.csv", "precision_recall_presence.png", "f1_threshold_presence.png"} <= set(
        world.artifacts(world.runs("experiment")[0])
    )


def test_its_final_model_predicts_at_thresholds_for_presence(world: World, tmp_path: Path) -> None:
    (final,) = world.runs("refit")
    model = load_model(world.fetch(final, "model"))
    assert set(model.thresholds) == set(CALLED) and model.thresholds_from["score"] == "F1 of presence per recording"
    chosen = json.loads(world.fetch(final, "thresholds.json").read_text())
    assert sum(chosen["thresholds_from"]["labels"].values()) in range(18, 26)  # of two folds of three
    sound = world.recipe.parent / "source" / "audio"
    uri = f"sqlite:///{world.work / 'mlflow.db'}"
    options = ["--model", f"runs:/{final.info.run_id}", "--out", tmp_path / "calls", "--tracking-uri", uri]
    said = call_quietly("predict", sound, *options)
    assert said.code == 0, said.err
    assert (tmp_path / "calls" / "events.csv").is_file()
