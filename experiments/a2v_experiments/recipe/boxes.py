"""What a recipe with `finetune.head: boxes` needs, and what cannot stand beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .sections import Recipe
    from .trainings import FinetuneStage


def check_boxes(recipe: Recipe) -> None:
    """Raise ValueError where head, events and labels do not fit together."""
    assert recipe.finetune is not None
    boxes = recipe.finetune.head == "boxes"
    method = recipe.evaluate.events.method
    for share, stage in recipe.finetune_by_share.items():
        if (stage.head == "boxes") != boxes:
            raise ValueError(f"finetune_by_share.{share:g}.head: boxes must be the head of all shares, or of none")
    if boxes != (method == "boxes"):
        raise ValueError(
            f"evaluate.events.method = {method}: finetune.head: boxes needs boxes, whose events may overlap"
            if boxes
            else f"evaluate.events.method = boxes: needs finetune.head: boxes; it is {recipe.finetune.head}"
        )
    if not boxes:
        return
    if recipe.data.overlaps != "keep":
        raise ValueError("data.overlaps = merge: finetune.head: boxes needs keep, to learn calls that overlap")
    if recipe.data.annotations.weak:
        raise ValueError(
            "finetune.head = boxes: learns from events only, and data.annotations.weak has labels of whole recordings"
        )
    _check_stage("finetune", recipe.finetune)
    for share, stage in recipe.finetune_by_share.items():
        _check_stage(f"finetune_by_share.{share:g}", stage)


def _check_stage(name: str, stage: FinetuneStage) -> None:
    augment = stage.augment
    unfit = {
        "bcl": stage.bcl is not None,
        "augmentations": bool(stage.augmentations),
        "augment.paste": augment is not None and augment.paste is not None,
        "augment.background": augment is not None and augment.background is not None,
    }
    for key, given in unfit.items():
        if given:
            raise ValueError(
                f"{name}.{key}: mixes targets of frames, and head boxes has onsets and offsets; leave one of them out"
            )
