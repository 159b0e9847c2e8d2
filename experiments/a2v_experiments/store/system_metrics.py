"""The machine's load while a model trains: processor, memory, disk, network, GPUs, under MLflow's names (`system/...`).

MLflow measures; its own thread, which ends at the first request that fails, does not send.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

SAMPLE_EVERY_S = 10.0


class SystemMetrics:
    """Calls add({"system/...": value}) every 10 s (MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL) until `close`."""

    def __init__(self, add: Callable[[dict[str, float]], None]) -> None:
        logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)
        self.add = add
        self.monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor(), *_gpus()]
        self.every_s = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or SAMPLE_EVERY_S
        self.closing = threading.Event()
        self._sample()  # the processor's use is counted from the call before
        self.thread = threading.Thread(target=self._work, name="a2v-system-metrics", daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.closing.set()
        self.thread.join()

    def _work(self) -> None:
        while not self.closing.wait(self.every_s):
            self.add(self._sample())

    def _sample(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for monitor in self.monitors:
            try:
                monitor.collect_metrics()
                found |= {f"system/{key}": float(value) for key, value in monitor.aggregate_metrics().items()}
            except Exception as error:  # a driver that fails once; the other values are as good as before
                logging.getLogger(__name__).debug("%s: %s", type(monitor).__name__, error)
            monitor.clear_metrics()
        return found


def _gpus() -> list[Any]:
    """NVIDIA's monitor, or AMD's, or none."""
    for kind in (GPUMonitor, ROCMMonitor):
        try:
            return [kind()]
        except Exception:
            continue
    return []
