"""`a2v experiment run`, whole: what it leaves in MLflow, what it reuses, and how it goes on after a failure.

One small experiment is run once for the module; the tests that call the command again share its work folder, each
with settings of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from a2v_experiments import checkpoints, loop, workers
from a2v_experiments.errors import UserError
from a2v_experiments.stages import ending
from a2v_experiments.tracking import Store, default_uri, fetch, open_store
from a2v_model import Detector, Pretrainer, load_model
from experiments_world import RECORDINGS, Said, call_quietly, make_recipe, recipe_tree, training_spec, write_recipe
from mlflow.entities import Run

STAGES = ["experiment", "prepare", "folds", "pretrain", "finetune", "finetune"]
NAMES = {f"rec{number:02d}.wav" for number in range(RECORDINGS)}


@dataclass(frozen=True)
class World:
    """A work folder in which the small recipe was run, and what the command said."""

    work: Path
    recipe: Path
    first: Said

    def call(self, *overrides: str) -> Said:
        sets = [part for override in overrides for part in ("--set", override)]
        return call_quietly("experiment", "run", self.recipe, "--work", self.work, *sets)

    @property
    def store(self) -> Store:
        return Store(default_uri(self.work), "tones", None)

    def runs(self, stage: str | None = None) -> list[Run]:
        """All runs of a stage, the oldest first."""
        store = self.store
        found = store.client.search_runs([store.experiment_id], order_by=["attributes.start_time ASC"])
        return [run for run in found if stage in (None, run.data.tags["a2v.stage"])]

    def losses(self, run: Run) -> list[tuple[int, float]]:
        return sorted((m.step, m.value) for m in self.store.client.get_metric_history(run.info.run_id, "loss"))

    def artifacts(self, run: Run) -> set[str]:
        return {item.path for item in self.store.client.list_artifacts(run.info.run_id)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, empty_database: Path, csv_source: Path) -> Iterator[World]:
    work = tmp_path_factory.mktemp("run") / "work"
    work.mkdir()
    shutil.copy(empty_database, work / "mlflow.db")
    recipe = write_recipe(work.parent / "small.yaml", recipe_tree(data__source=str(csv_source)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")  # so that seconds of training have some
        first = call_quietly("experiment", "run", recipe, "--work", work)
    assert first.code == 0, first.err
    yield World(work, recipe, first)


@pytest.fixture(scope="module")
def first_runs(world: World) -> dict[str, list[Run]]:
    """The runs of the first call, whatever later calls add."""
    parent = world.runs("experiment")[0]
    children = [run for run in world.runs() if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    found: dict[str, list[Run]] = {}
    for run in [parent, *children]:
        found.setdefault(run.data.tags["a2v.stage"], []).append(run)
    found["finetune"].sort(key=lambda run: run.data.tags["fold"])
    return found


def test_one_parent_run_and_a_child_for_every_stage(first_runs):
    assert sorted(stage for stage, runs in first_runs.items() for _ in runs) == sorted(STAGES)
    assert all(run.info.status == "FINISHED" for runs in first_runs.values() for run in runs)
    assert "mlflow.parentRunId" not in first_runs["experiment"][0].data.tags
    assert [run.data.tags["fold"] for run in first_runs["finetune"]] == ["0", "1"]
    assert all(run.data.tags["label_share"] == "1" for run in first_runs["finetune"])
    assert all(run.data.tags["variant"] == "default" for runs in first_runs.values() for run in runs)


def test_every_run_says_what_it_was_made_with(world, first_runs):
    for runs in first_runs.values():
        for run in runs:
            assert re.fullmatch(r"[0-9a-f]{64}", run.data.tags["a2v.fingerprint"])
            assert run.data.tags["git.dirty"] in ("true", "false")
            assert re.fullmatch(r"[0-9a-f]{40}", run.data.tags["mlflow.source.git.commit"])
            assert {"config.json", "environment.json"} <= world.artifacts(run)
            environment = world.store.read_json(run.info.run_id, "environment.json")
            assert {"a2v", "a2v-model", "torch", "ray", "mlflow"} <= environment["packages"].keys()
            assert environment["cpu_cores"] == os.cpu_count() and environment["memory_gib"] > 0
    fingerprints = [run.data.tags["a2v.fingerprint"] for runs in first_runs.values() for run in runs]
    assert len(set(fingerprints)) == len(fingerprints)


def test_parameters_are_the_resolved_configuration_of_the_stage(first_runs):
    pretrain = first_runs["pretrain"][0].data.params
    assert pretrain["pretrain.updates"] == "6" and pretrain["model.encoder.dim"] == "16"
    assert pretrain["pretrain.mask_noise"] == "0.01"  # a default that the recipe does not mention
    assert not any(key.startswith(("finetune.", "evaluate.", "ray.")) for key in pretrain)
    for fold, run in enumerate(first_runs["finetune"]):
        params = run.data.params
        assert (params["fold"], params["label_share"], params["finetune.layerdrop"]) == (str(fold), "1.0", "0.3")
        assert params["evaluate.iou_threshold"] == "0.3"
    parent = first_runs["experiment"][0].data.params
    assert parent["name"] == "tones" and parent["folds.count"] == "3"
    assert {key for key in pretrain if key.startswith("pretrain.")} <= parent.keys()


def test_training_metrics_stand_at_every_step_once(world, first_runs):
    for run in [*first_runs["pretrain"], *first_runs["finetune"]]:
        assert [step for step, _ in world.losses(run)] == [1, 2, 3, 4, 5, 6]
        metrics = run.data.metrics
        assert metrics["audio_seconds_per_second"] > 0 and metrics["gradient_norm"] > 0 and "learning_rate" in metrics
        assert float(run.data.tags["audio_seconds"]) == 6 * 3 * 2 * 1.0
    assert any(key.startswith("system/") for key in first_runs["pretrain"][0].data.metrics)


def test_scores_have_the_same_names_in_every_fold_and_their_mean_and_spread_stand_in_the_parent(first_runs):
    folds = [run.data.metrics for run in first_runs["finetune"]]
    parent = first_runs["experiment"][0].data.metrics
    needed = ["AP/micro", "AP/macro", "AP/cc", "AP/sn", "strict/AP/micro", "strict/AP/cc", "energy/AP/micro"]
    for name in needed:
        values = [fold[name] for fold in folds]
        assert all(0 <= value <= 1 for value in values)
        assert parent[f"{name}_mean"] == pytest.approx(statistics.mean(values))
        assert parent[f"{name}_std"] == pytest.approx(statistics.stdev(values))


def test_artifacts(world, first_runs):
    figures = {f"{name}_{protocol}.png" for name in ("precision_recall",) for protocol in ("paper", "strict")}
    assert {"statistics.json"} <= world.artifacts(first_runs["prepare"][0])
    assert {"folds.json", "manifest"} <= world.artifacts(first_runs["folds"][0])
    for run in first_runs["finetune"]:
        assert {"model", "evaluation.json", "scores.json", "example.png"} | figures <= world.artifacts(run)
        model = load_model(Path(fetch(world.store.uri, run.info.run_id, "model")))
        assert isinstance(model, Detector) and list(model.classes) == ["sn", "cc"]
    parent = first_runs["experiment"][0]
    assert {"scores.txt", "scores.json", "ap_per_class_paper.png", "ap_per_class_strict.png"} <= world.artifacts(parent)
    assert isinstance(
        load_model(Path(fetch(world.store.uri, first_runs["pretrain"][0].info.run_id, "model"))), Pretrainer
    )
    for run in (parent, *first_runs["finetune"]):
        for name in world.artifacts(run):
            path = Path(fetch(world.store.uri, run.info.run_id, name))
            if name.endswith(".png"):
                assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 3000
            elif name.endswith(".json"):
                json.loads(path.read_text(encoding="utf-8"))


def test_no_recording_is_in_train_and_evaluation_of_a_fold(world, first_runs):
    table = world.store.read_json(first_runs["folds"][0].info.run_id, "folds.json")
    assert len(table) == 3
    for fold in table:
        assert not set(fold["train"]["1.0"]) & set(fold["evaluation"])
        assert set(fold["train"]["1.0"]) | set(fold["evaluation"]) == NAMES
    assert sorted(name for fold in table for name in fold["evaluation"]) == sorted(NAMES)


def test_the_work_folder_keeps_one_corpus_and_no_checkpoints(world):
    corpora = [path for path in (world.work / "corpora").iterdir()]
    assert [path for path in corpora if path.name.startswith(".")] == [] and (corpora[0] / "corpus.json").is_file()
    assert [path for path in (world.work / "checkpoints").rglob("*") if path.is_file()] == []


def test_the_command_ends_with_table_store_and_how_to_look_at_it(world):
    out = world.first.out
    rows = [line.split()[0] for line in out.splitlines() if line.split()[:1] in (["cc"], ["sn"], ["micro"], ["macro"])]
    assert sorted(rows) == ["cc", "macro", "micro", "sn"] and " ± " in out
    assert f"tracking store: sqlite:///{world.work}/mlflow.db" in out
    assert f"a2v ui --work {world.work}" in out
    assert "synthetic" not in out


def test_a_second_call_reuses_every_stage_and_says_the_same(world, first_runs):
    before = {run.info.run_id: (run.info.end_time, run.data.tags, run.data.metrics) for run in world.runs()}
    again = world.call()
    assert again.code == 0, again.err
    assert {run.info.run_id: (run.info.end_time, run.data.tags, run.data.metrics) for run in world.runs()} == before
    said = ["summary", "data", "folds", "pretrain", "finetune fold 0"]
    for name, stage in zip(said, dict.fromkeys(STAGES), strict=True):
        assert f"{name}: reused, run {first_runs[stage][0].info.run_id}" in again.out
    assert (
        again.out[again.out.index("100% of the labels") :]
        == world.first.out[world.first.out.index("100% of the labels") :]
    )


def test_how_it_runs_and_logs_is_not_part_of_what_it_is(world):
    before = {run.info.run_id for run in world.runs() if run.data.tags["a2v.stage"] != "experiment"}
    said = world.call("ray.max_failures=1", "finetune.log_every=3", "pretrain.checkpoint_every=5")
    assert said.code == 0, said.err
    assert {run.info.run_id for run in world.runs() if run.data.tags["a2v.stage"] != "experiment"} == before


def test_another_evaluation_reuses_the_training(world, first_runs):
    before = {run.info.run_id for run in world.runs()}
    said = world.call("evaluate.iou_threshold=0.9", "variant=stern")
    assert said.code == 0, said.err
    new = [run for run in world.runs() if run.info.run_id not in before]
    assert sorted(run.data.tags["a2v.stage"] for run in new) == ["experiment", "finetune", "finetune"]
    assert all(run.info.status == "FINISHED" and run.data.tags["variant"] == "stern" for run in new)
    for run in (run for run in new if run.data.tags["a2v.stage"] == "finetune"):
        trained = first_runs["finetune"][int(run.data.tags["fold"])]
        assert run.data.tags["a2v.model_run"] == trained.info.run_id and "model" not in world.artifacts(run)
        assert world.losses(run) == []
        # The IoU threshold is the strict protocol's: what `paper` says of the same model is the same.
        paper = {
            key: value for key, value in trained.data.metrics.items() if re.match(r"(AP|F1|precision|recall)/", key)
        }
        assert paper and paper.items() <= run.data.metrics.items()
        assert run.data.metrics["strict/AP/micro"] <= trained.data.metrics["strict/AP/micro"]


def test_variants_that_differ_in_finetuning_share_the_pretraining(world, first_runs):
    said = world.call("finetune.updates=4", "variant=short", "folds.run=[0]")
    assert said.code == 0, said.err
    assert f"pretrain: reused, run {first_runs['pretrain'][0].info.run_id}" in said.out
    short = [run for run in world.runs("finetune") if run.data.tags["variant"] == "short"]
    assert len(short) == 1 and len(world.losses(short[0])) == 4 and len(world.runs("pretrain")) == 1
    (parent,) = [run for run in world.runs("experiment") if run.data.tags["variant"] == "short"]
    assert parent.data.metrics["AP/micro_mean"] == short[0].data.metrics["AP/micro"]
    assert not any(key.endswith("_std") for key in parent.data.metrics)  # one fold has no spread


def test_fewer_labels_train_on_a_part_of_the_recordings_and_have_scores_of_their_own(world):
    said = world.call("folds.label_shares=[0.5, 1.0]", "folds.run=[1]", "finetune.updates=1", "variant=few")
    assert said.code == 0, said.err
    few = [run for run in world.runs("finetune") if run.data.tags["variant"] == "few"]
    assert sorted(run.data.tags["label_share"] for run in few) == ["0.5", "1"]
    (parent,) = [run for run in world.runs("experiment") if run.data.tags["variant"] == "few"]
    for run in few:
        name = f"labels_{run.data.tags['label_share']}/AP/micro_mean"
        assert parent.data.metrics[name] == run.data.metrics["AP/micro"]
    table = world.store.read_json(world.runs("folds")[-1].info.run_id, "folds.json")
    for fold in table:
        assert set(fold["train"]["0.5"]) < set(fold["train"]["1.0"]) and len(fold["train"]["0.5"]) == 4
    assert "50% of the labels" in said.out and "100% of the labels" in said.out


def test_without_pretraining_it_starts_from_random_weights(world):
    said = world.call("pretrain=null", "folds.run=[0]", "variant=scratch")
    assert said.code == 0, said.err
    scratch = [run for run in world.runs("finetune") if run.data.tags["variant"] == "scratch"]
    assert len(scratch) == 1 and "pretrain" not in said.out and len(world.runs("pretrain")) == 1
    usual = [
        run for run in world.runs("finetune") if run.data.tags["variant"] == "default" and run.data.tags["fold"] == "0"
    ]
    assert world.losses(scratch[0])[0][0] == 1 and world.losses(scratch[0]) != world.losses(usual[0])


def test_the_same_recordings_in_meerkats_form_give_the_same_scores(world, first_runs, meerkat_source):
    said = world.call(f"data.source={meerkat_source}", "variant=meerkat")
    assert said.code == 0, said.err
    runs = [run for run in world.runs("finetune") if run.data.tags["variant"] == "meerkat"]
    for run, usual in zip(sorted(runs, key=lambda run: run.data.tags["fold"]), first_runs["finetune"], strict=True):
        assert world.losses(run) == world.losses(usual)
        scores = {key: value for key, value in usual.data.metrics.items() if "AP/" in key}
        assert scores and scores.items() <= run.data.metrics.items()


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


KILLED = """
import os, signal, sys
from a2v_experiments import cli, loop
rate = loop.learning_rate
def learning_rate(update, *rest):
    if update == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return rate(update, *rest)
