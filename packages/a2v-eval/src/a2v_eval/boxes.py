"""From onsets, offsets and durations to events that may overlap others of their class: event method `boxes`.

After Voxaboxen (Mahon et al. 2025, arXiv 2503.02389): a frame says whether a call starts there and how long it lasts,
and whether one ends there and how long it lasted; boxes from onsets and boxes from offsets are then matched. A detector
with `finetune.head: boxes` gives such maps, frames x 4 C columns: the likelihoods of an onset in a frame and of an
offset of each class (C columns each), then the durations in seconds of the calls that start and that end there.

Shapes: B segments, T frames, C classes, E events. Times are half-open frames: a call [start, stop) has its onset in
frame `start` and its offset in frame `stop` - 1.
"""

from __future__ import annotations

import numpy as np

from .events import EventConfig
from .matching import SPAN, overlapping_pairs, pair_iou

MAPS = 4
FLOOR = 0.01  # peaks below it are none; the lowest threshold that is tried
MATCH_IOU = 0.5  # of a box from an onset and one from an offset, above which they may be one call
SAME_IOU = 0.7  # of two events of a class, above which the less likely one is the other again


def classes_of(maps: np.ndarray) -> int:
    """How many classes the maps (..., 4 C) are of. ValueError where the columns are not four for each."""
    if maps.shape[-1] % MAPS or not maps.shape[-1]:
        raise ValueError(f"likelihood: {maps.shape[-1]} columns should be {MAPS} for each class with method boxes")
    return maps.shape[-1] // MAPS


