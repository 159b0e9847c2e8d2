"""Failures in the middle of `a2v experiment run`: each says what it is, and the same call goes on from there.

The tests share the work folder of the fixture `world`, each with settings of its own.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from a2v_experiments.basics.errors import UserError
from a2v_experiments.stages.stage import ending
from a2v_experiments.store import outage
from a2v_experiments.store.tracking import open_store
from a2v_experiments.training import checkpoints, loop, workers
from experiments_faults import signalled
from experiments_world import make_recipe, training_spec


def fail_at(patch: pytest.MonkeyPatch, at_update: int, error: BaseException) -> None:
    """Any training that comes to this update fails."""
    rate = loop.learning_rate

    def learning_rate(update: int, *rest: object) -> float:
        if update == at_update:
            raise error
        return rate(update, *rest)

    patch.setattr(loop, "learning_rate", learning_rate)


@pytest.mark.parametrize(
    "seed, error, code, status, told",
    [
        (
            5,
            OSError(28, "No space left on device", "/full"),
            1,
            "FAILED",
            "/full: no space left on the disk; free some",
        ),
        (6, KeyboardInterrupt(), 130, "KILLED", "stopped; the same command goes on from the last checkpoint"),
    ],
)
def test_a_stage_that_fails_or_is_stopped_says_so_and_the_next_call_goes_on_with_it(
    world, monkeypatch, seed, error, code, status, told
):
    variant = f"unlucky-{seed}"
    settings = (f"finetune.seed={seed}", f"variant={variant}", "folds.run=[0]")
    with monkeypatch.context() as patch:
        fail_at(patch, 4, error)
        said = world.call(*settings)
    assert said.code == code and said.only_line().startswith(told)
    failed = [run for run in world.runs() if run.data.tags["variant"] == variant]
    assert {run.data.tags["a2v.stage"]: run.info.status for run in failed} == {"experiment": status, "finetune": status}
    (run,) = [run for run in failed if run.data.tags["a2v.stage"] == "finetune"]
    assert [step for step, _ in world.losses(run)] == [1, 2, 3, 4]

    said = world.call(*settings)
    assert said.code == 0, said.err
    after = [run for run in world.runs() if run.data.tags["variant"] == variant]
    assert {run.info.run_id for run in after} == {run.info.run_id for run in failed}
    assert all(run.info.status == "FINISHED" for run in after)
    assert [step for step, _ in world.losses(run)] == [1, 2, 3, 4, 5, 6]

    said = world.call(f"finetune.seed={seed}", f"variant=again-{seed}", "folds.run=[0]")
    assert f": reused, run {run.info.run_id}" in said.out  # a variant's name is no part of what it is


def test_a_driver_that_is_killed_leaves_a_run_that_the_next_call_ends(world):
    settings = ("finetune.seed=7", "variant=killed", "folds.run=[0]")
    sets = [part for setting in settings for part in ("--set", setting)]
    arguments = ["experiment", "run", str(world.recipe), "--work", str(world.work), *sets]
    command = [sys.executable, "-c", signalled("SIGKILL", 5), *arguments]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    left = [run for run in world.runs() if run.data.tags["variant"] == "killed"]
    assert {run.info.status for run in left} == {"RUNNING"} and len(left) == 2
    said = world.call(*settings)
    assert said.code == 0, said.err
    after = [run for run in world.runs() if run.data.tags["variant"] == "killed"]
    assert {run.info.run_id for run in after} == {run.info.run_id for run in left}
    assert {run.info.status for run in after} == {"FINISHED"}
    (run,) = [run for run in after if run.data.tags["a2v.stage"] == "finetune"]
    assert [step for step, _ in world.losses(run)] == [1, 2, 3, 4, 5, 6]


def test_a_dead_tracking_server_does_not_stop_training(world, csv_source, tmp_path, new_work, monkeypatch):
    """All is trained and saved without it; when it is back, the same call logs what is missing and trains nothing."""
    recipe = make_recipe(tmp_path, data__source=str(csv_source))
    corpus = next((world.work / "corpora").iterdir())
    spec = training_spec(recipe, "pretrain", corpus)
    store = open_store(new_work("server"), None, "tones")
    run_id = store.client.create_run(store.experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with monkeypatch.context() as patch:
        patch.setattr(outage, "PATIENCE_S", 0.5)
        with pytest.raises(
            UserError, match=r"the tracking server did not answer .* 6 steps are not logged yet"
        ) as caught:
            workers.run_training(spec, recipe.ray, tmp_path, "train", "http://127.0.0.1:9", run_id)
    assert caught.value.code == 1 and checkpoints.newest(tmp_path / "train").name == checkpoints.name(6)
    monkeypatch.setattr(loop, "learning_rate", None)  # would be needed to train
    last = workers.run_training(spec, recipe.ray, tmp_path, "train", store.uri, run_id)
    assert last.name == checkpoints.name(6)
    assert sorted(m.step for m in store.client.get_metric_history(run_id, "loss")) == [1, 2, 3, 4, 5, 6]


def test_a_failure_in_the_evaluation_does_not_cost_the_training(world, monkeypatch):
    settings = ("finetune.seed=8", "variant=blind", "folds.run=[0]")

    def crash(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device", "/full")

    with monkeypatch.context() as patch:
        patch.setattr("a2v_experiments.stages.stages.evaluate_model", crash)
        assert world.call(*settings).code == 1
    with monkeypatch.context() as patch:
        patch.setattr("a2v_experiments.stages.stages.run_training", crash)  # would be called if it trained again
        said = world.call(*settings)
    assert said.code == 0, said.err
    (run,) = [run for run in world.runs("finetune") if run.data.tags["variant"] == "blind"]
    assert run.info.status == "FINISHED" and "AP/micro" in run.data.metrics and len(world.losses(run)) == 6


def test_a_corpus_that_is_gone_is_prepared_again(world):
    before = {run.info.run_id for run in world.runs()}
    shutil.rmtree(world.work / "corpora")
    said = world.call()
    assert said.code == 0, said.err
    assert "data: reused" in said.out and {run.info.run_id for run in world.runs()} == before
    assert len(list((world.work / "corpora").iterdir())) == 1


@pytest.mark.parametrize(
    "break_it, told",
    [
        (lambda folder: shutil.rmtree(folder), "no such folder"),
        (lambda folder: shutil.rmtree(folder / "audio"), "no audio in it"),
        (
            lambda folder: (folder / "annotations.csv").unlink(),
            "annotations.csv (file,onset_s,offset_s,label) is missing",
        ),
    ],
)
def test_a_wrong_source_is_one_line_before_anything_is_written(
    world, csv_source, tmp_path, break_it: Callable[[Path], None], told
):
    folder = tmp_path / "recordings"
    shutil.copytree(csv_source, folder)
    break_it(folder)
    before = {run.info.run_id for run in world.runs()}
    said = world.call(f"data.source={folder}")
    assert said.code == 2 and told in said.only_line() and str(folder) in said.only_line()
    assert {run.info.run_id for run in world.runs()} == before


@pytest.mark.parametrize(
    "row, told",
    [
        ("rec99.wav,0.1,0.2,cc", "rec99.wav"),
        ("rec00.wav,3.0,9.0,cc", "row 50"),
        ("rec00.wav,2.0,1.0,cc", "row 50"),
    ],
)
def test_wrong_annotations_name_their_row_and_leave_no_corpus(world, csv_source, tmp_path, row, told):
    folder = tmp_path / "recordings"
    shutil.copytree(csv_source, folder)
    with (folder / "annotations.csv").open("a", encoding="utf-8") as file:
        file.write(row + "\n")
    corpora = sorted((world.work / "corpora").iterdir())
    said = world.call(f"data.source={folder}", "variant=wrong")
    assert said.code == 2 and "Traceback" not in said.err and told in said.err and "annotations.csv" in said.err
    assert all(line.startswith("a2v: ") for line in said.lines())
    assert sorted((world.work / "corpora").iterdir()) == corpora
    assert {run.info.status for run in world.runs() if run.data.tags["variant"] == "wrong"} == {"FAILED"}


@pytest.mark.parametrize(
    "error, status",
    [(KeyboardInterrupt, "KILLED"), (SystemExit, "FAILED"), (RuntimeError, "FAILED"), (None, "FINISHED")],
)
def test_a_run_ends_as_what_happened(world, error, status):
    ended: list[tuple[str, str]] = []

    class Recorder:
        def finish(self, run_id: str, status: str = "FINISHED") -> None:
            ended.append((run_id, status))

    try:
        with ending(Recorder(), "a-run"):
            if error:
                raise error
    except BaseException as caught:
        assert type(caught) is error
    assert ended == [("a-run", status)]


def test_segments_longer_than_every_recording_are_refused(world):
    said = world.call("data.segment_s=5.0", "variant=long")
    assert said.code == 2
    assert said.only_line() == "data.segment_s = 5.0: no recording is that long; give a shorter one"
