"""Evaluation on Ray's workers: what a task is, in which order results come, and how many are on their way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from a2v_experiments.cluster.ordered import in_order
from a2v_experiments.inference import BATCH, Stretch, Windows, cut, joined, recording_likelihoods, stretch_likelihoods
from a2v_experiments.inference import recording_stretches as stretches_of
from a2v_experiments.stages.listening import grouped, task_windows
from experiments_predict import make_detector


class Workers:
    """Each wait ends the youngest task that runs. busiest: most that ran; fullest: most that were begun, not taken."""

    def __init__(self) -> None:
        self.running: list[int] = []
        self.begun, self.taken = 0, 0
        self.busiest, self.fullest = 0, 0
        self.cancelled: list[int] = []

    def begin(self, argument: int) -> int:
        self.running.append(argument)
        self.begun += 1
        self.busiest = max(self.busiest, len(self.running))
        self.fullest = max(self.fullest, self.begun - self.taken)
        return argument

    def ended(self, tasks: Sequence[int], wait: bool) -> set[int]:
        if wait:
            self.running.remove(max(self.running))
        return set(tasks) - set(self.running)

    def result(self, task: int) -> int:
        assert task not in self.running
        self.taken += 1
        if task == 13:
            raise ValueError("unlucky")
        return 10 * task

    def cancel(self, task: int) -> None:
        self.cancelled.append(task)


def test_results_come_in_the_order_of_the_tasks_and_only_so_many_are_on_their_way():
    workers = Workers()
    assert list(in_order(workers, range(12), running=2, held=5)) == [10 * number for number in range(12)]
    assert (workers.busiest, workers.fullest, workers.cancelled) == (2, 5, [])
    assert list(in_order(Workers(), [], running=2, held=5)) == []


@pytest.mark.parametrize("stop", ["error", "closed"])
def test_what_nobody_will_take_is_cancelled(stop):
    workers = Workers()
    results = in_order(workers, [1, 2, 13, 4, 5, 6, 7], running=2, held=3)
    assert [next(results), next(results)] == [10, 20]
    if stop == "closed":
        results.close()
    else:
        with pytest.raises(ValueError, match="unlucky"):
            next(results)
    assert workers.cancelled and workers.begun < 7
    assert workers.begun == workers.taken + len(workers.cancelled)


def test_recordings_are_cut_anywhere_and_are_whole_again():
    lengths = [7, 1, 12]  # windows
    whole = [Stretch(number, Windows(10 * length, 10, 0), 0, length) for number, length in enumerate(lengths)]
    parts = [[(one.recording, one.first, one.last) for one in part] for part in cut(whole, 8)]
    assert parts == [[(0, 0, 7), (1, 0, 1)], [(2, 0, 8)], [(2, 8, 12)]]
    pieces = [
        (one, np.arange(10 * one.first, 10 * one.last, dtype=np.float32)[:, None])
        for part in cut(whole, 3)
        for one in part
    ]
    assert [(number, frames[:, 0].tolist()) for number, frames in joined(pieces)] == [
        (number, list(range(10 * length))) for number, length in enumerate(lengths)
    ]


def test_in_parts_not_a_bit_of_the_likelihoods_differs(corpus, tmp_path):
    """With other batches bits do differ: a window that is not full has the model take another way for all beside it."""
    model = make_detector(tmp_path)
    recordings = [5, 0, 3, 8, 1]
    wanted = list(recording_likelihoods(model, corpus, recordings, 0.5, 0.1, batch=4, precision="float32"))
    whole = stretches_of(corpus, recordings, model.model_config.front_end, 0.5, 0.1)
    parts = list(cut(whole, 8))
    assert len(parts) >= 4
    got = list(joined(p for part in parts for p in stretch_likelihoods(model, corpus, part, 4, "float32")))
    assert [number for number, _ in got] == recordings
    for (_, frames), (_, expected) in zip(got, wanted, strict=True):
        assert frames.tobytes() == expected.tobytes()


def test_a_task_has_whole_batches_and_no_worker_is_left_without(corpus):
    assert task_windows(640, workers=2, step_s=0.5, seconds=160.0) == 320  # a window each half second
    assert task_windows(640, workers=2, step_s=0.5, seconds=40.0) == 80
    assert task_windows(640, workers=2, step_s=0.5, seconds=1.0) == BATCH
    assert task_windows(140, workers=2, step_s=0.5, seconds=3600.0) == 80  # 70 for each
    assert list(grouped(corpus, [3, 1, 2, 0], 6.0)) == [[3, 1], [2, 0]]  # of 3.1 s each
    assert list(grouped(corpus, [3, 1, 2], 3600.0)) == [[3, 1, 2]]
