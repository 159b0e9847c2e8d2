"""How fast recordings are searched and how much memory that takes: what `a2v bench predict` measures.

What is measured is `a2v predict` itself, files in, tables out, on recordings of noise and with a detector of random
weights: neither the time nor the memory depends on what is heard, but for the number of events.
"""

from __future__ import annotations

import resource
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
import torch
from a2v_data.scheduling import cores
from a2v_data.storage import require_free_space
from a2v_model import PRESETS, Detector
from a2v_model.checkpoints import save_model

from ..predict.call import GPU_PROCESSES, call
from ..predict.options import Choice
from ..predict.run import Progress

CLASSES = 12  # as MeerKAT's
SAMPLE_EVERY_S = 0.1


@dataclass(frozen=True)
class PredictConfig:
    """What is measured: `recordings` recordings (None: one for each process) of together `minutes` at `sample_rate`
    Hz; processes: None is as `a2v predict` does it."""

    preset: str
    minutes: float
    recordings: int | None = None
    sample_rate: int = 48_000
    precision: str = "auto"
    processes: int | None = None


@dataclass
class Memory:
    """Most memory at any time, GiB resident: of the largest process, and of all together."""

    process_gib: float = 0.0
    all_gib: float = 0.0


def measure_prediction(config: PredictConfig, progress: Progress) -> dict[str, Any]:
    """Times real time of the call, and of one process once it runs beside the others; the processor's seconds, which
    hardly depend on what else the machine does; share of the processes' time that is not the model's; peak memory
    (GiB); events. Raises ValueError where the disk has too little space."""
    cuda = torch.cuda.is_available()
    processes = config.processes or (GPU_PROCESSES if cuda else cores())
    with tempfile.TemporaryDirectory(prefix="a2v-bench-") as scratch:
        folder = Path(scratch)
        torch.manual_seed(0)
        preset = PRESETS[config.preset]
        finetune = preset.finetune.model_copy(update={"head_prior": None})  # likelihoods about 0.5: events to find
        model = Detector(preset.model, finetune, [f"class{number}" for number in range(CLASSES)])
        save_model(model, folder / "model", {})
        del model
        number = config.recordings or processes
        _make_noise(folder / "recordings", number, config.minutes * 60 / number, config.sample_rate)
        choice = Choice(
            str(folder / "model"), ("raven",), {"threshold": 0.5}, precision=config.precision, processes=processes
        )
        cpu_s = _cpu_s()
        with peak_memory() as memory:
            found = call([str(folder / "recordings")], folder / "out", choice, progress)
        cpu_s = _cpu_s() - cpu_s
    assert not found.left_out, found.left_out
    plain = found.plain()
    audio_s = 3600 * plain["hours"]
    work_s = sum(done.seconds for done in found.done.values())
    return {
        **asdict(config),
        "precision": plain["options"]["precision"],
        "recordings": number,
        "processes": processes,
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {cores()} cores",
        "audio_s": audio_s,
        "elapsed_s": found.elapsed_s,
        "times_real_time": audio_s / found.elapsed_s,
        "times_real_time_of_a_process": audio_s / work_s,
        "cpu_s": cpu_s,
        "audio_s_per_cpu_s": audio_s / cpu_s,
        "share_outside_model": plain["done_now"]["share_outside_model"],
        "peak_memory_gib": {"process": memory.process_gib, "all": memory.all_gib},
        "events": sum(plain["events"].values()),
    }


@contextmanager
def peak_memory() -> Iterator[Memory]:
    """Measured while the block runs, of this process and those that it starts."""
    memory, stop = Memory(), threading.Event()
    this = psutil.Process()

    def sample() -> None:
        while not stop.wait(SAMPLE_EVERY_S):
            resident = [_resident(process) for process in (this, *this.children(recursive=True))]
            memory.process_gib = max(memory.process_gib, max(resident) / 2**30)
            memory.all_gib = max(memory.all_gib, sum(resident) / 2**30)

    thread = threading.Thread(target=sample, name="a2v-peak-memory", daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        stop.set()
        thread.join()


def _cpu_s() -> float:
    """Of this process and those that it started and that have ended."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _resident(process: psutil.Process) -> int:
    """Bytes; 0 of one that has ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _make_noise(folder: Path, number: int, seconds: float, rate: int) -> None:
    """`number` 16-bit recordings of white noise; in RF64, as a WAV ends at 4 GB."""
    require_free_space(folder, int(2 * number * seconds * rate))
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(number):
        with soundfile.SoundFile(folder / f"noise{index}.wav", "w", rate, 1, "PCM_16", format="RF64") as file:
            for first in range(0, round(seconds * rate), 1 << 20):
                block_N = rng.integers(-3000, 3000, min(1 << 20, round(seconds * rate) - first), np.int16)
                file.write(block_N)
