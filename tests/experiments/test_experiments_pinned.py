"""Fingerprints of bundled recipes, pinned: an upgrade of a2v must find what was trained before it.

Everything is trained again whose fingerprint changes, for every user and without a word. So no default, no new field
and no rearrangement may change one by accident.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from a2v_experiments.recipe.files import load_recipe
from a2v_experiments.stages.specs import data_spec, finetune_spec, folds_spec, pretrain_spec, refit_spec

# First 16 characters, of the inputs named below
PINNED = {
    "few_calls: data": "880697f6ddec7ac8",
    "few_calls: folds": "bf5f3f72c727080b",
    "few_calls: finetune": "f81e5aaf32ab3b5d",
    "few_calls: its model": "dc0f86d026a09d49",
    "few_calls: refit": "a8036707fdc44f46",
    "few_calls: its refitted model": "c4979b31558c5dcf",
    "quickstart: pretrain": "2a4160d2b3eed1db",
}

ADVICE = """
The fingerprint of {name} changed, so whoever upgrades trains again what was trained already. First of all, where
test_experiments_code.py fails too: do what it says.
- A new option or a changed default: values that are as usual are left out (`basics/left_out.py`), and what is usual
  stays what it was when the option was new: `python -m a2v_experiments.stages.pin`.
- A change of what is computed (`pin --raise`), or of a bundled recipe, that must not reuse old results: say so in
  CHANGELOG.md ("is trained again"), then pin the new value here: {found!r}."""


@pytest.fixture(scope="module")
def found(csv_source: Path) -> dict[str, str]:
    recipe = load_recipe("few_calls", [f"data.source={csv_source}"])  # its path is in no fingerprint
    data = data_spec(recipe.data, "recordings")
    folds = folds_spec(recipe, data.fingerprint)
    tuned = finetune_spec(recipe.at_share(1.0), 0, 1.0, data.fingerprint, folds.fingerprint, None)
    refit = refit_spec(recipe.for_refit(), [tuned.fingerprint], data.fingerprint, None)
    hears = pretrain_spec(load_recipe("quickstart"), "audio")
    marks = {
        "few_calls: data": data.fingerprint,
        "few_calls: folds": folds.fingerprint,
        "few_calls: finetune": tuned.fingerprint,
        "few_calls: its model": tuned.training or "",
        "few_calls: refit": refit.fingerprint,
        "few_calls: its refitted model": refit.training or "",
        "quickstart: pretrain": hears.fingerprint,
    }
    return {name: mark[:16] for name, mark in marks.items()}


@pytest.mark.parametrize("name", PINNED)
def test_the_fingerprints_of_bundled_recipes_stay(found: dict[str, str], name: str) -> None:
    assert found[name] == PINNED[name], ADVICE.format(name=name, found=found[name])
