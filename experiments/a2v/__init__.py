"""Experiments from Python and notebooks.

    from a2v import Experiment, Recipe

    recipe = Recipe.load("quickstart", {"finetune.updates": 400, "seeds": [0, 1]})
    experiment = Experiment(recipe, work="a2v-runs")
    experiment.run()       # what is done already is reused
    experiment.scores()    # a tidy table: one row for each score of each fold and seed

Everything lands where `a2v experiment run` puts it, and each finds what the other one made. What is wrong is a
`UserError` of one line. Imports are made when they are used: `import a2v` itself loads nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from a2v_experiments.basics.errors import UserError
    from a2v_experiments.models import load_model
    from a2v_experiments.predict.api import predict

    from .corpus import Corpus, load_corpus
    from .experiment import Experiment, Result
    from .recipe import Recipe

_PLACES = {
    "Corpus": "a2v.corpus",
    "Experiment": "a2v.experiment",
    "Recipe": "a2v.recipe",
    "Result": "a2v.experiment",
    "UserError": "a2v_experiments.basics.errors",
    "load_corpus": "a2v.corpus",
    "load_model": "a2v_experiments.models",
    "predict": "a2v_experiments.predict.api",
}

__all__ = ["Corpus", "Experiment", "Recipe", "Result", "UserError", "load_corpus", "load_model", "predict"]


def __getattr__(name: str) -> Any:
    """What is meant for users, imported when it is asked for: torch and MLflow take seconds."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_PLACES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
