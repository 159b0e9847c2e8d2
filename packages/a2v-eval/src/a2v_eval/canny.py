"""Events from the shape of the likelihood: the `canny` method (spec 8; goldens g7).

Where `avg` and `max` cut at a fixed height, this finds the places where the likelihood bends. It is an approximation
of the original's: worked out from the one golden case, whose 159 events it reproduces one by one, it agrees with 159 of
163 other events of the original that were held back. The golden leaves open, since it is the same either way: what the
threshold does (step 5), whether a long event whose peak is not above `low_threshold` is dropped (step 4), ties and
peaks exactly D apart in step 2, what ends an event with neither an edge nor a crossing before the next peak (step 3),
and how far around it an extremum has to be the strongest (here s frames).

1. Smooth with a Gaussian of s frames (`window_s`), and take the second Gaussian derivative (again s) of that, d.
   A strong minimum of d is the peak of an event; a strong maximum is an edge, the foot between silence and a call.
   Strong: |d| above Otsu's threshold of |d| over the row (256 bins, as scikit-image has it). The first frame is
   neither.
2. Of two peaks without an edge between them and at most D frames apart (`max_duration_s`), the one with the lower
   smoothed likelihood stays.
3. An event reaches from its peak to the next edge on either side. If another peak comes first, it ends where the
   smoothed likelihood falls to `low_threshold` on the way there; with neither it goes on to the row's end.
4. Longer than D: instead the run of the likelihood itself above `low_threshold` around the peak, within the same
   limits; still longer than D: no more than D // 2 frames on either side of the peak.
5. No golden shows what the threshold does here. An event is kept if its likelihood exceeds it somewhere.

N rows (columns of likelihoods) of T frames; K extrema, P peaks, in the order of row and frame.
"""

from __future__ import annotations

import math

import numpy as np

from .runs import Runs, prefix_sums

BINS = 256
# A second derivative below this (times sigma squared) is flat: the kernel, cut at 4 sigma, leaves 0.001 of a constant.
FLAT = 2e-3


