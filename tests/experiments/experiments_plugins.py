"""Plugins of the experiments tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from a2v_model import plugins

LOSS = """
from a2v_model.registry import register_loss
from pydantic import BaseModel

class Section(BaseModel):
    weight: float = 3.0

@register_loss("squares", config=Section)
def squares(logits, targets, config):
    return config.weight * (logits.sigmoid() - targets) ** 2
"""
EVENTS = """
import numpy as np
from a2v_eval.registry import register_event_method
from pydantic import BaseModel

class Section(BaseModel):
    least: int = 1

@register_event_method("steps", config=Section)
def steps(likelihood_NT, threshold_N, frame_rate, config):
    padded = np.pad(likelihood_NT >= threshold_N[:, None], ((0, 0), (1, 1))).astype(int)
    change = np.diff(padded, axis=1)
    (row, start), (_, stop) = np.nonzero(change == 1), np.nonzero(change == -1)
    long = stop - start >= config.least
    return row[long], start[long], stop[long]
"""
PARTS = """
import numpy as np
from a2v_data.registry import register_augmentation
from a2v_model.registry import FrontEndOptions, register_front_end, register_head
from pydantic import BaseModel
from torch import nn

class Blocks(FrontEndOptions):
    stride: int = 40
    width: int = 6

@register_front_end("blocks", config=Blocks)
class Front(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.stride, self.layer = config.stride, nn.Linear(config.stride, config.width)

    def forward(self, waveform_BN):
        frames = waveform_BN.shape[1] // self.stride
        return self.layer(waveform_BN[:, : frames * self.stride].unflatten(1, (frames, self.stride))).abs()

@register_head("two_layers")
class Head(nn.Module):
    def __init__(self, dim, classes, config):
        super().__init__()
        self.first, self.classify = nn.Linear(dim, 3), nn.Linear(3, classes)

    def forward(self, x_BTD, valid_BT):
        return self.classify(self.first(x_BTD).relu())

class Loud(BaseModel):
    factor: float = 1.0

@register_augmentation("louder", config=Loud)
def louder(waveform, target, sample_rate, config, rng):
    return waveform * config.factor, target
"""
BACKWARDS = """
from a2v_data.registry import register_augmentation

@register_augmentation("backwards")
def backwards(waveform, target, sample_rate, config, rng):
    return waveform[::-1], target[::-1]
"""


@contextmanager
def nothing_stays() -> Iterator[None]:
    """Afterwards no plugin is loaded."""
    try:
        yield
    finally:
        forget()


def forget() -> None:
    """As in a new process: no plugin is loaded, and what is loaded again is run again."""
    for one in list(plugins._active.values()):
        plugins._put_out(one)
    plugins._brought.clear()
    for name in [name for name in sys.modules if name.startswith(f"{plugins.PLUGINS}.")]:
        del sys.modules[name]
