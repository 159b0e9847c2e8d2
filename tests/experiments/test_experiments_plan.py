"""`a2v experiment plan`: it tells what `run` then does, writes nothing, and its estimate is arithmetic on what it
measured."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from a2v_experiments.overview import plan_costs
from a2v_experiments.overview.plan import Mark, Planned
from a2v_experiments.overview.plan_audio import Audio
from a2v_experiments.overview.plan_costs import Clock, StepTime
from a2v_experiments.recipe.files import BUNDLED
from experiments_runs import World, make_world
from experiments_store import disown
from experiments_world import RATE, RECORDINGS, make_recipe, recipe_tree, write_recipe
from safetensors.torch import load_file

RECIPES = sorted(str(path.relative_to(BUNDLED).with_suffix("")) for path in BUNDLED.rglob("*.yaml"))
AUDIO_S = sum(12400 + 37 * number for number in range(RECORDINGS)) / RATE


@pytest.fixture(scope="module")
def world(tmp_path_factory, empty_database, csv_source) -> World:
    """Of its own: what these tests run must not be found by others."""
    return make_world(tmp_path_factory.mktemp("plan"), empty_database, csv_source)


@pytest.fixture(scope="module")
def first_runs(world):
    return world.first_runs()


def plan(a2v, recipe, work, *sets, measure=False):
    given = [part for value in sets for part in ("--set", value)]
    said = a2v("experiment", "plan", recipe, "--work", work, *given, "--json", *([] if measure else ["--no-measure"]))
    assert said.code == 0, said.err
    return json.loads(said.out)


def states(found):
    return {stage["name"]: stage["state"] for stage in found["stages"]}


def what_run_said(said):
    """Stage -> 'reused' or 'run', and its run's id, as `run` prints them."""
    found = re.findall(r"^(\S.*): (reused, run|run) (\w{32})(?: \(.*\))?$", said.out, re.M)
    return {name: (how, run) for name, how, run in found}


def files(folder: Path):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_everything_runs_where_nothing_is_and_nothing_is_written(a2v, csv_source, tmp_path):
    recipe = write_recipe(tmp_path / "small.yaml", recipe_tree(data__source=str(csv_source)))
    found = plan(a2v, recipe, tmp_path / "work")
    names = ["data", "folds", "pretrain", "finetune fold 0", "finetune fold 1"]
    assert states(found) == dict.fromkeys(names, "runs")
    assert [stage["updates"] for stage in found["stages"]] == [0, 0, 6, 6, 6] and found["updates"] == 18
    assert found["disk_bytes"]["corpora"] == pytest.approx(AUDIO_S * RATE * 2, rel=1e-3)
    assert found["folds"] == [0, 1] and found["label_shares"] == [1.0] and found["seconds"] is None
    assert not (tmp_path / "work").exists()


def test_a_finished_experiment_is_reused_and_its_plan_writes_nothing(a2v, world, first_runs):
    before = files(world.work)
    found = plan(a2v, world.recipe, world.work)
    assert set(states(found).values()) == {"reused"} and found["updates"] == 0
    assert found["finished_run"] == first_runs["experiment"][0].info.run_id
    runs = {stage["name"]: stage["run_id"] for stage in found["stages"]}
    assert runs["pretrain"] == first_runs["pretrain"][0].info.run_id
    assert [runs[f"finetune fold {n}"] for n in (0, 1)] == [run.info.run_id for run in first_runs["finetune"]]
    assert found["disk_bytes"] == {"corpora": 0, "checkpoints": 0, "models": 0}
    assert files(world.work) == before
    said = a2v("experiment", "plan", world.recipe, "--work", world.work)
    assert "nothing is left to run" in said.out and "time" in said.out.splitlines()[2]