def canny_runs(
    likelihood_NT: np.ndarray, threshold_N: np.ndarray, sigma: int, longest: int, low_threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, start, stop) of every event, each (E,), half-open frames; neighbours may share the frame of an edge.

    sigma, longest   s and D in frames, see `frames_below`.
    """
    n_frames = likelihood_NT.shape[1]
    smooth_NT, bend_NT = _smooth_and_bend(likelihood_NT, sigma)
    row, frame, is_peak = _strong_extrema(smooth_NT, bend_NT, sigma, longest)
    peak = np.flatnonzero(is_peak)
    n, at = row[peak], frame[peak]
    # what stands before and after each peak: an edge, another peak, or nothing
    before, after = peak - 1, peak + 1
    has_before = (before >= 0) & (row[before] == n)
    has_after = (after < len(row)) & (row[np.minimum(after, len(row) - 1)] == n)
    after = np.minimum(after, len(row) - 1)
    crossings = Runs(smooth_NT > low_threshold)
    up, down = crossings.last_start(n, at) - 1, crossings.next_stop(n, at)
    first = np.where(has_before, frame[before], 0)
    last = np.where(has_after, frame[after], n_frames - 1)
    start = np.where(has_before & is_peak[before], np.where((up >= first) & (up >= 0), up, 0), first)
    stop = np.where(has_after & is_peak[after], np.where(down <= last, down, n_frames - 1), last)  # inclusive so far
    long = stop - start > longest
    runs = Runs(likelihood_NT > np.float32(low_threshold))
    inner_start, inner_stop = runs.last_start(n, at), runs.next_stop(n, at) - 1
    start = np.where(long, np.maximum(start, inner_start), start)
    stop = np.where(long, np.minimum(stop, inner_stop), stop)
    clip = stop - start > longest
    start = np.where(clip, np.maximum(start, at - longest // 2), start)
    stop = np.where(clip, np.minimum(stop, at + longest // 2), stop) + 1
    above = prefix_sums(likelihood_NT > threshold_N[:, None].astype(np.float32))
    kept = (~long | runs.hold(n, at)) & (above[n, stop] > above[n, start])
    return n[kept], start[kept], stop[kept]


def frames_below(seconds: float, frame_rate: float) -> int:
    """The most whole frames that are shorter than `seconds`, at least 1: 19 for 0.1 s at 200 Hz.

    The original takes T points for T - 1 steps of time and rounds down, so a whole number of frames loses one.
    """
    return max(1, math.ceil(round(seconds * frame_rate, 9)) - 1)


def otsu_thresholds(values_NT: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Otsu's threshold of each row, (N,): the centre of the bin that separates two classes best.

    Source: N. Otsu, IEEE Trans. Syst. Man Cybern. 9 (1979). A row of one value has that value.
    """
    low_N1, high_N1 = values_NT.min(axis=1, keepdims=True), values_NT.max(axis=1, keepdims=True)
    width_N1 = np.where(high_N1 > low_N1, (high_N1 - low_N1) / bins, 1.0)
    index_NT = np.minimum(((values_NT - low_N1) / width_N1).astype(np.int64), bins - 1)
    rows = len(values_NT)
    index_NT += np.arange(rows)[:, None] * bins
    count_NV = np.bincount(index_NT.ravel(), minlength=rows * bins).reshape(rows, bins).astype(np.float64)
    centre_NV = low_N1 + (np.arange(bins) + 0.5) * width_N1
    below_NV, mass_NV = np.cumsum(count_NV, axis=1), np.cumsum(count_NV * centre_NV, axis=1)
    above_NV, rest_NV = below_NV[:, -1:] - below_NV, mass_NV[:, -1:] - mass_NV
    with np.errstate(invalid="ignore", divide="ignore"):
        between_NV = below_NV * above_NV * (mass_NV / below_NV - rest_NV / above_NV) ** 2
    best_N = np.argmax(np.nan_to_num(between_NV[:, :-1], nan=-1.0), axis=1)
    return np.where(high_N1[:, 0] > low_N1[:, 0], centre_NV[np.arange(rows), best_N], high_N1[:, 0])


def _smooth_and_bend(likelihood_NT: np.ndarray, sigma: int) -> tuple[np.ndarray, np.ndarray]:
    """The smoothed likelihood and its second Gaussian derivative, (N, T) float64, mirrored at the ends."""
    from scipy.ndimage import gaussian_filter1d

    smooth_NT = gaussian_filter1d(likelihood_NT.astype(np.float64), sigma, axis=1)
    return smooth_NT, gaussian_filter1d(smooth_NT, sigma, axis=1, order=2)


def _strong_extrema(
    smooth_NT: np.ndarray, bend_NT: np.ndarray, sigma: int, longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, frame, is it a peak?) of the strong extrema, each (K,), sorted; near peaks are thinned out."""
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    strength_N1 = np.maximum(otsu_thresholds(np.abs(bend_NT)), FLAT / sigma**2)[:, None]
    peak_NT = (bend_NT < -strength_N1) & (bend_NT == minimum_filter1d(bend_NT, sigma, axis=1))
    edge_NT = (bend_NT > strength_N1) & (bend_NT == maximum_filter1d(bend_NT, sigma, axis=1))
    peak_NT[:, :1] = edge_NT[:, :1] = False
    row, frame = np.nonzero(peak_NT | edge_NT)
    is_peak = peak_NT[row, frame]
    height = smooth_NT[row, frame]
    while True:
        near = (row[1:] == row[:-1]) & is_peak[1:] & is_peak[:-1] & (frame[1:] - frame[:-1] <= longest)
        near &= ~np.r_[False, near[:-1]]  # of several in a row the first two are settled first
        if not near.any():
            return row, frame, is_peak
        pair = np.flatnonzero(near)
        keep = np.ones(len(row), dtype=bool)
        keep[np.where(height[pair + 1] < height[pair], pair, pair + 1)] = False
        row, frame, is_peak, height = row[keep], frame[keep], is_peak[keep], height[keep]
