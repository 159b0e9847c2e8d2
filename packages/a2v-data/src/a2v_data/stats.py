"""What a corpus holds, in numbers (the paper's first figure and its tables of sizes)."""

import difflib
from collections.abc import Sequence
from typing import Any

import numpy as np

from a2v_data.coverage import Timeline
from a2v_data.folds import Folds, class_counts, label_share
from a2v_data.intervals import SHORTEST_S, UNKNOWN
from a2v_data.labelled import rule_of
from a2v_data.listing import Listing, duration_s, labelled_times, learned_times, weak_of
from a2v_data.plan import FOCAL

NOT_VOCAL = ("beep", "synch", "eating")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def corpus_statistics(corpus: Listing, not_vocal: Sequence[str] = NOT_VOCAL) -> dict[str, Any]:
    """What a corpus holds: hours, events and seconds per class and their lengths, and how sparse it is.

    Shares are of the labelled time: `share_any` with an event of any class, `share_vocal` with one that is
    not in `not_vocal` (in MeerKAT eating, beep and synch are no vocalisations), `share` of a class with one of it.
    `per_class` has quantiles of the length in seconds, None for a class without events. `overlaps` has a row for
    every two classes that sound at once: seconds that both sound, and how many events of either the other overlaps. The
    class `focal` is left out of it, since it marks events of the other classes.
    """
    recordings = corpus.recordings
    labelled_s = float(labelled_times(corpus).sum())
    unknown = corpus.unsure[corpus.unsure["class"] == UNKNOWN]
    timeline, events = Timeline(corpus), corpus.events
    of_class = [events[events["class"] == number] for number in range(len(corpus.classes))]
    vocal = [number for number, name in enumerate(corpus.classes) if name not in not_vocal]
    covered = {
        "share_any": timeline.covered_s(events),
        "share_vocal": timeline.covered_s(events[np.isin(events["class"], vocal)]),
    }
    return {
        "recordings": len(recordings),
        "labelled_recordings": sum(recording.labelled for recording in recordings),
        "labelled_rule": rule_of(corpus.meta),
        "hours": sum(map(duration_s, recordings)) / 3600,
        "labelled_hours": labelled_s / 3600,
        "unlabelled_parts_hours": unlabelled_parts_s(corpus) / 3600,
        "unknown_events": len(unknown),
        "events": len(events),
        **{name: seconds / labelled_s if labelled_s else 0.0 for name, seconds in covered.items()},
        "not_vocal": [name for name in corpus.classes if name in not_vocal],
        "per_class": {
            name: {
                **_lengths(of_class[number]),
                "recordings": len(np.unique(of_class[number]["recording"])),
                "share": timeline.covered_s(of_class[number]) / labelled_s if labelled_s else 0.0,
            }
            for number, name in enumerate(corpus.classes)
        },
        "overlaps": _overlaps(corpus.classes, of_class, timeline),
        **_weak(corpus),
    }


def _weak(corpus: Listing) -> dict[str, Any]:
    """Recordings that are labelled as a whole only: how many, their hours, and in how many each class calls."""
    weak = weak_of(corpus)
    if not weak:
        return {}
    return {
        "weak_recordings": len(weak),
        "weak_hours": sum(duration_s(corpus.recordings[row]) for row in corpus.indices(weak)) / 3600,
        "weak_silent": sum(not names for names in weak.values()),
        "weak_per_class": {name: sum(name in names for names in weak.values()) for name in corpus.classes},
    }


def unlabelled_parts_s(corpus: Listing) -> float:
    """Seconds of labelled recordings that are not: outside of regions, or to be ignored."""
    whole = sum(duration_s(recording) for recording in corpus.recordings if recording.labelled)
    left_s = float(whole - labelled_times(corpus).sum())
    return left_s if left_s > SHORTEST_S * len(corpus.recordings) else 0.0  # what is left of rounding is nothing


