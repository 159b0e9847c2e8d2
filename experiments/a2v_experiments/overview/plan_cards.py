"""How long a recipe's pretraining would take on 1, 8 and 64 cards of a kind that was measured elsewhere.

update   the segments of a card x seconds of a segment, + what an update costs whatever it hears, + the sum of the
         gradients over the cards. Of one measured step all time is taken as the segments'; of steps of several sizes
         a line tells both.
sum      each card sends and gets 2 (N - 1) / N of the gradient's bytes (a ring), after the last backward pass.

A card has at least two segments, as a micro-batch must; where an update has too few for all cards, some have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from a2v_data.bcl import BclConfig
from a2v_model import PRESETS, Pretrainer
from a2v_model.config import PretrainConfig
from a2v_model.sizes import sizes_only

from ..basics.bench_results import TrainResult, read_results
from ..basics.errors import UserError
from ..basics.tables import duration, text_table
from ..recipe.sections import Recipe
from ..training.spec import part

CARDS = (1, 8, 64)
IN_A_NODE = 8
NODE_BYTES_S = 300e9  # what an all-reduce over NVLink moves per H100, of 450 GB/s each way
NETWORK_BYTES_S = 40e9  # over a network of 400 Gbit/s (50 GB/s) for each card
LEAST_SEGMENTS = 2
BYTES = 4
OF_TIME = ("mask_probability", "mask_length", "clones", "target_layers", "decoder")  # of a preset's pretraining


@dataclass(frozen=True)
class Speed:
    """Of one card: seconds of a segment, and of an update beside its segments; what was measured, in words."""

    segment_s: float
    update_s: float
    measured: str


@dataclass(frozen=True)
class OnCards:
    """at_work: cards that have segments, `segments` each; as_it_is: whether the recipe's own `segments` and
    `micro_batches` give each card so many; update_s: of it sum_s is that of the gradients."""

    cards: int
    at_work: int
    segments: int
    as_it_is: bool
    update_s: float
    sum_s: float
    total_s: float


def speed_of(recipe: Recipe, parameters: int, measured: Sequence[Path], step_s: float | None) -> Speed:
    """From files of `a2v bench train --json` or `infra/gpu_check.sh` (results.json), or from the seconds of a
    micro-batch of the recipe. Of a file only pretraining steps count in which nothing differs that takes time; of
    several of one size the fastest. parameters: that the recipe trains. Raises UserError where there is none, or not
    all are of one device."""
    stage = recipe.pretrain
    assert stage is not None
    if step_s is not None:
        return Speed(step_s / stage.segments, 0.0, f"{stage.segments} segments in {step_s:g} s, as given")
    steps = [one for path in measured for one in read_results("--measured", path) if isinstance(one, TrainResult)]
    differing = [(one, _differing(recipe, parameters, one)) for one in steps if one.stage == "pretrain"]
    own = [one for one, names in differing if not names]
    if not own:
        why = [f"{one.file.name}, {one.preset}: {', '.join(names)}" for one, names in differing]
        said = "; ".join(dict.fromkeys(why)) or "they hold no pretraining"
        raise UserError(f"--measured: no step is like the recipe's ({said}); {_how(recipe)}")
    device = own[0].device
    if other := next((one.device for one in own if one.device != device), None):
        raise UserError(f"--measured: holds steps on {device} and on {other}; name files of one device")
    best = {one.segments: one for one in sorted(own, key=lambda one: (one.segments, -one.step_s.median))}
    said = ", ".join(f"{segments} segments in {one.step_s.median:.3g} s ({one.file})" for segments, one in best.items())
    of_auto = ", which `auto` is there" if stage.precision == "auto" else ""
    seconds = {segments: one.step_s.median for segments, one in best.items()}
    return Speed(*_line(seconds), f"{said} on {device} in {own[0].precision}{of_auto}")


def _differing(recipe: Recipe, parameters: int, one: TrainResult) -> list[str]:
    """What takes another time in a measured step than in the recipe's, which trains so many parameters, in words."""
    stage, preset = recipe.pretrain, PRESETS.get(one.preset)
    assert stage is not None
    if preset is None:
        return ["a preset that this a2v does not have"]
    if preset.model != recipe.model:
        return ["another model"]
    precision = one.auto_precision if stage.precision == "auto" else stage.precision
    pairs: dict[str, tuple[Any, Any]] = {
        "segment_s": (one.segment_s, recipe.pretrain_source.segment_s),
        **{name: (getattr(preset.pretrain, name), getattr(stage, name)) for name in OF_TIME},
        "bcl.window_s": (_window_s(BclConfig() if one.bcl else None), _window_s(stage.bcl)),
        "precision": (one.precision, precision),
        "compile": (one.compile, stage.compile),
        "gradient_checkpointing": (one.gradient_checkpointing, stage.gradient_checkpointing),
        "A2V_ATTENTION": (one.attention, "auto"),
        "trained parameters": (one.parameters, parameters),  # the preset was another in that version
    }
    return [
        "another decoder" if name == "decoder" else f"{name} {there}, the recipe's {here}"
        for name, (there, here) in pairs.items()
        if there != here
    ]


