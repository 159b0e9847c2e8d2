"""What a plan's pretraining hears of several corpora: hours, share, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from a2v_data.licences import UNKNOWN

from ..basics.errors import UserError
from ..basics.tables import text_table
from ..recipe.corpora import shares
from ..recipe.sections import Recipe
from ..stages.datasets import licence_of
from .plan import Plan
from .plan_audio import audio_of


@dataclass(frozen=True)
class PlannedCorpus:
    """hours: that are heard, `exact` where the corpora are packed, else of all recordings by their headers; share: of
    what is heard; times: how often it is heard from beginning to end; licence: of its recordings, None if not known."""

    name: str
    hours: float
    exact: bool
    share: float
    times: float
    licence: str | None


def planned_corpora(plan: Plan, recipe: Recipe, work: Path) -> list[PlannedCorpus]:
    """None where pretraining hears one corpus. Raises UserError where one of several has no sound."""
    stage = recipe.pretrain
    if stage is None or not isinstance(recipe.pretrain_data, dict):
        return []
    several = recipe.pretrain_data
    if plan.heard is not None:
        hours = [part.seconds / 3600 for part in plan.heard.parts]
    else:
        hours = [audio_of(data, work, None).total_s / 3600 for data in several.values()]
    for (name, data), own in zip(several.items(), hours, strict=True):
        if not own:
            raise UserError(f"pretrain_data.{name}.source: {data.source}: no recording there can be read")
    their = shares(hours, [data.weight or 1.0 for data in several.values()], stage.temperature)
    heard_h = stage.updates * stage.micro_batches * stage.segments * recipe.pretrain_source.segment_s / 3600
    return [
        PlannedCorpus(
            name, own, plan.heard is not None, share, heard_h * share / own,
            licence_of(data, Path(data.source)),
        )
        for (name, data), own, share in zip(several.items(), hours, their, strict=True)
    ]  # fmt: skip


def corpora_text(corpora: Sequence[PlannedCorpus]) -> str:
    rows = [
        [one.name, f"{'' if one.exact else 'about '}{one.hours:,.3g}", f"{one.share:.1%}", f"{one.times:,.3g} x",
         one.licence or UNKNOWN]
        for one in corpora
    ]  # fmt: skip
    return text_table(["pretraining hears", "hours", "share", "each hour", "licence"], rows, left=1)
