"""What a measurement depends on beside the code: the processor, and how fast it multiplies matrices."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from a2v_data.scheduling import cores

from ..training.noise import wait_for

SIZES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}  # rows of square matrices
REPEATS, ENOUGH_S = 8, 0.4  # of each size, unless that took so long before


def processor_name() -> str:
    """As it calls itself."""
    try:
        lines: Iterable[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def described() -> dict[str, Any]:
    """The processor, its cores that this process may use, and torch, for JSON."""
    return {"name": processor_name(), "cores": cores(), "torch": torch.__version__}


@dataclass(frozen=True)
class MatrixRate:
    """TFLOP of matrix products in a second, and on a CPU in a second of the processor's time, all threads together."""

    per_s: float
    per_cpu_s: float | None

    def utilisation(self, teraflop: float, seconds: float, cpu_s: float) -> dict[str, float]:
        """What share of these rates work of so many TFLOP reaches. cpu_s counts on a CPU only."""
        found = {"per_s": teraflop / seconds / self.per_s}
        return found if self.per_cpu_s is None else found | {"per_cpu_s": teraflop / cpu_s / self.per_cpu_s}

    def plain(self) -> dict[str, float]:
        """For JSON."""
        return {"per_s": self.per_s} | ({} if self.per_cpu_s is None else {"per_cpu_s": self.per_cpu_s})


def matrix_rate(device: torch.device, in_bfloat16: bool) -> MatrixRate:
    """The best of several products of square matrices on this device with the threads in use, in bfloat16 or float32
    (on a GPU as torch is set up: without TF32 by default). Takes about a second."""
    dtype = torch.bfloat16 if in_bfloat16 else torch.float32
    best = best_cpu = 0.0
    for size in SIZES[device.type]:
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        torch.mm(left, right)
        wait_for(device)
        begun = time.perf_counter()
        for _ in range(REPEATS):
            cpu_s, started = time.process_time(), time.perf_counter()
            torch.mm(left, right)
            wait_for(device)
            teraflop = 2 * size**3 / 1e12
            best = max(best, teraflop / (time.perf_counter() - started))
            best_cpu = max(best_cpu, teraflop / max(time.process_time() - cpu_s, 1e-6))
            if time.perf_counter() - begun > ENOUGH_S:
                break
    return MatrixRate(best, best_cpu if device.type == "cpu" else None)