@pytest.mark.parametrize(
    "sets, expected",
    [
        (["finetune.updates=7"], {"pretrain": "reused", "finetune fold 0": "runs", "finetune fold 1": "runs"}),
        (["folds.run=[1, 2]"], {"pretrain": "reused", "finetune fold 1": "reused", "finetune fold 2": "runs"}),
        (
            ["pretrain.mask_length=3", "folds.run=[0]"],
            {"folds": "reused", "pretrain": "runs", "finetune fold 0": "runs"},
        ),
        (["pretrain=null", "folds.run=[0]"], {"folds": "reused", "finetune fold 0": "runs"}),
        (["evaluate.iou_threshold=0.4", "folds.run=[0]"], {"pretrain": "reused", "finetune fold 0": "evaluates"}),
    ],
)
def test_run_does_what_was_planned(a2v, world, sets, expected):
    found = plan(a2v, world.recipe, world.work, *sets)
    planned = states(found)
    assert expected.items() <= planned.items() and planned["data"] == "reused"
    said = world.call(*sets)
    assert said.code == 0, said.err
    did = what_run_said(said)
    assert {name: how for name, (how, _) in did.items() if name in planned} == {
        name: "reused, run" if state == "reused" else "run" for name, state in planned.items()
    }
    for stage in found["stages"]:
        if stage["state"] == "reused":
            assert did[stage["name"]][1] == stage["run_id"]
        if stage["fingerprint"]:
            run = world.store.client.get_run(did[stage["name"]][1])
            assert run.data.tags["a2v.fingerprint"] == stage["fingerprint"]
    (advice,) = found["advice"]  # 8 train recordings, two calls of each class in each
    assert advice.startswith("finetune hears ") and "; 32 labelled calls: cc 16, sn 16" in advice
    assert advice in said.out
    assert ("its model: reused" in said.out) == ("evaluates" in planned.values())
    assert set(states(plan(a2v, world.recipe, world.work, *sets)).values()) == {"reused"}


def test_a_stopped_run_goes_on_and_one_at_work_is_waited_for(a2v, world):
    change = ["pretrain.mask_length=5", "pretrain.updates=9"]
    (stage,) = [s for s in plan(a2v, world.recipe, world.work, *change)["stages"] if s["name"] == "pretrain"]
    store = world.store
    run_id = store.begin("pretrain", stage["fingerprint"], "pretrain", {}, {}, None)
    store.finish(run_id, "KILLED")
    found = plan(a2v, world.recipe, world.work, *change)
    assert [(s["state"], s["run_id"], s["updates"]) for s in found["stages"] if s["name"] == "pretrain"] == [
        ("continues", run_id, 9)
    ]
    store.client.update_run(run_id, status="RUNNING")
    disown(store, run_id, "another-machine:1:1")
    found = plan(a2v, world.recipe, world.work, *change)
    assert states(found)["pretrain"] == "busy" and states(found)["finetune fold 0"] == "runs"
    store.client.delete_run(run_id)


def test_models_take_the_disk_that_was_planned(a2v, world, first_runs, tmp_path):
    planned = plan(a2v, world.recipe, tmp_path / "work")["disk_bytes"]["models"]
    runs = [first_runs["pretrain"][0], *first_runs["finetune"]]
    taken = [
        sum(value.nbytes for value in load_file(world.fetch(run, "model") / "model.safetensors").values())
        for run in runs
    ]
    assert planned == pytest.approx(sum(taken), rel=0.2)  # as if there were 12 classes


def test_audio_that_is_not_packed_here_is_said_to_be_unknown(a2v, world, tmp_path):
    uri = world.store.uri
    said = a2v("experiment", "plan", world.recipe, "--work", tmp_path / "new", "--tracking-uri", uri, "--no-measure",
               "--json")  # fmt: skip
    found = json.loads(said.out)
    assert states(found) == {
        "data": "reused", "folds": "reused", "pretrain": "unknown", "finetune fold 0": "unknown",
        "finetune fold 1": "unknown",
    }  # fmt: skip
    assert any("not packed in this work folder" in note for note in found["notes"])
    assert found["disk_bytes"]["corpora"] > 0 and not (tmp_path / "new").exists()


def sweep_recipe(folder, source, **sweep):
    return write_recipe(folder / "sweep.yaml", recipe_tree(data__source=str(source), sweep=sweep))


