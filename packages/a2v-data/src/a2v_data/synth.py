"""A synthetic corpus in MeerKAT's layout: a stand-in for a corpus that cannot be bundled.

Contract. The folder is built aside and renamed: it is complete or not there.
- `wav/NAME.wav`: 10 s, 8 kHz, 16 bit, mono. NAME is rRRRR_sS: recording (one minute, one animal with the
  recorder, one place) and segment in it.
- `lbl/NAME.h5`: labels (`meerkat.py`), empty where nothing happens.
- `manifest/pretrain.tsv`: all segments.
- `streams/NAME.csv`, where it is asked for: an accelerometer's x, y and z, in g, at 50 Hz (`synth_accelerometer.py`).
- `synth.json`: seed, size, version. `README.txt`: what this is not.

How much of each class: events per hour are those of MeerKAT's labelled data (paper, table of sample sizes),
so close calls are a hundred times as frequent as lead calls. That imbalance is floored: every class gets at
least 8 events, in as many segments (fewer in corpora below 5 minutes: one for every 4 segments). At 40
minutes the floor holds for lead calls (3 by rate) and just about for beeps. Half the vocalisations are
focal, as in the paper.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from a2v_data import synth_calls
from a2v_data.meerkat import SYNTHETIC_META, write_labels
from a2v_data.storage import require_free_space, written_aside
from a2v_data.synth_accelerometer import COLUMNS, RATE, Stretch, acceleration
from a2v_data.synth_calls import SAMPLE_RATE, SIGNATURES, VOCALISATIONS, Individual

VERSION = 1
SEGMENT_S = 10
SEGMENT_SAMPLES = SEGMENT_S * SAMPLE_RATE
SEGMENTS_PER_RECORDING = 6
INDIVIDUALS = 12
FLOOR_EVENTS = 8
FOCAL_SHARE = 0.52
ANSWERED = 0.12  # share of calls that answer, and often talk over, another event
GAP_SAMPLES = 480  # between two events of one class, 60 ms
NEAR_RMS = 0.08  # of full scale
STATE = SYNTHETIC_META
README = """This corpus is SYNTHETIC. No animal was recorded.

