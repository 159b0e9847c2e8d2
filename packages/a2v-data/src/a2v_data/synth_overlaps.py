"""A synthetic corpus in which calls of one class overlap: how well does a detector keep them apart?

A folder with `audio/NAME.wav` (10 s, 8 kHz, 16 bit, mono), `annotations.csv` and `splits.csv` (what `a2v bench detect`
reads). Each recording has 10 calls of two classes over wind and hiss. A given share of the calls is in a pair: two
animals' calls of one class, of which the second begins when 20 to 80 % of the first is over. All others are at least
60 ms away from any call. Sounds are those of `synth_calls.py`.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator

from a2v_data import synth_calls
from a2v_data.storage import written_aside
from a2v_data.synth_calls import SAMPLE_RATE

CLASSES = ("soc", "mo")
SECONDS, CALLS, ANIMALS = 10, 10, 12
GAP = round(0.06 * SAMPLE_RATE)
BEGINS = (0.2, 0.8)  # of the first call of a pair, when the second begins
RMS = 0.08  # of full scale
Call = tuple[str, int, int, int]  # class, first sample, the one after the last, animal


def synthesise_overlaps(out: Path, share: float, recordings: dict[str, int], seed: int, noise: float = 0.2) -> Path:
    """Write the folder, the same for the same arguments; returns `out`.

    share: of the calls that overlap another one of their class, 0 to 1; recordings: split -> how many; noise: level of
    the background, of calls about 1. Raises ValueError for a share outside 0 to 1, and where `out` exists.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: {share} should be from 0 to 1")
    if out.exists():
        raise ValueError(f"{out}: exists already; name a new folder")
    import soundfile

    rng = np.random.default_rng([seed, 4])
    animals = [synth_calls.draw_individual(rng) for _ in range(ANIMALS)]
    rows: list[tuple[str, str, str, str]] = []
    splits: list[tuple[str, str]] = []
    with written_aside(out) as folder:
        (folder / "audio").mkdir()
        for number, split in enumerate(split for split, count in recordings.items() for _ in range(count)):
            name = f"r{number:04d}.wav"
            rng = np.random.default_rng([seed, 5, number])
            calls = _placed(share, animals, rng)
            sound_N = noise * synth_calls.background(SECONDS * SAMPLE_RATE, rng)
            for label, start, stop, animal in calls:
                level = 10 ** (rng.normal(0, 2) / 20)
                sound_N[start:stop] += level * synth_calls.event_sound(label, stop - start, animals[animal], rng)
            clipped_N = np.clip(RMS * sound_N, -1, 32767 / 32768)
            soundfile.write(folder / "audio" / name, clipped_N, SAMPLE_RATE, subtype="PCM_16")
            rows += [(name, f"{a / SAMPLE_RATE:.6f}", f"{b / SAMPLE_RATE:.6f}", label) for label, a, b, _ in calls]
            splits.append((name, split))
        _write(folder / "annotations.csv", ("file", "onset_s", "offset_s", "label"), rows)
        _write(folder / "splits.csv", ("file", "split"), splits)
    return out


def _write(path: Path, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])


def _placed(share: float, animals: list[synth_calls.Individual], rng: Generator) -> list[Call]:
    """The calls of a recording by onset: groups of one or two, one after the other with what is left as silence."""
    pairs = int(rng.binomial(CALLS // 2, share))
    groups: list[list[Call]] = []
    for size in rng.permutation([2] * pairs + [1] * (CALLS - 2 * pairs)):
        label = CLASSES[int(rng.integers(len(CLASSES)))]
        callers = rng.permutation(len(animals))[:size].tolist()
        lengths = [synth_calls.draw_length(label, animals[caller], rng) for caller in callers]
        group: list[Call] = [(label, 0, lengths[0], callers[0])]
        if size == 2:
            start = round(rng.uniform(*BEGINS) * lengths[0])
            group.append((label, start, start + lengths[1], callers[1]))
        groups.append(group)
    taken = sum(max(stop for _, _, stop, _ in group) for group in groups) + GAP * (len(groups) + 1)
    silence = np.sort(rng.uniform(0, SECONDS * SAMPLE_RATE - taken, len(groups)))
    placed, at = [], GAP
    for group, before in zip(groups, silence, strict=True):
        placed += [(label, at + round(before) + a, at + round(before) + b, animal) for label, a, b, animal in group]
        at += max(stop for _, _, stop, _ in group) + GAP
    return sorted(placed, key=lambda call: call[1:3])
