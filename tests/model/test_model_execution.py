"""Gradient checkpointing and compilation change memory and speed, and nothing else."""

from typing import Any

import pytest
import torch
from a2v_model import Detector, FinetuneConfig, Pretrainer
from a2v_model.execution import compile_model
from a2v_model.recomputation import set_gradient_checkpointing
from model_goldens import tiny_model, tiny_pretrain
from torch import Tensor, nn

pytestmark = pytest.mark.slow


def _model(kind: str) -> Pretrainer | Detector:
    torch.manual_seed(0)
    if kind == "pretrainer":
        return Pretrainer(tiny_model(), tiny_pretrain()).train()
    config = FinetuneConfig(average_layers=2, channel_mask_length=4, head_only_updates=0, freeze_front_end=False)
    return Detector(tiny_model(), config, ["cc", "sn"]).train()


def _step(model: Pretrainer | Detector) -> tuple[Tensor, dict[str, Tensor], int]:
    """Loss, gradients, and bytes that the forward pass kept for the backward pass."""
    kept = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    torch.manual_seed(3)  # dropout
    wave, generator = torch.randn(4, 8000), torch.Generator().manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        if isinstance(model, Pretrainer):
            loss = model(wave, generator).loss_sum
        else:
            model.set_trainable(0)
            loss = model(wave, generator).square().sum()
    model.zero_grad()
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, kept


@pytest.mark.parametrize("blocks", [True, False])  # own attention in blocks, or the kernel of accelerators
@pytest.mark.parametrize("kind", ["pretrainer", "detector"])
def test_checkpointing_gives_the_same_gradients_from_less(
    kind: str, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not blocks:
        for module in ("attention", "encoder"):
            monkeypatch.setattr(f"a2v_model.{module}.in_blocks", lambda *_: False)
    model = _model(kind)
    loss, gradients, kept = _step(model)
    set_gradient_checkpointing(model, True)
    again, recomputed, less = _step(model)
    assert torch.equal(again, loss)
    assert recomputed.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert torch.equal(recomputed[name], gradient), name
    assert less < 0.6 * kept
    set_gradient_checkpointing(model, False)
    assert _step(model)[2] == kept


@pytest.mark.parametrize("kind", ["pretrainer", "detector"])
def test_compiled_parts_agree(kind: str) -> None:
    """With torch's reference backend: the same graphs as a compiler gets, without its minutes."""
    torch.compiler.reset()
    quiet: dict[str, Any] = dict(dropout=0.0, attention_dropout=0.0, prenet_dropout=0.0)
    torch.manual_seed(0)
    config = FinetuneConfig(
        average_layers=2, channel_mask_length=4, head_only_updates=0, dropout=0.0, attention_dropout=0.0,
        activation_dropout=0.0, head_dropout=0.0, layerdrop=0.0,
    )  # fmt: skip
    model = (
        Pretrainer(tiny_model(**quiet), tiny_pretrain())
        if kind == "pretrainer"
        else Detector(tiny_model(**quiet), config, ["cc", "sn"])
    ).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    names = list(model.state_dict())
    loss, gradients, _ = _step(model)
    compile_model(model, backend="aot_eager")
    compiled, own, _ = _step(model)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(compiled, loss, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients.items():
        error = (own[name] - gradient).norm() / gradient.norm().clamp(min=1e-3)
        assert error < 1e-3, name
