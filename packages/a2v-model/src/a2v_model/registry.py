"""What plugins may add to models: losses of finetuning, heads, front ends (docs/plugins.md).

Shapes: B segments, N samples, T frames, D features, C classes.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import BaseModel, Field

from a2v_model.parts import OwnPart, Registry


class FrontEndOptions(BaseModel):
    """Base of a front end's section. A derived class says, as fields or properties, `stride` (samples of a frame) and
    `width` (channels of a frame); `shortest` and `frames` where they are not those of frames laid end to end."""

    sample_rate: int = Field(gt=0)

    @property
    def shortest(self) -> int:
        """Samples that give one frame."""
        return int(self.stride)  # type: ignore[attr-defined]  # of the derived class

    def frames(self, n_samples: int) -> int:
        """Frames that so many samples give."""
        return n_samples // int(self.stride)  # type: ignore[attr-defined]


LOSSES = Registry("loss", ("focal", "cross_entropy"))
HEADS = Registry("head", ("linear", "temporal"))
FRONT_ENDS = Registry("front_end", ("waveform", "ear"), FrontEndOptions, alike=True)

register_loss = LOSSES.register
"""A function of (logits, targets, config), tensors of one shape (..., C), that gives the loss of each element: float32
of the same shape, not summed. Targets lie in [0, 1] and may be soft."""

register_head = HEADS.register
"""An nn.Module, made with (dim, classes, config), that is called with features (B, T, D) and valid (B, T) bool, or None
where all frames are, and gives logits (B, T, C). Its last layer, which gives the logits, is `classify`, an
nn.Linear."""

register_front_end = FRONT_ENDS.register
"""An nn.Module, made with (config), that turns normalised waveforms (B, N) into frames (B, T, width), T =
config.frames(N); config derives from `FrontEndOptions`."""


class OwnLoss(OwnPart):
    """`finetune.loss` of a plugin."""

    registry = LOSSES


class OwnHead(OwnPart):
    """`finetune.head` of a plugin."""

    registry = HEADS


class OwnFrontEndConfig(OwnPart):
    """`model.front_end` of a plugin, with what all front ends know of themselves."""

    registry = FRONT_ENDS

    @cached_property
    def config(self) -> Any:
        """The section; ValueError where it lacks stride or width."""
        config = super().config
        for name in ("sample_rate", "stride", "width", "shortest"):
            value = getattr(config, name, None)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"front_end {self.kind} of plugin {self.part.plugin}: its config has {name} = {value!r}; must be a"
                    " whole number above 0, as a field or a property"
                )
        return config

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return int(self.config.sample_rate)

    @property
    def stride(self) -> int:
        """Samples per frame."""
        return int(self.config.stride)

    @property
    def width(self) -> int:
        """Channels of a frame before the projection."""
        return int(self.config.width)

    @property
    def frame_rate(self) -> float:
        """Frames per second, Hz."""
        return self.sample_rate / self.stride

    @property
    def shortest(self) -> int:
        """Samples that give one frame."""
        return int(self.config.shortest)

    def frames(self, n_samples: int) -> int:
        """Number of frames that `n_samples` samples give; ValueError where there is none."""
        if n_samples < self.shortest:
            raise ValueError(f"a segment of {n_samples} samples is too short: one frame needs {self.shortest} samples")
        return int(self.config.frames(n_samples))
