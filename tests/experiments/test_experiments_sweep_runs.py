"""What MLflow has of a sweep: one parent while it grows, and runs of stages that say whose they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from a2v_experiments.stages.again import Swept
from a2v_experiments.stages.specs import StageSpec
from a2v_experiments.stages.stage import Context, run_stage
from a2v_experiments.store.database import default_uri
from a2v_experiments.store.tracking import Store
from a2v_experiments.sweep.identity import sweep_config
from experiments_world import make_recipe

GRID = {"parameters": {"finetune.mask_length": [2, 4]}}


@pytest.mark.parametrize(
    "one, other, same",
    [
        (GRID, {"parameters": {"finetune.mask_length": [2, 3, 4, 5]}}, True),
        (GRID, {**GRID, "metric": "strict/AP/macro", "concurrency": 1}, True),
        (GRID, {"parameters": {"finetune.mask_length": [2, 4], "finetune.focal": [True]}}, False),
        (GRID, {**GRID, "pruning": {}}, False),
        ({"variants": {"a": {"finetune.focal": True}}}, {"variants": {"b": {"finetune.focal": False}}}, True),
        ({"variants": {"a": {"finetune.focal": True}}}, GRID, False),
        ({**GRID, "search": "random", "trials": 1}, {**GRID, "search": "random", "trials": 2}, True),
        ({**GRID, "search": "random", "trials": 1}, {**GRID, "search": "random", "trials": 1, "seed": 1}, False),
        ({**GRID, "search": "optuna", "trials": 1}, {**GRID, "search": "optuna", "trials": 9}, True),
        (
            {**GRID, "search": "optuna", "trials": 1},
            {"search": "optuna", "trials": 1, "parameters": {"finetune.mask_length": [2, 4, 8]}},
            False,
        ),
    ],
)
def test_a_sweep_that_grows_stays_the_same_one(tmp_path: Path, one: Any, other: Any, same: bool):
    configs = [sweep_config(make_recipe(tmp_path, sweep=sweep)) for sweep in (one, other)]
    assert (configs[0] == configs[1]) == same


def test_another_base_is_another_sweep(tmp_path: Path):
    configs = [sweep_config(make_recipe(tmp_path, sweep=GRID, finetune__updates=n)) for n in (6, 7)]
    assert configs[0] != configs[1]


def test_a_long_name_of_a_trial_is_cut():
    assert Swept("mask=0.5", {}).run_name("finetune fold 0 labels 0.1") == "mask=0.5 fold 0 labels 0.1"
    assert Swept("mask=0.5", {}).run_name("pretrain") == "mask=0.5 pretrain"
    assert Swept("x" * 300, {}).run_name("finetune fold 1") == "x" * 79 + "… fold 1"


def test_folds_say_whose_they_are_and_stand_below_every_trial(new_work: Callable[[str], Path], tmp_path: Path):
    """Two trials differ in what a fold does not depend on: the second reuses the first's run and shows it."""
    work = new_work("sweep")
    store = Store(default_uri(work), "birds", work / "artifacts" / "birds")
    recipe = make_recipe(tmp_path, data__source="here")
    spec = StageSpec("finetune", "finetune fold 0", {"finetune": {"updates": 6}}, {"folds": "f" * 64})

    def train(run_id: str) -> None:
        store.name_classes(run_id, ["wren?"])
        store.log_metrics(run_id, {"AP/wren?": 0.5})

    parents, said = [], []
    for every in (1, 2):
        key = "finetune.log_every"
        parents.append(store.begin("trial", str(every), f"log_every={every}", {}, {}, None))
        trial = Swept(f"log_every={every}", {key: every})
        context = Context(recipe, store, work, parents[-1], said.append, trial=trial)
        for _ in range(2):  # called again it is not shown twice
            result = run_stage(context, spec, {}, train, {"fold": "0", "label_share": "1"})
    first, second = (store.children(parent) for parent in parents)
    assert [run.info.run_name for run in first] == ["log_every=1 fold 0"]
    assert [run.info.run_name for run in second] == ["log_every=2 fold 0 (reused)"]
    for every, (run,) in ((1, first), (2, second)):
        expected = {"trial": f"log_every={every}", "finetune.log_every": str(every), "finetune.updates": "6"}
        assert run.data.params == expected and run.data.metrics == {"AP/wren_": 0.5} and run.data.tags["fold"] == "0"
        assert run.data.tags["a2v.class/wren_"] == "wren?" and run.info.status == "FINISHED"
    assert result.run_id == first[0].info.run_id == second[0].data.tags["a2v.reused"]
    assert f"runs/{result.run_id})" in second[0].data.tags["mlflow.note.content"]
    assert store.find("finetune", spec.fingerprint).info.run_id == result.run_id


def test_what_another_trial_left_is_not_taken_over(new_work: Callable[[str], Path]):
    work = new_work("left")
    store = Store(default_uri(work), "birds", None)
    left = store.begin("finetune", "mark", "a fold 0", {}, {"trial": "a"}, None, {"trial": "a"})
    store.finish(left, "FAILED")
    mine = store.begin("finetune", "mark", "b fold 0", {}, {"trial": "b"}, None, {"trial": "b"})
    store.finish(mine, "FAILED")
    assert mine != left and store.run(mine).data.params == {"trial": "b"}
    assert store.begin("finetune", "mark", "a fold 0", {}, {"trial": "a"}, None, {"trial": "a"}) == left
