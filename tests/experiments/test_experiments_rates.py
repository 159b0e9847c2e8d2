"""Recordings of several sample rates in one training and one evaluation, each heard as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from a2v_data.corpus import SEGMENT_DTYPE, Corpus
from a2v_data.pack import PackConfig, pack
from a2v_experiments.adapt.head import HeadTraining, Stretches
from a2v_experiments.inference import recording_likelihoods
from a2v_experiments.recipe.files import load_recipe
from a2v_experiments.training import checkpoints
from a2v_experiments.training.group import Group
from a2v_experiments.training.loop import TrainingStep
from a2v_experiments.training.spec import TrainingSpec
from a2v_experiments.training.tasks import build_task
from a2v_experiments.training.turns import Turns
from a2v_model.config import EarConfig
from experiments_training import run_loop
from experiments_world import CLASSES, RATE, RECIPE, RECORDINGS, make_csv_source, training_spec, write_recipe

FAST = 2 * RATE
LEARNS_ALL = ("finetune.head_only_updates=0", "finetune.freeze_front_end=false")
FRONT_END = {"kind": "ear", "sample_rate": FAST, "any_rate": True, "filters": 32, "stem": [4, 6]}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small corpus, of which every third recording has twice the rate."""
    folder = make_csv_source(tmp_path_factory.mktemp("rates") / "tones")
    for number in range(0, RECORDINGS, 3):
        path = folder / "audio" / f"rec{number:02d}.wav"
        slow_N = soundfile.read(path)[0]
        fast_N = np.interp(np.arange(2 * len(slow_N)) / 2, np.arange(len(slow_N)), slow_N)
        soundfile.write(path, fast_N, FAST, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def corpus(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    config = PackConfig(sample_rate=FAST, keep_rates=100, labelled="all", focal_class=False)
    return pack(source, tmp_path_factory.mktemp("packed") / "corpus", config)


def tree(source: Path | str = "x", **data: object) -> dict:
    made = yaml.safe_load(yaml.safe_dump(RECIPE))
    made["data"] |= {"source": str(source), "sample_rate": FAST, "keep_rates": 100} | data
    made["model"]["front_end"] = dict(FRONT_END)
    return made


def spec(folder: Path, corpus: Corpus, stage: str, *changes: str) -> TrainingSpec:
    recipe = load_recipe(str(write_recipe(folder / "small.yaml", tree())), list(changes))
    return training_spec(recipe, stage, corpus.folder)


@pytest.mark.parametrize("seconds", [[30.0, 10.0], [1.0, 1.0, 1.0], [1000.0, 1.0, 50.0]])
def test_every_rate_has_its_turns_and_none_of_its_micro_batches_twice(seconds: list[float]) -> None:
    turns = Turns(seconds, seed=3)
    found = [turns.of(number) for number in range(5 * len(turns.order))]
    for rate, share in enumerate(np.array(seconds) / sum(seconds)):
        own = [number for of, number in found if of == rate]
        assert own == list(range(len(own)))  # each once, in order
        assert len(own) / len(found) == pytest.approx(share, abs=1.5 / 64) and own


def test_the_turns_of_rates_are_those_of_earlier_trainings() -> None:
    """As before there were several corpora."""
    turns = Turns([30.0, 10.0, 1.0], seed=3)
    assert turns.counts == [47, 16, 2] and turns.order[:16].tolist() == [1, *[0] * 10, 2, 0, 1, 2, 1]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_micro_batch_is_of_one_rate_as_it_was_recorded(tmp_path: Path, corpus: Corpus, stage: str) -> None:
    """Both are heard, by one model; the samples are those of the files."""
    of_it = spec(tmp_path, corpus, stage, f"{stage}.micro_batches=1", f"{stage}.updates=40")
    task = build_task(of_it, torch.device("cpu"))
    heard = {}
    for update in range(20):
        made = task.prepare(update, 0, torch.Generator().manual_seed(update))
        batch = made.batch.labelled if stage == "finetune" else made.batch
        heard.setdefault(batch.heard.waveform.shape[1], []).append(batch)
    assert set(heard) == {RATE, FAST}  # segments of 1 s
    assert 2 <= len(heard[FAST]) <= 10  # a third of the sound
    if stage == "finetune":
        assert {batch.targets.shape[1] for batches in heard.values() for batch in batches} == {100}
    with torch.no_grad():
        for update in range(20):
            step = task.step(update, 0, torch.Generator().manual_seed(update))
            assert torch.isfinite(step.loss_sum)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_training_stopped_and_resumed_is_the_training_that_never_stopped(
    tmp_path: Path, corpus: Corpus, stage: str
) -> None:
    given = spec(tmp_path, corpus, stage)
    whole = run_loop(given, tmp_path / "whole")
    run_loop(given, tmp_path / "stopped", stop_after=4)
    again = run_loop(given, tmp_path / "stopped", resume=checkpoints.newest(tmp_path / "stopped"))
    assert whole.weights(6).keys() == again.weights(6).keys()
    assert all(torch.equal(value, again.weights(6)[key]) for key, value in whole.weights(6).items())


def test_one_model_learns_from_both(tmp_path: Path, corpus: Corpus) -> None:
    """An update's micro-batches change the same weights, on a device and in a mode that is the model's."""
    given = spec(tmp_path, corpus, "finetune", "finetune.micro_batches=8", *LEARNS_ALL)
    task = build_task(given, torch.device("cpu"))
    step = TrainingStep(task, given.loop, Group())
    before = {name: value.clone() for name, value in step.model.state_dict().items()}
    rates = {task.prepare(0, micro, torch.Generator()).turn for micro in range(8)}
    step(0)
    step(1)
    assert rates == {0, 1} and step.model is task.model
    learned = [name for name, value in step.model.named_parameters() if not torch.equal(before[name], value)]
    assert any(name.startswith("backbone.front_end.") for name in learned) and "head.weight" in learned
    assert step.model.model_config.front_end.sample_rate == FAST  # what is saved hears both


def test_likelihoods_of_all_rates_in_one_call_are_those_of_each_alone(tmp_path: Path, corpus: Corpus) -> None:
    model = build_task(spec(tmp_path, corpus, "finetune"), torch.device("cpu")).model.eval()
    numbers = list(range(RECORDINGS))
    together = dict(recording_likelihoods(model, corpus, numbers, 1.0, 0.3, batch=4, precision="float32"))
    for number in numbers:
        seconds = corpus.duration_s(number)
        assert together[number].shape == (-(-corpus.recordings[number].n_samples // (corpus.rate(number) // 100)), 2)
        assert len(together[number]) == pytest.approx(100 * seconds, abs=1)
        ((_, alone),) = recording_likelihoods(model, corpus, [number], 1.0, 0.3, batch=4, precision="float32")
        np.testing.assert_allclose(together[number], alone, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model.front_end.any_rate": "false"}, "needs a model that hears any rate (model.front_end.any_rate: true)"),
        ({"data.keep_rates": "200"}, "must be the frames a second of a model that hears any rate, 100, so that it"),
        ({"data.keep_rates": "null"}, "must be the frames a second of a model that hears any rate, 100, so that it"),
    ],
)
def test_rates_are_kept_for_a_model_that_hears_them(tmp_path: Path, change: dict[str, str], told: str) -> None:
    path = write_recipe(tmp_path / "small.yaml", tree())
    with pytest.raises(Exception, match="keep_rates") as caught:
        load_recipe(str(path), [f"{key}={value}" for key, value in change.items()])
    assert f"data.keep_rates: {told}" in str(caught.value)


@pytest.mark.slow
def test_an_experiment_from_recordings_to_scores(a2v, source: Path, new_work, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "rates.yaml", tree(source) | {"pretrain": None, "ray": {"num_workers": 0}})
    said = a2v("experiment", "run", recipe, "--work", new_work())
    assert said.code == 0, said.err
    assert "micro" in said.out and all(name in said.out for name in CLASSES)
    planned = a2v("experiment", "plan", recipe)
    assert planned.code == 0, planned.err


def test_rates_that_the_model_does_not_hear_are_named(tmp_path: Path, corpus: Corpus) -> None:
    """minimum_hz is a quarter of 4000 Hz: an ear of these bands hears nothing of a recording at 4000 Hz."""
    deaf = spec(tmp_path, corpus, "finetune", "model.front_end.minimum_hz=1000")
    with pytest.raises(ValueError, match=r"rec01.wav: is stored at 4000 Hz, which this model does not hear .*: 1000"):
        build_task(deaf, torch.device("cpu"))


def test_labels_of_whole_recordings_need_one_rate(tmp_path: Path, corpus: Corpus, monkeypatch) -> None:
    monkeypatch.setattr(Corpus, "weak", {"rec02.wav": ["cc"]})
    with pytest.raises(ValueError, match=r"rec02.wav: labels of whole recordings need .* one sample rate.*4000, 8000"):
        build_task(spec(tmp_path, corpus, "finetune"), torch.device("cpu"))


def test_tools_for_one_rate_say_so(a2v, source: Path, corpus: Corpus, tmp_path: Path) -> None:
    said = a2v("bench", "data", corpus.folder)
    assert said.code != 0 and "several sample rates (4000, 8000 Hz)" in said.only_line()
    said = a2v("data", "pack", source, "--out", tmp_path / "store", "--keep-rates", "100")
    assert said.code == 2 and said.only_line() == "keep_rates: needs sample_rate, the highest that is kept"


def test_a_head_learns_from_features_of_the_frames_that_its_targets_are_of(tmp_path: Path, corpus: Corpus) -> None:
    """Features that are the targets themselves, of recordings at both rates: every stretch has its own."""
    whole = np.array([(number, 0) for number in range(RECORDINGS)], SEGMENT_DTYPE)
    features = {
        number: corpus.targets(whole[number : number + 1], 100.0, round(100 * corpus.duration_s(number)))[0]
        for number in range(RECORDINGS)
    }
    front_end = EarConfig(sample_rate=FAST, any_rate=True)
    stretches = Stretches(features, corpus, list(range(RECORDINGS)), front_end, HeadTraining(stretch_s=0.5, seed=1))
    heard = 0.0
    for update in range(5):
        x_BTD, target_BTC, valid_BT = stretches.draw(update)
        assert torch.equal(x_BTD[valid_BT], target_BTC[valid_BT])
        heard += float(target_BTC.mean())
    assert heard > 0.5  # half of the stretches hold a call
