"""Masks over frames and channels (paper, masking; spec 5 and 7).

Shapes: B rows, T frames (or channels), S start positions. All randomness comes from a CPU generator, so a
mask is the same whatever device the model runs on.
"""

import numpy as np
import torch
from torch import Tensor


def _start_count(total: int, probability: float, minimum: int, generator: torch.Generator | None) -> int:
    """floor(p * T + u), u ~ U[0, 1): the expected number of starts is exactly p * T."""
    u = float(torch.rand((), generator=generator, dtype=torch.float64))
    return max(minimum, int(probability * total + u))


def span_mask(
    rows: int,
    total: int,
    probability: float,
    length: int,
    generator: torch.Generator | None = None,
    minimum: int = 1,
    equalise: bool = True,
) -> Tensor:
    """Spans of `length`, started at distinct positions 0 .. total - length - 1: bool (B, T), True = masked.

    `equalise` unmasks at random until every row has as many masked positions as the row with the fewest.
    ValueError where `length` leaves no start position.
    """
    if not 0 < length < total:
        raise ValueError(f"mask length = {length}: must be at least 1 and below the {total} positions there are")
    starts = min(_start_count(total, probability, minimum, generator), total - length)
    mask_BT = torch.zeros(rows, total, dtype=torch.bool)
    if starts > 0:
        begins_BS = _lowest(torch.rand(rows, total - length, generator=generator), starts)
        for shift in range(length):
            mask_BT[:, shift : shift + total - length] |= begins_BS
    return _equalise(mask_BT, generator) if equalise else mask_BT


def _equalise(mask_BT: Tensor, generator: torch.Generator | None) -> Tensor:
    fewest = int(mask_BT.sum(1).min())
    return _lowest(torch.rand(mask_BT.shape, generator=generator).masked_fill_(~mask_BT, 2.0), fewest)


def _lowest(keys_BT: Tensor, count: int) -> Tensor:
    """bool (B, T): True at the `count` lowest keys of each row.

    By each row's count-th key, which is found in a sixth of the time that an order takes; where that key occurs twice
    the order decides, as it always has.
    """
    if count == 0:
        return torch.zeros_like(keys_BT, dtype=torch.bool)
    keys = keys_BT.numpy()
    chosen = keys <= np.partition(keys, count - 1, axis=1)[:, count - 1 : count]
    if int(chosen.sum()) == count * len(keys):
        return torch.from_numpy(chosen)
    order_BM = keys_BT.argsort(dim=1)[:, :count]
    return torch.zeros_like(keys_BT, dtype=torch.bool).scatter_(1, order_BM, True)


def frame_mask(
    batch: int, frames: int, probability: float, length: int, generator: torch.Generator | None = None
) -> Tensor:
    """Masked frames as bool (B, T): start probability p per frame, spans of `length` frames, equal rows."""
    return span_mask(batch, frames, probability, length, generator)


def channel_mask(
    batch: int, channels: int, share: float, length: int, generator: torch.Generator | None = None
) -> Tensor:
    """Masked channels as bool (B, C): share * C / length spans of `length` channels, equal rows."""
    return span_mask(batch, channels, share / length, length, generator, minimum=0)


def masked_indices(mask_BT: Tensor) -> Tensor:
    """Indices (B, M) of the True entries in time order; every row must have the same number of them.

    Its size depends on the values, so for a mask on an accelerator the host would wait: masks stay on the CPU until
    they are indices.
    """
    rows = mask_BT.shape[0]
    counts = mask_BT.sum(1)
    if int(counts.min()) != int(counts.max()):
        raise ValueError("mask: every row must mask the same number of frames")
    return mask_BT.nonzero()[:, 1].view(rows, -1)


def filled_up(kept_BU: Tensor, multiple: int) -> tuple[Tensor, Tensor | None]:
    """Indices of kept frames with the last one repeated until their number is a multiple; bool (B, U') of those that
    are frames, None where all are.

    An accelerator computes in pieces of 8 or 16, and kernels that are made for a number of frames serve again. Not to a
    number that leaves 64 of 128: there cuDNN's attention had NaN gradients (pytorch #196678, since 2.11).
    """
    kept = kept_BU.shape[1]
    more = -kept % multiple
    if multiple > 1 and (kept + more) % 128 == 64:
        more += multiple
    if not more:
        return kept_BU, None
    valid_U = torch.arange(kept + more, device=kept_BU.device) < kept
    return torch.cat([kept_BU, kept_BU[:, -1:].expand(-1, more)], dim=1), valid_U.expand(len(kept_BU), -1)


def noise(shape: tuple[int, ...], std: float, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """Gaussian noise on `device`, determined by the CPU generator (one draw of it elsewhere)."""
    if device.type != "cpu":
        seed = int(torch.randint(2**62, (), generator=generator))
        generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device) * std
