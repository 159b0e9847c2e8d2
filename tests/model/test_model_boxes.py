"""Head `boxes`: its loss at known values, what its outputs mean, and that it comes back from its folder."""

import math
from pathlib import Path

import pytest
import torch
from a2v_model import Detector, FinetuneConfig, load_model, save_model
from a2v_model.boxes import box_loss, box_maps, duration_logits
from a2v_model.heads import last_layer
from model_goldens import tiny_model

CLASSES = ["beep", "cc"]
OWN = {"average_layers": 2, "channel_mask_length": 4}
NAN = math.nan


def _detector(classes: list[str] = CLASSES, seed: int = 3, **fields: object) -> Detector:
    torch.manual_seed(seed)
    return Detector(tiny_model(), FinetuneConfig(**OWN, head="boxes", **fields), classes).eval()


def _wave() -> torch.Tensor:
    return torch.randn(3000, generator=torch.Generator().manual_seed(0))


def test_loss_at_known_values() -> None:
    """Two frames of one class; p is .8, .3 (onset) and .5, .1 (offset)."""
    p = torch.tensor([[0.8, 0.5], [0.3, 0.1]])
    logits_BTM = torch.cat([p.logit(), torch.tensor([[0.7, 9.0], [9.0, -0.2]])], 1)[None]
    targets_BTM = torch.tensor([[[1.0, 0.0, 0.2, NAN], [0.6, 1.0, NAN, 0.3]]])
    total, frames = box_loss(logits_BTM, targets_BTM, None, gamma=2.0)
    expected = -(0.2**2) * math.log(0.8)  # the onset
    expected += -(0.4**4) * 0.3**2 * math.log(0.7)  # beside it
    expected += -(0.5**2) * math.log(0.5)  # no offset, target 0
    expected += -(0.9**2) * math.log(0.1)  # the offset
    expected += abs(0.7 - 0.2) + abs(-0.2 - 0.3)  # durations where there is one
    assert float(total) == pytest.approx(expected, rel=1e-5) and int(frames) == 2


def test_what_is_not_known_has_no_loss() -> None:
    logits_BTM = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets_BTM = torch.tensor([[[NAN, NAN, NAN, NAN], [1.0, NAN, NAN, NAN], [0.0, 0.0, NAN, NAN]]])
    valid_BT = torch.tensor([[True, True, False]])
    total, frames = box_loss(logits_BTM, targets_BTM, valid_BT, gamma=2.0)
    p = torch.sigmoid(logits_BTM[0, 1, 0])
    assert int(frames) == 1 and total.item() == pytest.approx((-((1 - p) ** 2) * p.log()).item(), rel=1e-5)
    total.backward()
    assert logits_BTM.grad is not None and logits_BTM.grad.nonzero().tolist() == [[0, 1, 0]]


def test_outputs_are_likelihoods_and_seconds() -> None:
    maps = box_maps(torch.tensor([[0.0, math.log(3), 0.0, math.log(2.5)]]))
    torch.testing.assert_close(maps, torch.tensor([[0.5, 0.75, 0.1, 0.25]]))
    torch.testing.assert_close(box_maps(torch.tensor([0.0, 0.0, -99.0, 99.0]))[2:], torch.tensor([0.001, 60.0]))
    seconds = torch.tensor([0.02, 0.1, 7.0])
    logits = torch.cat([torch.zeros(3), duration_logits(seconds)])
    torch.testing.assert_close(box_maps(logits)[3:], seconds)


@pytest.mark.parametrize("prior", [None, 0.01])
def test_at_first_onsets_are_as_likely_as_the_prior(prior: float | None) -> None:
    bias = last_layer(_detector(head_prior=prior).head).bias
    likely = 0.1 if prior is None else prior
    torch.testing.assert_close(bias, torch.tensor([math.log(likely / (1 - likely))] * 4 + [0.0] * 4))


def test_it_comes_back_from_its_folder(tmp_path: Path) -> None:
    detector = _detector()
    save_model(detector, tmp_path / "model", {})
    again = load_model(tmp_path / "model")
    assert isinstance(again, Detector) and again.config == detector.config and again.columns == 8
    maps_TM = again.likelihoods(_wave())
    torch.testing.assert_close(maps_TM, detector.likelihoods(_wave()), rtol=0, atol=0)
    assert maps_TM.shape[1] == 8 and (maps_TM > 0).all() and (maps_TM[:, :4] < 1).all()


def test_its_classes_are_kept_by_their_names() -> None:
    other, detector = _detector(["cc", "new"], seed=4), _detector()
    before = last_layer(detector.head).weight.clone()
    detector.load_head(other)
    theirs, ours = last_layer(other.head).weight, last_layer(detector.head).weight
    for of_map in range(4):
        torch.testing.assert_close(ours[2 * of_map + 1], theirs[2 * of_map])  # cc
        torch.testing.assert_close(ours[2 * of_map], before[2 * of_map])  # beep
    with pytest.raises(ValueError, match="kind and some classes must be equal"):
        Detector(tiny_model(), FinetuneConfig(**OWN, head="temporal"), CLASSES).load_head(other)
