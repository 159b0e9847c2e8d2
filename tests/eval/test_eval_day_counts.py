"""Counts of days from a review: closed forms, and how often their intervals hold the truth where days differ."""

from __future__ import annotations

import numpy as np
import pytest
from a2v_eval.day_counts import DayBand, corrected_counts
from a2v_eval.missed import Estimate
from a2v_eval.stratified import Stratum
from scipy.special import expit, logit


def test_one_day_has_the_share_of_its_bands() -> None:
    """With one day there is nothing that days could differ in: 10 known, and half of the 20 others."""
    (day,) = corrected_counts([Stratum(40, 20, 10)], [[DayBand(40, 20, 10, 20, 10)]])
    assert day is not None and day.estimate == pytest.approx(10 + 20 * 0.5)
    # of share .5 the sampling error is .5 * .5 / 20 * (1 - 20 / 40); and each of the 20 is right by chance
    assert day.upper - day.estimate == pytest.approx(1.959964 * np.sqrt(20**2 * 0.25 / 20 * 0.5 + 20 * 0.25))
    assert day.estimate - day.lower == pytest.approx(day.upper - day.estimate)


def test_what_is_judged_is_known_and_what_is_not_heard_is_not() -> None:
    bands = [Stratum(100, 10, 5), Stratum(9, 0, 0)]
    days = [
        [DayBand(4, 4, 3, 1, 1), DayBand(0, 0, 0, 0, 0)],
        [DayBand(96, 20, 10, 9, 4), DayBand(4, 0, 0, 0, 0)],
        [DayBand(0, 0, 0, 0, 0), DayBand(5, 5, 2, 0, 0)],
    ]
    assert corrected_counts(bands, days) == [Estimate(3, 3, 3), None, Estimate(2, 2, 2)]
    assert corrected_counts(bands[1:], [day[1:] for day in days]) == [Estimate(0, 0, 0), None, Estimate(2, 2, 2)]
    assert corrected_counts(bands, []) == []
    with pytest.raises(ValueError, match="should have 2"):
        corrected_counts(bands, [[DayBand(1, 0, 0, 0, 0)]])


def test_a_day_of_rain_is_told_from_the_others() -> None:
    """Of two days with equal predictions one has 36 of 40 right in the sample, the other 4 of 40."""
    good, rain = corrected_counts(
        [Stratum(800, 80, 40)], [[DayBand(400, 40, 36, 40, 36)], [DayBand(400, 40, 4, 40, 4)]]
    )
    assert good is not None and rain is not None
    assert 320 < good.estimate < 360 and good.lower > 250  # drawn from 360 towards 200
    assert 40 < rain.estimate < 80 and rain.upper < 150
    assert good.estimate + rain.estimate == pytest.approx(400)


@pytest.mark.parametrize("difference", [0.0, 0.5, 1.0, 2.0])
def test_counts_of_days_hold_the_truth(difference: float) -> None:
    """difference: standard deviation of the logit of precision from day to day."""
    held = total = 0
    for days, per_day in ((7, 100), (20, 40)):
        for per_band in (5, 10, 30):
            for seed in range(12):
                rng = np.random.default_rng(seed)
                likelihood, day = rng.uniform(0, 1, days * per_day), rng.integers(0, days, days * per_day)
                right = rng.random(len(day)) < expit(logit(likelihood) + rng.normal(0, difference, days)[day])
                band = np.minimum((likelihood * 10).astype(int), 9)
                judged = np.zeros(len(day), dtype=bool)
                for number in range(10):
                    judged[rng.permutation(np.flatnonzero(band == number))[:per_band]] = True
                cells = [[(day == d) & (band == h) for h in range(10)] for d in range(days)]
                strata = [
                    Stratum(int(here.sum()), int(judged[here].sum()), int(right[here & judged].sum()))
                    for here in (band == h for h in range(10))
                ]
                parts = [
                    [DayBand(int(c.sum()), *2 * (int(judged[c].sum()), int(right[c & judged].sum()))) for c in row]
                    for row in cells
                ]
                for number, found in enumerate(corrected_counts(strata, parts)):
                    assert found is not None
                    held += found.lower <= right[day == number].sum() <= found.upper
                    total += 1
    assert held >= 0.92 * total, (held, total)
