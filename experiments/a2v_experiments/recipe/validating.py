"""`folds.validation` says which training recordings are held out, `finetune.validation` how training uses them: the two
agree in every recipe."""

from __future__ import annotations

from typing import Any

from .sweep import Positive, Section

Tree = dict[str, Any]
UNSAID = object()


class ValidationConfig(Section):
    """How training uses the recordings that `folds.validation` holds out.

    every: updates between two validations (one more is at the end); patience: after so many validations in a row that
    are not as good as the best, within .02 of AP, training stops (None: never).
    """

    every: Positive = 100
    patience: Positive | None = None


def with_validation(tree: Tree) -> Tree:
    """A recipe's keys, with `finetune.validation` wherever `folds.validation` is a share, and nowhere else.

    Raises ValueError where the keys contradict each other, or say what they said before the share was one of the folds.
    """
    finetune, shares = tree.get("finetune"), tree.get("finetune_by_share")
    if not isinstance(finetune, dict):
        return tree
    folds = tree.get("folds")
    said = folds.get("validation", UNSAID) if isinstance(folds, dict) else getattr(folds, "validation", UNSAID)
    found = {**tree, "finetune": _agreeing(finetune, said, "finetune")}
    if isinstance(shares, dict):
        found["finetune_by_share"] = {
            share: _agreeing(one, said, f"finetune_by_share.{share}") if isinstance(one, dict) else one
            for share, one in shares.items()
        }
    return found


def _agreeing(stage: Tree, share: Any, key: str) -> Tree:
    how = stage.get("validation", UNSAID)
    held_out = share is not UNSAID and share is not None
    if isinstance(how, dict) and "share" in how:
        raise ValueError(
            f"{key}.validation.share: which share is held out is said for the folds now: write folds.validation:"
            f" {how['share']} instead; {key}.validation keeps every and patience"
        )
    if held_out:
        if how is None:
            raise ValueError(
                f"{key}.validation = null and folds.validation = {share} contradict each other; for no validation write"
                " folds.validation: null instead"
            )
        return {**stage, "validation": {}} if how is UNSAID else stage
    if how is UNSAID or how is None:
        return stage
    if share is UNSAID:
        raise ValueError(
            f"{key}.validation: says how recordings are validated on, and none are held out: add folds.validation: 0.2"
            " (a share of the training recordings), or null for none"
        )
    return {**stage, "validation": None}
