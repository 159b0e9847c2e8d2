"""How fast recordings are searched and how much memory that takes: what `a2v bench predict` measures.

What is measured is `a2v predict` itself, files in, tables out, on recordings of noise and with a detector of random
weights: neither the time nor the memory depends on what is heard, but for the number of events.
"""

from __future__ import annotations

import resource
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
import torch
from a2v_data.resampling import resampled_length
from a2v_data.scheduling import cores
from a2v_data.storage import require_free_space
from a2v_model import PRESETS, Detector, in_bfloat16, threads
from a2v_model.checkpoints import load_model, save_model
from a2v_model.flops import inference_flop

from ..inference import Windows, at_once, window_outputs
from ..predict.call import GPU_PROCESSES, call
from ..predict.options import Choice
from ..predict.run import Progress
from ..predict.summary import Summary
from .machine import described, matrix_rate

CLASSES = 12  # as MeerKAT's
SAMPLE_EVERY_S = 0.1
MOST_WINDOWS, ENOUGH_S = 10, 1.0  # of the model by itself


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


def asked(config: PredictConfig) -> dict[str, Any]:
    """What an earlier measurement must have been of to be compared; with what is chosen by default filled in."""
    cuda = torch.cuda.is_available()
    processes = config.processes or (GPU_PROCESSES if cuda else cores())
    bfloat16 = in_bfloat16(config.precision, torch.device("cuda" if cuda else "cpu"))
    return {
        "command": "bench predict",
        **asdict(config),
        "recordings": config.recordings or processes,
        "precision": "bfloat16" if bfloat16 else "float32",
        "processes": processes,
    }


def measure_prediction(config: PredictConfig, progress: Progress) -> dict[str, Any]:
    """Times real time of the call, and of one process once it runs beside the others; the processor's seconds, which
    hardly depend on what else the machine does; share of the processes' time that is not the model's; peak memory
    (GiB); events; TFLOP of the windows that are heard, and what share of the machine's matrix rate, in a process, the
    whole call reaches and the model alone, on a window by itself (window_s: of the processor's seconds on a CPU).
    Raises ValueError where the disk has too little space."""
    cuda = torch.cuda.is_available()
    same = asked(config)
    processes, number = same["processes"], same["recordings"]
    with tempfile.TemporaryDirectory(prefix="a2v-bench-") as scratch:
        folder = Path(scratch)
        torch.manual_seed(0)
        preset = PRESETS[config.preset]
        finetune = preset.finetune.model_copy(update={"head_prior": None})  # likelihoods about 0.5: events to find
        model = Detector(preset.model, finetune, [f"class{number}" for number in range(CLASSES)])
        save_model(model, folder / "model", {})
        del model  # it would count in the memory
        _make_noise(folder / "recordings", number, config.minutes * 60 / number, config.sample_rate)
        choice = Choice(
            str(folder / "model"), ("raven",), {"threshold": 0.5}, precision=config.precision, processes=processes
        )
        cpu_s = _cpu_s()
        with peak_memory() as memory:
            found = call([str(folder / "recordings")], folder / "out", choice, progress)
        cpu_s = _cpu_s() - cpu_s
        loaded = load_model(folder / "model")
        assert isinstance(loaded, Detector)
    assert not found.left_out, found.left_out
    plain = found.plain()
    audio_s = 3600 * plain["hours"]
    work_s = sum(done.seconds for done in found.done.values())
    options = plain["options"]
    every = _windows(config, found, options["segment_s"], options["overlap_s"])
    stride = PRESETS[config.preset].model.front_end.stride
    window = every[0].size * stride
    heard = Counter(frames for one in every for frames in one.heard())
    parts = [_teraflop(config, number, frames * stride) for frames, number in heard.items()]
    by_part = {part: sum(one[part] for one in parts) for part in parts[0]}
    teraflop = sum(by_part.values())
    alone = sum(_teraflop(config, 1, window).values())
    device = torch.device("cuda" if cuda else "cpu")
    with threads(1):  # as each process does it
        rate = matrix_rate(device, same["precision"] == "bfloat16")
        window_s = _window_s(loaded, window, at_once(every[0], device.type), same["precision"], device)
    together = found.elapsed_s * (1 if cuda else processes)  # the processes share a GPU
    return {
        **same,
        "precision": options["precision"],
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {cores()} cores",
        "processor": described(),
        "audio_s": audio_s,
        "elapsed_s": found.elapsed_s,
        "window_s": window_s,
        "times_real_time": audio_s / found.elapsed_s,
        "times_real_time_of_a_process": audio_s / work_s,
        "cpu_s": cpu_s,
        "audio_s_per_cpu_s": audio_s / cpu_s,
        "share_outside_model": plain["done_now"]["share_outside_model"],
        "peak_memory_gib": {"process": memory.process_gib, "all": memory.all_gib},
        "teraflop": teraflop,
        "teraflop_by_part": by_part,
        "matrix_teraflops": rate.plain(),
        "utilisation_of_model": alone / window_s / (rate.per_cpu_s or rate.per_s),
        "utilisation": rate.utilisation(teraflop, together, cpu_s),
        "events": sum(plain["events"].values()),
    }


def _windows(config: PredictConfig, found: Summary, segment_s: float, overlap_s: float) -> list[Windows]:
    """Those of every recording."""
    front_end = PRESETS[config.preset].model.front_end
    lengths = (resampled_length(done.samples, done.rate, front_end.sample_rate) for done in found.done.values())
    return [Windows.of(length, front_end, segment_s, overlap_s) for length in lengths]


def _teraflop(config: PredictConfig, windows: int, samples: int) -> dict[str, float]:
    """TFLOP by part of so many windows."""
    model, _, finetune, _ = PRESETS[config.preset]
    return {part: flop / 1e12 for part, flop in inference_flop(model, finetune, windows, samples, CLASSES).items()}


def _window_s(model: Detector, samples: int, batch: int, precision: str, device: torch.device) -> float:
    """Least seconds of the model on one window, in a batch as `a2v predict` takes it: of the processor's time on a CPU,
    which does not count what else the machine does, else by the clock."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    rng = np.random.default_rng(0)
    waveform_BN = rng.standard_normal((batch, samples), np.float32)
    model, lengths_B = model.to(device).eval(), np.full(batch, samples)
    seconds: list[float] = []
    torch.set_flush_denormal(True)  # as in the processes
    window_outputs(model, waveform_BN, lengths_B, precision)
    while len(seconds) < 2 or (len(seconds) < MOST_WINDOWS and sum(seconds) < ENOUGH_S):
        begun = clock()
        window_outputs(model, waveform_BN, lengths_B, precision)
        seconds.append(clock() - begun)
    torch.set_flush_denormal(False)
    return min(seconds) / batch


@contextmanager
def peak_memory() -> Iterator[Memory]:
    """Measured while the block runs, of this process and those that it starts."""
    memory, stop = Memory(), threading.Event()
    this = psutil.Process()

    def sample() -> None:
        while True:  # at once, too: the block may be shorter than a wait
            resident = [_resident(process) for process in (this, *this.children(recursive=True))]
            memory.process_gib = max(memory.process_gib, max(resident) / 2**30)
            memory.all_gib = max(memory.all_gib, sum(resident) / 2**30)
            if stop.wait(SAMPLE_EVERY_S):
                return

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
