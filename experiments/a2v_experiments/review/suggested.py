"""`a2v review --suggest N`: the stretches of recordings from which most is learned, by the rule of suggest.py.

`suggested(calls, state, count, model=None, progress=None, ...) -> list[Stretch]` makes the embeddings that it needs.

Candidates are clips of CLIP_S on a grid over all recordings. Where the likelihood of a class peaks (none is higher
within PEAK_S) the model heard something like it: the uncertainty of a clip, for each class, is that of its most
uncertain peak (at the edges of a sure call, likelihoods pass through every value), and what it sounds like is the unit
of its most uncertain peak: the mean of all of it would mostly be background. What was looked at counts as certain;
clips of which half was looked at are no candidates; what they sound like is known.

U units, C classes, D embedding, N clips.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from a2v_data.intervals import Interval, united
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from ..basics.errors import UserError
from ..basics.progress import hours_bar
from ..embeddings.search import corpus_mean
from ..embeddings.units import Units
from ..predict.run import Progress
from .calls import Calls
from .journal import State
from .order import USUAL_THRESHOLD, Stretch, stretch
from .similar import listen
from .suggest import Matrix, choose, reach_of, uncertainty

CLIP_S = 3.0  # some calls with what surrounds them, seen at a glance; most calls are shorter
PEAK_S = 0.25
SAMPLE = 1_000_000  # units from which the scale of a class is taken


@dataclass
class Clips:
    """Candidates, N of them, and M stretches that are known."""

    spans: list[tuple[str, float, float]]
    uncertainty: Matrix  # (N, C)
    embedding: NDArray[np.floating]  # (N, D)
    known: NDArray[np.floating]  # (M, D)


def suggested(
    calls: Calls,
    state: State,
    count: int,
    model: str | None = None,
    progress: Progress | None = None,
    seed: int = 0,
    clip_s: float = CLIP_S,
    processes: int | None = None,
    tracking_uri: str | None = None,
) -> list[Stretch]:
    """`count` clips to look at (fewer where fewer are left), as they were drawn. The same recordings, model, seed and
    decisions give the same clips.

    model: as `similar.listen` takes it; the one to be taught, which may be newer than the calls. One that is pretrained
    only is not unsure of anything: then the clips are just unlike each other. Raises UserError as `listen`.
    """
    with nullcontext(progress) if progress is not None else hours_bar("hearing") as shown:
        units = listen(calls, model, shown, processes, tracking_uri)
    if model is None and not units.about.classes:
        raise UserError(f"--model: {units.about.model}, the last one used here, knows no classes; give a detector")
    clips = clips_of(units, looked_at(state), clip_s)
    chosen = choose(clips.uncertainty, clips.embedding, count, seed, clips.known)
    found = []
    for file, start_s, stop_s in (clips.spans[number] for number in chosen):
        found.append(stretch(file, start_s, min(stop_s, calls.recordings[file].duration_s)))
    return found


def looked_at(state: State) -> dict[str, list[Interval]]:
    """By recording, what was looked at: clips in full, and of other decisions the events themselves."""
    found: dict[str, list[Interval]] = defaultdict(list)
    for one in state.standing():
        whole = one.whole or one.kind == "stretch"
        found[one.file].append(one.clip if whole and one.clip else (one.onset_s, one.offset_s))
    return {name: united(spans) for name, spans in found.items()}


def clips_of(units: Units, looked: dict[str, list[Interval]], clip_s: float) -> Clips:
    """The candidates of all recordings."""
    about = units.about
    thresholds_C = np.array([about.thresholds.get(name) or USUAL_THRESHOLD for name in about.classes])
    reach_C = reach_of(_sample(units), thresholds_C) if about.classes and units.files else None
    mean_D = corpus_mean(units.embedding(name) for name in units.files).astype(np.float32)
    spans: list[tuple[str, float, float]] = []
    unsure: list[Matrix] = [np.zeros((0, max(1, len(about.classes))), np.float32)]
    sounds: list[NDArray[np.float16]] = [np.zeros((0, about.dim), np.float16)]
    known: list[NDArray[np.float16]] = [np.zeros((0, about.dim), np.float16)]
    for name in units.files:
        likelihood_UC = np.asarray(units.likelihood(name), np.float32)
        if about.classes:
            unsure_UC = uncertainty(likelihood_UC, thresholds_C, reach_C) * peaks(likelihood_UC, about.unit_s)
        else:
            unsure_UC = np.ones((len(likelihood_UC), 1), np.float32)
        most_U = unsure_UC.max(1)
        seen_U = _covered(looked.get(name, ()), len(unsure_UC), about.unit_s)
        firsts, lasts = grid(len(unsure_UC), max(1, round(clip_s / about.unit_s)))
        chosen = []
        for first, last in zip(firsts, lasts, strict=True):
            if 2 * seen_U[first:last].sum() >= last - first:
                continue
            open_UC = unsure_UC[first:last] * ~seen_U[first:last, None]
            spans.append((name, first * about.unit_s, last * about.unit_s))
            unsure.append(open_UC.max(0, keepdims=True))
            chosen.append(first + int(np.argmax(open_UC.max(1))))
        embedding_UD = units.embedding(name)
        sounds.append((embedding_UD[chosen] - mean_D).astype(np.float16))
        seen = [first + int(np.argmax(most_U[first:last])) for first, last in _runs(seen_U)]
        known.append((embedding_UD[seen] - mean_D).astype(np.float16))
    return Clips(spans, np.concatenate(unsure), np.concatenate(sounds), np.concatenate(known))


def grid(units: int, size: int) -> tuple[list[int], list[int]]:
    """First and last + 1 of clips of `size` units that cover a recording; what is left at its end and shorter than half
    a clip belongs to the last one."""
    count = max(1, units // size + (2 * (units % size) >= size)) if units else 0
    firsts = [number * size for number in range(count)]
    return firsts, [*firsts[1:], units] if count else []


def _sample(units: Units) -> NDArray[np.floating]:
    """Likelihoods of units of all recordings, at most about SAMPLE of them."""
    every = max(1, -(-sum(len(units.rows(name)) for name in units.files) // SAMPLE))
    return np.concatenate([np.asarray(units.likelihood(name)[::every], np.float32) for name in units.files])


def peaks(likelihood_UC: Matrix, unit_s: float) -> NDArray[np.bool_]:
    """Where a likelihood is the highest of its class within PEAK_S on both sides, (U, C)."""
    size = 2 * round(PEAK_S / unit_s) + 1
    found: NDArray[np.bool_] = likelihood_UC >= maximum_filter1d(likelihood_UC, size, axis=0, mode="nearest")
    return found


def _covered(spans: Iterable[Interval], units: int, unit_s: float) -> NDArray[np.bool_]:
    """The units (U,) whose middle lies in one of the spans, and of spans shorter than a unit the one that holds it."""
    covered_U = np.zeros(units, bool)
    for start_s, stop_s in spans:
        first, last = round(start_s / unit_s), round(stop_s / unit_s)
        if first >= last:
            first = int((start_s + stop_s) / 2 / unit_s)
            last = first + 1
        covered_U[max(0, first) : last] = True
    return covered_U


def _runs(true_U: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last + 1 of the stretches that are true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], true_U, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
