"""Corpora and facts for the tests of `a2v experiment suggest`, and a machine of known speed."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_experiments.overview import plan_costs
from a2v_experiments.overview.plan_costs import StepTime
from a2v_experiments.suggest.facts import ClassFacts, CorpusFacts, Lengths, RecordingFacts
from a2v_experiments.suggest.suggest import Suggestion

Call = tuple[float, float, str]  # onset, length, class

# A recipe on the waveform that pretrains and says over how many seconds likelihoods are averaged: 5 * 4 * 3 * 2 * 1
# samples at 16 kHz are a frame of 7.5 ms.
WAVEFORM = """
data: {source: FOLDER, sample_rate: 16000, segment_s: 2.4}
folds: {count: 5, run: [0]}
model:
  preset: meerkat
  front_end:
    sample_rate: 16000
    sinc_filters: 32
    layers: [[64, 10, 5], [64, 5, 4], [96, 5, 3], [128, 3, 2], [128, 2, 1]]
  encoder: {dim: 128, heads: 4, depth: 4, prenet_depth: 1}
pretrain: {updates: 200, segments: 4, micro_batches: 4, optimizer: {warmup_updates: 30}, target_layers: 4}
finetune: {updates: 250, segments: 4, micro_batches: 4, head_only_updates: 10, optimizer: {warmup_updates: 30},
  average_layers: 4}
evaluate: {events: {window_s: 0.0075, threshold: 0.15}, overlap_s: 0.48}
"""


def set_known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A micro-batch takes 0.1 s, 0.05 s while the head alone learns, the rest of an update 0.2 s."""

    def step(recipe, stage, segment_s):
        return StepTime(0.1, 0.05 if hasattr(stage, "head_only_updates") else None, 0.2, stage.segments)

    monkeypatch.setattr(plan_costs, "measure_step", step)
    monkeypatch.setattr(plan_costs, "cores", lambda: 2)


def corpus(folder: Path, recordings: Mapping[str, tuple[int, float]], calls: Sequence[Call]) -> Path:
    """Silent recordings, name -> (rate, seconds), all with the same calls."""
    with (Path(folder).mkdir() or folder / "annotations.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "onset_s", "offset_s", "label"])
        for name, (rate, seconds) in recordings.items():
            path = folder / "audio" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.zeros(round(rate * seconds), np.int16), rate)
            table.writerows([name, onset, onset + length, label] for onset, length, label in calls)
    return folder


def song(folder: Path) -> Path:
    """Syllables of 40 to 80 ms, two in every 0.2 s: 60 % of the time."""
    calls = [(0.1 * n, 0.04 if n % 2 else 0.08, "ab"[n % 2]) for n in range(40)]
    return corpus(folder, {f"bird{n // 3}_{n:02d}.wav": (44100, 4.0) for n in range(12)}, calls)


def crows(folder: Path) -> Path:
    """Three calls in 30 s, in recordings of two rates."""
    calls = [(2.0, 1.0, "rooster"), (12.0, 0.4, "gy"), (20.0, 2.0, "rooster")]
    rates = {f"rec{n}.wav": (8000 if n < 5 else 22050, 30.0) for n in range(8)}
    return corpus(folder, rates, calls)


def facts_with(recordings: Sequence[RecordingFacts], **changes) -> CorpusFacts:
    lengths = Lengths(0.1, 0.2, 0.3)
    given = {"classes": {"a": ClassFacts(50, len(recordings), lengths)}, "lengths": lengths, "called_share": 0.05}
    return CorpusFacts("f", "f", tuple(recordings), **{**given, **changes})


def some(rate: int, seconds: float = 60.0, count: int = 6) -> list[RecordingFacts]:
    return [RecordingFacts(f"{rate}rec{n}.wav", seconds, rate, True, frozenset("a")) for n in range(count)]


def value(suggestion: Suggestion, key: str):
    return {setting.key: setting.value for setting in suggestion.settings}[key]


def keys(suggestion: Suggestion, start: str) -> list[str]:
    return [setting.key for setting in suggestion.settings if setting.key.startswith(start)]


def why(suggestion: Suggestion, key: str) -> str:
    return {setting.key: setting.why for setting in suggestion.settings}[key]
