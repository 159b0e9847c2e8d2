"""Event settings that follow from the labels: a window and a shortest duration for each class.

Labels say how long calls are, so nothing has to be searched for: a pooling window of 0.15 of the short calls' length
smooths without moving edges, and what is shorter than 0.3 of them is no call. On sparse_mix a search over windows,
durations, gaps and thresholds on the validation recordings lost .03 to .05 strict AP against this (docs/log.md): with
a handful of labels of a class the search fits chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .events import EventConfig

WINDOW_SHARE, LENGTH_SHARE = 0.15, 0.3
SHORT = 5  # the percentile of durations that stands for the short calls of a class
RANKING_THRESHOLD = 0.05
LONGEST_WINDOW_S = 0.5
# Above so low a threshold, calls that follow one another closely are one run, and its edges spread. On the likelihoods
# of four detectors, windows of .3 without it had strict mAP .735; with it and windows of .15, .82 (docs/log.md). Shares
# of .2 to .35 differ by .002 AP; below .3, a detector that has hardly learned finds nothing: its background is one run.
PEAK_SHARE = 0.3


def fit_events(config: EventConfig, durations_s: Mapping[str, np.ndarray], classes: Sequence[str]) -> EventConfig:
    """`config` with `window_s` and `min_duration_s` of each class, the threshold from which events are ranked, which
    is their extent's too, so that no other threshold moves an edge, and runs above it taken apart (`peak_share`);
    config's own `extent_threshold` and `peak_share`, where it has some.

    durations_s: lengths of the training labels of each class, seconds; a class without any has those of all labels
    together. ValueError where there is no label at all, or for `canny`, which has one window, or a plugin's method.
    """
    if config.method == "canny":
        raise ValueError("method: canny has one window for all classes, so it cannot be fitted to their labels")
    if config.is_own:
        raise ValueError(f"method: {config.method} of a plugin has no window, so it cannot be fitted to the labels")
    every = np.concatenate([np.zeros(0), *durations_s.values()])
    if not len(every):
        raise ValueError("no labelled event: event settings cannot be fitted to labels")
    short = {
        name: float(np.percentile(lengths if len(lengths := durations_s.get(name, every)) else every, SHORT))
        for name in classes
    }
    return EventConfig(
        method=config.method,
        threshold=min(RANKING_THRESHOLD, config.threshold) if isinstance(config.threshold, float) else config.threshold,
        window_s={name: min(WINDOW_SHARE * seconds, LONGEST_WINDOW_S) for name, seconds in short.items()},
        min_duration_s={name: LENGTH_SHARE * seconds for name, seconds in short.items()},
        peak_share=config.peak_share or PEAK_SHARE,
        extent_threshold=RANKING_THRESHOLD if config.extent_threshold is None else config.extent_threshold,
    )
