"""The context network: relative positional encoder, ALiBi, prenet and main blocks (spec 3 and 4).

Shapes: B rows, T frames, U kept frames (a subset of T, in time order), D embedding, H heads, d = D / H.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from a2v_model.attention import attend, in_a_kernel, in_blocks
from a2v_model.attention_bias import AttentionBias
from a2v_model.config import EncoderConfig
from a2v_model.layers import Dropout, LayerNorm, NormedConv, autocast_dtype
from a2v_model.masking import filled_up
from a2v_model.recomputation import Recomputing
from a2v_model.sparse_convolutions import put, take

KEPT_MULTIPLE = 16


class PositionalEncoder(Recomputing):
    """Stacked grouped convolutions, each with LayerNorm (no affine) and GELU; (B, T, D) -> (B, T, D)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        dim, kernel, groups = config.dim, config.positional_kernel, config.positional_groups
        self.convs = nn.ModuleList(NormedConv(dim, dim, kernel, groups=groups) for _ in range(config.positional_depth))

    def forward(self, x_BTD: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        for conv in self.convs:
            x_BTD = self.part(conv, x_BTD)
            if valid_BT is not None:  # beyond the end of a shorter item there is nothing, in every layer
                x_BTD = x_BTD * valid_BT[:, :, None]
        return x_BTD

    def of_kept(self, x_BUD: Tensor, kept_BU: Tensor, frames: int) -> Tensor:
        """The encoding of kept frames (B, U, D) where all other frames are 0: only the layers between the first and
        the last one compute what is not kept."""
        if not self.convs:
            return x_BUD
        x_BTD = x_BUD
        for i, conv in enumerate(self.convs):
            assert isinstance(conv, NormedConv)
            first, last = i == 0, i == len(self.convs) - 1
            if first and last:
                x_BTD = self.part(conv.at, put(x_BUD, kept_BU, frames), kept_BU)
            elif first:
                x_BTD = self.part(conv.of_few, x_BUD, kept_BU, frames)
            else:
                x_BTD = self.part(conv.at, x_BTD, kept_BU) if last else self.part(conv, x_BTD)
        return x_BTD


def alibi_slopes(heads: int) -> list[float]:
    """Slopes of the ALiBi paper: 2^(-8 (h + 1) / H) for H a power of two, else interleaved from 2H."""
    if heads & (heads - 1) == 0:
        return [2.0 ** (-8.0 * (h + 1) / heads) for h in range(heads)]
    below = 1 << (heads.bit_length() - 1)
    return alibi_slopes(below) + alibi_slopes(2 * below)[0::2][: heads - below]


class Alibi(nn.Module):
    """Distance penalty with one non-negative scale per head, learned or kept at 1, shared by all layers."""

    def __init__(self, heads: int, learned: bool = True) -> None:
        super().__init__()
        self.slopes: Tensor
        self.scale: Tensor = nn.Parameter(torch.ones(heads)) if learned else nn.Buffer(torch.ones(heads))
        self.register_buffer("slopes", torch.tensor(alibi_slopes(heads)), persistent=False)

    def forward(self, frames: int, kept_BU: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frame numbers, (1, T), or (B, U) where only some frames are kept, and the factor of every head (H,);
        the bias of frames i, j is -factor * |i - j|."""
        if kept_BU is None:
            kept_BU = torch.arange(frames, device=self.scale.device)[None]
        return kept_BU.float(), self.slopes * self.scale.float().clamp(min=0)


class Attention(nn.Module):
    """Multi-head self-attention with an additive bias; softmax in float32."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.attention_dropout
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.out = nn.Linear(config.dim, config.dim)
        self.out_dropout = Dropout(config.dropout)

    def _split(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x_BTD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def forward(self, x_BTD: Tensor, bias: AttentionBias) -> Tensor:
        q, k, v = self._split(x_BTD)
        x_BHTd = attend(q, k, v, bias, self.dropout if self.training else 0.0)
        return self.out_dropout(self.out(x_BHTd.transpose(1, 2).flatten(2)))

    def weights(self, x_BTD: Tensor, bias: AttentionBias, heads: Sequence[int] | None = None) -> Tensor:
        """Attention weights (B, H, T, T) of the heads (None: all) in float32, for explanation: the same softmax,
        written out."""
        chosen = list(range(self.heads) if heads is None else heads)
        q, k, _ = (part[:, chosen].float() for part in self._split(x_BTD))
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[-1])
        dense = bias.dense()
        return (scores if dense is None else scores + dense.expand(-1, self.heads, -1, -1)[:, chosen]).softmax(-1)


class Block(nn.Module):
    """Post-norm block: r = norm1(x + Attn(x)), f = MLP(r), out = norm2(r + dropout(f)). Returns (out, f)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.norm1, self.norm2 = LayerNorm(config.dim), LayerNorm(config.dim)
        self.fc1, self.fc2 = nn.Linear(config.dim, config.hidden), nn.Linear(config.hidden, config.dim)
        self.activation_dropout = Dropout(config.activation_dropout)
        self.mlp_output_dropout = Dropout(config.mlp_output_dropout)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, bias: AttentionBias) -> tuple[Tensor, Tensor]:
        r_BTD = self.norm1(x_BTD + self.attention(x_BTD, bias))
        f_BTD = self.mlp_output_dropout(self.fc2(self.activation_dropout(functional.gelu(self.fc1(r_BTD)))))
        return self.norm2(r_BTD + self.dropout(f_BTD)), f_BTD


def drop_layers(blocks: nn.ModuleList, rate: float, generator: torch.Generator | None) -> list[nn.Module]:
    """The blocks that layerdrop leaves: each stays with probability 1 - rate, by a draw from `generator` (CPU)."""
    keep = (torch.rand(len(blocks), generator=generator) >= rate).tolist()
    return [block for block, kept in zip(blocks, keep, strict=True) if kept]


class Prenet(Recomputing):
    """The context encoder in front of the main blocks: LayerNorm, dropout, blocks."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm = LayerNorm(config.dim)
        self.dropout = Dropout(config.prenet_dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.prenet_depth))
        self.layerdrop = config.prenet_layerdrop

    def forward(self, x_BTD: Tensor, bias: AttentionBias, generator: torch.Generator | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D). In train mode layerdrop skips blocks, at times all of them."""
        x_BTD = self.dropout(self.norm(x_BTD))
        dropping = self.training and self.layerdrop > 0
        for block in drop_layers(self.blocks, self.layerdrop, generator) if dropping else self.blocks:
            x_BTD, _ = self.part(block, x_BTD, bias)
        return x_BTD


@dataclass(frozen=True)
class LayerStep:
    """What one block got and made: its input (B, T, D), its result (B, T, D; the MLP output before residual and
    norm) and the attention bias."""

    block: Block
    input: Tensor
    result: Tensor
    bias: AttentionBias


class Encoder(Recomputing):
    """Everything after the projection: what the EMA follows and the teacher is a copy of."""

    compiled = False
    kept_multiple: int | None = None  # of the number of kept frames; None: KEPT_MULTIPLE on accelerators, else 1

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.positional = PositionalEncoder(config)
        self.alibi = Alibi(config.heads, config.learned_alibi_scale) if config.alibi else None
        self.prenet = Prenet(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=config.init_std)
                nn.init.zeros_(module.bias)

    def embed(self, x_BTD: Tensor, valid_BT: Tensor | None = None) -> Tensor:
        """Features plus their relative positional encoding (B, T, D)."""
        if valid_BT is not None:
            x_BTD = x_BTD * valid_BT[:, :, None]
        return x_BTD + self.positional(x_BTD, valid_BT)

    def embed_kept(self, x_BTD: Tensor, kept_BU: Tensor) -> Tensor:
        """As `embed` where all frames but the kept ones are 0; of those only: (B, U, D)."""
        x_BUD = take(x_BTD, kept_BU)
        return x_BUD + self.positional.of_kept(x_BUD, kept_BU, x_BTD.shape[1])

    def bias(self, frames: int, kept_BU: Tensor | None = None, valid_BT: Tensor | None = None) -> AttentionBias:
        """Additive attention bias, built once and shared by all layers."""
        index, factor_H = (None, None) if self.alibi is None else self.alibi(frames, kept_BU)
        return AttentionBias(index, factor_H, valid_BT)

    def forward(
        self,
        x_BTD: Tensor,
        kept_BU: Tensor | None = None,
        valid_BT: Tensor | None = None,
        results: int = 0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Context of the features (B, T, D).

        With `kept_BU` only those frames go through the transformer; the positional encoder sees the whole
        sequence with every other frame at 0. Returns the output of the last block (B, T or U, D) and the
        results (MLP outputs before residual and norm) of the last `results` main blocks that ran: layerdrop,
        in train mode, skips blocks of the prenet and main ones by draws from `generator`. ValueError for kept frames of
        padded items: pretraining hears whole segments.
        """
        if kept_BU is not None and valid_BT is not None:
            raise ValueError("kept_BU and valid_BT: frames are kept of whole segments only; give one of the two")
        frames = x_BTD.shape[1]
        real = None if kept_BU is None else kept_BU.shape[1]  # of those that go through the transformer
        if kept_BU is None:
            x_BTD = self.embed(x_BTD, valid_BT)
        else:
            x_BTD = self.embed_kept(x_BTD, kept_BU)
            kept_BU, valid_BT = filled_up(kept_BU, self._multiple(x_BTD.device))
            x_BTD = functional.pad(x_BTD, (0, 0, 0, kept_BU.shape[1] - x_BTD.shape[1]))
        bias = self.bias(frames, kept_BU, valid_BT)
        if self.compiled or not self._without_bias(x_BTD, bias):
            bias.dense(autocast_dtype(x_BTD))  # built here, not in a block that is compiled or computed twice
        x_BTD = self.prenet(x_BTD, bias, generator)
        layer_results: list[Tensor] = []
        for block in self._active(generator):
            x_BTD, f_BTD = self.part(block, x_BTD, bias)
            layer_results.append(f_BTD)
        last = layer_results[len(layer_results) - min(results, len(layer_results)) :]
        if real is None or real == x_BTD.shape[1]:
            return x_BTD, last
        return x_BTD[:, :real], [result_BTD[:, :real] for result_BTD in last]

    def _without_bias(self, x_BTD: Tensor, bias: AttentionBias) -> bool:
        """Whether `attend` needs no whole bias."""
        config, kind = self.config, autocast_dtype(x_BTD)
        dropout = config.attention_dropout if self.training else 0.0
        width = config.dim // config.heads
        return in_blocks(x_BTD, bias, dropout) or in_a_kernel(x_BTD.device, kind, width, bias, dropout)

    def _multiple(self, device: torch.device) -> int:
        return self.kept_multiple or (1 if device.type == "cpu" else KEPT_MULTIPLE)

    def walk(self, x_BTD: Tensor) -> Iterator[LayerStep]:
        """Features (B, T, D) through every block, those of the prenet first, one at a time so that nothing is kept;
        for embedding and explanation (eval mode, whole segments)."""
        x_BTD = self.embed(x_BTD)
        bias = self.bias(x_BTD.shape[1])
        x_BTD = self.prenet.dropout(self.prenet.norm(x_BTD))
        for block in [*self.prenet.blocks, *self.blocks]:
            assert isinstance(block, Block)
            out_BTD, result_BTD = block(x_BTD, bias)
            yield LayerStep(block, x_BTD, result_BTD, bias)
            x_BTD = out_BTD

    def _active(self, generator: torch.Generator | None) -> Iterable[nn.Module]:
        """Main blocks that run: all, or in train mode those that layerdrop leaves (never none of them)."""
        rate = self.config.layerdrop
        if not self.training or rate == 0:
            return list(self.blocks)
        return drop_layers(self.blocks, rate, generator) or [self.blocks[-1]]
