"""Labels of whole recordings: pooling and its gradient by hand, the loss on it, and targets that nobody knows."""

from typing import Any

import numpy as np
import pytest
import torch
from a2v_model import Detector, FinetuneConfig, linear_softmax
from model_goldens import tiny_model
from torch.nn import functional


def _detector(**fields: Any) -> Detector:
    own = {"average_layers": 2, "channel_mask_length": 4, "head_only_updates": 0}
    return Detector(tiny_model(), FinetuneConfig(**(own | fields)), ["a", "b"])


def _windows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two recordings: windows 0 and 2 are the first one's, of whose last window only two frames are new."""
    p_BTC = torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    counted_BT = torch.ones(3, 5, dtype=torch.bool)
    counted_BT[2, :3] = False
    return p_BTC, counted_BT, torch.tensor([0, 1, 0])


def test_linear_softmax_weighs_each_frame_by_its_likelihood() -> None:
    p_BTC, counted_BT, recording_B = _windows()
    pooled_RC = linear_softmax(p_BTC, counted_BT, recording_B, 2)
    for recording in range(2):
        for class_ in range(2):
            p = np.concatenate(
                [p_BTC[b, counted_BT[b], class_].numpy() for b in range(3) if recording_B[b] == recording]
            )
            assert len(p) == (7, 5)[recording]
            assert float(pooled_RC[recording, class_]) == pytest.approx((p * p / p.sum()).sum(), rel=1e-6)


def test_its_gradient_is_the_papers() -> None:
    # Wang, Li & Metze 2019, table 1: dy/dp = (2 p - y) / sum p: frames above y / 2 are pulled up, those below down
    p_BTC, counted_BT, recording_B = _windows()
    p_BTC = p_BTC.float().requires_grad_()
    pooled_RC = linear_softmax(p_BTC, counted_BT, recording_B, 2)
    pooled_RC[0, 1].backward()
    p, y = p_BTC.detach()[[0, 2], :, 1], float(pooled_RC[0, 1])
    counted = counted_BT[[0, 2]]
    expected = torch.where(counted, (2 * p - y) / p[counted].sum(), 0.0)
    assert torch.allclose(p_BTC.grad[[0, 2], :, 1], expected, atol=1e-6)
    assert not p_BTC.grad[1].any() and not p_BTC.grad[:, :, 0].any()


def test_the_loss_of_a_recording_is_cross_entropy_of_what_is_pooled() -> None:
    p_BTC, counted_BT, recording_B = _windows()
    presence_RC = torch.tensor([[1.0, 0.0], [float("nan"), 1.0]])
    detector = _detector(focal=False)
    loss_R = detector.presence_loss(torch.logit(p_BTC).float(), counted_BT, recording_B, presence_RC)
    y = linear_softmax(p_BTC, counted_BT, recording_B, 2).numpy()
    assert float(loss_R[0]) == pytest.approx(-np.log(y[0, 0]) - np.log(1 - y[0, 1]), rel=1e-4)
    assert float(loss_R[1]) == pytest.approx(-np.log(y[1, 1]), rel=1e-4)  # of the other class nothing is known
    focal_R = _detector(focal_gamma=2.0, focal_alpha=0.25).presence_loss(
        torch.logit(p_BTC).float(), counted_BT, recording_B, presence_RC
    )
    assert float(focal_R[1]) == pytest.approx(-0.25 * (1 - y[1, 1]) ** 2 * np.log(y[1, 1]), rel=1e-4)


def test_a_recording_that_is_wholly_missed_still_has_a_gradient() -> None:
    logits_BTC = torch.full((1, 50, 1), -14.0, requires_grad=True)
    detector = _detector(focal=False)
    everything, one = torch.ones(1, 50, dtype=torch.bool), torch.zeros(1, dtype=torch.int64)
    detector.presence_loss(logits_BTC, everything, one, torch.ones(1, 1)).sum().backward()
    assert (logits_BTC.grad < 0).all()
    zero_R = detector.presence_loss(torch.zeros(1, 50, 1), ~everything, one, torch.zeros(1, 1))
    assert torch.isfinite(zero_R).all()


@pytest.mark.parametrize("focal", [True, False])
def test_targets_that_are_not_known_add_nothing(focal: bool) -> None:
    detector, generator = _detector(focal=focal), torch.Generator().manual_seed(1)
    logits = torch.randn(2, 6, 2, generator=generator, requires_grad=True)
    targets = (torch.rand(2, 6, 2, generator=generator) < 0.3).float()
    valid = torch.arange(6) < torch.tensor([6, 4])[:, None]
    whole, frames = detector.loss(logits, targets, valid)
    assert frames == 10
    unknown = targets.clone()
    unknown[0, 2:] = float("nan")
    part, known = detector.loss(logits, unknown, valid)
    first, others = (
        detector.loss(logits[:1, :2], targets[:1, :2])[0],
        detector.loss(logits[1:], targets[1:], valid[1:])[0],
    )
    assert known == 6 and torch.allclose(part, first + others)
    part.backward()
    assert torch.isfinite(logits.grad).all() and not logits.grad[0, 2:].any()
    if not focal:
        plain = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        assert torch.equal(whole, plain[valid].sum())
