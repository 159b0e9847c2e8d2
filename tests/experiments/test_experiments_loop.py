"""The training loop: its schedule, exact resume, and the same result for any number of workers."""

from __future__ import annotations

import gc
import json
import math
import time
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
from a2v_data.corpus import Corpus
from a2v_experiments.recipe.trainings import OptimizerConfig
from a2v_experiments.training import checkpoints, tasks
from a2v_experiments.training.group import Group
from a2v_experiments.training.loop import TrainingStep, TrainingStopped, generator_of, learning_rate, seed_dropout
from a2v_experiments.training.spec import TrainingSpec
from a2v_experiments.training.tasks import build_task
from a2v_model import compile_model
from a2v_model.layers import BatchNorm
from experiments_training import gloo_worker, run_loop
from experiments_world import make_recipe, training_spec

STAGES = ["pretrain", "finetune"]


def spec(folder: Path, corpus: Corpus, stage: str, *overrides: str) -> TrainingSpec:
    return training_spec(make_recipe(folder, overrides), stage, corpus.folder)


def test_warm_up_is_linear_and_ends_at_the_learning_rate():
    config = OptimizerConfig(learning_rate=0.01, warmup_updates=4, warmup_from=0.002)
    rates = [learning_rate(update, 100, config) for update in range(4)]
    assert rates == pytest.approx([0.004, 0.006, 0.008, 0.01])