def of_classes(maps: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The maps (..., 4 K) of K of the classes. ValueError as `classes_of`."""
    by_class = maps.reshape(*maps.shape[:-1], MAPS, classes_of(maps))
    return by_class[..., chosen].reshape(*maps.shape[:-1], -1)


def one_class_maps(maps_TM: np.ndarray) -> np.ndarray:
    """Maps (T, 4) of all classes as one: of each frame the likeliest onset and offset, with their durations."""
    onset_TC, offset_TC, forward_TC, backward_TC = np.split(maps_TM, MAPS, axis=1)
    frames = np.arange(len(maps_TM))
    on, off = onset_TC.argmax(1), offset_TC.argmax(1)
    columns = onset_TC[frames, on], offset_TC[frames, off], forward_TC[frames, on], backward_TC[frames, off]
    return np.stack(columns, axis=1)


def box_spans(maps_BTM: np.ndarray, frame_rate: float) -> np.ndarray:
    """The events of maps (B, T, 4 C) as SPANs, ordered by segment (`recording`), class and start.

    A peak of the onsets and one of the offsets are one event where the boxes that their durations make overlap with an
    IoU above .5; each is in one event at most, and the sum of these IoUs is as large as can be. The event goes from the
    one frame to the other, and its likelihood is the mean of the two peaks. What has no partner is an event with the
    box of its duration and half its likelihood, as its other end was not seen. Of events with an IoU above .7 the
    likeliest stays. No threshold changes any of this, so events at a threshold are those of them that reach it.
    """
    n_classes = classes_of(maps_BTM)
    frames = maps_BTM.shape[1]
    onset_BTC, offset_BTC, forward_BTC, backward_BTC = np.split(maps_BTM, MAPS, axis=2)
    assert onset_BTC.shape[2] == n_classes
    starting, starts, lengths = _peaks(onset_BTC, forward_BTC, frame_rate)
    starting["start"], starting["stop"] = starts, np.minimum(starts + lengths, frames)
    ending, lasts, lengths = _peaks(offset_BTC, backward_BTC, frame_rate)
    ending["start"], ending["stop"] = np.maximum(lasts + 1 - lengths, 0), lasts + 1
    start, end = _matched(starting, ending)
    both = starting[start]
    both["stop"] = ending["stop"][end]
    both["likelihood"] = (starting["likelihood"][start] + ending["likelihood"][end]) / 2
    alone = np.concatenate([np.delete(starting, start), np.delete(ending, end)])
    alone["likelihood"] /= 2
    spans = _without_repeats(np.concatenate([both, alone]))
    return spans[np.lexsort((spans["start"], spans["class"], spans["recording"]))]


def covered(spans: np.ndarray, shape_BTC: tuple[int, int, int]) -> np.ndarray:
    """A likelihood of each frame and class (B, T, C), float32: of the likeliest SPAN that covers it, else 0."""
    likelihood_BTC = np.zeros(shape_BTC, np.float32)
    for span in spans[np.argsort(spans["likelihood"], kind="stable")]:
        likelihood_BTC[span["recording"], span["start"] : span["stop"], span["class"]] = span["likelihood"]
    return likelihood_BTC


def frame_likelihoods(outputs: np.ndarray, frame_rate: float, config: EventConfig) -> np.ndarray:
    """Likelihoods of frames and classes (T, C) to look at, of what a detector gives: as they are, or with method `boxes`
    those of the likeliest event that covers a frame."""
    if config.method != "boxes":
        return outputs
    return covered(box_spans(outputs[None], frame_rate), (1, len(outputs), classes_of(outputs)))[0]


def _peaks(
    likelihood_BTC: np.ndarray, duration_BTC: np.ndarray, frame_rate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """SPANs (without times) of the frames that are likelier than the one before and not less than the one after, their
    frames and durations in frames."""
    edge_B1C = np.full_like(likelihood_BTC[:, :1], -1)
    before_BTC = np.concatenate([edge_B1C, likelihood_BTC[:, :-1]], axis=1)
    after_BTC = np.concatenate([likelihood_BTC[:, 1:], edge_B1C], axis=1)
    is_peak = (likelihood_BTC >= FLOOR) & (likelihood_BTC > before_BTC) & (likelihood_BTC >= after_BTC)
    segment, frame, class_ = np.nonzero(is_peak)
    spans = np.zeros(len(segment), SPAN)
    spans["recording"], spans["class"] = segment, class_
    spans["likelihood"] = likelihood_BTC[segment, frame, class_]
    length_s = np.clip(duration_BTC[segment, frame, class_], 0, likelihood_BTC.shape[1] / frame_rate)
    return spans, frame, np.maximum(np.round(length_s * frame_rate), 1).astype(np.int64)


def _matched(starting: np.ndarray, ending: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of boxes that are matched one to one, with the largest sum of IoUs."""
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    start, end = overlapping_pairs(starting, ending)
    iou = pair_iou(starting[start], ending[end], "strict")
    # a call goes forwards from its onset to its offset, whatever the durations say
    good = (iou > MATCH_IOU) & (starting["start"][start] < ending["stop"][end])
    start, end, iou = start[good], end[good], iou[good]
    size = len(starting) + len(ending)
    graph = coo_array((np.ones(len(start)), (start, end + len(starting))), shape=(size, size))
    group = connected_components(graph, directed=False)[1][start]
    order = np.argsort(group, kind="stable")
    bounds = np.flatnonzero(np.diff(group[order])) + 1
    chosen = []
    for pairs in np.split(order, bounds):
        if len(pairs) < 2:
            chosen.append(pairs)
            continue
        rows, row = np.unique(start[pairs], return_inverse=True)
        columns, column = np.unique(end[pairs], return_inverse=True)
        worth = np.zeros((len(rows), len(columns)))
        number = np.full(worth.shape, -1)
        worth[row, column], number[row, column] = iou[pairs], pairs
        of = number[linear_sum_assignment(worth, maximize=True)]
        chosen.append(of[of >= 0])
    kept = np.sort(np.concatenate(chosen)).astype(np.int64)
    return start[kept], end[kept]


def _without_repeats(spans: np.ndarray) -> np.ndarray:
    """The likeliest first, without those that overlap one that stays by more than SAME_IOU."""
    spans = spans[np.argsort(-spans["likelihood"], kind="stable")]
    one, other = overlapping_pairs(spans, spans)
    close = (one < other) & (pair_iou(spans[one], spans[other], "strict") > SAME_IOU)
    stays = np.ones(len(spans), bool)
    for better, worse in zip(one[close].tolist(), other[close].tolist(), strict=True):  # `one` ascends
        if stays[better]:
            stays[worse] = False
    return spans[stays]
