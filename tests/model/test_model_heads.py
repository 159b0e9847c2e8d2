"""Heads: linear as in the paper, and temporal."""

import math
from pathlib import Path

import pytest
import torch
from a2v_model import Detector, FinetuneConfig, load_model, save_model
from a2v_model.heads import TemporalHead, last_layer
from a2v_model.original_checkpoint import export_checkpoint, import_checkpoint
from model_goldens import tiny_model

CLASSES = ["beep", "cc"]
OWN = {"average_layers": 2, "channel_mask_length": 4}


def _detector(head: str, **fields: object) -> Detector:
    torch.manual_seed(3)
    return Detector(tiny_model(), FinetuneConfig(**OWN, head=head, **fields), CLASSES).eval()


def test_a_linear_head_is_in_no_dump() -> None:
    assert "head" not in FinetuneConfig().model_dump()
    assert FinetuneConfig(head="temporal").model_dump()["head"] == "temporal"


@pytest.mark.parametrize("head", ["linear", "temporal"])
def test_it_comes_back_from_its_folder(head: str, tmp_path: Path) -> None:
    detector = _detector(head)
    save_model(detector, tmp_path / "model", {})
    again = load_model(tmp_path / "model")
    wave_N = torch.randn(3000, generator=torch.Generator().manual_seed(0))
    assert isinstance(again, Detector) and again.config == detector.config
    torch.testing.assert_close(again.likelihoods(wave_N), detector.likelihoods(wave_N), rtol=0, atol=0)


@pytest.mark.parametrize("head", ["linear", "temporal"])
def test_every_class_is_as_likely_as_the_prior_at_first(head: str) -> None:
    detector = _detector(head, head_prior=0.01)
    torch.testing.assert_close(last_layer(detector.head).bias, torch.full((2,), math.log(0.01 / 0.99)))


@pytest.mark.parametrize("head", ["linear", "temporal"])
def test_padding_changes_nothing(head: str) -> None:
    detector = _detector(head)
    with torch.no_grad():
        wave_BN = torch.randn(2, 2000, generator=torch.Generator().manual_seed(1))
        alone = detector(wave_BN[1:, :1200])
        both = detector(wave_BN, lengths=torch.tensor([2000, 1200]))
    torch.testing.assert_close(both[1, : alone.shape[1]], alone[0], rtol=1e-4, atol=1e-5)


def test_a_temporal_head_sees_four_frames_to_both_sides() -> None:
    torch.manual_seed(0)
    head = TemporalHead(6, 3).eval()
    x_BTD = torch.randn(1, 40, 6)
    changed = x_BTD.clone()
    changed[0, 20] += torch.randn(6)
    moved = (head(changed) != head(x_BTD))[0].any(1).nonzero().flatten().tolist()
    assert moved == list(range(16, 25))


def test_only_linear_heads_are_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^finetune.head = temporal: only models with a linear head can be exported$"):
        export_checkpoint(_detector("temporal"), tmp_path / "out.pt")
    told = export_checkpoint(_detector("linear", head_prior=0.01), tmp_path / "out.pt")
    assert "finetune.head_prior = 0.01" in told
    assert import_checkpoint(tmp_path / "out.pt").model.config.head_prior == 0.01


@pytest.mark.parametrize("head, last", [("linear", ""), ("temporal", "classify.")])
def test_a_head_keeps_its_rows_by_the_names_of_classes(head: str, last: str) -> None:
    config = FinetuneConfig(**{**OWN, "head": head})
    torch.manual_seed(1)
    old, new = (Detector(tiny_model(), config, classes) for classes in (["cc", "sn", "beep"], ["al", "beep", "cc"]))
    before = {name: tensor.clone() for name, tensor in new.head.state_dict().items()}
    new.load_head(old)
    found, known = new.head.state_dict(), old.head.state_dict()
    for name in (f"{last}weight", f"{last}bias"):
        assert torch.equal(found[name][0], before[name][0])  # al is new
        assert torch.equal(found[name][1], known[name][2]) and torch.equal(found[name][2], known[name][0])
    for name in found.keys() - {f"{last}weight", f"{last}bias"}:
        assert torch.equal(found[name], known[name])


def test_a_head_of_another_kind_or_of_other_classes_is_refused() -> None:
    other = Detector(tiny_model(), FinetuneConfig(**OWN), ["beep", "sn"])
    with pytest.raises(ValueError, match="linear for beep, sn, here it is temporal for beep, cc; kind and some"):
        _detector("temporal").load_head(other)
    other = Detector(tiny_model(), FinetuneConfig(**OWN), ["sn"])
    with pytest.raises(ValueError, match="linear for sn, here it is linear for beep, cc; kind and some"):
        _detector("linear").load_head(other)
