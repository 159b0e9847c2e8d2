"""What a corpus holds, in numbers (the paper's first table and figure)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from a2v_data.corpus import Corpus

NOT_VOCAL = ("beep", "synch", "eating")


def corpus_statistics(corpus: Corpus, not_vocal: Sequence[str] = NOT_VOCAL) -> dict[str, Any]:
    """What a corpus holds: hours, events and seconds per class, and how sparse it is.

    Shares are of the labelled time: `share_any` with an event of any class, `share_vocal` with one that is
    not in `not_vocal` (in MeerKAT eating, beep and synch are no vocalisations).
    """
    labelled_s = sum(r.n_samples for r in corpus.recordings if r.labelled) / corpus.sample_rate
    events = corpus.events
    duration_s = events["offset_s"] - events["onset_s"]
    vocal = [number for number, name in enumerate(corpus.classes) if name not in not_vocal]
    vocal_events = events[np.isin(events["class"], vocal)]
    return {
        "recordings": len(corpus.recordings),
        "labelled_recordings": sum(r.labelled for r in corpus.recordings),
        "hours": sum(r.n_samples for r in corpus.recordings) / corpus.sample_rate / 3600,
        "labelled_hours": labelled_s / 3600,
        "events": len(events),
        "per_class": {
            name: {
                "events": int((chosen := events["class"] == number).sum()),
                "seconds": float(duration_s[chosen].sum()),
                "median_s": float(np.median(duration_s[chosen])) if chosen.any() else None,
                "recordings": len(np.unique(events["recording"][chosen])),
            }
            for number, name in enumerate(corpus.classes)
        },
        "share_any": _covered_s(events) / labelled_s if labelled_s else 0.0,
        "share_vocal": _covered_s(vocal_events) / labelled_s if labelled_s else 0.0,
    }


def _covered_s(events: np.ndarray) -> float:
    """Seconds covered by at least one of the events (sorted by recording and onset)."""
    total, end, recording = 0.0, 0.0, -1
    for event in events:
        if event["recording"] != recording:
            recording, end = event["recording"], 0.0
        total += max(event["offset_s"] - max(event["onset_s"], end), 0.0)
        end = max(end, event["offset_s"])
    return float(total)