def check_not_vocal(corpus: Listing, names: Sequence[str]) -> None:
    """`ValueError` for a name that is no class of the corpus."""
    for name in names:
        if name not in corpus.classes:
            close = difflib.get_close_matches(name, corpus.classes, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the classes are {', '.join(corpus.classes) or 'none'}"
            raise ValueError(f"not vocal: {name!r} is no class of {corpus.folder}; {hint}")


def _lengths(events: np.ndarray) -> dict[str, Any]:
    lengths_s = events["offset_s"] - events["onset_s"]
    quantiles = np.quantile(lengths_s, QUANTILES) if len(events) else [None] * len(QUANTILES)
    return {
        "events": len(events),
        "seconds": float(lengths_s.sum()),
        "median_s": float(np.median(lengths_s)) if len(events) else None,
        "shortest_s": float(lengths_s.min()) if len(events) else None,
        "longest_s": float(lengths_s.max()) if len(events) else None,
        "quantiles_s": {
            f"{q:g}": None if value is None else float(value) for q, value in zip(QUANTILES, quantiles, strict=True)
        },
    }


def _overlaps(classes: Sequence[str], of_class: list[np.ndarray], timeline: Timeline) -> list[dict[str, Any]]:
    rows = []
    sounding = [number for number, name in enumerate(classes) if name != FOCAL and len(of_class[number])]
    pairs = _sounding_at_once(timeline, of_class, sounding)
    for place, first in enumerate(sounding):
        for second in sounding[place + 1 :]:
            if (first, second) not in pairs:
                continue
            of_first = timeline.shared_s(of_class[first], of_class[second])
            if not of_first.any():
                continue
            of_second = timeline.shared_s(of_class[second], of_class[first])
            rows.append(
                {
                    "classes": [classes[first], classes[second]],
                    "seconds": float(of_first.sum()),
                    "events": [int((of_first > 0).sum()), int((of_second > 0).sum())],
                }
            )
    return sorted(rows, key=lambda row: -row["seconds"])


def _sounding_at_once(timeline: Timeline, of_class: list[np.ndarray], numbers: list[int]) -> set[tuple[int, int]]:
    """Pairs of classes, the lower number first, that sound at once anywhere: of hundreds of classes few do."""
    if not numbers:
        return set()
    events = np.concatenate([of_class[number] for number in numbers])
    onset_E, offset_E = timeline.spans(events)
    pairs: set[tuple[int, int]] = set()
    ends: dict[int, float] = {}  # of the classes that still sound
    for row in np.argsort(onset_E, kind="stable").tolist():
        number, onset, offset = int(events["class"][row]), float(onset_E[row]), float(offset_E[row])
        ends = {other: end for other, end in ends.items() if end > onset}
        pairs |= {(min(number, other), max(number, other)) for other in ends if other != number}
        ends[number] = max(ends.get(number, 0.0), offset)
    return pairs


def fold_statistics(corpus: Listing, folds: Folds, shares: Sequence[float] = (), seed: int = 0) -> list[dict[str, Any]]:
    """Of each fold, what is in its evaluation recordings and in its train recordings of each label share.

    shares: few-shot shares (0 to 1), drawn from `seed` where the folds were given none; the whole comes last.
    """
    counts_RC = class_counts(corpus)
    return [
        {
            "fold": fold.index,
            "evaluation": _part(corpus, counts_RC, fold.evaluation),
            "train": {
                f"{share:g}": _part(corpus, counts_RC, label_share(fold, share, seed).train) for share in (*shares, 1.0)
            },
        }
        for fold in folds
    ]


def _part(corpus: Listing, counts_RC: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    rows = corpus.indices(names)
    return {
        "recordings": len(rows),
        "hours": float(learned_times(corpus)[rows].sum()) / 3600,
        "events": dict(zip(corpus.classes, counts_RC[rows].sum(0).tolist(), strict=True)),
    }


def class_shares(corpus: Listing, folds: Folds) -> dict[str, Any]:
    """How even folds are: each class's share of the events, in the whole and in each fold's evaluation recordings.

    `deviation` of a class is the largest relative difference of a fold's share from the whole's (0.1: 10 %).
    `at_best` is the least that its number of events allows: 8 events are 1 or 2 in each of 5 folds, so 37.5 % at best.
    """
    counts_RC = class_counts(corpus)
    evaluated_FC = np.array([counts_RC[corpus.indices(fold.evaluation)].sum(0) for fold in folds])
    # A hold-out's evaluation is held against everything that is labelled, folds together are just that.
    weak = weak_of(corpus)
    labelled = [recording.labelled or recording.name in weak for recording in corpus.recordings]
    total_C = counts_RC[labelled].sum(0)
    whole_C = total_C / max(total_C.sum(), 1)
    fold_FC = evaluated_FC / np.maximum(evaluated_FC.sum(1, keepdims=True), 1)
    divided = len(folds) > 1 and not folds.overlap
    rows = {}
    for number, name in enumerate(corpus.classes):
        there = total_C[number] > 0
        deviation = np.abs(fold_FC[:, number] / whole_C[number] - 1).max() if there else None
        rows[name] = {
            "events": int(total_C[number]),
            "share": float(whole_C[number]),
            "fold_shares": fold_FC[:, number].tolist(),
            "fold_events": evaluated_FC[:, number].tolist(),
            "deviation": None if deviation is None else float(deviation),
            "at_best": _least_deviation(int(total_C[number]), evaluated_FC.sum(1), whole_C[number], divided)
            if there
            else None,
        }
    return rows


def _least_deviation(events: int, evaluated_F: np.ndarray, share: float, divided: bool) -> float:
    """The smallest largest relative deviation that whole events can have. divided: each event is in one fold."""
    if divided:  # where they do not divide, one fold has more and one fewer
        each = events / len(evaluated_F)
        return max(np.ceil(each) - each, each - np.floor(each)) / each
    expected_F = np.maximum(evaluated_F * share, 1e-9)
    return float(np.max(np.abs(np.round(expected_F) - expected_F) / expected_F))
