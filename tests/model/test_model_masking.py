"""Golden g8: statistics of the original's masks; and the rules of the algorithm."""

import math

import pytest
import torch
from a2v_model import channel_mask, frame_mask
from a2v_model.masking import masked_indices, noise, span_mask
from model_goldens import facts

pytestmark = pytest.mark.slow

STATS = facts("g8_mask_stats")["stats"]
NAMES = [f"{g['mask_prob']}-{g['mask_length']}-{g['require_same_masks']}" for g in STATS]


def _runs(mask_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Lengths of the masked spans and of the gaps between them (not those at the row's ends)."""
    padded = torch.nn.functional.pad(mask_BT.int(), (1, 1)).diff(dim=1)
    rows, onsets = (padded == 1).nonzero(as_tuple=True)
    offsets = (padded == -1).nonzero()[:, 1]
    between = (onsets[1:] - offsets[:-1])[rows[1:] == rows[:-1]]
    return (offsets - onsets).double(), between.double()


@pytest.mark.parametrize("golden", STATS, ids=NAMES)
def test_statistics_golden(golden: dict) -> None:
    p, equal = golden["mask_prob"] / golden["mask_length"], golden["require_same_masks"]
    masks = [
        span_mask(64, golden["T"], p, golden["mask_length"], torch.Generator().manual_seed(seed), equalise=equal)
        for seed in range(20)
    ]
    fractions = torch.stack([mask.double().mean() for mask in masks])
    error = 4 * math.sqrt(2) * golden["fraction_std_between_batches"] / math.sqrt(20)
    assert abs(float(fractions.mean()) - golden["fraction_mean"]) < error
    if equal:
        assert all(len(set(mask.sum(1).tolist())) == 1 for mask in masks)
    spans, gaps = _runs(torch.cat(masks))
    for lengths, mean in ((spans, golden["span_mean"]), (gaps, golden["gap_mean"])):
        error = 4 * float(lengths.std()) / math.sqrt(len(lengths)) * math.sqrt(2)
        # the equalised share differs between batches, and span lengths with it
        between = 4 * mean * golden["fraction_std_between_batches"] / (1 - golden["fraction_mean"])
        assert abs(float(lengths.mean()) - mean) < error + between


@pytest.mark.parametrize("golden", STATS, ids=NAMES)
@pytest.mark.parametrize("kind", ["span", "gap"])
def test_length_distributions_golden(golden: dict, kind: str) -> None:
    """At every length, the share of spans (gaps) up to it: as far from the original's as two samples of 20 batches
    may be, by the spread between our batches."""
    p, equal, length = golden["mask_prob"] / golden["mask_length"], golden["require_same_masks"], golden["mask_length"]
    histogram = {int(value): count for value, count in golden[f"{kind}_hist"].items()}
    upper = torch.arange(1, max(histogram) + 1)
    expected = torch.tensor([histogram.get(int(value), 0) for value in upper]).double().cumsum(0)
    expected /= expected[-1].clone()
    shares = []
    for seed in range(20):
        mask = span_mask(64, golden["T"], p, length, torch.Generator().manual_seed(seed), equalise=equal)
        lengths = _runs(mask)[kind == "gap"]
        shares.append((lengths[:, None] <= upper).double().mean(0))
    drawn = torch.stack(shares)
    error = drawn.std(0) / math.sqrt(20) * math.sqrt(2)
    distance = (drawn.mean(0) - expected).abs()
    assert (distance <= 4.5 * error + 1e-4).all(), float((distance - 4.5 * error).max())


def test_channel_statistics_golden() -> None:
    golden = facts("g8_mask_stats")["channel_mask"]
    shares = torch.tensor(
        [
            float(channel_mask(64, golden["channels"], golden["prob"], 64, generator).double().mean())
            for generator in map(torch.Generator().manual_seed, range(100))
        ]
    )
    assert abs(float(shares.mean()) - golden["fraction_mean"]) < 4 * float(shares.std()) * math.sqrt(1 / 100 + 1 / 20)


@pytest.mark.parametrize("seed", range(5))
def test_unequalised_rows_are_unions_of_spans(seed: int) -> None:
    mask = span_mask(4, 50, 0.1, 5, torch.Generator().manual_seed(seed), equalise=False)
    spans, _ = _runs(mask)
    assert spans.min() >= 5
    assert not mask[:, 49].any()  # starts end at T - l - 1, so the last frame always stays


@pytest.mark.parametrize("seed", range(5))
def test_starts_are_distinct(seed: int) -> None:
    mask = span_mask(8, 100, 0.25, 1, torch.Generator().manual_seed(seed), equalise=False)
    assert mask.sum(1).tolist() == [25] * 8


def test_number_of_starts_is_rounded_at_random() -> None:
    counts = [int(span_mask(1, 30, 0.25, 1, torch.Generator().manual_seed(seed)).sum()) for seed in range(400)]
    assert set(counts) == {7, 8}  # 7.5
    assert abs(sum(counts) / 400 - 7.5) < 0.1


def test_at_least_one_start_for_frames_and_none_for_channels() -> None:
    assert int(frame_mask(2, 50, 0.0, 3).sum()) == 6
    assert int(channel_mask(2, 50, 0.0, 3).sum()) == 0


def test_probability_one_leaves_a_frame() -> None:
    mask = frame_mask(3, 20, 1.0, 2, torch.Generator().manual_seed(0))
    assert mask.sum(1).tolist() == [19, 19, 19]


@pytest.mark.parametrize("seed", range(3))
def test_deterministic_given_the_generator(seed: int) -> None:
    first, second, other = (
        frame_mask(4, 200, 0.3, 3, torch.Generator().manual_seed(s)) for s in (seed, seed, seed + 100)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


@pytest.mark.parametrize("length", [0, 20, 21])
def test_impossible_lengths_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"mask length = {length}"):
        frame_mask(1, 20, 0.5, length)


def test_masked_indices_are_in_time_order() -> None:
    mask = torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0]], dtype=torch.bool)
    assert masked_indices(mask).tolist() == [[1, 3], [0, 1]]
    assert masked_indices(~mask).tolist() == [[0, 2], [2, 3]]


def test_noise_has_its_standard_deviation() -> None:
    drawn = noise((100, 1000), 0.01, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert abs(float(drawn.std()) - 0.01) < 1e-4 and abs(float(drawn.mean())) < 1e-4
