"""What `a2v predict` costs beside its model, for any number of recordings and on any number of (pretended) nodes.

    python infra/scale/simulate_predict.py --recordings 10000 --hours 0.02     # 10 000 recordings of 72 s
    python infra/scale/simulate_predict.py --recordings 1000 --hours 24 --plan # what it takes to plan 24 000 hours
    python infra/scale/simulate_predict.py --recordings 100000 --done          # a call that finds all of it done
    python infra/scale/simulate_predict.py --recordings 200 --nodes 64 --busy 8 --task-s 1

All of it is `a2v predict` as it is (finding files, headers, plan, tables, state, the Ray cluster's driver), but for
two things: the recordings are WAV files with a header and a hole in place of samples, which take no room on the disk,
and in the model's place likelihoods are written in which calls come `--calls` times an hour in each class. It prints
one JSON object: for each phase seconds, CPU-seconds of this process without the pretended model's, and memory (MiB,
resident, as it grew since before the call).

With `--nodes` the pieces go to a Ray cluster on this machine, of so many nodes of which `--busy` have a CPU, one each;
a task then takes at least `--task-s` seconds, as it would with a model. A node takes 0.15 GiB of memory, a busy one
0.5.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from a2v_data.scheduling import Advance, Results, Run, Work, in_this_process
from a2v_data.storage import replaced
from a2v_eval.events import EVENT
from a2v_experiments.predict.options import Choice
from a2v_experiments.predict.plan import find_recordings, read_headers
from a2v_experiments.predict.run import Job, run_predictions
from a2v_experiments.predict.settings import settings_for
from a2v_experiments.predict.state import HIDDEN, Done, events_path, open_state, stamp_of
from a2v_experiments.predict.stream import piece_frames
from a2v_experiments.predict.work import PieceDone, PieceTask, find_when_whole
from a2v_model import PRESETS, Detector

CLASSES, RATE = 12, 8000  # classes: as MeerKAT's
LINKS = 30_000  # names of one file; file systems allow 32 000 and more
CALL_S = 0.2
ATTEMPTS = 5
CLASS_NAMES = [f"class{number}" for number in range(CLASSES)]


@dataclass
class Phases:
    """Told how far the call is: seconds and CPU-seconds from the start to the end of each phase, MiB it grew by."""

    pretended_s: list[float] = field(default_factory=list)
    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    memory: float = field(default_factory=lambda: _resident_mib())

    def __post_init__(self) -> None:
        self.at = self._clocks()

    def _clocks(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time() - sum(self.pretended_s)

    def end(self, phase: str) -> None:
        now = self._clocks()
        wall, cpu = (after - before for after, before in zip(now, self.at, strict=True))
        memory = {"mib": round(_resident_mib() - self.memory, 1), "peak_mib": round(_peak_mib() - self.memory, 1)}
        self.rows[phase] = {"seconds": round(wall, 3), "cpu_s": round(cpu, 3), **memory}
        self.at = now

    # as `predict.run.Progress`
    def begin(self, recordings: int, seconds: float) -> None:
        self.end("plan")

    def advance(self, seconds: float) -> None:
        pass

    def recording(self) -> None:
        pass


def pretend(task: PieceTask, advance: Advance, calls: float, task_s: float, frame_rate: float) -> PieceDone:
    """Write a piece's likelihoods without its sound: 0.02, and calls (0.9, 0.2 s) at places that follow from its name.
    Takes task_s seconds at least."""
    begun = time.perf_counter()
    frames = piece_frames(task.windows, *task.piece)
    rng = np.random.default_rng([task.piece[0], *task.name.encode()])
    likelihood_TC = np.full((frames, CLASSES), 0.02, np.float32)
    length = max(1, round(CALL_S * frames / max(task.seconds, CALL_S)))
    for number in range(CLASSES):
        for start in rng.integers(0, frames, rng.poisson(calls * task.seconds / 3600)):
            likelihood_TC[start : start + length, number] = 0.9
    with replaced(task.likelihoods) as aside, aside.open("wb") as file:
        np.save(file, likelihood_TC)
    advance(task.seconds)
    found = find_when_whole(task, frame_rate, CLASS_NAMES)
    time.sleep(max(0.0, task_s - (time.perf_counter() - begun)))
    spent_s = time.perf_counter() - begun
    return PieceDone(spent_s, spent_s, found)


def pretending(run: Run, calls: float, task_s: float, frame_rate: float, phases: Phases, told: dict[str, Any]) -> Run:
    """`run`, with the pretended model's work in place of the work that is asked for. told: gets the number of tasks and
    the seconds from the first one's start to the last one's result."""

    def instead(work: Work, tasks: Sequence[Any], advance: Advance) -> Results:
        phases.end("open")
        told["tasks"], begun = len(tasks), time.perf_counter()
        yield from run(partial(pretend, calls=calls, task_s=task_s, frame_rate=frame_rate), tasks, advance)
        told["work_s"] = round(time.perf_counter() - begun, 3)
        phases.end("work")

    return instead


def timed_here(phases: Phases) -> Run:
    """In this process, where the pretended model's CPU-seconds are not the driver's."""

    def run(work: Work, tasks: Sequence[Any], advance: Advance) -> Results:
        def timed(task: Any, told: Advance) -> Any:
            begun = time.process_time()
            try:
                return work(task, told)
            finally:
                phases.pretended_s[:] = [sum(phases.pretended_s) + time.process_time() - begun]

        yield from in_this_process(timed, tasks, advance)

    return run


def nothing(work: Work, tasks: Sequence[Any], advance: Advance) -> Results:
    """No task is done: for what the plan alone takes."""
    yield from ()


@contextmanager
def on_nodes(count: int, busy: int) -> Iterator[Run]:
    """A Ray cluster of so many nodes on this machine, besides the driver's; `busy` of them have a CPU, one each."""
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
        "RAY_worker_register_timeout_seconds": "600",
    }
    import ray
    from a2v_experiments.cluster.run import on_ray
    from ray.cluster_utils import Cluster

    store = 80_000_000  # bytes; the smallest that Ray takes is 75 MB
    cluster: Any = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": store, "include_dashboard": False}
    )
    try:
        for number in range(count):
            _add_node(cluster, num_cpus=int(number < busy), object_store_memory=store)
        run = on_ray(cluster.address)
        here = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_begin)
        ray.get([here.remote() for _ in range(busy)])  # so that what is measured is not how processes start
        yield run
    finally:
        ray.shutdown()
        cluster.shutdown()


