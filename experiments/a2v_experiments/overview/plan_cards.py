"""How long a recipe's pretraining would take on 1, 8 and 64 cards of a kind that was measured elsewhere.

update   the segments of a card x seconds of a segment, + what an update costs whatever it hears, + the sum of the
         gradients over the cards. Of one measured step all time is taken as the segments'; of steps of several sizes
         a line tells both.
sum      each card sends and gets 2 (N - 1) / N of the gradient's bytes (a ring), after the last backward pass.

A card has at least two segments, as a micro-batch must; where an update has too few for all cards, some have none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from a2v_model import PRESETS, Pretrainer
from a2v_model.config import PretrainConfig

from ..basics.errors import UserError
from ..basics.tables import duration, text_table
from ..recipe.sections import Recipe
from ..training.tasks import part

CARDS = (1, 8, 64)
IN_A_NODE = 8
NODE_BYTES_S = 300e9  # what an all-reduce over NVLink moves per H100, of 450 GB/s each way
NETWORK_BYTES_S = 40e9  # over a network of 400 Gbit/s (50 GB/s) for each card
LEAST_SEGMENTS = 2
BYTES = 4


@dataclass(frozen=True)
class Speed:
    """Of one card: seconds of a segment, and of an update beside its segments; what was measured, in words."""

    segment_s: float
    update_s: float
    measured: str


@dataclass(frozen=True)
class OnCards:
    """at_work: cards that have segments, `segments` each; update_s: of it sum_s is that of the gradients."""

    cards: int
    at_work: int
    segments: int
    update_s: float
    sum_s: float
    total_s: float


def speed_of(recipe: Recipe, measured: Sequence[Path], step_s: float | None) -> Speed:
    """From files of `a2v bench train --json` or `infra/gpu_check.sh` (results.json), or from the seconds of a
    micro-batch of the recipe. Raises UserError where they are not of the recipe's model."""
    assert recipe.pretrain is not None
    if step_s is not None:
        segments = recipe.pretrain.segments
        return Speed(step_s / segments, 0.0, f"{segments} segments in {step_s:g} s, as given")
    found = [one for path in measured for one in _steps(path)]
    own = [one for one in found if PRESETS[one["preset"]].model == recipe.model]
    own = [one for one in own if one["segment_s"] == recipe.pretrain_source.segment_s]
    if not own:
        names = ", ".join(sorted({f"{one['preset']}, {one['segment_s']:g} s" for one in found})) or "nothing"
        raise UserError(
            f"--measured: holds pretraining steps of {names}; measure the recipe's model and segments, e.g. "
            f"`a2v bench train --preset meerkat --segments 32 --json`"
        )
    device = own[0]["device"]
    best: dict[int, float] = {}
    for one in own:
        if one["device"] != device:
            raise UserError(f"--measured: holds steps on {device} and on {one['device']}; name files of one device")
        best[one["segments"]] = min(one["step_s"]["median"], best.get(one["segments"], float("inf")))
    said = ", ".join(f"{segments} segments in {seconds:.3g} s" for segments, seconds in sorted(best.items()))
    return Speed(*_line(best), f"{said} on {device}")


def _steps(path: Path) -> list[dict[str, Any]]:
    """The pretraining steps in a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--measured {path}: {error.strerror or error}") from None
    except ValueError:
        raise UserError(f"--measured {path}: is no JSON; give what `a2v bench train --json` prints") from None
    found = [one.get("found") for one in content] if isinstance(content, list) else [content]
    return [one for one in found if one and one.get("stage") == "pretrain" and "step_s" in one]


def _line(best: dict[int, float]) -> tuple[float, float]:
    """Seconds of a segment and of the rest, neither negative."""
    sizes, seconds = np.array(list(best)), np.array(list(best.values()))
    if len(best) > 1:
        slope, rest = np.polyfit(sizes, seconds, 1, w=1 / seconds)
        if slope > 0 and rest > 0:
            return float(slope), float(rest)
    largest = int(sizes.argmax())
    return float(seconds[largest] / sizes[largest]), 0.0


def trained(recipe: Recipe) -> int:
    """How many parameters its pretraining trains; no memory is taken for them."""
    assert recipe.pretrain is not None
    with torch.device("meta"):
        model = Pretrainer(recipe.model, part(recipe.pretrain, PretrainConfig))
    return sum(one.numel() for one in model.parameters() if one.requires_grad)


def on_cards(recipe: Recipe, speed: Speed, parameters: int, cards: int) -> OnCards:
    """A pretraining, of so many trained parameters, on so many cards."""
    stage = recipe.pretrain
    assert stage is not None
    together = stage.segments * stage.micro_batches
    segments = max(LEAST_SEGMENTS, -(-together // cards))
    at_work = -(-together // segments)
    rate = NODE_BYTES_S if at_work <= IN_A_NODE else NETWORK_BYTES_S
    sum_s = 2 * (at_work - 1) / at_work * BYTES * parameters / rate
    update_s = segments * speed.segment_s + speed.update_s + sum_s
    return OnCards(cards, at_work, segments, update_s, sum_s, stage.updates * update_s)


def report(recipe: Recipe, speed: Speed) -> dict[str, Any]:
    """Plain data, seconds."""
    stage = recipe.pretrain
    assert stage is not None
    parameters = trained(recipe)
    heard_s = stage.segments * stage.micro_batches * recipe.pretrain_source.segment_s
    return {
        "experiment": recipe.name, "updates": stage.updates, "audio_s_per_update": heard_s,
        "measured": speed.measured, "cards": [vars(on_cards(recipe, speed, parameters, number)) for number in CARDS],
    }  # fmt: skip


def text(found: dict[str, Any]) -> str:
    rows = [
        [str(one["cards"]), str(one["at_work"]), str(one["segments"]), f"{one['update_s']:.3g}", f"{one['sum_s']:.2g}",
         duration(one["total_s"]), f"{found['audio_s_per_update'] / one['update_s']:,.0f}"]
        for one in found["cards"]
    ]  # fmt: skip
    head = ["cards", "at work", "segments each", "s an update", "of it sums", "pretraining", "x real time"]
    return "\n".join(
        [
            f"pretraining of {found['experiment']}: {found['updates']:,} updates of {found['audio_s_per_update']:g} s",
            f"measured: {found['measured']}",
            "",
            text_table(head, rows, left=0),
        ]
    )