def test_trials_share_what_does_not_differ(a2v, csv_source, tmp_path):
    parameters = {"pretrain.mask_length": [2, 4], "finetune.updates": [6, 8]}
    found = plan(a2v, sweep_recipe(tmp_path, csv_source, parameters=parameters), tmp_path / "work")
    assert found["trials"] == 4
    count = {(s["stage"], s["state"]): 0 for s in found["stages"]}
    for s in found["stages"]:
        count[s["stage"], s["state"]] += 1
    assert count == {
        ("prepare", "runs"): 1, ("prepare", "shared"): 3, ("folds", "runs"): 1, ("folds", "shared"): 3,
        ("pretrain", "runs"): 2, ("pretrain", "shared"): 2, ("finetune", "runs"): 8,
    }  # fmt: skip
    assert found["updates"] == 2 * 6 + 2 * 2 * (6 + 8)


def test_an_adaptive_search_is_planned_by_number(a2v, csv_source, tmp_path):
    rates = {"finetune.optimizer.learning_rate": {"low": 0.001, "high": 0.01}}
    sweep = {"search": "optuna", "trials": 7, "parameters": rates, "pruning": {"grace_folds": 1}}
    recipe = sweep_recipe(tmp_path, csv_source, **sweep)
    found = plan(a2v, recipe, tmp_path / "work")
    assert found["trials"] == 7 and found["updates"] == 6 + 7 * 2 * 6  # no parameter touches the pretraining
    assert any("optuna chooses the 7 trials" in note for note in found["notes"])
    assert any("pruning" in note for note in found["notes"])
    said = a2v("experiment", "plan", recipe, "--work", tmp_path / "work", "--no-measure")
    assert "7 x finetune fold 0" in said.out and "1 pretraining, 14 finetunings" in said.out


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_planned_and_makes_no_corpus(a2v, tmp_path, name):
    said = a2v("experiment", "plan", name, "--scale", "tiny", "--work", tmp_path / "work", "--no-measure")
    assert said.code == 0, said.err
    assert "packing" in said.out and "not known" not in said.out and not (tmp_path / "work").exists()


def test_a_source_that_is_not_there_is_one_line(a2v, tmp_path):
    recipe = write_recipe(tmp_path / "small.yaml", recipe_tree(data__source=str(tmp_path / "nowhere")))
    said = a2v("experiment", "plan", recipe, "--work", tmp_path / "work")
    assert said.code == 2 and said.only_line() == f"data.source: {tmp_path / 'nowhere'}: no such folder"


@pytest.fixture
def known_speed(monkeypatch):
    """A micro-batch takes 1 s, 0.25 s while the head alone learns, the rest of an update 0.5 s, a window 0.1 s,
    scoring a second of recordings 0.01 s."""

    def step(recipe, stage, segment_s):
        return StepTime(1.0, 0.25 if hasattr(stage, "head_only_updates") else None, 0.5, stage.segments)

    monkeypatch.setattr(plan_costs, "measure_step", step)
    monkeypatch.setattr(plan_costs, "measure_window", lambda recipe: 0.1)
    monkeypatch.setattr(plan_costs, "measure_scoring", lambda recipe, whole: 0.01 if whole else 0.004)
    monkeypatch.setattr(plan_costs, "cores", lambda: 2)


def test_time_is_arithmetic_on_what_was_measured(a2v, csv_source, tmp_path, known_speed):
    recipe = write_recipe(tmp_path / "small.yaml", recipe_tree(data__source=str(csv_source)))
    found = plan(a2v, recipe, tmp_path / "work", measure=True)
    seconds = {stage["name"]: stage["seconds"] for stage in found["stages"]}
    assert seconds["pretrain"] == pytest.approx(6 * (2 * 1 + 0.5))
    windows = AUDIO_S / 3 / (1.0 - 0.3)  # of 1 s, sharing 0.3 s; 3 folds
    fold = 2 * (2 * 0.25 + 0.5) + 4 * (2 * 1 + 0.5) + 0.1 * windows + 0.01 * AUDIO_S / 3 + plan_costs.FIGURES_S
    assert seconds["finetune fold 0"] == pytest.approx(fold) == seconds["finetune fold 1"]
    assert found["seconds"] == pytest.approx(15 + 2 * fold) and seconds["data"] is None


