"""Attention in blocks against torch's scaled_dot_product_attention; ALiBi; dropout masks."""

import math

import pytest
import torch
from a2v_model.attention import attend, blockwise_attention, in_blocks
from a2v_model.attention_bias import AttentionBias
from a2v_model.blockwise import Distances, prepared
from a2v_model.config import EncoderConfig
from a2v_model.encoder import Alibi, Encoder, alibi_slopes
from a2v_model.layers import Dropout, keep_mask, keep_rate
from a2v_model.masking import filled_up
from torch import Tensor
from torch.nn import functional

ROWS, HEADS, WIDTH = 3, 4, 8


def _inputs(frames: int, seed: int) -> list[Tensor]:
    torch.manual_seed(seed)
    return [torch.randn(ROWS, HEADS, frames, WIDTH, dtype=torch.double, requires_grad=True) for _ in range(3)]


def _bias(frames: int, kept: bool, padded: bool, scale: Tensor) -> AttentionBias:
    kept_BU = torch.stack([torch.randperm(4 * frames)[:frames].sort()[0] for _ in range(ROWS)])
    alibi = Alibi(HEADS)
    index, _ = alibi(frames, kept_BU if kept else None)
    valid = torch.arange(frames)[None] < torch.tensor([frames, frames // 2, 1])[:, None] if padded else None
    return AttentionBias(index.double(), alibi.slopes.double() * scale, valid)


def _dense(q: Tensor, k: Tensor, v: Tensor, bias: AttentionBias) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.dense(torch.double)).double()


@pytest.mark.parametrize("most_kept", [1 << 27, 100])  # distances as a whole, or only the piece's at a time
@pytest.mark.parametrize("frames", [1, 7, 300])
@pytest.mark.parametrize(("kept", "padded"), [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("size", [0.3, 1.0, 4.0, 40.0])  # of q and k: scores of .1 to 1600 and more
def test_blocks_equal_the_reference(
    frames: int, kept: bool, padded: bool, most_kept: int, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Output and all gradients in double precision, as the model hands them over: heads after frames in memory."""
    monkeypatch.setattr("a2v_model.blockwise.PIECE_SCORES", 20_000)
    monkeypatch.setattr("a2v_model.blockwise.PIECE_COST", 100)
    monkeypatch.setattr("a2v_model.blockwise.HEIGHT", 32)
    monkeypatch.setattr("a2v_model.blockwise.MOST_KEPT", most_kept)
    q, k, v = _inputs(frames, frames)
    with torch.no_grad():
        q.mul_(size)
        k.mul_(size).add_(3.0)  # what all keys share changes no weight
    scale = torch.tensor([0.0, 1.0, 2.0, 40.0], dtype=torch.double, requires_grad=True)
    torch.manual_seed(0)
    bias = _bias(frames, kept, padded, scale)
    direction = torch.randn(ROWS, frames, HEADS, WIDTH, dtype=torch.double).transpose(1, 2)
    outputs, gradients = [], []
    for out in (blockwise_attention(q, k, v, bias), _dense(q, k, v, bias)):
        outputs.append(out)
        gradients.append(torch.autograd.grad((out * direction).sum(), [q, k, v, scale], retain_graph=True))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-6, atol=1e-9)
    for actual, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-9 * size)
    with torch.no_grad():
        torch.testing.assert_close(blockwise_attention(q, k, v, bias), outputs[1], rtol=1e-6, atol=1e-9)


def test_one_row_of_kept_frames() -> None:
    """Frame numbers of one row are not taken for consecutive ones."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, 20, WIDTH, dtype=torch.double) for _ in range(3))
    index, factor = Alibi(HEADS)(0, (torch.arange(20) * 3)[None])
    bias = AttentionBias(index.double(), factor.detach().double())
    torch.testing.assert_close(blockwise_attention(q, k, v, bias), _dense(q, k, v, bias))


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.bfloat16, 1.5 * 2.0**-8)])
def test_without_a_gradient_in_both_types(seed: int, dtype: torch.dtype, error: float) -> None:
    """1000 frames in the layout of the model; what bfloat16 rounds are q, k and v (the same in the reference), the
    weights and the result twice."""
    torch.manual_seed(seed)
    q, k, v = torch.randn(2, 1000, 3, 8, 16).to(dtype).permute(2, 0, 3, 1, 4)
    bias = AttentionBias(*Alibi(8, learned=False)(1000))
    assert in_blocks(q, bias) == torch.is_grad_enabled()
    with torch.no_grad():
        assert in_blocks(q, bias)
        actual = attend(q, k, v, bias)
    assert actual.dtype == dtype
    expected = _dense(q.double(), k.double(), v.double(), bias)
    assert float((actual.double() - expected).norm() / expected.norm()) < error


def test_far_keys_of_steep_heads_are_not_touched() -> None:
    """Scores of at most 2: a key farther than 34 / f has a weight below e^-30; so few keys are needed, and all of them
    where a head has no slope or where scores are huge."""
    torch.manual_seed(0)
    frames = 2000
    factor = torch.tensor([0.5, 0.25, 0.0, 0.125])
    q, k = (functional.normalize(torch.randn(1, 4, frames, 16), dim=-1) * 8**0.5 for _ in range(2))
    distances = Distances(torch.arange(frames).float()[None])
    keys: dict[int, set[int]] = {head: set() for head in range(4)}
    for piece in prepared(q, k, factor, distances, None).pieces:
        for head in range(piece.heads.start, piece.heads.stop):
            reached = piece.keys.stop - piece.keys.start
            keys[head].add(reached)
            own = range(frames - piece.queries.stop, frames - piece.queries.start)
            assert piece.keys.start <= own[0] and own[-1] < piece.keys.stop
    assert keys[2] == {frames}
    for head, slope in ((0, 0.5), (1, 0.25), (3, 0.125)):
        assert 250 + 30 / slope < max(keys[head]) <= 250 + 2 * 36 / slope + 2
    huge = prepared(q * 40, k * 40, factor, distances, None).pieces
    assert {piece.keys.stop - piece.keys.start for piece in huge} == {frames}


def test_scores_that_would_overflow() -> None:
    """Float32, scores of +-10^4: compared with the largest, so finite, as torch's."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, HEADS, 100, WIDTH) for _ in range(3))
    leaves = [(q * 100).requires_grad_(), (k * 100).requires_grad_(), v.requires_grad_()]
    bias = AttentionBias(*Alibi(HEADS, learned=False)(100))
    out = blockwise_attention(*leaves, bias)
    expected = functional.scaled_dot_product_attention(*leaves, attn_mask=bias.dense())
    torch.testing.assert_close(out, expected, rtol=1e-3, atol=1e-3)
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(out.square().sum(), leaves))


def test_what_is_not_a_number_stays_so() -> None:
    """Of a training that diverged the loss must say so."""
    q, k, v = (torch.randn(1, HEADS, 300, WIDTH) for _ in range(3))
    q[0, 0, 7, 0] = math.nan
    out = blockwise_attention(q, k, v, AttentionBias(*Alibi(HEADS, learned=False)(300)))
    assert bool(out[0, 0, 7].isnan().all()) and bool(out[0, 1:].isfinite().all())


def test_a_row_that_is_all_padding_has_no_nan() -> None:
    q, k, v = (torch.randn(2, HEADS, 50, WIDTH) for _ in range(3))
    valid = torch.tensor([[True], [False]]).expand(2, 50)
    bias = AttentionBias(*Alibi(HEADS)(50), valid)
    assert bool(blockwise_attention(q, k, v, bias).isfinite().all())


def test_a_long_recording_needs_no_square_of_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit `attend` works in blocks and never builds the (H, T, T) bias, with the same result."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, HEADS, 500, WIDTH) for _ in range(3))
    alibi = Alibi(HEADS)
    valid = torch.arange(500)[None] < torch.tensor([[500], [321]])
    with torch.no_grad():
        whole = attend(q, k, v, AttentionBias(*alibi(500), valid))
        monkeypatch.setattr("a2v_model.attention.MOST_KEPT", 1000)
        bias = AttentionBias(*alibi(500), valid)
        monkeypatch.setattr(bias, "dense", lambda *_: pytest.fail("the whole bias was built"))
        monkeypatch.setattr(bias, "distance", lambda: pytest.fail("all distances were built"))
        # queries in the padding have scores of -40, known to 2^-19
        torch.testing.assert_close(attend(q, k, v, bias), whole, rtol=1e-5, atol=1e-5)


def test_without_any_bias() -> None:
    q, k, v = _inputs(50, 0)
    actual = blockwise_attention(q, k, v, AttentionBias(None, None))
    expected = functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_dropout_on_the_weights(dropout: float) -> None:
    """With v the identity the result is the weights: 0 or the undropped weight over the keep rate."""
    torch.manual_seed(0)
    q, k = torch.randn(2, HEADS, 64, WIDTH), torch.randn(2, HEADS, 64, WIDTH)
    v = torch.eye(64).expand(2, HEADS, 64, 64)
    bias = AttentionBias(None, None)
    plain, dropped = blockwise_attention(q, k, v, bias), blockwise_attention(q, k, v, bias, dropout)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], plain[kept] / (1 - dropout), rtol=1e-3, atol=1e-6)
    error = 4 * math.sqrt(dropout * (1 - dropout) / kept.numel())
    assert abs(float(kept.float().mean()) - (1 - dropout)) < error


def test_gradient_under_dropout() -> None:
    """The backward pass uses the mask of the forward pass: a directional derivative by finite differences."""
    torch.manual_seed(0)
    leaves = [torch.randn(1, 2, 40, WIDTH, requires_grad=True) for _ in range(3)]
    factor = torch.tensor([0.3, 0.1], requires_grad=True)
    index = Alibi(2)(40)[0]
    directions = [torch.randn_like(leaf) for leaf in (*leaves, factor)]

    def loss(step: float) -> Tensor:
        q, k, v, f = (leaf + step * direction for leaf, direction in zip((*leaves, factor), directions, strict=True))
        torch.manual_seed(7)
        return blockwise_attention(q, k, v, AttentionBias(index, f), 0.3).double().square().sum()

    loss(0.0).backward()
    slope = sum((leaf.grad * d).sum() for leaf, d in zip((*leaves, factor), directions, strict=True))
    numeric = (loss(1e-3) - loss(-1e-3)) / 2e-3
    assert math.isclose(float(slope), float(numeric.detach()), rel_tol=5e-3)


def test_alibi_slopes() -> None:
    """Values worked out by hand from the ALiBi paper: 2^(-8/H (h + 1)), for 6 heads those of 4 then of 8."""
    assert alibi_slopes(8) == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(16)[:3] == [2**-0.5, 2**-1.0, 2**-1.5]
    assert alibi_slopes(6) == [2**-2.0, 2**-4.0, 2**-6.0, 2**-8.0, 2**-1.0, 2**-3.0]


def test_alibi_bias_uses_original_indices_and_no_negative_scale() -> None:
    alibi = Alibi(2)
    with torch.no_grad():
        alibi.scale.copy_(torch.tensor([2.0, -1.0]))
    dense = AttentionBias(*alibi(0, torch.tensor([[0, 3, 10]]))).dense()
    expected = -2 * 2**-4.0 * torch.tensor([[0.0, 3, 10], [3, 0, 7], [10, 7, 0]])
    torch.testing.assert_close(dense[0, 0], expected)
    assert dense[0, 1].abs().max() == 0
    assert not any(True for _ in Alibi(2, learned=False).parameters())
    assert "scale" in Alibi(2, learned=False).state_dict()


@pytest.mark.parametrize("dropout", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(7,), (100, 1001)])
def test_keep_mask(dropout: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    mask = keep_mask(shape, dropout)
    assert mask.shape == shape and set(mask.unique().tolist()) <= {0, 1}
    assert abs(keep_rate(dropout) - (1 - dropout)) < 1e-5
    error = 4 * math.sqrt(dropout * (1 - dropout) / mask.numel())
    assert abs(float(mask.float().mean()) - (1 - dropout)) < error
    lanes = mask.flatten()[: mask.numel() // 4 * 4].view(-1, 4).float()  # four entries share one draw
    if len(lanes) > 100:
        correlation = torch.corrcoef(lanes.T) - torch.eye(4)
        assert correlation.abs().max() < 5 / math.sqrt(len(lanes))


def test_dropout_layer() -> None:
    torch.manual_seed(0)
    layer, x = Dropout(0.2), torch.ones(500, 500, requires_grad=True)
    y = layer.train()(x)
    assert abs(float(y.detach().mean()) - 1) < 0.01 and y.detach().unique().tolist() == pytest.approx(
        [0.0, 1.25], rel=1e-4
    )
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert layer.eval()(x) is x


@pytest.mark.parametrize("rows", [1, 2])
def test_kept_frames_that_are_filled_up_keep_their_distances(rows: int) -> None:
    """The last one repeated, the number of frames can be as if they were consecutive: 0 1 3 4 6 6 6."""
    torch.manual_seed(0)
    index, valid = filled_up(torch.tensor([[0, 1, 3, 4, 6]]).expand(rows, -1), 7)
    q, k, v = (torch.randn(rows, 2, 7, 8, dtype=torch.double) for _ in range(3))
    bias = AttentionBias(index.double(), torch.tensor([1.0, 0.5], dtype=torch.double), valid)
    with torch.no_grad():
        found, expected = blockwise_attention(q, k, v, bias), _dense(q, k, v, bias)
    torch.testing.assert_close(found[:, :, :5], expected[:, :, :5], rtol=1e-9, atol=1e-12)


def test_blocks_in_float16() -> None:
    """Ends at 65504, while weights of usual scores reach e^20 before they are divided."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 300, 16) for _ in range(3))
    k = 1.5 * k + q  # scores around 4 to 15
    bias = AttentionBias(torch.arange(300.0)[None], torch.tensor([0.5, 0.01]))
    with torch.no_grad():
        found = blockwise_attention(q.half(), k.half(), v.half(), bias)
        expected = blockwise_attention(q, k, v, bias)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), expected, rtol=2e-2, atol=5e-3)


def test_a_backward_pass_inside_autocast() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 300, 16, requires_grad=True) for _ in range(3))
    factor = torch.tensor([0.5, 0.01], requires_grad=True)
    found = []
    for inside in (False, True):
        out = blockwise_attention(q, k, v, AttentionBias(torch.arange(300.0)[None], factor))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
            found.append(torch.autograd.grad(out.square().sum(), [q, k, v, factor]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_dropout_without_a_gradient_builds_no_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in finetuning of the head alone: the way is asked for with the dropout that attention has."""
    config = EncoderConfig(dim=16, heads=2, depth=1, prenet_depth=0, positional_depth=0, attention_dropout=0.1)
    encoder = Encoder(config).train()
    with torch.no_grad():
        encoder.alibi.scale.zero_()  # no distance counts, so without dropout torch's attention would do it
        monkeypatch.setattr(AttentionBias, "dense", lambda *given: pytest.fail("built"))
        encoder(torch.randn(1, 40, 16))