def _window_s(bcl: BclConfig | None) -> float | None:
    """What between-classes mixing takes depends on its window alone."""
    return None if bcl is None else bcl.window_s


def _how(recipe: Recipe) -> str:
    """How a step that is like the recipe's is measured."""
    stage = recipe.pretrain
    assert stage is not None
    for name, preset in PRESETS.items():
        alike = all(getattr(preset.pretrain, key) == getattr(stage, key) for key in OF_TIME)
        if preset.model == recipe.model and alike and _window_s(stage.bcl) in (None, _window_s(BclConfig())):
            options = [f"--preset {name} --segments {stage.segments}"]
            options += [f"--segment-s {recipe.pretrain_source.segment_s:g} --precision {stage.precision}"]
            flags = {"bcl": stage.bcl, "compile": stage.compile, "gradient-checkpointing": stage.gradient_checkpointing}
            options += [f"--{flag}" for flag, wanted in flags.items() if wanted]
            return f"measure one there with `a2v bench train {' '.join(options)} --json`"
    return "`a2v bench train` has no preset like it: give --step-s, what a micro-batch of the recipe takes there"


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
    with sizes_only():
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
    as_it_is = -(-stage.micro_batches // cards) * stage.segments == segments
    return OnCards(cards, at_work, segments, as_it_is, update_s, sum_s, stage.updates * update_s)


def report(recipe: Recipe, measured: Sequence[Path], step_s: float | None) -> dict[str, Any]:
    """Plain data, seconds. Raises UserError as `speed_of`."""
    stage = recipe.pretrain
    assert stage is not None
    parameters = trained(recipe)
    speed = speed_of(recipe, parameters, measured, step_s)
    heard_s = stage.segments * stage.micro_batches * recipe.pretrain_source.segment_s
    return {
        "experiment": recipe.name, "updates": stage.updates, "audio_s_per_update": heard_s,
        "measured": speed.measured, "segments": stage.segments, "micro_batches": stage.micro_batches,
        "cards": [vars(on_cards(recipe, speed, parameters, number)) for number in CARDS],
    }  # fmt: skip


def text(found: dict[str, Any]) -> str:
    rows = [
        [str(one["cards"]), str(one["at_work"]), str(one["segments"]), f"{one['update_s']:.3g}", f"{one['sum_s']:.2g}",
         duration(one["total_s"]), f"{found['audio_s_per_update'] / one['update_s']:,.0f}"]
        for one in found["cards"]
    ]  # fmt: skip
    head = ["cards", "at work", "segments each", "s an update", "of it sums", "pretraining", "x real time"]
    others = [
        f"{one['cards']} cards so need segments: {one['segments']} and micro_batches: {one['at_work']}; the recipe has "
        f"{found['segments']} and {found['micro_batches']}"
        for one in found["cards"]
        if not one["as_it_is"]
    ]
    return "\n".join(
        [
            f"pretraining of {found['experiment']}: {found['updates']:,} updates of {found['audio_s_per_update']:g} s",
            f"measured: {found['measured']}",
            "",
            text_table(head, rows, left=0),
            *others,
        ]
    )
