"""What `data.labelled: auto` means for the folders of a recipe (see `a2v_data.labelled`).

Fingerprints and the parameters of runs name the rule, never `auto`: another rule is other labels, and so another
corpus.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from a2v_data.labelled import labelled_rule

from .sections import DataConfig, Recipe


def with_rule(data: DataConfig) -> DataConfig:
    """The same with the rule that `labelled` means for its source. Every segment of the synthetic corpus is labelled,
    made or not; a source that is not there is refused elsewhere."""
    synthetic = data.source == "synthetic" and data.labelled == "auto"
    rule = "annotated" if synthetic else labelled_rule(data.labelled, Path(data.source), data.annotations)
    return data.model_copy(update={"labelled": rule})


def with_rules(recipe: Recipe) -> Recipe:
    """The same recipe with `with_rule` of its data."""
    heard = recipe.pretrain_data
    if isinstance(heard, dict):
        ruled: Any = {name: with_rule(data) for name, data in heard.items()}
    else:
        ruled = None if heard is None else with_rule(heard)
    return recipe.model_copy(update={"data": with_rule(recipe.data), "pretrain_data": ruled})
