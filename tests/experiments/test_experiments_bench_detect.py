"""`a2v bench detect`: one table for this project's model and its peer, within a budget, from checked splits."""

from __future__ import annotations

import json
import shutil

import pytest
from a2v_data.scheduling import in_this_process
from a2v_experiments.basics.errors import UserError
from a2v_experiments.bench.detect_recipe import Asked, pair_of
from a2v_experiments.bench.detect_report import interval_of, mean_curve
from a2v_experiments.bench.detect_training import Cost, plan, with_schedule
from experiments_world import call_quietly, make_recipe, recipe_tree, training_spec, write_recipe
from mlflow import MlflowClient

BUDGET_S = 2.0  # of 1 a busy machine has too little
PARTS = ["train"] * 6 + ["valid"] * 2 + ["test"] * 4


def with_splits(source, folder, rows=None):
    shutil.copytree(source, folder)
    rows = rows or [f"audio/rec{number:02d}.wav,{part}" for number, part in enumerate(PARTS)]
    (folder / "splits.csv").write_text("\n".join(["file,split", *rows, ""]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def measured(csv_source, empty_database, tmp_path_factory):
    """Two seeds of both, this project's pretrained: (JSON, folder before and after, work folder)."""
    place = tmp_path_factory.mktemp("bench")
    folder = with_splits(csv_source, place / "tones")
    (place / "work").mkdir()
    shutil.copy(empty_database, place / "work" / "mlflow.db")
    recipe = write_recipe(place / "small.yaml", recipe_tree())
    before = sorted(folder.rglob("*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("a2v_data.scheduling.on_cores", lambda: in_this_process)  # starting processes takes longest
        said = call_quietly(
            "bench", "detect", folder, "--recipe", recipe, "--cpu-seconds", BUDGET_S, "--seeds", 2, "--share", 0.5,
            "--pretrain-updates", 2, "--work", place / "work", "--figure", place / "curves.png", "--json",
            "--peer-set", "model.encoder.dim=8", "--peer-set", "model.front_end.stem=[4, 4]",
            "--peer-set", "finetune.channel_mask_length=4",
        )  # fmt: skip
    assert said.code == 0, said.err
    assert sorted(folder.rglob("*")) == before
    return json.loads(said.out), place


def test_both_are_scored_on_test_within_the_budget(measured):
    found, place = measured
    assert found["seeds"] == [0, 1] and found["splits"]["train"]["recordings"] == 3
    assert found["machine"]["threads"] == 1 and found["command"].startswith("a2v ")
    for role in ("a2v", "peer"):
        of = found[role]
        assert of["strict/labelled/micro"] == 16  # four calls in each of the four test recordings
        for name in ("strict/AP/micro", "strict/AP/macro", "strict/mAP/micro", "strict/AP/cc", "AP/micro"):
            assert 0 <= of[name] <= 1
        hits, said, labels = (of[f"strict/{what}/micro"] for what in ("found", "predicted", "labelled"))
        assert hits <= min(said, labels)
        assert of["cpu_seconds"] < 2 * BUDGET_S and of["updates"] >= 10 and of["parameters"] > 1000
        for run in of["runs"]:
            assert run["curve"][-1][0] <= run["cpu_seconds"] and run["validation_cpu_seconds"] < run["cpu_seconds"]
            assert set(run["events"]["threshold"]) == {"cc", "sn"}
        low, high = of["interval_95"]["strict/AP/micro"]
        assert low <= of["strict/AP/micro"] <= high
    assert found["a2v"]["pretrain_updates"] == 2 and found["a2v"]["pretraining_cpu_seconds"] > 0
    assert found["peer"]["pretrain_updates"] == 0 and found["peer"]["pretraining_cpu_seconds"] == 0
    names = list(found["a2v"])
    assert names.index("strict/AP/micro") < names.index("AP/micro")
    assert (place / "curves.png").stat().st_size > 5000


def test_each_training_is_a_run_below_that_of_the_call(measured):
    found, place = measured
    client = MlflowClient(f"sqlite:///{place / 'work' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("bench-detect")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    for role in ("a2v", "peer"):
        for seed in (0, 1):
            run = runs[f"{role} seed {seed}"]
            assert run.info.status == "FINISHED"
            assert run.data.tags["mlflow.parentRunId"] == found["mlflow"]["run"]
            assert run.data.params["finetune.updates"] and run.data.params["seed"] == str(seed)
            assert run.data.metrics["strict/AP/micro"] == found[role]["runs"][seed]["strict/AP/micro"]
    curve = client.get_metric_history(runs["peer seed 0"].info.run_id, "validation/strict/AP/micro")
    assert len(curve) == len(found["peer"]["runs"][0]["curve"])


@pytest.mark.parametrize(
    "rows, told",
    [
        (["rec00.wav,train", "rec01.wav,dev"], "splits.csv, line 3: split 'dev' is unknown; must be train, valid or"),
        (["rec00.wav,train", "rec01.wav,valid"], "splits.csv: no recording is in test;"),
        (["rec00.wav,train", "audio/rec00.wav,test"], "splits.csv, line 3: 'audio/rec00.wav' is in the table twice"),
        (["rec99.wav,train"], "splits.csv, line 2: file 'rec99.wav' does not exist"),
    ],
)
def test_wrong_splits_are_one_line(csv_source, tmp_path, rows, told):
    folder = with_splits(csv_source, tmp_path / "tones", rows)
    recipe = write_recipe(tmp_path / "small.yaml", recipe_tree())
    said = call_quietly("bench", "detect", folder, "--recipe", recipe, "--work", tmp_path / "work")
    assert said.code == 2 and told in said.only_line()
    assert not (tmp_path / "work").exists()


def test_what_cannot_be_measured_is_one_line(csv_source, tmp_path, empty_database, monkeypatch):
    monkeypatch.setattr("a2v_data.scheduling.on_cores", lambda: in_this_process)
    (tmp_path / "work").mkdir()
    shutil.copy(empty_database, tmp_path / "work" / "mlflow.db")
    recipe = write_recipe(tmp_path / "small.yaml", recipe_tree())
    arguments = ["--recipe", recipe, "--work", tmp_path / "work"]
    said = call_quietly("bench", "detect", csv_source, *arguments)
    assert said.code == 2 and "splits.csv: no such file" in said.only_line()
    folder = with_splits(csv_source, tmp_path / "tones")
    lines = (folder / "annotations.csv").read_text().splitlines()
    kept = [line for line in lines if not any(f"rec{n:02d}" in line for n in range(6))]
    (folder / "annotations.csv").write_text("\n".join(kept) + "\n")
    said = call_quietly("bench", "detect", folder, *arguments)
    assert said.code == 2 and "splits.csv: no labelled event in train;" in said.lines()[-1]


def test_a_peer_has_the_recipe_but_what_belongs_to_its_model(tmp_path):
    tree = recipe_tree(finetune__sampling={"class_power": 0.25}, finetune__optimizer__learning_rate=0.007)
    recipe = str(write_recipe(tmp_path / "small.yaml", tree))
    pair = pair_of(Asked(recipe, None, "crnn", peer_overrides=["finetune.weight_average=0.9"]), tmp_path)
    own, peer = pair.a2v.finetune, pair.peer.finetune
    assert pair.peer.model.encoder.kind == "convolutions" and pair.peer.model.front_end.sample_rate == 4000
    assert (peer.sampling, peer.optimizer, peer.bcl, peer.segments) == (
        own.sampling, own.optimizer, own.bcl, own.segments,
    )  # fmt: skip
    assert (own.layerdrop, peer.layerdrop, own.weight_average, peer.weight_average) == (0.3, 0.0, 0.0, 0.9)
    assert pair.a2v.pretrain is None and pair.peer.pretrain is None  # nobody asked for it


@pytest.mark.parametrize("recipe", ["few_calls", "many_calls", "quickstart"])
def test_what_a_bundled_recipe_says_of_folds_is_not_asked_for(tmp_path, recipe):
    """splits.csv says which recordings there are to validate on; a recipe's own folds and validation do not matter."""
    assert pair_of(Asked(recipe, None, "crnn"), tmp_path).a2v.finetune.validation is None


def test_the_plan_fills_the_budget_and_its_schedule_ends(tmp_path, corpus):
    # 93 % of 100 s, without 2 s of building and five validations of 3 s, in updates of 0.5 s
    assert plan(100.0, 100.0, Cost(2.0, 0.5, 3.0)) == (152, 31)
    # validations that take 15 s each: one alone, as two would be more than a fifth
    assert plan(100.0, 100.0, Cost(0.0, 0.5, 15.0)) == (156, 156)
    with pytest.raises(UserError, match=r"--cpu-seconds 10: leaves 10 s .* give 24 or more"):
        plan(10.0, 10.0, Cost(1.0, 2.0, 1.0))
    recipe = make_recipe(tmp_path, finetune__optimizer__warmup_updates=30, finetune__head_only_updates=10)
    stage = with_schedule(training_spec(recipe, "finetune", corpus.folder), 40, 8).finetune
    assert (stage.updates, stage.optimizer.warmup_updates, stage.head_only_updates) == (40, 8, 8)
    assert stage.validation.every == 8 and stage.validation.patience is None


def test_means_and_intervals():
    assert interval_of([0.5]) is None
    # three values: mean 2, standard deviation 1, Student's t of 2 degrees of freedom 4.3027
    assert interval_of([1.0, 2.0, 3.0]) == pytest.approx([2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5], abs=1e-4)
    assert mean_curve([[[1.0, 0.2], [2.0, None]], [[3.0, 0.4], [4.0, 0.5], [5.0, 0.6]]]) == [
        [2.0, pytest.approx(0.3)], [3.0, None],
    ]  # fmt: skip
