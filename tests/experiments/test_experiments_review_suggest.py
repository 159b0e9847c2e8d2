"""Which clips are suggested: uncertain, unlike each other, of every class."""

import numpy as np
import pytest
from a2v_experiments.review.suggest import choose, pick, uncertainty


def test_uncertainty_is_largest_at_the_class_threshold_whatever_the_scale_of_likelihoods() -> None:
    """A class whose likelihoods are all small (as focal losses give) is as uncertain at its threshold as another."""
    sure_NC = np.full((96, 2), [0.01, 0.01])
    likelihood_NC = np.concatenate([sure_NC, [[0.5, 0.03], [0.3, 0.02], [0.1, 0.08], [0.6, 0.012]]])
    found_NC = uncertainty(likelihood_NC, [0.5, 0.03])
    assert np.allclose(found_NC[96], 1.0)
    assert found_NC[97, 0] > found_NC[98, 0]  # 0.3 is nearer to 0.5 than 0.1 is
    assert found_NC[97, 1] > found_NC[99, 1] > found_NC[98, 1]  # logits are 0.42, 0.94, 1.03 from that of 0.03
    sigmoid = 1 / (1 + np.exp(4))  # of the surest clips, for either class: its entropy is 0.130 bits
    assert np.allclose(found_NC[:96], -(sigmoid * np.log2(sigmoid) + (1 - sigmoid) * np.log2(1 - sigmoid)), atol=1e-3)


def groups(rng: np.random.Generator, sizes: list[int], dim: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Clips around one direction per group: embeddings, and the group of each."""
    group_N = np.repeat(np.arange(len(sizes)), sizes)
    return np.eye(dim, dtype=np.float32)[group_N] + rng.normal(0, 0.01, (len(group_N), dim)), group_N


def test_one_clip_of_each_group_is_picked_though_one_group_has_nearly_all() -> None:
    """Five sounds, one of them fourteen times as often: five clips are one of each."""
    embedding_ND, group_N = groups(np.random.default_rng(0), [14, 1, 1, 1, 1])
    for seed in range(20):
        assert sorted(group_N[pick(np.ones(18), embedding_ND, 5, seed)].tolist()) == [0, 1, 2, 3, 4]


def test_what_is_known_is_not_picked_again() -> None:
    """Of three sounds, two known, only the third is picked."""
    embedding_ND, group_N = groups(np.random.default_rng(1), [4, 4, 4])
    for seed in range(10):
        assert group_N[pick(np.ones(12), embedding_ND, 3, seed, embedding_ND[:8])].tolist() == [2, 2, 2]


def test_many_sure_clips_do_not_outweigh_a_few_uncertain_ones() -> None:
    """20 000 clips of uncertainty 0.1 are together 40 times as uncertain as 50 of 1: none of them is picked."""
    rng = np.random.default_rng(2)
    unsure_N = np.full(20_050, 0.1)
    unsure_N[rng.permutation(20_050)[:50]] = 1.0
    found = pick(unsure_N, rng.normal(size=(20_050, 8)), 5, 0)
    assert len(set(found.tolist())) == 5 and (unsure_N[found] == 1).all()


def test_classes_that_are_unsure_of_the_same_clips_still_give_as_many_as_asked_for() -> None:
    """Both have the same order, so what is kept of each is the same."""
    unsure_N = np.random.default_rng(7).random(100)
    embedding_ND = np.random.default_rng(8).normal(size=(100, 4))
    for count in (7, 60, 100):
        found = pick(np.stack([unsure_N] * 8, 1), embedding_ND, count, 0)
        assert len(set(found.tolist())) == count


def test_a_class_that_is_hardly_uncertain_gets_its_share() -> None:
    """Two classes; one has 1000 clips of uncertainty 0.9, the other 10 of 0.2: they take turns."""
    rng = np.random.default_rng(3)
    unsure_NC = np.zeros((5000, 2))
    unsure_NC[:1000, 0], unsure_NC[1000:1010, 1] = 0.9, 0.2
    found = pick(unsure_NC, rng.normal(size=(5000, 8)), 12, 1)
    assert ((found >= 1000) & (found < 1010)).sum() == 6 and (found < 1000).sum() == 6


def test_picks_are_the_same_again_and_never_twice_the_same_clip() -> None:
    """Also where all clips sound the same, and where fewer are there than asked for."""
    same_ND = np.ones((6, 4), np.float32)
    assert sorted(pick(np.arange(6), same_ND, 9, 0).tolist()) == [0, 1, 2, 3, 4, 5]
    embedding_ND = np.random.default_rng(4).normal(size=(300, 8))
    unsure_N = np.random.default_rng(5).random(300)
    first = pick(unsure_N, embedding_ND, 40, 7)
    assert len(set(first.tolist())) == 40 and first.tolist() == pick(unsure_N, embedding_ND, 40, 7).tolist()
    assert first.tolist() != pick(unsure_N, embedding_ND, 40, 8).tolist()
    assert pick(unsure_N, embedding_ND, 0, 7).size == 0


def test_of_equally_uncertain_clips_chance_decides() -> None:
    """Not their order, by which all would come from the first recordings: half lie in the second half."""
    found = [pick(np.ones(1000), np.random.default_rng(6).normal(size=(1000, 4)), 5, seed) for seed in range(40)]
    assert 0.4 < (np.concatenate(found) >= 500).mean() < 0.6


def test_arrays_of_different_clips_are_refused() -> None:
    """Also uncertainties that are no numbers."""
    with pytest.raises(ValueError, match="not of the same clips"):
        pick(np.ones(3), np.ones((4, 2)), 1, 0)
    with pytest.raises(ValueError, match="at least 0"):
        pick([np.nan, 1.0], np.ones((2, 2)), 1, 0)


def test_every_second_clip_is_a_random_one() -> None:
    rng = np.random.default_rng(0)
    unsure_N = np.zeros(1000)
    unsure_N[:20] = 1.0
    embedding_ND = rng.normal(size=(1000, 4))
    found = choose(unsure_N, embedding_ND, 11, 5)
    assert len(set(found.tolist())) == 11 and (found[::2] < 20).all() and (found[1::2] >= 20).sum() >= 4
    drawn = np.concatenate([choose(unsure_N, embedding_ND, 10, seed)[1::2] for seed in range(200)])
    assert np.histogram(drawn, 4, (0, 1000))[0].min() > 200  # of 1000, from everywhere
    assert sorted(choose(unsure_N[:3], embedding_ND[:3], 9, 0).tolist()) == [0, 1, 2]
