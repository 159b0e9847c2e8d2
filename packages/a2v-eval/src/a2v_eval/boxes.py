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

from .matching import SPAN, Pairs, greedy_one_to_one, overlapping_pairs, pair_iou

MAPS = 4
FLOOR = 0.02  # peaks below it are none
AGREEMENT = 0.25  # product of two IoUs, above which an onset and an offset may be one call's
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

    A peak of the onsets and one of the offsets may be one event, which goes from the one frame to the other, where it
    agrees with what both say of its duration: the IoU of the event with the box from the onset, times that with the box
    from the offset, is above .25. Pairs are taken by this agreement times their likelihood, the mean of the two peaks,
    the highest first, each peak once, so that no pair depends on one that is worth less. What has no partner is an
    event with the box of its duration and half its likelihood, as its other end was not seen. Of events of a class with
    an IoU above .7 the likeliest stays. No threshold changes any of this: events at a threshold are those that reach
    it.
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
    """Rows of boxes from onsets and from offsets that are one event each, by `box_spans`."""
    reach, last = starting.copy(), ending.copy()  # offsets that an onset could have
    reach["stop"] = starting["start"] + np.ceil((starting["stop"] - starting["start"]) / AGREEMENT)
    last["start"] = ending["stop"] - 1
    start, end = overlapping_pairs(reach, last)
    event = starting[start]
    event["stop"] = ending["stop"][end]
    agreement = pair_iou(event, starting[start], "strict") * pair_iou(event, ending[end], "strict")
    agree = agreement > AGREEMENT
    pairs = Pairs(start, end, agreement)[agree]
    likelihood = (starting["likelihood"][pairs.label] + ending["likelihood"][pairs.prediction]) / 2
    chosen = pairs[greedy_one_to_one(pairs, pairs.iou * likelihood)]
    return chosen.label, chosen.prediction


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
