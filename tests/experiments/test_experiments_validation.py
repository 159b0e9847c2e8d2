"""Finetuning with an average of its weights and with validation: what is chosen, and that a stop loses nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from a2v_data.corpus import Corpus
from a2v_eval.evaluation import EvaluationConfig, evaluate
from a2v_eval.events import EventConfig
from a2v_experiments.basics.stopping import finishing_update
from a2v_experiments.inference import recording_likelihoods
from a2v_experiments.stages import stages
from a2v_experiments.training import checkpoints, tasks
from a2v_experiments.training.checkpoints import AVERAGE, BEST, MODEL, read_state, read_weights
from a2v_experiments.training.spec import TrainingSpec
from a2v_experiments.training.tasks import build_task
from a2v_experiments.training.validation import validation_events
from a2v_experiments.training.validation_report import summary
from a2v_model import load_model
from experiments_faults import run_terminated
from experiments_training import Training, run_loop
from experiments_world import CLASSES, RECORDINGS, calls, make_recipe, training_spec

NAMES = [f"rec{n:02d}.wav" for n in range(RECORDINGS)]


def spec(folder: Path, corpus: Corpus, *overrides: str, held: int = 3) -> TrainingSpec:
    """Trains on all recordings but the last `held` ones, which validate."""
    recipe = make_recipe(folder, ["folds.validation=0.2", *(f"finetune.{override}" for override in overrides)])
    plain = training_spec(recipe, "finetune", corpus.folder, NAMES[: RECORDINGS - held])
    return plain.model_copy(update={"validation": NAMES[RECORDINGS - held :], "overlap_s": 0.3})


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def at(training: Training, updates: int, name: str = MODEL) -> dict[str, Any]:
    return read_weights(training.folder / checkpoints.name(updates), name)


def test_the_average_is_what_the_formula_says(tmp_path, corpus):
    one = spec(tmp_path, corpus, "weight_average=0.2", "checkpoint_every=1", held=0)
    begun = build_task(one, torch.device("cpu")).model.state_dict()
    mean = {key: value.double().numpy() for key, value in begun.items()}
    training = run_loop(one, tmp_path / "t")
    for updates in range(1, 7):
        decay = min(0.2, (1 + updates) / (20 + updates))  # 2/21, 3/22, ..., 0.2 from the fourth on
        now = at(training, updates)
        mean = {key: decay * old + (1 - decay) * now[key].double().numpy() for key, old in mean.items()}
        averaged = at(training, updates, AVERAGE)
        assert averaged.keys() == now.keys()
        for key, value in averaged.items():
            np.testing.assert_allclose(value.numpy(), mean[key], rtol=1e-5, atol=1e-7)
    assert checkpoints.final_weights(training.folder / checkpoints.name(6)).name == AVERAGE


def test_stopped_anywhere_and_resumed_it_is_the_run_that_never_stopped_to_the_bit(tmp_path, corpus):
    one = spec(tmp_path, corpus, "weight_average=0.5", "validation={every: 2}", "checkpoint_every=3")
    whole = run_loop(one, tmp_path / "whole")
    last = read_state(whole.folder / checkpoints.name(6))
    assert [update for update, _ in last["history"]] == [2, 4, 6] and last["finished"]
    for stop in (2, 3, 4, 6):
        folder = tmp_path / f"stopped-{stop}"
        before = run_loop(one, folder, stop_after=stop)
        after = run_loop(one, folder, checkpoints.newest(folder))
        assert {**before.metrics, **after.metrics} == whole.metrics
        assert all(same(at(after, 6, name), at(whole, 6, name)) for name in (MODEL, AVERAGE, BEST))
        assert read_state(folder / checkpoints.name(6)) == last
    plain = run_loop(one.model_copy(update={"validation": []}), tmp_path / "plain")
    assert same(at(plain, 6), at(whole, 6))  # looking changes no update


def scored(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """The validations of the next training find these scores."""
    left = iter(values)

    def score(*arguments: object) -> SimpleNamespace:
        value = next(left)
        found = {} if np.isnan(value) else {f"strict/AP/{of}": value for of in ("micro", "macro")}
        return SimpleNamespace(scores=SimpleNamespace(metrics=lambda: found), loss=0.5)

    monkeypatch.setattr(tasks, "score_validation", score)


@pytest.mark.parametrize("average, file", [("0", MODEL), ("0.5", AVERAGE)])
def test_the_model_is_that_of_the_last_validation_as_good_as_the_best(tmp_path, corpus, monkeypatch, average, file):
    scored(monkeypatch, [float("nan"), 0.2, 0.71, 0.7, 0.3, 0.6])
    changes = [f"weight_average={average}", "validation={every: 1}", "checkpoint_every=1"]
    training = run_loop(spec(tmp_path, corpus, *changes), tmp_path / "t")
    last = training.folder / checkpoints.name(6)
    state = read_state(last)
    assert (state["best_update"], state["best_score"]) == (4, 0.7) and checkpoints.final_weights(last).name == BEST
    assert same(at(training, 6, BEST), at(training, 4, file)) and not same(at(training, 6, BEST), at(training, 6, file))
    assert training.metrics[5]["validation/strict/AP/micro"] == 0.3
    assert training.metrics[5]["validation/best/strict/AP/micro"] == 0.7
    assert "validation/strict/AP/micro" not in training.metrics[1]
    assert summary(state, 6) == (
        "validation AP was 0.7 at update 4 of 6, as good within 0.02 as the highest, 0.71 at update 3; its weights are"
        " the model"
    )


def test_without_patience_left_it_stops_and_stays_stopped(tmp_path, corpus, monkeypatch):
    one = spec(tmp_path, corpus, "validation={every: 1, patience: 2}", "checkpoint_every=100")
    scored(monkeypatch, [0.1, 0.5, 0.4, 0.3])
    training = run_loop(one, tmp_path / "t")
    assert list(training.metrics) == [1, 2, 3, 4] and training.metrics[4]["stopped_at_update"] == 4
    state = read_state(checkpoints.newest(training.folder))
    assert state["updates"] == 4 and checkpoints.is_finished(state, 6)
    told = "stopped at update 4 of 6, after 2 validations more than 0.02 below the highest; validation AP was highest"
    assert summary(state, 6) == f"{told} at update 2 of 4, 0.5; its weights are the model"
    assert run_loop(one, tmp_path / "t", checkpoints.newest(training.folder)).metrics == {}


def test_validation_has_the_loss_of_the_frames_that_it_hears(tmp_path, corpus):
    """Focal loss of the likelihoods: alpha_t (1 - p_t)^2 -log p_t, summed over classes, mean over frames."""
    one = spec(tmp_path, corpus, "validation={every: 3}", "focal=true")
    training = run_loop(one, tmp_path / "t")
    assert all(np.isfinite(training.metrics[update]["validation/loss"]) for update in (3, 6))
    task = build_task(one, torch.device("cpu"))
    task.model.load_state_dict(training.weights(6))
    losses = []
    for number, likelihood_TC in recording_likelihoods(
        task.model, corpus, corpus.indices(one.validation), 1.0, 0.3, precision="float32"
    ):
        target_TC = np.zeros_like(likelihood_TC, dtype=bool)
        for label, start, end in calls(number):  # 40 samples a frame; it is of the call where its centre is
            frames = np.arange(len(target_TC)) * 40 + 20
            target_TC[(frames >= start) & (frames < end), CLASSES.index(label)] = True
        right = np.where(target_TC, likelihood_TC, 1 - likelihood_TC).astype(float)
        losses.append(-np.where(target_TC, 0.25, 0.75) * (1 - right) ** 2 * np.log(right))
    expected = np.concatenate(losses).sum(1).mean()
    assert training.metrics[6]["validation/loss"] == pytest.approx(expected, rel=1e-3)


def test_validation_ranks_by_a_low_threshold_unless_thresholds_were_chosen():
    assert validation_events(EventConfig(threshold=0.4)).threshold == 0.05
    assert validation_events(EventConfig(threshold=0.01)).threshold == 0.01
    assert validation_events(EventConfig(threshold={"cc": 0.3})).threshold == {"cc": 0.3}


def test_an_experiment_validates_on_whole_groups_of_training_recordings(world, monkeypatch):
    """Groups are the last digits of the names, so rec00 and rec10 are together, and rec01 and rec11."""
    specs: list[TrainingSpec] = []
    run = stages.run_training

    def training(spec: TrainingSpec, *rest: Any) -> Path:
        specs.append(spec)
        return run(spec, *rest)

    monkeypatch.setattr(stages, "run_training", training)
    changes = ["finetune.validation={every: 3}", "finetune.weight_average=0.9", "variant=validated"]
    said = world.call(*changes, "folds.validation=0.3", r"folds.group=^rec\d(\d)", "evaluate.events.threshold=0.3")
    assert said.code == 0, said.err
    runs = [run for run in world.runs("finetune") if run.data.tags["variant"] == "validated"]
    (folds,) = [run for run in world.runs("folds") if run.info.run_id == runs[0].data.tags["a2v.input_run.folds"]]
    for fold, spec in enumerate(specs):
        assert set(spec.recordings) | set(spec.validation) == world.manifest(folds, f"train_{fold}.tsv")
        assert not {name[4] for name in spec.recordings} & {name[4] for name in spec.validation}
        assert not set(spec.validation) & world.manifest(folds, f"valid_{fold}.tsv") and len(spec.validation) >= 2
    for one, spec in zip(sorted(runs, key=lambda run: run.data.tags["fold"]), specs, strict=True):
        # every recording has two calls of each class
        labels = {part: one.data.metrics[f"labels/{part}/cc"] / 2 for part in ("train", "validation", "evaluation")}
        assert labels == {"train": len(spec.recordings), "validation": len(spec.validation), "evaluation": 4}
        best = one.data.metrics["validation/best_update"]
        described = json.loads((world.fetch(one, "model") / "model.json").read_text(encoding="utf-8"))
        assert described["extra"]["updates"] == best
        # what ranks, of the model that the run keeps, with the evaluation's settings
        corpus = Corpus.open(spec.corpus)
        model = load_model(world.fetch(one, "model"))
        heard = recording_likelihoods(model, corpus, corpus.indices(spec.validation), 1.0, 0.3, precision="float32")
        settings = EvaluationConfig(events=EventConfig(threshold=0.3, window_s=0.03))
        scores = evaluate(((found, corpus.truth(number)) for number, found in heard), corpus.classes, 100.0, settings)
        ranks = {name: value for name, value in scores.metrics().items() if "AP/" in name}
        assert {"strict/mAP/micro", "strict/AP/micro", "strict/AP/cc", "strict/mAP/macro"} <= ranks.keys()
        assert {name: one.data.metrics[f"validation/{name}"] for name in ranks} == pytest.approx(ranks)
        assert not [name for name in one.data.metrics if name.startswith("validation/") and "/F1/" in name]
    (parent,) = [run for run in world.runs("experiment") if run.data.tags["variant"] == "validated"]
    means = [run.data.metrics["validation/strict/mAP/micro"] for run in runs]
    assert parent.data.metrics["validation/strict/mAP/micro_mean"] == pytest.approx(np.mean(means))
    assert parent.data.metrics["validation/strict/mAP/micro_std"] == pytest.approx(np.std(means, ddof=1))
    lines = said.out.splitlines()
    assert sum(line.startswith("  validation: strict AP ") for line in lines) == 4  # two folds, at 3 and 6 updates
    assert sum(line.startswith("  validation AP was ") for line in lines) == 2
    # of these, and not of the evaluation's threshold, are the calls in the table
    assert "calls under strict at thresholds chosen on validation recordings, of all folds" in said.out


def test_a_polite_kill_saves_the_update_it_came_in(world):
    settings = ("finetune.seed=21", "finetune.checkpoint_every=100", "variant=terminated", "folds.run=[0]")
    sets = [part for setting in settings for part in ("--set", setting)]
    ended = run_terminated("experiment", "run", world.recipe, "--work", world.work, *sets)
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert "stopping after this update" in ended.stderr and "Traceback" not in ended.stderr
    (run,) = [run for run in world.runs("finetune") if run.data.tags["variant"] == "terminated"]
    assert run.info.status == "KILLED" and [step for step, _ in world.losses(run)] == [1, 2, 3, 4]
    (saved,) = (world.work / "checkpoints").glob("finetune-*/update-*")
    assert saved.name == checkpoints.name(4) and not read_state(saved)["finished"]
    said = world.call(*settings)
    assert said.code == 0 and "  going on from update 4 (checkpoint)\n" in said.out
    assert [step for step, _ in world.losses(run)] == [1, 2, 3, 4, 5, 6]


def test_a_second_ctrl_c_stops_at_once():
    reached = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), finishing_update() as asked:
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        reached.append(asked())
        signal.raise_signal(signal.SIGINT)
        reached.append("not stopped")
    assert reached == [True] and signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt), finishing_update():
        signal.raise_signal(signal.SIGINT)
        reached.append("finished")
    assert reached == [True, "finished"]
