"""Between-classes mixing against the original's tensors (goldens/g6_bcl) and against closed forms."""

import math
from pathlib import Path

import pytest
import torch
from a2v_data.bcl import BclConfig, a_weighted_gain_db, mix
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

CASES = {"shared_r": False, "per_sample_r": True, "half": False}


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(Path(__file__).parent / "goldens" / "g6_bcl.safetensors")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_gain_is_the_originals(golden: dict[str, Tensor]) -> None:
    gain_BW = a_weighted_gain_db(golden["source"], 8000, 0.05)
    torch.testing.assert_close(gain_BW, golden["gain_db"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_mixing_is_the_originals(golden: dict[str, Tensor], case: str) -> None:
    target = golden["target"] if f"{case}.target" in golden else None
    mixed, targets = mix(
        golden["source"], target, 8000, BclConfig(per_row=CASES[case]), seeded(0),
        ratio=golden[f"{case}.r"], permutation=golden[f"{case}.perm"], selected=golden[f"{case}.selected"],
    )  # fmt: skip
    torch.testing.assert_close(mixed, golden[f"{case}.mixed"], atol=1e-5, rtol=1e-5)
    if target is None:
        assert targets is None
    else:
        torch.testing.assert_close(targets, golden[f"{case}.target"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
def test_gain_of_a_1_khz_sine(rate: int) -> None:
    """0 dB weight at 1 kHz: a Hann window's power spectrum of a sine sums to about A^2 (n/4)^2 (1 + 2/4)."""
    size = round(0.05 * rate)
    time = torch.arange(rate, dtype=torch.float64) / rate
    gain = a_weighted_gain_db(0.5 * torch.sin(2 * math.pi * 1000 * time)[None].float(), rate, 0.05)
    expected = 10 * math.log10(0.25 * (size / 4) ** 2 * 1.5)
    assert gain.amax().item() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(golden: dict[str, Tensor], dtype: torch.dtype) -> None:
    x, y = golden["source"], torch.rand(len(golden["source"]), 5, 3, generator=seeded(8))
    gain_BW, plain = a_weighted_gain_db(x, 8000, 0.05), mix(x, y, 8000, BclConfig(), seeded(9))
    with torch.autocast("cpu", dtype=dtype):
        power = (x @ x.T).dtype
        cast_BW, mixed = a_weighted_gain_db(x, 8000, 0.05), mix(x, y, 8000, BclConfig(), seeded(9))
    assert power == dtype  # autocast was at work
    for result, expected in zip((cast_BW, *mixed), (gain_BW, *plain), strict=True):
        assert result.dtype == torch.float32 and torch.equal(result, expected)


def test_equal_loudness_gives_the_ratio_itself() -> None:
    """G1 = G2: p = r, so the mix of x and -x is (2r - 1) x / sqrt(r^2 + (1-r)^2)."""
    x = torch.randn(1, 4000, generator=seeded(3))
    pair, ratio = torch.cat([x, -x]), torch.tensor([0.8])
    mixed, _ = mix(pair, None, 8000, BclConfig(), seeded(0), ratio=ratio, permutation=torch.tensor([1, 0]))
    torch.testing.assert_close(mixed[:1], x * 0.6 / math.sqrt(0.64 + 0.04), rtol=1e-5, atol=1e-6)


def test_a_louder_partner_is_turned_down_by_its_level() -> None:
    """x2 = 10 x1 is 20 dB louder: p = 1 / (1 + 0.1 (1-r)/r), and both are heard at r : 1-r."""
    x = torch.randn(1, 4000, generator=seeded(4))
    mixed, _ = mix(
        torch.cat([x, 10 * x]), None, 8000, BclConfig(), seeded(0),
        ratio=torch.tensor([0.75]), permutation=torch.tensor([1, 0]),
    )  # fmt: skip
    p = 1 / (1 + 0.1 / 3)
    torch.testing.assert_close(mixed[:1], x * (p + 10 * (1 - p)) / math.hypot(p, 1 - p), rtol=1e-4, atol=1e-5)
    assert p / (10 * (1 - p)) == pytest.approx(0.75 / 0.25)


def test_pretraining_keeps_targets_and_probability_0_keeps_everything() -> None:
    x, y = torch.randn(4, 4000, generator=seeded(5)), torch.eye(4)[:, None].expand(4, 7, 4)
    mixed, targets = mix(x, y, 8000, BclConfig(mix_targets=False), seeded(1))
    assert targets is y and not torch.equal(mixed, x)
    mixed, targets = mix(x, y, 8000, BclConfig(probability=0), seeded(1))
    assert torch.equal(mixed, x) and torch.equal(targets, y)


def test_draws_follow_the_configuration() -> None:
    """Targets give the ratio away: y is one-hot per row, so its largest value is r (1 where not selected)."""
    y = torch.eye(64)[:, None]
    x = torch.randn(64, 800, generator=seeded(6))
    config = BclConfig(probability=0.5, min_ratio=0.6, per_row=True)
    drawn = torch.cat([mix(x, y, 8000, config, seeded(seed))[1].amax((1, 2)) for seed in range(30)])
    ratios = drawn[drawn < 1]
    assert ratios.min() > 0.6 and ratios.max() > 0.98
    assert ratios.mean().item() == pytest.approx(0.8, abs=0.02)
    assert len(ratios) / len(drawn) == pytest.approx(0.5, abs=0.05)
    shared = mix(x, y, 8000, BclConfig(), seeded(2))[1].amax((1, 2))
    assert len(shared[shared < 1].unique()) == 1


def test_the_generator_alone_decides() -> None:
    x = torch.randn(6, 4000, generator=seeded(7))
    first = mix(x, None, 8000, BclConfig(), seeded(11))[0]
    torch.manual_seed(99)
    assert torch.equal(first, mix(x, None, 8000, BclConfig(), seeded(11))[0])
    assert not torch.equal(first, mix(x, None, 8000, BclConfig(), seeded(12))[0])


def test_users_mistakes() -> None:
    with pytest.raises(ValueError, match=r"window_s: 0\.05 s is 400 samples; it must be between 2 .* 300"):
        a_weighted_gain_db(torch.zeros(1, 300), 8000, 0.05)
    for wrong in ({"probability": 1.5}, {"window": 0.1}, {"min_ratio": 1.0}):
        with pytest.raises(ValidationError):
            BclConfig(**wrong)