loop.learning_rate = learning_rate
sys.argv = ["a2v", *sys.argv[1:]]
cli.main()
"""


def test_a_driver_that_is_killed_leaves_a_run_that_the_next_call_ends(world):
    settings = ("finetune.seed=7", "variant=killed", "folds.run=[0]")
    sets = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-c", KILLED, "experiment", "run", str(world.recipe), "--work", str(world.work), *sets]
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
    patience = workers.MetricLog.close
    with monkeypatch.context() as patch:
        patch.setattr(workers.MetricLog, "close", lambda log: patience(log, timeout_s=0.5))
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
        patch.setattr("a2v_experiments.evaluation.evaluate_model", crash)
        assert world.call(*settings).code == 1
    with monkeypatch.context() as patch:
        patch.setattr("a2v_experiments.stages.run_training", crash)  # would be called if it trained again
        said = world.call(*settings)
    assert said.code == 0, said.err
    (run,) = [run for run in world.runs("finetune") if run.data.tags["variant"] == "blind"]
    assert run.info.status == "FINISHED" and "AP/micro" in run.data.metrics and len(world.losses(run)) == 6


def test_a_corpus_that_is_gone_is_prepared_again(world):
    before = {run.info.run_id for run in world.runs()}
    shutil.rmtree(world.work / "corpora")
    said = world.call()
    assert said.code == 0, said.err
    assert "preparing it again" in said.out and {run.info.run_id for run in world.runs()} == before
    assert len(list((world.work / "corpora").iterdir())) == 1


def test_changed_recordings_are_another_experiment(world, csv_source, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(csv_source, changed)
    rows = (changed / "annotations.csv").read_text(encoding="utf-8").splitlines()
    (changed / "annotations.csv").write_text("\n".join(rows[:-1]) + "\n", encoding="utf-8")
    before = len(world.runs("prepare"))
    said = world.call(
        f"data.source={changed}", "folds.run=[0]", "pretrain=null", "finetune.updates=1", "variant=changed"
    )
    assert said.code == 0, said.err
    assert len(world.runs("prepare")) == before + 1


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
