"""What plugins may add to the data of finetuning: augmentations (docs/plugins.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from a2v_data.parts import OwnPart, Registry
from a2v_data.training_part import Floats

AUGMENTATIONS = Registry("augmentation", ("background", "paste", "gain_db"))

register_augmentation = AUGMENTATIONS.register
"""A function of (waveform, target, sample_rate, config, rng): a training segment's samples (N,) and the targets of its
frames (T, C), float32, before it is normalised. It gives both back, as large as they were, changed or new; all chance
comes from `rng`, a NumPy Generator."""


class OwnAugmentation(OwnPart):
    """One of `finetune.augmentations`, of a plugin."""

    registry = AUGMENTATIONS


def augmented(
    parts: Sequence[OwnAugmentation],
    waveform_BN: Floats,
    lengths_B: NDArray[np.int64],
    target_BTC: Floats,
    frame_samples: int,
    sample_rate: int,
    seed: Sequence[int],
) -> tuple[Floats, Floats]:
    """Segments and targets after all `parts`, in their order; the given ones stay as they are.

    lengths_B: samples of each segment that are recording; what follows is padding and is not given to them. seed: of
    the chance in a segment, beside its row. ValueError naming the augmentation that gives something else than it got.
    """
    waveform_BN, target_BTC = waveform_BN.copy(), target_BTC.copy()
    for row, length in enumerate(lengths_B.tolist()):
        frames = -(-length // frame_samples)
        rng = default_rng([*seed, row])
        for own in parts:
            segment, target = applied(own, waveform_BN[row, :length], target_BTC[row, :frames], sample_rate, rng)
            waveform_BN[row, :length], target_BTC[row, :frames] = segment, target
    return waveform_BN, target_BTC


def applied(
    own: OwnAugmentation, waveform_N: Floats, target_TC: Floats, sample_rate: int, rng: Generator
) -> tuple[Floats, Floats]:
    """What one augmentation makes of a segment; ValueError where it is not what it should be."""
    part = own.part
    name = f"augmentation {part.name} of plugin {part.plugin}"
    result = part.make(waveform_N.copy(), target_TC.copy(), sample_rate, own.config, rng)
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(f"{name}: gives a {type(result).__name__}; must be (waveform, target)")
    for what, given, before in zip(("waveform", "target"), result, (waveform_N, target_TC), strict=True):
        if np.shape(given) != before.shape:
            raise ValueError(f"{name}: gives a {what} of shape {np.shape(given)}; must be {before.shape}, as it got")
        if not np.isfinite(given).all() and np.isfinite(before).all():
            raise ValueError(f"{name}: gives a {what} that is not finite")
    return np.asarray(result[0], np.float32), np.asarray(result[1], np.float32)
