"""Event settings that are given per class, for other classes than the corpus has."""

from __future__ import annotations

import pytest
from experiments_world import call_quietly


@pytest.mark.parametrize(
    "key, given, told",
    [
        ("threshold", "{cc: 0.5, xx: 0.5}", "xx is unknown and sn is missing"),
        ("window_s", "{cc: 0.03}", "sn is missing"),
        ("min_duration_s", "{cc: 0.01, sn: 0.01, yy: 0.1, xx: 0.1}", "xx, yy are unknown"),
    ],
)
def test_event_settings_of_other_classes_stop_it_before_any_training(world, first_runs, key, given, told):
    """With updates that nothing has trained yet: no run of a training is made."""
    trained = [len(world.runs(stage)) for stage in ("pretrain", "finetune")]
    sets = [f"evaluate.events.{key}={given}", "pretrain.updates=5"]
    line = f"evaluate.events.{key}: {told}; give one number, or one for each class of the corpus: sn, cc"
    assert world.call(*sets).only_line() == line
    assert [len(world.runs(stage)) for stage in ("pretrain", "finetune")] == trained
    planned = call_quietly("experiment", "plan", world.recipe, "--work", world.work, "--no-measure", "--set", sets[0])
    assert planned.code == 2 and planned.only_line() == line