def _add_node(cluster: Any, **resources: int) -> None:
    """A node is given 30 s to begin; where the processes of those before it take the processor, it is tried again."""
    for attempt in range(ATTEMPTS):
        try:
            cluster.add_node(**resources)
            return
        except Exception as error:  # Ray's has no kind of its own
            if attempt == ATTEMPTS - 1 or "timed out" not in str(error):
                raise
            time.sleep(30)


def _begin() -> None:
    """On a node: what a task imports; long enough that each node gets one."""
    from a2v_experiments.predict import work

    assert work
    time.sleep(5)


def silent_recordings(folder: Path, count: int, seconds: float) -> None:
    """WAV files (16 bit, 8 kHz) of a header and a hole, a thousand in a folder."""
    size = 2 * round(RATE * seconds)
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", size
    )
    first = folder
    for number in range(count):
        path = folder / f"{number // 1000:04d}" / f"{number:07d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % LINKS:
            os.link(first, path)
            continue
        first = path
        with path.open("wb") as file:
            file.write(header)
            file.truncate(len(header) + size)


def done_before(folder: Path, job: Job, calls: float) -> None:
    """The state that a call leaves which did all recordings; each has the same events."""
    events = np.zeros(round(CLASSES * calls / 50), EVENT)  # as many as a recording of 72 s has
    lines, first = [], folder
    good, _ = read_headers(find_recordings([str(folder / "recordings")]), 0)
    for number, (name, recording) in enumerate(good.items()):
        info, path = recording.info, events_path(folder / "out", name)
        counts = dict.fromkeys(job.model.classes, 0) | {job.model.classes[0]: len(events)}
        extremes = {label: [0.02, 0.9, 1.0] for label in counts}
        done = Done(
            name, str(recording.path), stamp_of(recording, 0), info.rate, info.samples, info.channels, counts, 0.1, 0.1,
            extremes,
        )  # fmt: skip
        lines.append(json.dumps(asdict(done)) + "\n")
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % LINKS:
            os.link(first, path)
        else:
            first = path
            np.save(path, events)
    with open_state(folder / "aside", job.options()):
        pass
    state = folder / "aside" / HIDDEN / "state.jsonl"
    with state.open("a", encoding="utf-8") as file:
        file.writelines(lines)
    os.replace(state, folder / "out" / HIDDEN / "state.jsonl")


