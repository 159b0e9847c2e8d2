"""`folds.validation: cross`: inner folds validate every training recording, and what they choose serves the fold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from a2v_experiments.basics.errors import UserError
from a2v_experiments.overview.plan_costs import Clock
from a2v_experiments.stages import splits, stages
from a2v_experiments.sweep.trial import score_name
from a2v_experiments.training import tasks
from a2v_experiments.training.spec import TrainingSpec
from experiments_runs import World
from experiments_world import call_quietly, make_recipe, recipe_tree, write_recipe

GROUP = r"^rec\d(\d)"  # rec00 and rec10 are together, and rec01 and rec11
BEST = [0.9, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, 0.9]  # of the three inner trainings, at updates 2, 4 and 6


def of_validation(values: Iterator[float]) -> Callable[..., SimpleNamespace]:
    def score(*arguments: object) -> SimpleNamespace:
        found = {f"strict/AP/{of}": value for value in [next(values)] for of in ("micro", "macro")}
        return SimpleNamespace(scores=SimpleNamespace(metrics=lambda: found), loss=None)

    return score


def test_the_folds_model_has_all_recordings_and_what_three_inner_models_chose(
    tmp_path: Path, new_work: Callable[[str], Path], csv_source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs: list[TrainingSpec] = []
    run = stages.run_training

    def training(spec: TrainingSpec, *rest: Any) -> Path:
        specs.append(spec)
        return run(spec, *rest)

    monkeypatch.setattr(stages, "run_training", training)
    monkeypatch.setattr(tasks, "score_validation", of_validation(iter(BEST)))
    folds = {"count": 3, "run": [0], "group": GROUP, "validation": "cross"}
    tree = recipe_tree(data__source=str(csv_source), pretrain=None, folds=folds, finetune__validation={"every": 2})
    work, recipe = new_work("work"), write_recipe(tmp_path / "cross.yaml", tree)
    planned = call_quietly("experiment", "plan", recipe, "--work", work, "--no-measure", "--json")
    names = ["data", "folds", *(f"finetune fold 0 without part {part}" for part in (1, 2, 3)), "finetune fold 0"]
    assert [stage["name"] for stage in json.loads(planned.out)["stages"]] == names
    said = call_quietly("experiment", "run", recipe, "--work", work)
    assert said.code == 0, said.err
    world = World(work, recipe, said)
    manifests = world.runs("folds")[0]
    train, evaluated = (world.manifest(manifests, f"{part}_0.tsv") for part in ("train", "valid"))

    *inner, last = specs
    assert sorted(name for spec in inner for name in spec.validation) == sorted(train)
    for spec in inner:
        assert set(spec.recordings) == train - set(spec.validation)
        assert not {name[4] for name in spec.recordings} & {name[4] for name in spec.validation}
    assert set(last.recordings) == train and last.validation == [] and not train & evaluated
    # the middle one was best after 4 updates of 6
    (fold,) = world.runs("finetune")
    assert last.ends == 4 and [step for step, _ in world.losses(fold)] == [1, 2, 3, 4]
    assert "its inner folds were best after 2, 4, 6 updates; it is trained for 4" in said.out
    described = json.loads((world.fetch(fold, "model") / "model.json").read_text(encoding="utf-8"))
    assert described["extra"]["updates"] == 4
    chosen = described["thresholds_from"]
    assert chosen["recordings"].startswith(f"{len(train)} training recordings of fold 0, each scored by an inner model")
    assert chosen["labels"] == {"cc": 2 * len(train), "sn": 2 * len(train)}  # every recording has two calls of each

    scores = [one.data.metrics for one in world.runs("inner")]
    (parent,) = world.runs("experiment")
    for name in ("strict/mAP/micro", "strict/AP/macro", "AP/cc"):
        assert fold.data.metrics[f"validation/{name}"] == pytest.approx(np.mean([one[name] for one in scores]))
        assert parent.data.metrics[f"validation/{name}_mean"] == fold.data.metrics[f"validation/{name}"]
    assert fold.data.metrics["labels/validation/cc"] == fold.data.metrics["labels/train/cc"] == 2 * len(train)
    assert "thresholds chosen on validation recordings" in said.out
    again = call_quietly("experiment", "run", recipe, "--work", work)
    assert again.code == 0 and len(specs) == 4 and again.out.count("reused, run") == 7


def test_a_fold_of_too_few_groups_cannot_be_parted(tmp_path, corpus):
    recipe = make_recipe(tmp_path, [r"folds.group=^rec(\d)", "folds.validation=cross"], data__source="x")
    with pytest.raises(UserError, match="makes 3 parts of a fold's training recordings, and they are of 2 groups"):
        splits.inner_parts(recipe, corpus, [one.name for one in corpus.recordings])


def test_a_sweep_chooses_by_inner_folds_and_is_not_pruned_within_them(tmp_path):
    sweep = {"parameters": {"finetune.mask_length": [1, 2]}}
    recipe = make_recipe(tmp_path, ["folds.validation=cross"], sweep=sweep)
    assert recipe.crosses and recipe.is_validated and score_name(recipe) == "validation/strict/mAP/micro"
    with pytest.raises(UserError, match=r"there are no validations without a share in folds\.validation"):
        make_recipe(tmp_path, ["folds.validation=cross"], sweep={**sweep, "pruning": {"grace_validations": 1}})


def test_the_plan_counts_each_part_once(tmp_path, monkeypatch):
    """Of 280 s labelled 3 in 4 are to train on: 210 s in three parts of 70, each looked at after 4 and 6 updates and
    evaluated once; the fold's own training looks at none."""
    monkeypatch.setattr(Clock, "window", lambda self, planned: 0.1)
    monkeypatch.setattr(Clock, "scoring", lambda self, recipe, whole=True: 0.01 if whole else 0.004)
    folds = {"holdout": 0.25, "validation": "cross"}
    recipe = make_recipe(tmp_path, ["finetune.validation={every: 4}"], folds=folds, data__source="x")
    clock, audio = Clock(lambda line: None), SimpleNamespace(labelled_s=280.0)
    one: Any = SimpleNamespace(stage="inner", recipe=recipe, share=1.0, updates=6)
    assert clock.validation_s(one, audio) == pytest.approx(2 * (70 / 0.7 * 0.1 + 70 * 0.004))
    figures = clock.evaluation_s(one, SimpleNamespace(labelled_s=0.0))
    assert clock.evaluation_s(one, audio) - figures == pytest.approx(70 / 0.7 * 0.1 + 70 * 0.01)
    one.stage = "finetune"
    assert clock.validation_s(one, audio) == 0