It is a stand-in for MeerKAT (animal2vec and MeerKAT, arXiv 2406.01253), which cannot be bundled: the same
layout, the same classes, about the same imbalance and sparsity, with sounds that were computed from made-up
signatures. Scores on it say whether the software works and learns. They say nothing about meerkats, and are
not to be compared with published numbers.
"""


@dataclass(frozen=True, slots=True)
class _Event:
    label: str
    start: int
    end: int
    focal: bool
    caller: int


def synthesise(
    out: Path,
    minutes: float,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    accelerometer: bool = False,
) -> Path:
    """Write `minutes` of synthetic recordings to `out`, the same for the same seed and size; returns `out`.
    accelerometer: with what one would have recorded beside them, and with digging that sounds as eating does: nothing
    else tells the two apart.

    A corpus of the same seed and size that is already there is kept as it is. `progress(done, total)` counts
    segments. Raises `ValueError` where `out` holds something else, the disk is too full, or `minutes` is too
    few.
    """
    out = Path(out)
    segments = round(minutes * 60 / SEGMENT_S)
    if segments < 1 or seed < 0:
        raise ValueError(f"minutes: {minutes}, seed: {seed}; at least one segment of 10 s, and a seed of 0 or more")
    state = {"synthetic": True, "version": VERSION, "seed": seed, "segments": segments}
    text = json.dumps(state | ({"accelerometer": True} if accelerometer else {})) + "\n"
    if (out / STATE).is_file() and (out / STATE).read_text(encoding="utf-8", errors="replace") == text:
        return out
    require_free_space(out, segments * (SEGMENT_SAMPLES * 2 + 16_384))
    plan = _plan(segments, seed)
    with written_aside(out) as folder:
        for name in ("wav", "lbl", "manifest"):
            (folder / name).mkdir()
        names = [f"r{n // SEGMENTS_PER_RECORDING:04d}_s{n % SEGMENTS_PER_RECORDING}" for n in range(segments)]
        for number, (name, events) in enumerate(zip(names, plan, strict=True)):
            sound_N, digging = _render(number, seed, events)
            if accelerometer:
                digging += _add_like_eating(sound_N, np.random.default_rng([seed, number, 5]))
            sound_N = np.clip(NEAR_RMS * sound_N, -1, 32767 / 32768).astype(np.float32)
            _write_segment(folder, name, events, sound_N)
            if accelerometer:
                _write_acceleration(folder, name, events, digging, np.random.default_rng([seed, number, 4]))
            if progress:
                progress(number + 1, segments)
        rows = "".join(f"{name}.wav\t{SEGMENT_SAMPLES}\n" for name in names)
        (folder / "manifest" / "pretrain.tsv").write_text(f"{out.absolute() / 'wav'}\n{rows}", encoding="utf-8")
        (folder / "README.txt").write_text(README, encoding="utf-8")
        (folder / STATE).write_text(text, encoding="utf-8")
    return out


def _write_segment(folder: Path, name: str, events: list[_Event], audio_N: np.ndarray) -> None:
    import soundfile

    soundfile.write(folder / "wav" / f"{name}.wav", audio_N, SAMPLE_RATE, subtype="PCM_16")
    labels = [(event.label, event.start, event.end, event.focal) for event in events]
    write_labels(folder / "lbl" / f"{name}.h5", labels, SAMPLE_RATE)


def _write_acceleration(folder: Path, name: str, events: list[_Event], digging: list[Stretch], rng: Generator) -> None:
    eating = [(event.start / SAMPLE_RATE, event.end / SAMPLE_RATE) for event in events if event.label == "eating"]
    values = acceleration(SEGMENT_S, eating, digging, rng)
    rows = (
        f"{(number + 0.5) / RATE:.2f}," + ",".join(f"{value:.4f}" for value in row) for number, row in enumerate(values)
    )
    (folder / "streams").mkdir(exist_ok=True)
    text = "\n".join([",".join(("time_s", *COLUMNS)), *rows]) + "\n"
    (folder / "streams" / f"{name}.csv").write_text(text, encoding="utf-8")


def _plan(segments: int, seed: int) -> list[list[_Event]]:
    """What happens when: events of each segment, by onset."""
    rng = np.random.default_rng([seed, segments, 0])
    animals = _animals(seed)
    # Calls come in clusters: a few segments hold many, most hold none.
    activity = rng.gamma(0.8, size=segments) + 0.05
    floor = min(FLOOR_EVENTS, max(1, segments // 4))
    plan: list[list[_Event]] = [[] for _ in range(segments)]
    for label, signature in SIGNATURES.items():
        by_rate = rng.poisson(signature.per_hour * segments * SEGMENT_S / 3600)
        apart = rng.permutation(segments)[:floor]
        weights = activity / activity.sum() if label in VOCALISATIONS else None
        rest = rng.choice(segments, max(by_rate - floor, 0), p=weights)
        for segment in (*apart, *rest):
            _place(plan, int(segment), label, animals, rng)
    return [sorted(events, key=lambda event: (event.start, event.end)) for events in plan]


def _place(plan: list[list[_Event]], segment: int, label: str, animals: list[Individual], rng: Generator) -> None:
    """Put one event where no other of its class is; into another segment when this one is full."""
    focal = label in VOCALISATIONS and rng.random() < FOCAL_SHARE
    for attempt in range(40):
        events = plan[segment]
        wearer = segment // SEGMENTS_PER_RECORDING % INDIVIDUALS
        caller = wearer if focal else int(rng.integers(INDIVIDUALS))
        length = synth_calls.draw_length(label, animals[caller], rng)
        start = int(rng.integers(160, SEGMENT_SAMPLES - length - 160))
        if events and label in VOCALISATIONS and rng.random() < ANSWERED:
            other = events[rng.integers(len(events))]
            start = int(np.clip(other.start + rng.normal(0, 800), 160, SEGMENT_SAMPLES - length - 160))
        free = all(
            event.label != label or start >= event.end + GAP_SAMPLES or start + length + GAP_SAMPLES <= event.start
            for event in events
        )
        if free:
            events.append(_Event(label, start, start + length, focal, caller))
            return
        if attempt % 8 == 7:
            segment = int(rng.integers(len(plan)))


def _animals(seed: int) -> list[Individual]:
    """The group: the same for every size of a seed."""
    rng = np.random.default_rng([seed, 1])
    return [synth_calls.draw_individual(rng) for _ in range(INDIVIDUALS)]


def _render(segment: int, seed: int, events: list[_Event]) -> tuple[np.ndarray, list[Stretch]]:
    """The sound of one segment (N,), near calls with an RMS of about 1, and when somebody digs in it."""
    rng = np.random.default_rng([seed, segment, 2])
    place = np.random.default_rng([seed, segment // SEGMENTS_PER_RECORDING, 3])
    animals = _animals(seed)
    sound_N = _level_db(place.normal(-22, 3)) * synth_calls.background(SEGMENT_SAMPLES, rng)
    digging = _add_foraging(sound_N, rng) if place.random() < 0.7 else []
    for event in events:
        call_N = synth_calls.event_sound(event.label, event.end - event.start, animals[event.caller], rng)
        if event.focal or event.label in ("eating", "beep", "synch"):
            level = rng.normal(0, 3)
        else:
            call_N, level = synth_calls.far_away(call_N, rng), rng.normal(-11, 3)
        _add(sound_N, call_N * _level_db(level), event.start)
    return sound_N, digging


def _add_foraging(sound_N: np.ndarray, rng: Generator) -> list[Stretch]:
    """Bursts and digging, labelled by nobody, about as loud as calls; returns when it digs."""
    digging = []
    for _ in range(rng.poisson(rng.uniform(0, 25))):
        _add(sound_N, synth_calls.burst(rng) * _level_db(rng.normal(-4, 5)), int(rng.integers(SEGMENT_SAMPLES)))
    for _ in range(rng.poisson(0.5)):
        sound = synth_calls.digging(rng) * _level_db(rng.normal(-5, 4))
        start = int(rng.integers(SEGMENT_SAMPLES))
        _add(sound_N, sound, start)
        digging.append((start / SAMPLE_RATE, (start + len(sound)) / SAMPLE_RATE))
    return digging


def _add_like_eating(sound_N: np.ndarray, rng: Generator) -> list[Stretch]:
    """Digging, labelled by nobody, that sounds as eating does and is twice as frequent; returns when it is."""
    digging = []
    animal = synth_calls.draw_individual(rng)
    for _ in range(rng.poisson(2 * SIGNATURES["eating"].per_hour * SEGMENT_S / 3600)):
        length = synth_calls.draw_length("eating", animal, rng)
        sound = synth_calls.event_sound("eating", length, animal, rng) * _level_db(rng.normal(0, 3))
        start = int(rng.integers(160, SEGMENT_SAMPLES - length - 160))
        _add(sound_N, sound, start)
        digging.append((start / SAMPLE_RATE, (start + length) / SAMPLE_RATE))
    return digging


def _add(sound_N: np.ndarray, part_N: np.ndarray, start: int) -> None:
    room = min(len(part_N), len(sound_N) - start)
    sound_N[start : start + room] += part_N[:room]


def _level_db(level: float) -> float:
    return float(10 ** (level / 20))