def planned(recipe, stage, updates, trial=None):
    return Planned(trial, stage, stage, "runs", Mark("m", True), None, updates, recipe, 1.0)


@pytest.mark.parametrize("workers, rounds", [(0, 4), (2, 2), (3, 2 * 1.5), (4, 1 * 2)])
def test_workers_divide_the_micro_batches_as_far_as_there_are_cores(tmp_path, known_speed, workers, rounds):
    recipe = make_recipe(
        tmp_path, pretrain__micro_batches=4, finetune__micro_batches=4, ray__num_workers=workers, data__source="x"
    )
    start = plan_costs.WORKERS_START_S if workers else 0
    clock = Clock(lambda line: None)
    assert clock.training_s(planned(recipe, "pretrain", 6)) == pytest.approx(6 * (rounds + 0.5) + start)
    # a run that goes on after 4 updates has its 2 head-only ones behind it
    assert clock.training_s(planned(recipe, "finetune", 2)) == pytest.approx(2 * (rounds + 0.5) + start)


def test_evaluation_takes_the_held_out_share(tmp_path, known_speed):
    recipe = make_recipe(tmp_path, folds={"holdout": 0.25}, data__source="x")
    seconds = Clock(lambda line: None).evaluation_s(planned(recipe, "finetune", 6), Audio(1000.0, 280.0, True))
    assert seconds == pytest.approx(280 * 0.25 / 0.7 * 0.1 + 280 * 0.25 * 0.01 + plan_costs.FIGURES_S)


@pytest.mark.parametrize("left, looks", [(10, 3), (6, 2), (5, 2), (1, 1), (0, 0)])
def test_validation_takes_its_share_as_often_as_it_looks(tmp_path, known_speed, left, looks):
    """10 updates, every 4: at 4, 8 and 10; and once more for thresholds, which a model that is there has left, too.
    Of 280 s labelled 3 in 4 are to train on, half of these labels are used, and a fifth of them validates: 21 s."""
    stage = {"updates": 10, "validation": {"every": 4}}
    tree = recipe_tree()["finetune"] | stage
    recipe = make_recipe(tmp_path, folds={"holdout": 0.25, "validation": 0.2}, data__source="x", finetune=tree)
    one = replace(planned(recipe, "finetune", left), share=0.5)
    seconds = Clock(lambda line: None).validation_s(one, Audio(1000.0, 280.0, True))
    assert seconds == pytest.approx((looks + 1) * (21 / 0.7 * 0.1 + 21 * 0.004))
    assert Clock(lambda line: None).validation_s(planned(make_recipe(tmp_path), "finetune", 6), Audio(9, 9, True)) == 0


def test_a_step_of_the_recipes_own_model_is_measured(tmp_path):
    recipe = make_recipe(tmp_path, data__source="x")
    step = plan_costs.measure_step(recipe, recipe.finetune, 1.0)
    assert step.segments == 3 and step.update_s > 0 and step.head_micro_s > 0 and step.micro_s > 0
    assert plan_costs.measure_step(recipe, recipe.pretrain, 1.0).head_micro_s is None
    assert plan_costs.measure_window(recipe) > 0
    assert 0 < plan_costs.measure_scoring(recipe) < 0.1  # a fraction of what is heard
    assert plan_costs.measure_scoring(recipe, whole=False) > 0  # of a validation
    per_class = {"threshold": {"cc": 0.1, "sn": 0.2}, "window_s": {"cc": 0.03, "sn": 0.05}, "min_duration_s": {"cc": 0}}
    given = make_recipe(tmp_path, data__source="x", evaluate__events=per_class)
    assert plan_costs.measure_scoring(given) > 0  # on classes of other names
    fitted = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"fit_events": True})})
    assert plan_costs.measure_scoring(fitted) > 0
