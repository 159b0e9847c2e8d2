"""Sampling and augmentation in a training: exact on resume, of the training recordings only, and off unless asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from a2v_data.corpus import Corpus
from a2v_data.training_part import TrainingPart
from a2v_experiments.stages.specs import training_config
from a2v_experiments.training import checkpoints
from a2v_experiments.training.spec import TrainingSpec
from a2v_experiments.training.tasks import FinetuneTask
from experiments_training import run_loop
from experiments_world import make_recipe, training_spec

CHANGES = {
    "pretrain": ["pretrain.sampling={active_share: 0.7}"],
    "finetune": [
        "finetune.sampling={event_share: 0.7, class_power: 0.5}",
        "finetune.augment={paste: {probability: 1}, background: {probability: 0.5}, gain_db: 6}",
    ],
}
NAMES = [f"rec{number:02d}.wav" for number in (1, 4, 7)]


def spec(folder: Path, corpus: Corpus, stage: str, *overrides: str) -> TrainingSpec:
    return training_spec(make_recipe(folder, overrides), stage, corpus.folder, NAMES)


@pytest.mark.parametrize("stage", CHANGES)
def test_a_resumed_training_hears_what_it_would_have_heard(tmp_path, corpus, stage):
    given = spec(tmp_path, corpus, stage, *CHANGES[stage])
    whole = run_loop(given, tmp_path / "whole")
    run_loop(given, tmp_path / "stopped", stop_after=3)
    after = run_loop(given, tmp_path / "stopped", checkpoints.newest(tmp_path / "stopped"))
    assert all(torch.equal(after.weights(6)[key], value) for key, value in whole.weights(6).items())
    plain = run_loop(spec(tmp_path, corpus, stage), tmp_path / "plain")
    assert plain.metrics[1] != whole.metrics[1]


def test_examples_are_a_pure_function_of_the_training_recordings(tmp_path, corpus):
    given = spec(tmp_path, corpus, "finetune", *CHANGES["finetune"])
    first, again = (FinetuneTask(given, torch.device("cpu")) for _ in range(2))

    def heard_by(task: FinetuneTask, *key: int) -> tuple[torch.Tensor, torch.Tensor]:
        heard, target_BTC = task.examples(*key)
        return task.normalised(heard), target_BTC

    keys = [(update, micro) for update in range(8) for micro in range(2)]
    forwards = {key: heard_by(first, *key) for key in keys}
    for key in reversed(keys):
        assert all(torch.equal(a, b) for a, b in zip(heard_by(again, *key), forwards[key], strict=True))
    level_db = 20 * torch.cat([waveform.std(1) for waveform, _ in forwards.values()]).log10()
    assert level_db.abs().max() < 6.1 and level_db.std() > 2  # gain is what is left after normalising
    heard = {int(number) for key in keys for number in first.read(*key)[0]["recording"]}
    assert heard == set(corpus.indices(NAMES))
    # with samples that are no numbers in all other recordings, examples are the same
    audio = np.full(len(corpus.audio), np.nan, np.float32)
    for number in heard:
        recording = corpus.recordings[number]
        own = slice(recording.offset, recording.offset + recording.n_samples)
        audio[own] = corpus.audio[own]
    again.corpus = replace(corpus, audio=audio)
    assert again.augmenter is not None
    again.augmenter.part = TrainingPart(again.corpus, sorted(heard))
    assert all(torch.equal(heard_by(again, *key)[0], forwards[key][0]) for key in keys)


def test_pasting_brings_more_targets_than_the_recordings_have(tmp_path, corpus):
    task = FinetuneTask(spec(tmp_path, corpus, "finetune", *CHANGES["finetune"]), torch.device("cpu"))
    plain = FinetuneTask(spec(tmp_path, corpus, "finetune", CHANGES["finetune"][0]), torch.device("cpu"))
    pairs = [(task.examples(update, 0)[1], plain.examples(update, 0)[1]) for update in range(10)]
    assert all((more >= less).all() for more, less in pairs)  # the same segments, their own labels kept
    assert sum(more.sum() for more, _ in pairs) > 1.2 * sum(less.sum() for _, less in pairs)


def test_recipes_without_them_keep_their_fingerprints(tmp_path):
    for stage in CHANGES:
        assert not {"sampling", "augment"} & training_config(make_recipe(tmp_path), stage)[stage].keys()
        changed = training_config(make_recipe(tmp_path, CHANGES[stage]), stage)[stage]
        assert "sampling" in changed and ("augment" in changed) == (stage == "finetune")