def job_of(folder: Path, formats: tuple[str, ...]) -> Job:
    """A detector of random weights, of which only the frame rate and the classes matter."""
    torch.manual_seed(0)
    preset = PRESETS["tiny"]
    model = Detector(preset.model, preset.finetune, CLASS_NAMES)
    settings = settings_for(model, precision="float32", threshold=0.5, all_classes=True)[0]
    choice = Choice(str(folder), formats, {}, device="cpu")
    return Job(model, folder, "pretended", "0" * 16, settings, choice)


def simulate(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One call of predict, or two with `--again`; the second finds all done."""
    silent_recordings(folder / "recordings", arguments.recordings, 3600 * arguments.hours)
    job = job_of(folder, tuple(arguments.format))
    result: dict[str, Any] = {"recordings": arguments.recordings, "hours": arguments.recordings * arguments.hours}
    if arguments.done:
        done_before(folder, job, arguments.calls)

    def call(run: Callable[[Phases], Run]) -> dict[str, Any]:
        phases, told = Phases(), dict[str, Any]()
        found = find_recordings([str(folder / "recordings")])
        phases.end("find files")
        pretended = pretending(run(phases), arguments.calls, arguments.task_s, job.model.frame_rate, phases, told)
        summary = run_predictions(found, folder / "out", job, pretended, phases)
        summary.text(folder / "out")
        phases.end("finish")
        events = sum(sum(done.events.values()) for done in summary.done.values())
        return {**told, "done": len(summary.done), "events": events, "phases": phases.rows}

    if arguments.nodes:
        busy = arguments.busy or arguments.nodes
        with on_nodes(arguments.nodes, busy) as run:
            result |= {"nodes": arguments.nodes, "busy": busy, "first": call(lambda phases: run)}
        first = result["first"]
        rounds = -(-first["tasks"] // busy)
        first["ms_a_task_over_its_work"] = round(
            1000 * (first["work_s"] - rounds * arguments.task_s) / first["tasks"], 1
        )
    else:
        result["first"] = call(lambda phases: nothing if arguments.plan else timed_here(phases))
    if arguments.again:
        result["again"] = call(lambda phases: nothing)
    state = folder / "out" / ".predict" / "state.jsonl"
    names = ("events.csv", "recordings.csv", "predict.json")
    result["mib"] = {path.name: _mib(path.stat().st_size) for path in [state, *(folder / "out" / n for n in names)]}
    return result


def _mib(size: float) -> float:
    return round(size / 2**20, 3)


def _resident_mib() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main(given: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=0.02, help="length of a recording (a WAV has at most 74)")
    parser.add_argument("--calls", type=float, default=60.0, help="calls of each class in an hour")
    parser.add_argument("--format", action="append", default=[], help="tables of each recording, as in a2v predict")
    parser.add_argument("--plan", action="store_true", help="plan only: no task is done")
    parser.add_argument("--done", action="store_true", help="an earlier call did all of it")
    parser.add_argument("--again", action="store_true", help="call it a second time on the same folder")
    parser.add_argument("--nodes", type=int, default=0, help="of a Ray cluster on this machine; 0: none")
    parser.add_argument("--busy", type=int, default=0, help="nodes that do tasks, the others are there; 0: all")
    parser.add_argument("--task-s", type=float, default=0.0, help="seconds that a task takes at least")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    arguments = parser.parse_args(given)
    with tempfile.TemporaryDirectory(prefix="a2v-scale-", dir=arguments.folder) as folder:
        return simulate(arguments, Path(folder))


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
