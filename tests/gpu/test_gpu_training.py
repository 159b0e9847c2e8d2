"""Training and prediction on a GPU: as on a CPU, on from a checkpoint, over NCCL, and without the host waiting."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from a2v_data.corpus import Corpus
from a2v_data.pack import PackConfig, pack
from a2v_experiments.predict.call import call
from a2v_experiments.predict.options import Choice
from a2v_experiments.training import checkpoints, loop
from a2v_experiments.training.group import Group
from a2v_experiments.training.loop import TrainingStep
from a2v_experiments.training.spec import TrainingSpec
from a2v_experiments.training.tasks import build_task
from experiments_predict import make_detector, save_detector, write_recordings
from experiments_training import Training, run_loop
from experiments_world import RATE, make_csv_source, make_recipe, training_spec
from torch import distributed

STAGES = ["pretrain", "finetune"]
# what a device draws itself is off, so that another one can be compared
QUIET = [f"model.encoder.{name}=0" for name in ("dropout", "attention_dropout", "prenet_dropout")]
QUIET += [f"finetune.{name}=0" for name in ("dropout", "attention_dropout", "activation_dropout", "head_dropout")]
QUIET += ["pretrain.decoder.dropout=0", "pretrain.mask_noise=0"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("gpu")
    config = PackConfig(sample_rate=RATE, labelled="all", focal_class=False)
    return pack(make_csv_source(folder / "tones"), folder / "corpus", config)


def spec(folder: Path, corpus: Corpus, stage: str, *changes: str) -> TrainingSpec:
    folder.mkdir(exist_ok=True)
    return training_spec(make_recipe(folder, changes), stage, corpus.folder)


def close(ours: Training, theirs: Training, within: float) -> None:
    assert ours.metrics.keys() == theirs.metrics.keys()
    for step, values in theirs.metrics.items():
        assert ours.metrics[step] == pytest.approx(values, rel=within, abs=1e-6), step


@pytest.mark.parametrize("stage", STAGES)
def test_losses_and_gradients_are_those_of_a_cpu(
    tmp_path: Path, corpus: Corpus, device: torch.device, stage: str
) -> None:
    given = spec(tmp_path, corpus, stage, *QUIET)
    there = run_loop(given, tmp_path / "gpu", group=Group(device=device))
    close(there, run_loop(given, tmp_path / "cpu"), 2e-3)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stage", STAGES)
def test_training_goes_on_from_a_checkpoint(
    tmp_path: Path, corpus: Corpus, device: torch.device, stage: str, precision: str
) -> None:
    """With dropout and noise that the GPU draws. Sums of a GPU differ in their last bits, so it is not to the bit."""
    given, group = spec(tmp_path, corpus, stage, f"{stage}.precision={precision}"), Group(device=device)
    within = 1e-3 if precision == "float32" else 2e-2
    whole = run_loop(given, tmp_path / "whole", group=group)
    before = run_loop(given, tmp_path / "stopped", stop_after=5, group=group)
    resume = checkpoints.newest(tmp_path / "stopped")
    assert resume is not None and resume.name == checkpoints.name(4)
    torch.manual_seed(1)
    after = run_loop(given, tmp_path / "stopped", resume, group=group)
    close(replace(before, metrics={k: v for k, v in before.metrics.items() if k < 5} | after.metrics), whole, within)


@pytest.mark.parametrize("stage", STAGES)
def test_the_host_waits_once_an_update_and_making_ahead_changes_nothing(
    tmp_path: Path, corpus: Corpus, device: torch.device, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, on_host = [], loop.on_host
    strict = device.type == "cuda"

    def waiting(values: torch.Tensor) -> list[float]:
        if strict:
            torch.cuda.set_sync_debug_mode("default")
        numbers = on_host(values)
        if strict:
            torch.cuda.set_sync_debug_mode("error")
        return numbers

    monkeypatch.setattr(loop, "on_host", waiting)
    for ahead in (False, True):
        given = spec(tmp_path, corpus, stage)
        step = TrainingStep(build_task(given, device), given.loop, Group(device=device), ahead)
        metrics = [step(0)]  # what is set up once may wait
        try:
            if strict:
                torch.cuda.set_sync_debug_mode("error")
            metrics += [step(update) for update in (1, 2, 3)]
        finally:
            if strict:
                torch.cuda.set_sync_debug_mode("default")
        found.append([one["loss"] for one in metrics])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


@dataclass(frozen=True)
class Alone(Group):
    """A group that sums over its workers, of which there is one."""

    def own(self, micro_batches: int) -> range:
        return range(micro_batches)


@pytest.mark.parametrize("stage", STAGES)
def test_sums_over_nccl(tmp_path: Path, corpus: Corpus, device: torch.device, stage: str) -> None:
    given = spec(tmp_path, corpus, stage, *QUIET)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        together = run_loop(given, tmp_path / "nccl", group=Alone(0, 2, device))
    finally:
        distributed.destroy_process_group()
    close(together, run_loop(given, tmp_path / "alone", group=Group(device=device)), 1e-3)


class Nobody:
    """Is told of progress."""

    def begin(self, recordings: int, seconds: float) -> None: ...
    def advance(self, seconds: float) -> None: ...
    def recording(self) -> None: ...


@pytest.mark.parametrize("precision, within", [("float32", 1e-3), ("bfloat16", 0.08)])
def test_likelihoods_of_predict_are_those_of_a_cpu(
    tmp_path: Path, device: torch.device, precision: str, within: float
) -> None:
    model = save_detector(make_detector(tmp_path), tmp_path / "model")
    recordings = write_recordings(tmp_path / "recordings")
    found = []
    for place, kind in (("cpu", "float32"), (device.type, precision)):
        out = tmp_path / f"{place}-{kind}-{len(found)}"
        choice = Choice(
            str(model), ("csv",), {"threshold": 0.5}, likelihoods="npz", device=place, precision=kind, processes=1
        )
        call([str(recordings)], out, choice, Nobody())
        found.append({path.relative_to(out).as_posix(): path for path in out.rglob("*.npz")})
    assert found[0].keys() == found[1].keys() and len(found[0]) == 4
    for name in found[0]:
        with np.load(found[0][name]) as cpu, np.load(found[1][name]) as gpu:
            assert cpu.files == gpu.files
            for key in cpu.files:
                if cpu[key].dtype.kind == "f" and cpu[key].ndim == 2:
                    assert np.abs(cpu[key] - gpu[key]).max() < within, (name, key)
