"""Effects over folds and seeds: values worked out by hand or by scipy, coverage where the truth is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from a2v_eval.comparison import paired_test
from a2v_eval.effects import against_all, holm, paired_effect
from a2v_eval.parameter_effects import TrialScores, parameter_effects, unpaired_effects
from effects_simulation import all_cells, coverage, fold_means, naive, ours
from scipy.stats import permutation_test, spearmanr, t, ttest_1samp


def cells(table):
    """Rows are seeds, columns folds."""
    return {seed: dict(enumerate(row)) for seed, row in enumerate(table)}


def alone(*folds):
    return {None: dict(enumerate(folds))}


# --- two variants


def test_of_one_seed_it_is_the_corrected_t_test_over_folds():
    first, second = [0.5, 0.7, 0.62, 0.58], [0.45, 0.5, 0.6, 0.5]
    effect = paired_effect(alone(*first), alone(*second), k_folds=5)
    assert effect.p == pytest.approx(paired_test(first, second, k_folds=5).p_corrected_t)
    assert (effect.over, effect.folds, effect.seeds, effect.df, effect.note) == ("folds", 4, 1, 3, "")
    difference = np.subtract(first, second)
    half = t.ppf(0.975, 3) * difference.std(ddof=1) * math.sqrt(1 / 4 + 1 / 4)
    assert (effect.low, effect.high) == pytest.approx((difference.mean() - half, difference.mean() + half))


def test_of_one_fold_it_is_the_t_test_over_seeds_and_said_to_be_of_this_split_alone():
    effect = paired_effect(cells([[0.5], [0.6], [0.9]]), cells([[0.4], [0.3], [0.5]]))
    scipy = ttest_1samp([0.1, 0.3, 0.4], 0)
    interval = scipy.confidence_interval()
    assert (effect.p, effect.low, effect.high) == pytest.approx((scipy.pvalue, interval.low, interval.high))
    assert effect.over == "seeds" and effect.note == "of this split of the recordings alone"


def test_over_folds_and_seeds_worked_out_by_hand():
    """Differences 1 2 / 3 8 (rows seeds): means of folds 2, 5; of seeds 1.5, 5.5; mean squares of folds 9, seeds 16,
    rest 4. Components: fold (9 - 4) / 2 = 2.5, seed (16 - 4) / 2 = 6, rest 4."""
    effect = paired_effect(cells([[1, 2], [3, 8]]), cells([[0, 0], [0, 0]]), k_folds=3)
    variance = 2.5 * (1 / 2 + 1 / 2) + 6 / 2 + 4 / 4
    df = max(variance**2 / ((9 / 2) ** 2 + (16 / 4) ** 2 + (4 / 2) ** 2), 1)
    half = t.ppf(0.975, df) * math.sqrt(variance)
    assert (effect.difference, effect.df) == pytest.approx((3.5, df)) and effect.over == "folds and seeds"
    assert (effect.low, effect.high) == pytest.approx((3.5 - half, 3.5 + half))
    assert effect.p == pytest.approx(2 * t.sf(3.5 / math.sqrt(variance), df))


def test_only_cells_that_both_have_count_and_what_cannot_be_told_is_said():
    effect = paired_effect({0: {0: 0.5, 1: 0.9, 2: 0.3}, 1: {0: 0.7, 2: 0.2}}, cells([[0.1, 0.1, 0.1]] * 3))
    assert (effect.folds, effect.seeds) == (2, 2) and effect.first_mean == pytest.approx((0.5 + 0.3 + 0.7 + 0.2) / 4)
    assert paired_effect(alone(0.5, math.nan, 0.7), alone(0.1, 0.2, 0.2)).folds == 2
    one = paired_effect(alone(0.5), alone(0.3))
    assert (one.p, one.low, one.over) == (None, None, "nothing") and "cannot be told" in one.note
    same = paired_effect(alone(0.5, 0.6), alone(0.3, 0.4))
    assert (same.p, same.low) == (None, None) and "all differences are the same" in same.note
    assert paired_effect(alone(0.5, 0.6), alone(0.5, 0.6)).p == 1.0
    other_seeds = paired_effect(cells([[0.5, 0.6], [0.7, 0.6]]), alone(0.3, 0.35))
    assert other_seeds.seeds == 1 and other_seeds.difference == pytest.approx((0.3 + 0.25) / 2)
    with pytest.raises(ValueError, match="0 folds with a defined score in both"):
        paired_effect({None: {0: 0.5}}, {None: {1: 0.5}})


@pytest.mark.parametrize("shape", [(2, 3), (5, 1), (5, 3), (10, 1), (1, 5)])
def test_intervals_hold_the_truth_as_often_as_they_say(shape):
    """In every mixture of fold, seed and rest, for folds that share training recordings and for folds that do not."""
    assert min(inside for inside, _ in coverage(ours, shape, 1000, seed=1)) >= 0.93


def test_tests_that_take_cells_for_independent_do_not():
    lowest = {test: min(x for x, _ in coverage(test, (5, 3), 2000, seed=2)) for test in (naive, all_cells, fold_means)}
    assert lowest[naive] < 0.6 and lowest[all_cells] < 0.9 and lowest[fold_means] < 0.6


def test_holm_by_hand():
    assert holm([0.04, None, 0.01, 0.03, 0.9]) == [
        pytest.approx(0.09),
        None,
        pytest.approx(0.04),
        pytest.approx(0.09),
        0.9,
    ]
    assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


def test_a_winner_that_its_own_scores_chose_is_corrected_for_all_pairs():
    rng = np.random.default_rng(3)
    wins = {False: 0, True: 0}
    for _ in range(150):
        variants = [alone(*rng.standard_normal(10)) for _ in range(9)]
        best = max(range(9), key=lambda number: sum(variants[number][None].values()))
        for chosen in wins:
            wins[chosen] += any(not one.tie for one in against_all(variants, best, 10, chosen_by_these=chosen))
    assert wins[True] <= 0.05 * 150 and wins[True] <= wins[False]
    baseline = against_all([alone(0.1, 0.2), alone(0.4, 0.6), {None: {}}], 1)
    assert [(one.first, one.second) for one in baseline] == [(1, 0)]
    assert baseline[0].p == baseline[0].effect.p  # one comparison


# --- parameters


def grid(rng, effect_of_mask, noise=0.01):
    """mask in 3 values x length in 2, five folds of very different difficulty."""
    hard = np.linspace(0.2, 0.8, 5)
    found = []
    for mask, length in itertools.product((0.3, 0.5, 0.7), (2, 5)):
        scores = hard + effect_of_mask[mask] + 0.05 * (length == 5) + noise * rng.standard_normal(5)
        found.append(TrialScores({"mask": mask, "length": length}, alone(*scores)))
    return found


def test_values_are_paired_over_the_combinations_of_all_else():
    trials = grid(np.random.default_rng(0), {0.3: 0.0, 0.5: 0.1, 0.7: 0.1})
    mask, length = parameter_effects(trials)
    assert [one.value for one in mask.values][-1] == 0.3 and [one.value for one in length.values] == [5, 2]
    assert len(mask.tied) == 1 and mask.tied[0] in (0.5, 0.7) and length.tied == [] and mask.combinations == 2
    by_hand = {
        value: np.mean([list(trial.scores[None].values()) for trial in trials if trial.values["mask"] == value], axis=0)
        for value in (0.3, 0.5, 0.7)
    }
    best = mask.values[0].value
    last = mask.of_best[-1]
    assert last.effect.difference == pytest.approx(np.mean(by_hand[best] - by_hand[0.3]))
    assert last.effect.p == pytest.approx(paired_test(by_hand[best], by_hand[0.3]).p_corrected_t)
    every = [one for parameter in (mask, length) for one in parameter.compared]
    assert len(every) == 4 and [one.p for one in every] == pytest.approx(holm([one.effect.p for one in every]))
    others = np.mean([by_hand[value] for value in by_hand if value != best], axis=0)
    assert mask.values[0].effect.difference == pytest.approx(np.mean(by_hand[best] - others))


def test_a_grid_without_effects_is_a_tie():
    mask, _ = parameter_effects(grid(np.random.default_rng(1), dict.fromkeys((0.3, 0.5, 0.7), 0.0)))
    assert len(mask.tied) == 2 and all(one.tie for one in mask.of_best)


def test_combinations_with_a_missing_trial_are_left_out_and_others_stay():
    trials = grid(np.random.default_rng(2), {0.3: 0.0, 0.5: 0.1, 0.7: 0.3})[:-1]  # without 0.7 with 5
    mask, length = parameter_effects(trials)
    assert mask.combinations == 1 and [one.value for one in mask.values] == [0.7, 0.5, 0.3]
    assert length.combinations == 2 and length.of_best[0].effect.difference == pytest.approx(0.05, abs=0.02)


def test_steps_of_a_ladder_are_compared_with_the_one_before_in_each_key():
    values = [{"a": 0, "b": 0}, {"a": 1, "b": 0}, {"a": 1, "b": 1}]
    trials = [TrialScores(one, alone(0.1 * n, 0.3 * n)) for n, one in enumerate(values)]
    found = {one.key: one.of_best[0].effect.difference for one in parameter_effects(trials)}
    assert found == pytest.approx({"a": 0.2, "b": 0.2})
    apart = [TrialScores({"a": n, "b": n}, alone(0.1, 0.2)) for n in range(3)]
    assert parameter_effects(apart) == []


def test_drawn_numbers_have_a_rank_correlation_and_choices_their_means():
    rng = np.random.default_rng(4)
    rate, kind = rng.uniform(size=6), ["a", "b", "a", "b", "b", "a"]
    score = rate + 0.3 * rng.standard_normal(6)
    trials = [TrialScores({"rate": r, "kind": k}, alone(s)) for r, k, s in zip(rate, kind, score, strict=True)]
    of_rate, of_kind = unpaired_effects(trials)
    oracle = permutation_test((rate,), lambda x: spearmanr(x, score).statistic, permutation_type="pairings")
    assert of_rate.correlation == pytest.approx(spearmanr(rate, score).statistic)
    assert of_rate.p == pytest.approx(oracle.pvalue, abs=1e-6)
    means = {one.value: one.mean for one in of_kind.values}
    assert means == pytest.approx(
        {k: np.mean([s for s, other in zip(score, kind, strict=True) if other == k]) for k in "ab"}
    )
    assert of_kind.correlation is None and 0 < of_kind.p <= 1
    assert [one.adjusted for one in (of_rate, of_kind)] == pytest.approx(holm([of_rate.p, of_kind.p]))
    three = unpaired_effects(trials[:3])
    assert all(one.p is None and one.tie for one in three)
    many = [TrialScores({"rate": n}, alone(n / 20)) for n in range(20)]
    assert unpaired_effects(many)[0].p == pytest.approx(1e-4)
