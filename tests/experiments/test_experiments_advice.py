"""What finetuning hears, said before it starts: numbers worked out by hand."""

from __future__ import annotations

import pytest
from a2v_experiments.stages.advice import TrainingPart, advise, passes, updates_of
from experiments_world import make_recipe, recipe_tree, write_recipe

# 6 segments of 1 s in an update (3 segments, 2 micro-batches), 6 updates: 36 segments drawn
SHORT = TrainingPart((0.4, 3.0, 3.5), {"gy": 9, "rooster": 6})  # 1 + 3 + 4 segments of 1 s


def recipe_with(tmp_path, **changes):
    return make_recipe(tmp_path, data__source="x", **changes)


def test_passes_count_segments_as_they_are_drawn(tmp_path):
    recipe = recipe_with(tmp_path)
    assert passes(recipe.finetune, 1.0, SHORT) == pytest.approx(36 / 8)
    assert passes(recipe.finetune, 0.5, SHORT) == pytest.approx(36 / 14)
    advice = advise(recipe, {1.0: SHORT})
    assert advice.lines == ("finetune hears 7 s of labelled audio 4.5 times; 15 labelled calls: gy 9, rooster 6",)
    assert advice.warnings == ()


def test_less_than_one_pass_is_warned_of_with_updates_that_are_enough(tmp_path):
    recipe = recipe_with(tmp_path)
    part = TrainingPart((60.0,) * 3, {"gy": 30})  # 180 segments: 36 / 180 = 20 %; 10 passes are 300 updates
    advice = advise(recipe, {1.0: part}, update_s=7.0)
    assert advice.lines == ("finetune hears 20 % of 3 min of labelled audio once; 30 labelled calls: gy 30",)
    assert advice.warnings == (
        "finetune hears 20 % of your labelled audio once: nothing will be learned; try --set finetune.updates=300"
        " (35 min)",
    )
    assert advise(recipe, {1.0: part}).warnings[0].endswith("finetune.updates=300")
    longer = TrainingPart((61.5,) * 3, {"gy": 30})  # 186 segments: 310 updates
    assert updates_of(recipe.finetune, 1.0, longer, 10) == 310
    assert updates_of(recipe.finetune, 1.0, TrainingPart((1237.0,), {}), 10) == 2100  # 2062, in two digits


def test_classes_with_few_calls_are_named_the_rarest_last(tmp_path):
    part = TrainingPart((3.0,), {"chirp": 4, "gy": 5, "trill": 0})
    (warning,) = advise(recipe_with(tmp_path), {1.0: part}).warnings
    assert "fewer than 5 labelled calls of chirp 4, trill 0 in" in warning and "gy" not in warning


def test_of_many_classes_the_frequent_and_the_rarest_are_shown(tmp_path):
    part = TrainingPart((3.0,), {f"c{number}": 10 + number for number in range(12)})
    assert (
        advise(recipe_with(tmp_path), {1.0: part})
        .lines[0]
        .endswith("186 labelled calls: c11 21, c10 20, c9 19, c8 18, c7 17, c6 16, ..., c1 11, c0 10")
    )


def test_each_share_of_the_labels_has_its_own_settings(tmp_path):
    recipe = recipe_with(tmp_path, finetune_by_share={0.5: {"updates": 1}})
    advice = advise(recipe, {0.5: SHORT, 1.0: SHORT})
    assert [line.split(" hears ")[0] for line in advice.lines] == [
        "finetune with 50 % of the labels", "finetune with 100 % of the labels",
    ]  # fmt: skip
    (warning,) = advice.warnings  # 6 of 8 segments; 80 / 6 = 13.3 updates
    assert " 75 % of your" in warning and warning.endswith("try updates: 14 for 0.5 in finetune_by_share")


def test_plan_advises_and_warns_before_anything_runs(a2v, csv_source, tmp_path):
    changes = {"finetune__segments": 2, "finetune__micro_batches": 1}
    recipe = write_recipe(tmp_path / "small.yaml", recipe_tree(data__source=str(csv_source), **changes))
    said = a2v("experiment", "plan", recipe, "--work", tmp_path / "work", "--no-measure")
    # 8 of 12 recordings of 3.1 to 3.2 s: 4 segments of 1 s each, of which 6 updates hear 12
    assert "finetune hears 38 % of 25 s of labelled audio once; 32 labelled calls: cc 16, sn 16" in said.out
    assert "a2v: finetune hears 38 % of your labelled audio once: nothing will be learned" in said.err
    assert said.err.strip().endswith("try --set finetune.updates=160")
    assert not (tmp_path / "work").exists()


def test_plan_refuses_folds_that_cannot_be_made(a2v, csv_source, tmp_path):
    recipe = write_recipe(tmp_path / "small.yaml", recipe_tree(data__source=str(csv_source), folds={"count": 13}))
    said = a2v("experiment", "plan", recipe, "--work", tmp_path / "work", "--no-measure")
    assert said.code == 2 and said.only_line().startswith("folds.count: 13, but the corpus has 12 labelled recordings")


def test_recordings_that_only_validate_are_not_heard(a2v, csv_source, tmp_path):
    """8 recordings of 4 calls and 4 segments; a quarter is held out: 6 are left, 24 segments, of which 36 are drawn."""
    tree = recipe_tree(data__source=str(csv_source), folds__validation=0.25)
    said = a2v("experiment", "plan", write_recipe(tmp_path / "r.yaml", tree), "--work", tmp_path / "w", "--no-measure")
    assert "of labelled audio 1.5 times; 24 labelled calls: cc 12, sn 12" in said.out
