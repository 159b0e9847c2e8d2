"""Event settings given per class: whether they name the corpus' classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..basics.errors import UserError
from .sections import Recipe


def check_event_classes(recipe: Recipe, classes: Iterable[str], where: str = "") -> None:
    """Raise UserError naming the key and the odd classes where `evaluate.events` is given for other classes than the
    corpus has: scoring would stop at them, after all of the training. Nothing is scored without finetuning, and a
    corpus without classes is refused by what trains on it. where: what the line begins with, of a trial."""
    known = list(classes)
    if recipe.finetune is None or not known:
        return
    for key, given in recipe.evaluate.events:
        if not isinstance(given, Mapping):
            continue
        unknown = sorted(set(given) - set(known))
        missing = [name for name in known if name not in given]
        wrong = [f"{', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} unknown"] if unknown else []
        wrong += [f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"] if missing else []
        if wrong:
            raise UserError(
                f"{where}evaluate.events.{key}: {' and '.join(wrong)}; give one number, or one for each class of"
                f" the corpus: {', '.join(known)}"
            )
