"""The canny method: its steps one by one, on signals whose answer is known."""

import numpy as np
import pytest
from a2v_eval import EventConfig, find_events
from a2v_eval.canny import canny_runs, frames_below, otsu_thresholds

LOW = 0.125


def runs(likelihood, threshold=0.15, sigma=19, longest=99):
    likelihood_NT = np.atleast_2d(np.asarray(likelihood, np.float32))
    found = canny_runs(likelihood_NT, np.full(len(likelihood_NT), threshold), sigma, longest, LOW)
    return list(zip(*(column.tolist() for column in found), strict=True))


def bumps(n_frames, *peaks, height=0.9, width=12):
    frames = np.arange(n_frames)
    return sum(height * np.exp(-((frames - peak) ** 2) / (2 * width**2)) for peak in peaks)


def smooth_noise(seed, rows=6, n_frames=2000):
    from scipy.ndimage import gaussian_filter1d

    noise = gaussian_filter1d(np.random.default_rng(seed).normal(size=(rows, n_frames)), 8, axis=1)
    return (1 / (1 + np.exp(2 - 2.5 * noise / noise.std()))).astype(np.float32)


@pytest.mark.parametrize("width", [5, 8])
def test_a_lone_bump_is_an_event_from_foot_to_foot(width):
    ((row, start, stop),) = runs(bumps(1000, 500, width=width))
    # the second derivative of a Gaussian of variance v has its maxima at sqrt(3 v) from the middle; v: own + 2 sigma^2
    foot = np.sqrt(3 * (width**2 + 2 * 19**2))
    assert row == 0 and 500 - start == pytest.approx(foot, abs=1) and stop - 1 - 500 == pytest.approx(foot, abs=1)


def test_what_would_be_too_long_is_the_run_above_the_low_threshold_and_at_most_the_longest():
    wide = bumps(1000, 500, width=20)  # from foot to foot 116 frames
    ((_, start, stop),) = runs(wide)
    assert (start, stop) == (np.flatnonzero(wide > LOW)[0], np.flatnonzero(wide > LOW)[-1] + 1)
    wider = bumps(1000, 500, width=40)
    ((_, start, stop),) = runs(wider)
    assert (wider > LOW).sum() > 99 and (start, stop) == (500 - 49, 500 + 49 + 1)


def test_neighbours_share_the_edge_between_them():
    (_, _, first_stop), (_, second_start, _) = runs(bumps(1000, 450, 530))
    assert first_stop - 1 == second_start == 490


def test_an_event_needs_a_frame_above_the_threshold():
    two = bumps(1000, 250) + bumps(1000, 750, height=0.6)
    assert len(runs(two)) == 2 and len(runs(two, threshold=0.7)) == 1 and runs(two, threshold=0.95) == []


@pytest.mark.parametrize("level", [0.2, 0.9, 1.0])
def test_a_constant_likelihood_has_no_event(level):
    assert runs(np.full(2000, level)) == []


@pytest.mark.parametrize("seed", range(4))
def test_rows_do_not_see_each_other(seed, monkeypatch):
    likelihood_NT = smooth_noise(seed)
    alone = [(n, start, stop) for n, row in enumerate(likelihood_NT) for _, start, stop in runs(row)]
    assert runs(likelihood_NT) == alone and len(alone) > 20
    likelihood_BTC = likelihood_NT.reshape(2, 3, -1).swapaxes(1, 2)
    whole = find_events(likelihood_BTC, 200, EventConfig(method="canny"))
    monkeypatch.setattr("a2v_eval.events.BLOCK_FRAMES", 4000)
    np.testing.assert_array_equal(find_events(likelihood_BTC, 200, EventConfig(method="canny")), whole)
    assert len(whole) == len(alone)


@pytest.mark.parametrize("seed", range(4))
def test_mirrored_in_time_the_events_are_mirrored(seed):
    # away from the ends, and but for ties; peaks that are thinned out are chosen by height, not by order
    row = smooth_noise(seed, rows=1)[0]
    row = row * np.clip((np.minimum(np.arange(2000), 1999 - np.arange(2000)) - 150) / 50, 0, 1).astype(np.float32)
    mirrored = sorted((2000 - stop, 2000 - start) for _, start, stop in runs(row[::-1]))
    assert [(start, stop) for _, start, stop in runs(row)] == mirrored and len(mirrored) > 3


@pytest.mark.parametrize("seed", range(5))
def test_otsu_separates_as_the_best_of_all_bins(seed):
    rng = np.random.default_rng(seed)
    values = np.abs(np.r_[rng.normal(0, 1, 900), rng.normal(6, 1, 100)])
    counts, edges = np.histogram(values, 256)
    centres = (edges[:-1] + edges[1:]) / 2

    def between(k):
        below, above = counts[: k + 1], counts[k + 1 :]
        if not below.sum() or not above.sum():
            return -1
        mean_below = (below * centres[: k + 1]).sum() / below.sum()
        mean_above = (above * centres[k + 1 :]).sum() / above.sum()
        return below.sum() * above.sum() * (mean_below - mean_above) ** 2

    found = otsu_thresholds(np.stack([values, values * 3]))
    assert found[1] == pytest.approx(3 * found[0])
    # bins in an empty gap are equally good
    assert between(np.argmin(np.abs(centres - found[0]))) == pytest.approx(max(map(between, range(255))))
    assert otsu_thresholds(np.full((1, 9), 0.4)) == [0.4]


def test_a_whole_number_of_frames_loses_one():
    assert [frames_below(s, 200) for s in (0.1, 0.5, 0.1026, 0.001)] == [19, 99, 20, 1]
    assert frames_below(0.07, 100) == 6  # 7.000000000000001


def test_very_short_rows():
    for n_frames in (1, 2, 30):
        assert all(0 <= start < stop <= n_frames for _, start, stop in runs(bumps(n_frames, n_frames // 2)))