@pytest.mark.parametrize("updates, warmup, last", [(100, 20, 0.0), (101, 1, 0.003), (40, 0, 1e-5)])
def test_then_a_cosine_to_the_final_rate(updates, warmup, last):
    config = OptimizerConfig(learning_rate=0.01, warmup_updates=warmup, final_learning_rate=last)
    assert learning_rate(warmup, updates, config) == pytest.approx(0.01)
    assert learning_rate((updates + warmup) // 2, updates, config) == pytest.approx((0.01 + last) / 2)  # cos 90 degrees
    third = warmup + (updates - warmup) / 3
    if third == int(third):
        assert learning_rate(int(third), updates, config) == pytest.approx(
            last + 0.75 * (0.01 - last)
        )  # cos 60 degrees
    assert learning_rate(updates, updates, config) == pytest.approx(last)
    remaining = math.pi / (updates - warmup)  # of the angle, at the last update that is made
    end = last + (0.01 - last) * math.sin(remaining / 2) ** 2
    assert learning_rate(updates - 1, updates, config) == pytest.approx(end)
    rates = [learning_rate(update, updates, config) for update in range(warmup, updates)]
    assert rates == sorted(rates, reverse=True)


def test_a_warm_up_as_long_as_the_training_never_falls():
    config = OptimizerConfig(learning_rate=0.01, warmup_updates=10)
    assert learning_rate(9, 10, config) == pytest.approx(0.01)


def test_a_micro_batch_has_its_own_random_numbers_whatever_was_drawn_before():
    def draws(seed: int, update: int, micro: int) -> tuple[float, float]:
        seed_dropout(seed, update, micro)
        generator = generator_of(seed, update, micro)
        return float(torch.rand((), generator=generator)), float(torch.rand(()))

    keys = [(seed, update, micro) for seed in (0, 1) for update in range(12) for micro in range(12)]
    first = {key: draws(*key) for key in keys}
    assert {key: draws(*key) for key in reversed(keys)} == first
    values = [value for pair in first.values() for value in pair]
    assert len(set(values)) == len(values)  # (1, 11) and (11, 1) differ, and so do both generators


@pytest.mark.parametrize("ahead", [False, True])
def test_a_training_that_is_over_leaves_no_model_in_memory(tmp_path, corpus, ahead):
    """At once, not when Python next looks for cycles: another one may begin in this process."""
    of_it = spec(tmp_path, corpus, "finetune")

    def trained() -> TrainingStep:
        step = TrainingStep(build_task(of_it, torch.device("cpu")), of_it.loop, Group(), ahead=ahead)
        step(0)
        return step

    trained()  # the first optimiser of a process imports parts of torch, which keep the frames that asked for them
    gc.collect()
    gc.disable()
    try:
        step = trained()
        left = [weakref.ref(step), weakref.ref(step.model), weakref.ref(step.task)]
        del step
        deadline = time.monotonic() + 5  # a thread that makes the next micro-batch ends with it
        while any(one() is not None for one in left) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [one() for one in left] == [None, None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("precision, every", [("float32", 2), ("bfloat16", 4)])
@pytest.mark.parametrize("stage", STAGES)
def test_a_run_stopped_at_any_step_and_resumed_repeats_the_run_that_never_stopped_to_the_bit(
    tmp_path, corpus, stage, precision, every
):
    """With between-classes mixing, and in finetuning layerdrop, masks and a head that trains alone at first."""
    changes = [f"{stage}.precision={precision}", f"{stage}.checkpoint_every={every}"]
    whole = run_loop(spec(tmp_path, corpus, stage, *changes), tmp_path / "whole")
    assert list(whole.metrics) == [1, 2, 3, 4, 5, 6]
    for stop in range(1, 7):
        folder = tmp_path / f"stopped-{stop}"
        before = run_loop(spec(tmp_path, corpus, stage, *changes), folder, stop_after=stop)
        resume = checkpoints.newest(folder)
        saved = (stop - 1) // every * every  # it stops before it saves this step
        assert (resume.name if resume else None) == (checkpoints.name(saved) if saved else None)
        torch.manual_seed(stop)  # whatever a new process starts with
        after = run_loop(spec(tmp_path, corpus, stage, *changes), folder, resume)
        assert list(before.metrics) == list(range(1, stop + 1)) and list(after.metrics) == list(range(saved + 1, 7))
        assert all(
            whole.metrics[step] == metrics for step, metrics in [*before.metrics.items(), *after.metrics.items()]
        )
        for ours, theirs in ((after.weights(6), whole.weights(6)), (after.moments(6), whole.moments(6))):
            assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.rehearsal  # compiles; the parts agree when compiled: tests/model/test_model_execution.py
@pytest.mark.parametrize("stage", STAGES)
def test_gradient_checkpointing_changes_no_bit_and_compilation_nothing_but_rounding(
    tmp_path, corpus, stage, monkeypatch
):
    quiet = [f"model.encoder.{name}=0" for name in ("dropout", "attention_dropout", "prenet_dropout")]
    quiet += ["finetune.dropout=0", "finetune.attention_dropout=0", "finetune.activation_dropout=0"]
    quiet += ["finetune.head_dropout=0", "pretrain.decoder.dropout=0", f"{stage}.precision=float32"]
    plain = run_loop(spec(tmp_path, corpus, stage, *quiet), tmp_path / "plain").metrics
    recomputed = run_loop(
        spec(tmp_path, corpus, stage, *quiet, f"{stage}.gradient_checkpointing=true"), tmp_path / "recomputed"
    ).metrics
    assert recomputed == plain
    # torch's reference backend: a real compiler takes minutes
    monkeypatch.setattr("a2v_experiments.training.loop.compile_model", partial(compile_model, backend="aot_eager"))
    compiled = run_loop(spec(tmp_path, corpus, stage, *quiet, f"{stage}.compile=true"), tmp_path / "compiled").metrics
    for update, metrics in plain.items():
        assert compiled[update]["loss"] == pytest.approx(metrics["loss"], rel=1e-3)


@pytest.mark.parametrize("stage", STAGES)
def test_how_often_it_logs_and_saves_changes_nothing(tmp_path, corpus, stage):
    often = run_loop(spec(tmp_path, corpus, stage), tmp_path / "often")
    rarely = run_loop(
        spec(tmp_path, corpus, stage, f"{stage}.log_every=4", f"{stage}.checkpoint_every=5"), tmp_path / "rarely"
    )
    assert list(rarely.metrics) == [4, 6]
    assert [path.name for path in sorted((tmp_path / "rarely").iterdir())] == [checkpoints.name(5), checkpoints.name(6)]
    assert all(rarely.metrics[step] == often.metrics[step] for step in (4, 6))
    weights = rarely.weights(6)
    assert all(torch.equal(weights[key], value) for key, value in often.weights(6).items())


@pytest.mark.parametrize("stage", STAGES)
def test_another_seed_is_another_run(tmp_path, corpus, stage):
    one = run_loop(spec(tmp_path, corpus, stage), tmp_path / "one")
    two = run_loop(spec(tmp_path, corpus, stage, f"{stage}.seed=1"), tmp_path / "two")
    assert one.metrics[1]["loss"] != two.metrics[1]["loss"]


def test_logged_metrics_are_those_of_the_update(tmp_path, corpus):
    config = OptimizerConfig(learning_rate=0.001, warmup_updates=2)
    pretrained = run_loop(spec(tmp_path, corpus, "pretrain"), tmp_path / "p").metrics
    for step, metrics in pretrained.items():
        assert metrics["update"] == step
        assert metrics["learning_rate"] == learning_rate(step - 1, 6, config)
        assert metrics["loss"] > 0 and metrics["gradient_norm"] > 0 and 0 < metrics["masked_share"] < 1
        assert metrics["ema_decay"] == pytest.approx(0.99 + 0.01 * (step - 1) / 50)
    assert "target_variance" not in run_loop(spec(tmp_path, corpus, "finetune"), tmp_path / "f").metrics[6]


@pytest.mark.parametrize("clip, largest", [("null", math.inf), ("0.01", 0.01)])
def test_gradients_are_clipped_only_where_the_recipe_says_so(tmp_path, corpus, clip, largest):
    """Adam's first moment after an update is 1 - betas[0] of the gradient that it got."""
    changes = [f"pretrain.optimizer.gradient_clip={clip}", "pretrain.checkpoint_every=1"]
    training = run_loop(spec(tmp_path, corpus, "pretrain", *changes), tmp_path / "p")
    logged = training.metrics[1]["gradient_norm"]  # that before clipping
    moments = [value for key, value in training.moments(1).items() if key.endswith("exp_avg")]
    got = math.sqrt(sum(float(value.double().square().sum()) for value in moments)) / (1 - 0.9)
    assert logged > 0.1 and got == pytest.approx(min(logged, largest), rel=1e-3)


def test_only_the_head_learns_at_first_and_the_front_end_never(tmp_path, corpus):
    training = run_loop(spec(tmp_path, corpus, "finetune", "finetune.checkpoint_every=1"), tmp_path / "f")
    weights = {updates: training.weights(updates) for updates in (1, 2, 3, 6)}

    def moved(older: int, newer: int) -> set[str]:
        return {key for key, value in weights[newer].items() if not torch.equal(value, weights[older][key])}

    assert moved(1, 2) == {"head.weight", "head.bias"}
    assert any(".encoder." in key for key in moved(2, 3))
    assert not any(key.startswith("backbone.front_end.") for key in moved(1, 6))


def test_the_teacher_follows_the_student_by_the_ema_of_each_update(tmp_path, corpus):
    """teacher <- tau * teacher + (1 - tau) * student, with the student as it is after the update."""
    training = run_loop(spec(tmp_path, corpus, "pretrain", "pretrain.checkpoint_every=1"), tmp_path / "p")
    compared = 0
    for updates in range(2, 7):
        before, after, tau = training.weights(updates - 1), training.weights(updates), 0.99 + 0.01 * (updates - 1) / 50
        for key in [key for key in after if key.startswith("teacher.")]:
            student = after[key.replace("teacher.", "student.encoder.", 1)]
            torch.testing.assert_close(after[key], tau * before[key] + (1 - tau) * student, rtol=1e-5, atol=1e-7)
            compared += not torch.equal(after[key], before[key])
    assert compared > 50


def test_training_learns_the_tones(tmp_path, corpus):
    """Not a check of quality: a loop that updates nothing, or the wrong way, fails here."""
    changes = [
        "finetune.updates=40",
        "finetune.head_only_updates=0",
        "finetune.freeze_front_end=false",
        "finetune.bcl=null",
    ]
    changes += [
        "finetune.optimizer.learning_rate=0.01",
        "finetune.mask_probability=0",
        "finetune.channel_mask_probability=0",
    ]
    metrics = run_loop(spec(tmp_path, corpus, "finetune", *changes), tmp_path / "f").metrics
    assert metrics[40]["loss"] < 0.6 * metrics[1]["loss"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_gradient_that_is_no_number_stops_the_training_before_it_harms_the_weights(
    tmp_path, corpus, monkeypatch, stage
):
    task = "PretrainTask" if stage == "pretrain" else "FinetuneTask"
    step = getattr(tasks, task).step

    def poisoned(self, update, micro, generator, batch):
        found = step(self, update, micro, generator, batch)
        found.loss_sum = found.loss_sum * (float("nan") if (update, micro) == (4, 1) else 1)
        return found

    monkeypatch.setattr(getattr(tasks, task), "step", poisoned)
    with pytest.raises(TrainingStopped, match=r"^update 5: the gradient is nan; lower optimizer\.learning_rate$"):
        run_loop(spec(tmp_path, corpus, stage, f"{stage}.checkpoint_every=1"), tmp_path / "f")
    last = checkpoints.newest(tmp_path / "f")
    assert last.name == checkpoints.name(4)
    assert all(value.isfinite().all() for value in checkpoints.load_file(last / "model.safetensors").values())


@pytest.mark.parametrize("size, micro_batches", [(1, 4), (2, 5), (3, 2), (4, 8)])
def test_workers_share_the_micro_batches_evenly(size, micro_batches):
    shares = [list(Group(rank, size).own(micro_batches)) for rank in range(size)]
    assert sorted(micro for share in shares for micro in share) == list(range(micro_batches))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_two_processes_compute_what_one_does(tmp_path, corpus):
    """Five micro-batches on two gloo workers (three and two of them), and one that leaves a worker without any."""
    cases = [("pretrain", 5), ("finetune", 5), ("pretrain", 1)]
    specs = []
    for stage, micro in cases:
        changes = [f"{stage}.micro_batches={micro}", f"{stage}.updates=3", f"{stage}.checkpoint_every=1"]
        specs.append(spec(tmp_path, corpus, stage, *changes, "finetune.head_only_updates=1"))
    together = tmp_path / "together"
    together.mkdir()
    texts = [one.model_dump_json() for one in specs]
    torch.multiprocessing.spawn(gloo_worker, args=(2, texts, str(together)), nprocs=2)
    for number, one in enumerate(specs):
        alone = run_loop(one, tmp_path / f"alone-{number}")
        metrics = json.loads((together / str(number) / "metrics.json").read_text(encoding="utf-8"))
        for step, values in alone.metrics.items():
            assert metrics[str(step)] == pytest.approx(values, rel=1e-3 if step > 1 else 1e-5), (cases[number], step)
        # Adam's first moment after the first update is a tenth of the clipped gradient.
        moments = checkpoints.name(1) + "/optimizer.safetensors"
        gradients = checkpoints.load_file(together / str(number) / moments)
        compared = 0
        for key, value in alone.moments(1).items():
            if key.endswith(".exp_avg") and value.abs().max() > 0:
                torch.testing.assert_close(
                    gradients[key], value, rtol=1e-3, atol=1e-5 * float(value.abs().max()) + 1e-9
                )
                compared += 1
        assert compared > 1 and gradients.keys() == alone.moments(1).keys()


@pytest.mark.parametrize("stage", STAGES)
def test_batch_statistics_settle_once_an_update(tmp_path, corpus, stage, monkeypatch):
    """The running averages of an ear against what its layers were given: per update the mean over micro-batches."""
    given: dict[str, list[torch.Tensor]] = {}

    def listening(*arguments):
        task = tasks.build_task(*arguments)
        for name, module in task.model.named_modules():
            if isinstance(module, BatchNorm):

                def hear(module, inputs, name=name):
                    if module.training and module.weight.requires_grad:
                        x = inputs[0].detach().double()
                        given.setdefault(name, []).append(x.transpose(0, 1).flatten(1).mean(1))

                module.register_forward_pre_hook(hear)
        return task

    monkeypatch.setattr("experiments_training.build_task", listening)
    ear = "model.front_end={kind: ear, sample_rate: 4000, filters: 16, stem: [4, 6]}"
    changes = [ear, "finetune.head_only_updates=2", "finetune.freeze_front_end=false", f"{stage}.precision=float32"]
    whole = run_loop(spec(tmp_path, corpus, stage, *changes), tmp_path / "whole")
    weights, frozen = whole.weights(6), 2 if stage == "finetune" else 0
    assert len(given) == 2
    for name, means in given.items():
        assert len(means) == 2 * (6 - frozen)  # 2 micro-batches an update
        expected = torch.zeros_like(means[0])
        for first, second in zip(means[::2], means[1::2], strict=True):
            expected = 0.9 * expected + 0.1 * (first + second) / 2
        torch.testing.assert_close(weights[f"{name}.mean"].double(), expected, rtol=1e-4, atol=1e-6)
        assert f"{name}.pending" not in weights
