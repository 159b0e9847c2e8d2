"""`a2v explain masks`: what a start probability and a length mean once masks are drawn as training draws them.

Spans overlap, and rows of a batch are made equal by unmasking at random, so neither the share of masked frames nor the
lengths of what is masked in one piece can be read off p and l. R rows of T frames; a count's index is a length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from a2v_eval.figures import masks_figure
from a2v_eval.runs import runs_of_ones
from a2v_model import frame_mask
from numpy.typing import NDArray

from ..basics.errors import UserError
from ..basics.tables import text_table
from ..recipe.sections import Recipe

Stage = Literal["pretrain", "finetune"]
Array = NDArray[Any]
FRAMES = 2000  # 10 s at 200 Hz
ROWS = 72  # 6 segments x 12 clones, as in meerkat/pretrain
EXAMPLE_ROWS, EXAMPLE_FRAMES = 6, 200


@dataclass(frozen=True)
class MaskSettings:
    """Start probability p and length l of masks, and the batch that they are drawn for: `rows` share one draw, so they
    mask equally many frames. frame_rate: Hz, where it is known."""

    probability: float
    length: int
    frames: int = FRAMES
    rows: int = ROWS
    frame_rate: float | None = None

    @property
    def product(self) -> float:
        """p * l, which published configurations call mask_prob."""
        return self.probability * self.length


@dataclass(frozen=True)
class Masks:
    """Statistics of masks over some draws.

    share     of masked frames, one for each draw (the same in all rows of it).
    spans     how many pieces of masked frames have each length. gaps: of visible frames between two of those; what
              lies before the first and behind the last span of a row is cut off by its ends and not counted.
    example   some rows of the first draw, bool.
    """

    settings: MaskSettings
    share: Array
    spans: Array
    gaps: Array
    example: Array

    def arrays(self) -> dict[str, Array]:
        """For an npz file."""
        settings = {name: np.asarray(value) for name, value in vars(self.settings).items() if value is not None}
        return settings | {name: getattr(self, name) for name in ("share", "spans", "gaps", "example")}

    def to_json(self) -> dict[str, Any]:
        """Plain data, numbers in full."""
        lengths = {"spans": self.spans, "gaps": self.gaps}
        return {
            **vars(self.settings), "product": self.settings.product, "draws": len(self.share),
            "masked_share": {"mean": float(self.share.mean()), "std": float(self.share.std())},
            **{name: _lengths(counts) for name, counts in lengths.items()},
        }  # fmt: skip

    def to_text(self) -> str:
        """Settings, masked share, and lengths of spans and gaps in frames and, where the frame rate is known, ms."""
        own, rate = self.settings, self.settings.frame_rate
        rows = []
        for name, counts in (("masked spans", self.spans), ("visible gaps", self.gaps)):
            for unit, scale in (("frames", 1.0), *([("ms", 1000 / rate)] if rate else [])):
                found = _lengths(counts)
                values = [found[key] for key in ("mean", "median", "p95", "longest")]
                rows.append([name, unit, *("–" if value is None else f"{value * scale:.4g}" for value in values)])
        return (
            f"p = {own.probability:g}, l = {own.length}: published mask_prob = p * l = {own.product:g}\n"
            f"masked: {100 * self.share.mean():.1f} % of {own.frames} frames (± {100 * self.share.std():.1f} between"
            f" {len(self.share)} draws of {own.rows} rows)\n\n"
            + text_table(["length of", "", "mean", "median", "95 %", "longest"], rows, left=2)
        )

    def figure(self, title: str = "") -> Any:
        own = self.settings
        title = title or f"p = {own.probability:.4g}, l = {own.length} (p · l = {own.product:.4g})"
        share = f"{100 * self.share.mean():.1f} % of {own.frames} frames masked"
        return masks_figure(self.spans, self.gaps, self.example, own.frame_rate, f"{title}\n{share}")


def mask_settings(
    recipe: Recipe | None,
    stage: Stage,
    probability: float | None = None,
    length: int | None = None,
    frames: int | None = None,
    rows: int | None = None,
) -> MaskSettings:
    """A recipe's masks in a stage, over its segments and the rows that it draws masks for at once; what is given goes
    before that. Raises UserError where the recipe lacks the stage or masks nothing, or p or l are not known."""
    known: dict[str, Any] = {} if recipe is None else _of_recipe(recipe, stage)
    given = {"probability": probability, "length": length, "frames": frames, "rows": rows}
    known |= {name: value for name, value in given.items() if value is not None}
    for name in ("probability", "length"):
        if name not in known:
            raise UserError(f"--mask-{name}: is needed where no recipe is named, for example 0.75 and a length of 2")
    if not known["probability"] or not known["length"]:
        whose = f"{recipe.name}: {stage} has" if recipe is not None else "these settings have"
        raise UserError(f"{whose} mask_probability or mask_length 0, so nothing is masked")
    return MaskSettings(**known)


def _of_recipe(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    settings = recipe.pretrain if stage == "pretrain" else recipe.finetune
    if settings is None:
        raise UserError(f"{recipe.name}: has no {stage}; --stage says whose masks are meant")
    data = recipe.pretrain_source if stage == "pretrain" else recipe.data
    clones = recipe.pretrain.clones if stage == "pretrain" and recipe.pretrain is not None else 1
    front_end = recipe.model.front_end
    frames, rate = front_end.frames(round(data.segment_s * front_end.sample_rate)), front_end.frame_rate
    if stage == "pretrain":  # whose masks are of the encoder's frames
        frames, rate = recipe.model.encoder_frames(frames), recipe.model.encoder_frame_rate
    return {
        "probability": settings.mask_probability,
        "length": settings.mask_length,
        "frames": frames,
        "rows": settings.segments * clones,
        "frame_rate": rate,
    }


def draw_masks(settings: MaskSettings, draws: int) -> Masks:
    """Masks of `draws` batches, one seed each, as training draws them (`a2v_model.masking`). ValueError where the
    length leaves no start position."""
    share, example = [], np.zeros((0, 0), dtype=bool)
    spans = np.zeros(settings.frames + 1, dtype=np.int64)
    gaps = np.zeros(settings.frames + 1, dtype=np.int64)
    for seed in range(draws):
        generator = torch.Generator().manual_seed(seed)
        mask_RT = frame_mask(settings.rows, settings.frames, settings.probability, settings.length, generator).numpy()
        row, start, stop = runs_of_ones(mask_RT)
        same = row[1:] == row[:-1]
        spans += np.bincount(stop - start, minlength=len(spans))
        gaps += np.bincount((start[1:] - stop[:-1])[same], minlength=len(gaps))
        share.append(mask_RT.mean())
        if not seed:
            example = mask_RT[:EXAMPLE_ROWS, :EXAMPLE_FRAMES].copy()
    return Masks(settings, np.array(share), _trimmed(spans), _trimmed(gaps), example)


def _trimmed(counts: Array) -> Array:
    """Up to the greatest length that occurs."""
    return counts[: int(np.flatnonzero(counts).max(initial=0)) + 1]


def _lengths(counts: Array) -> dict[str, Any]:
    """Mean, median, 95th percentile and maximum of lengths, in frames (None where there is none), and the counts."""
    total = int(counts.sum())
    if not total:
        return {"count": 0, "mean": None, "median": None, "p95": None, "longest": None, "lengths": {}}
    reached = np.cumsum(counts) / total
    return {
        "count": total,
        "mean": float(np.arange(len(counts)) @ counts / total),
        "median": int(np.searchsorted(reached, 0.5)),
        "p95": int(np.searchsorted(reached, 0.95)),
        "longest": len(counts) - 1,
        "lengths": {str(length): int(counts[length]) for length in np.flatnonzero(counts)},
    }
