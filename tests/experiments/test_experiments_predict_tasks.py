"""Tasks that are made when they are asked for, and who finds the events of a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from a2v_data.audio import AudioInfo
from a2v_eval.events import EventConfig
from a2v_experiments.inference import Windows
from a2v_experiments.predict.options import Choice
from a2v_experiments.predict.settings import PredictSettings
from a2v_experiments.predict.tasks import JoinedTasks, PieceTasks
from a2v_experiments.predict.work import PieceTask, find_when_whole

FRAME_RATE = 10.0


def tasks_of(name: str, seconds: int, folder: Path) -> PieceTasks:
    """Windows of 2 s that share nothing, three to a piece."""
    windows = Windows(round(seconds * FRAME_RATE), 20, 0)
    info = AudioInfo(100, 100 * seconds, 1, "PCM_16")
    choice = Choice("model", ("raven",), {})
    settings = PredictSettings(segment_s=2.0, overlap_s=0.0, events=EventConfig(threshold=0.5, window_s=0.1))
    whole = PieceTask(
        name, Path(name), info, windows, (0, len(windows)), 3, folder / name, Path("model"), settings, choice, seconds
    )
    return PieceTasks(whole)


def keep(task: PieceTask, likelihood_T: list[float]) -> None:
    task.folder.mkdir(parents=True, exist_ok=True)
    np.save(task.likelihoods, np.array(likelihood_T, np.float32)[:, None])


def test_tasks_cover_each_recording_once_in_order(tmp_path: Path) -> None:
    """10 s are windows 0 to 4: pieces 0-3 and 3-5, 6 s and 4 s; 4 s are one piece of two windows."""
    parts = [tasks_of("a.wav", 10, tmp_path), tasks_of("b.wav", 4, tmp_path)]
    tasks = JoinedTasks([(part, part.left()) for part in parts])
    assert [(task.name, task.piece, task.seconds) for task in tasks] == [
        ("a.wav", (0, 3), pytest.approx(6)),
        ("a.wav", (3, 5), pytest.approx(4)),
        ("b.wav", (0, 2), pytest.approx(4)),
    ]
    assert len(tasks) == 3 and tasks.seconds == pytest.approx(14) and tasks[-1].name == "b.wav"
    assert [task.piece for task in tasks[1:]] == [(3, 5), (0, 2)]
    with pytest.raises(IndexError):
        tasks[3]


def test_pieces_that_are_kept_are_not_done_again(tmp_path: Path) -> None:
    parts = [tasks_of("a.wav", 10, tmp_path), tasks_of("b.wav", 4, tmp_path)]
    keep(parts[0][0], [0.0] * 60)
    keep(parts[1][0], [0.0] * 40)
    tasks = JoinedTasks([(part, part.left()) for part in parts])
    assert [(task.name, task.piece) for task in tasks] == [("a.wav", (3, 5))]
    assert tasks.seconds == pytest.approx(4)


def test_tasks_of_years_are_not_made_beforehand(tmp_path: Path) -> None:
    """A hundred years are half a billion tasks; the last one is there at once."""
    part = tasks_of("a.wav", 100 * 365 * 86_400, tmp_path)
    tasks = JoinedTasks([(part, part.left())])
    assert len(tasks) == 100 * 365 * 86_400 // 6 and tasks[-1].piece[1] == 100 * 365 * 86_400 // 2


def test_events_are_found_with_the_last_piece_whichever_that_is(tmp_path: Path) -> None:
    """A call of 1 s over the seam at 6 s: one event, only once both pieces are there."""
    first, second = tasks_of("a.wav", 10, tmp_path)
    keep(second, [0.9] * 5 + [0.1] * 35)
    assert find_when_whole(second, FRAME_RATE, ["cc"]) is None
    keep(first, [0.1] * 55 + [0.9] * 5)
    found = find_when_whole(first, FRAME_RATE, ["cc"])
    assert found is not None
    assert [(event["onset_s"], event["offset_s"]) for event in found.events] == [
        (pytest.approx(5.5), pytest.approx(6.5))
    ]
    assert found.likelihoods == {"cc": [pytest.approx(0.1), pytest.approx(0.9), 5.5]}
