"""The classes of a corpus: whether a recipe's event settings name them, and whether they can be scored."""

from __future__ import annotations

from collections.abc import Iterable

from a2v_data.class_mapping import some_of
from a2v_eval.evaluation import RESERVED

from ..basics.errors import UserError
from .sections import Recipe

SHOWN = 20  # classes that a message names


def check_event_classes(recipe: Recipe, classes: Iterable[str], where: str = "") -> None:
    """Raise UserError where a class has a name that scores have, or, naming the key and the odd classes, where
    `evaluate.events` is given for other classes than the corpus has: scoring would stop at them, after all of the
    training. Nothing is scored without finetuning, and a corpus without classes is refused by what trains on it.
    where: what the line begins with, of a trial."""
    known = list(classes)
    if recipe.finetune is None or not known:
        return
    if reserved := sorted(set(known) & set(RESERVED)):
        raise UserError(
            f"{where}data: a class is called {reserved[0]!r}, as the scores of all classes together are; give it"
            " another name with a mapping (data.annotations.mapping)"
        )
    for key, given in recipe.evaluate.events.by_class.items():
        unknown = sorted(set(given) - set(known))
        missing = [name for name in known if name not in given]
        wrong = [f"{some_of(unknown, SHOWN)} {'is' if len(unknown) == 1 else 'are'} unknown"] if unknown else []
        wrong += [f"{some_of(missing, SHOWN)} {'is' if len(missing) == 1 else 'are'} missing"] if missing else []
        if wrong:
            raise UserError(
                f"{where}evaluate.events.{key}: {' and '.join(wrong)}; give one number, or one for each class of"
                f" the corpus: {some_of(known, SHOWN)}"
            )
