"""No training step waits for its device, and micro-batches that are made ahead change no bit.

A tensor on torch's `meta` device has a shape and no values, so whatever would read one (`float`, `.cpu()`, an index of
truth values) raises: it stands for an accelerator that nobody may wait for. What travels there must not wait either.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from a2v_data.corpus import Corpus
from a2v_experiments.training import loop
from a2v_experiments.training.ahead import Ahead, each_tensor, on_device
from a2v_experiments.training.batches import Heard
from a2v_experiments.training.group import Group
from a2v_experiments.training.loop import TrainingStep
from a2v_experiments.training.spec import TrainingSpec
from a2v_experiments.training.tasks import build_task
from experiments_training import run_loop
from experiments_world import make_recipe, training_spec
from test_experiments_short_recordings import a_corpus
from test_experiments_weak import NAMES, mixed, source
from test_experiments_weak import spec as weak_spec
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["mixed", "source"]  # fixtures

META = torch.device("meta")
EAR = "model.front_end={kind: ear, sample_rate: 4000, filters: 16, stem: [4, 6]}"
CASES = {
    "pretrain": ["pretrain", "pretrain.random_offset=true"],
    "pretrain, an ear": ["pretrain", EAR],
    "finetune": ["finetune", "finetune.mask_length=4", "finetune.mask_probability=0.3", "finetune.weight_average=0.9"],
    "finetune, an ear": [
        "finetune", EAR, "finetune.freeze_front_end=false", "finetune.augment={}", "finetune.bcl=null",
    ],
}  # fmt: skip


class NoWaiting(TorchDispatchMode):
    """Copies between host and device must be those that nobody waits for."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if function is torch.ops.aten._to_copy.default:
            there = given.get("device", args[0].device)
            if there.type != args[0].device.type and not given.get("non_blocking", False):
                raise AssertionError(f"a copy of {tuple(args[0].shape)} to {there} that the host waits for")
        if function is torch.ops.aten.copy_.default and args[0].device.type != args[1].device.type:
            raise AssertionError(f"a copy of {tuple(args[1].shape)} to {args[0].device} that the host waits for")
        return function(*args, **given)


