"""Micro-batches as tasks prepare them on the CPU: tensors travel to the device, arrays and numbers stay with the host.

Shapes: B segments, N samples, T frames, C classes, R recordings.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from a2v_data.bcl import Mixing
from a2v_model import Masks
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Heard:
    """Segments (B, N) as they were read, how many samples of each are recording (B,), by what each is multiplied (B,)
    once it is normalised, and what was recorded beside them (B, M, C), by name."""

    waveform: Tensor
    samples: Tensor
    gain: Tensor | None = None
    streams: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class PretrainBatch:
    heard: Heard
    mixing: Mixing | None
    masks: Masks


@dataclass(frozen=True)
class LabelledBatch:
    """lengths: as a model takes them, None where nothing is padded; valid: frames that count."""

    heard: Heard
    targets: Tensor
    valid: Tensor
    lengths: NDArray[np.int64] | None
    mixing: Mixing | None


@dataclass(frozen=True)
class WeakBatch:
    """Windows of recordings that are labelled as a whole; fields as in `weak_bags.Bags` and `LabelledBatch`."""

    heard: Heard
    counted: Tensor
    recording: Tensor
    presence: Tensor
    lengths: NDArray[np.int64] | None


@dataclass(frozen=True)
class FinetuneBatch:
    labelled: LabelledBatch | None
    weak: WeakBatch | None


@dataclass(frozen=True)
class TurnBatch:
    """One of the others, and whose turn it is (`turns.py`)."""

    turn: int
    batch: PretrainBatch | FinetuneBatch
