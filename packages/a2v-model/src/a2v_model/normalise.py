"""Normalisation of waveforms, and the lengths of padded ones. Shapes: B segments, N samples."""

import torch
from torch import Tensor
from torch.nn import functional

from a2v_model.config import AnyFrontEnd


def normalise(waveform_BN: Tensor, lengths: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Bring every segment to zero mean and unit variance over its own samples (paper, preprocessing).

    With `lengths` (B, samples) only the first `lengths[b]` samples of segment b count and the rest become 0.
    """
    waveform_BN = waveform_BN.float()
    if lengths is None:
        return functional.layer_norm(waveform_BN, waveform_BN.shape[-1:], eps=eps)
    n_B1 = lengths.to(waveform_BN.device)[:, None]
    valid_BN = torch.arange(waveform_BN.shape[1], device=waveform_BN.device)[None] < n_B1
    mean_B1 = (waveform_BN * valid_BN).sum(1, keepdim=True) / n_B1
    centred_BN = (waveform_BN - mean_B1) * valid_BN
    variance_B1 = centred_BN.square().sum(1, keepdim=True) / n_B1
    return centred_BN * torch.rsqrt(variance_B1 + eps)


def padded_lengths(lengths_B: Tensor, samples: int, front_end: AnyFrontEnd) -> Tensor | None:
    """Lengths in samples for the model, so that padding changes nothing; None where no segment has padded frames.

    The last, begun frame of a recording counts as a whole one; zeros fill it up.
    """
    shortest = max(front_end.stride, front_end.shortest)
    whole_B = (lengths_B + front_end.stride - 1) // front_end.stride * front_end.stride
    padded_B = whole_B.clamp(shortest, samples)
    return None if bool((padded_B == samples).all()) else padded_B