@contextmanager
def on_meta(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Training on a device without values; gives the sizes of what was asked from it."""
    asked: list[int] = []

    def on_host(values: torch.Tensor) -> list[float]:
        asked.append(len(values))
        return [1.0] * len(values)

    def noise(shape: tuple[int, ...], std: float, device: torch.device, generator: torch.Generator) -> torch.Tensor:
        torch.randint(2**62, (), generator=generator)
        return torch.empty(shape, device=device)

    autocast = torch.autocast

    def autocast_elsewhere(kind: str, *given: Any, **more: Any) -> Any:
        return nullcontext() if kind == "meta" else autocast(kind, *given, **more)

    monkeypatch.setattr(torch, "autocast", autocast_elsewhere)  # it knows no meta device, nor does what asks for it
    enabled = torch.is_autocast_enabled
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind != "meta" and enabled(kind))
    monkeypatch.setattr(loop, "on_host", on_host)
    monkeypatch.setattr("a2v_model.pretraining.noise", noise)
    monkeypatch.setattr("a2v_model.finetuning.noise", noise)
    yield asked


def takes_updates(spec: TrainingSpec, asked: list[int]) -> None:
    task = build_task(spec, META)
    step = TrainingStep(task, spec.loop, Group(device=META))
    with NoWaiting():
        for update in range(4):
            step(update)
            assert len(asked) == update + 1  # the host waits once an update
    assert all(one.device == META for one in step.model.parameters())


@pytest.mark.parametrize("case", CASES)
def test_a_training_step_reads_nothing_from_its_device_but_once_an_update(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    stage, *changes = CASES[case]
    with on_meta(monkeypatch) as asked:
        takes_updates(training_spec(make_recipe(tmp_path, changes), stage, corpus.folder), asked)


def test_nor_with_padded_segments_or_labels_of_whole_recordings(
    tmp_path: Path, mixed: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    with on_meta(monkeypatch) as asked:
        takes_updates(weak_spec(tmp_path, mixed, NAMES, precision="float32"), asked)
        asked.clear()
        short = a_corpus(tmp_path / "short", 1501, 1502, 12_000, 1503)
        recipe = make_recipe(tmp_path, ["finetune.bcl=null", "finetune.segments=4", "finetune.sampling={}"])
        takes_updates(training_spec(recipe, "finetune", short.folder, [f"rec{n}" for n in range(4)]), asked)


@pytest.mark.parametrize("fault", [float, torch.Tensor.cpu, lambda x: x.view(1)[x.view(1) > 0]])
def test_a_step_that_waits_is_found_out(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, fault: Any
) -> None:
    spec = training_spec(make_recipe(tmp_path, []), "finetune", corpus.folder)
    with on_meta(monkeypatch) as asked:
        task = build_task(spec, META)
        loss = task.model.loss

        def waits(*given: Any) -> Any:
            total, frames = loss(*given)
            fault(total.detach())
            return total, frames

        monkeypatch.setattr(task.model, "loss", waits)
        with pytest.raises((RuntimeError, NotImplementedError)):
            TrainingStep(task, spec.loop, Group(device=META))(0)
        assert not asked
    with NoWaiting(), pytest.raises(AssertionError, match="waits"):
        torch.zeros(3).to(META)


@pytest.mark.parametrize("case", CASES)
def test_micro_batches_made_ahead_change_no_bit(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    stage, *changes = CASES[case]
    spec = training_spec(make_recipe(tmp_path, changes), stage, corpus.folder)
    threads: set[int] = set()
    plain = run_loop(spec, tmp_path / "plain")

    class Forced(TrainingStep):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, ahead=True)
            prepare = self.task.prepare

            def noting(*given: Any) -> Any:
                threads.add(threading.get_ident())
                return prepare(*given)

            self.task.prepare = noting  # type: ignore[method-assign]

    monkeypatch.setattr(loop, "TrainingStep", Forced)
    ahead = run_loop(spec, tmp_path / "ahead")
    assert len(threads) == 2  # the first in this thread, all others in another
    assert ahead.metrics == plain.metrics
    for ours, theirs in ((ahead.weights(6), plain.weights(6)), (ahead.moments(6), plain.moments(6))):
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_what_is_next_is_made_while_this_is_used() -> None:
    made: list[tuple[int, int]] = []

    def make(update: int, micro: int) -> int:
        made.append((update, micro))
        if update == 2:
            raise ValueError("the disk is gone")
        return 10 * update + micro

    def following(update: int, micro: int) -> tuple[int, int] | None:
        return (update, 1) if micro == 0 else (update + 1, 0) if update < 2 else None

    ahead = Ahead(make, following, wanted=True)
    assert ahead(0, 0) == 0
    end = time.monotonic() + 5
    while len(made) < 2 and time.monotonic() < end:
        time.sleep(0.001)
    assert made == [(0, 0), (0, 1)]  # nobody has asked for the second
    assert [ahead(0, 1), ahead(1, 0), ahead(1, 1)] == [1, 10, 11]
    with pytest.raises(ValueError, match="the disk is gone"):
        ahead(2, 0)
    assert ahead(0, 1) == 1  # out of turn
    made.clear()
    off = Ahead(make, following, wanted=False)
    assert off(0, 0) == 0 and made == [(0, 0)]
    names = [one.name for one in threading.enumerate()]
    assert any(name.startswith("a2v-ahead") for name in names)
    del ahead
    gc.collect()  # the error knows where it was raised
    end = time.monotonic() + 5
    while any(one.name.startswith("a2v-ahead") for one in threading.enumerate()) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(one.name.startswith("a2v-ahead") for one in threading.enumerate())


def test_tensors_travel_and_all_else_stays() -> None:
    heard = Heard(torch.ones(2, 3), torch.tensor([3, 2]))
    there = on_device(heard, META)
    assert there.waveform.device == META and there.samples.device == META and there.gain is None
    assert each_tensor({"a": 1}, torch.neg) == {"a": 1}
    assert torch.equal(each_tensor(heard, torch.neg).waveform, -torch.ones(2, 3))
