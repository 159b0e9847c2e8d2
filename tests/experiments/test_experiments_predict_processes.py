"""How many windows are heard at once, and how many processes a call is worth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from a2v_data.audio import AudioInfo
from a2v_experiments.inference import Windows, at_once
from a2v_experiments.predict import processes as predict_processes
from a2v_experiments.predict.options import Choice
from a2v_experiments.predict.processes import cost_of_second, processes_for
from a2v_experiments.predict.settings import PredictSettings
from a2v_experiments.predict.work import PieceTask
from a2v_model import PRESETS, Detector


def tasks_of(minutes: float, settings: PredictSettings) -> list[PieceTask]:
    task = PieceTask(
        "a.wav", Path("a.wav"), AudioInfo(8000, 8000, 1, "PCM_16"), Windows(100, 100, 0), (0, 1), 1, Path("pieces"),
        Path("model"), settings, Choice("model", ("raven",), {}), 60.0,
    )  # fmt: skip
    return [replace(task, seconds=60.0 * minutes / 4) for _ in range(4)]


@pytest.fixture(scope="module")
def tiny() -> Detector:
    return Detector(PRESETS["tiny"].model, PRESETS["tiny"].finetune, ["cc"])


@pytest.mark.parametrize("preset, measured_s", [("tiny", 0.0022), ("small", 0.0032), ("base", 0.0084)])
def test_the_cost_of_a_model_is_about_what_was_measured(preset, measured_s):
    """`a2v bench predict`, bfloat16 on a Zen 4 processor; twice as much or half of it changes little."""
    with torch.device("meta"):
        model = Detector(PRESETS[preset].model, PRESETS[preset].finetune, ["cc"])
    assert measured_s / 2 < cost_of_second(model, PredictSettings()) < 2 * measured_s


def test_minutes_of_sound_are_worth_one_process_and_days_every_core(monkeypatch, tiny):
    monkeypatch.setattr(predict_processes, "cores", lambda: 8)
    counts = [processes_for(tiny, tasks_of(minutes, PredictSettings())) for minutes in (0.1, 20, 90, 180, 24 * 60)]
    assert counts[:2] == [1, 1] and counts[-1] == 8
    assert 1 < counts[2] < counts[3] < 8
    assert processes_for(tiny, []) == 1


def test_windows_that_share_much_are_more_work(tiny):
    overlapping = cost_of_second(tiny, PredictSettings(segment_s=2.4, overlap_s=0.8))
    assert overlapping == pytest.approx(1.5 * cost_of_second(tiny, PredictSettings(overlap_s=0.0)))


def test_short_windows_are_heard_several_at_once():
    sizes = [(240, 8), (1000, 2), (100, 16), (2000, 1), (4000, 1)]
    assert [at_once(Windows(9999, size, 0), "cpu") for size, _ in sizes] == [count for _, count in sizes]
    assert at_once(Windows(9999, 240, 0), "cuda") == 16
