"""How fast one training step is and how much memory it takes: what `a2v bench train` measures.

A step is training's own (`training.loop`): reading, forward, backward, gradient clipping, AdamW, and for pretraining
the teacher's update, on noise of the right size.
"""

from __future__ import annotations

import resource
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from a2v_model import PRESETS, in_bfloat16
from torch.utils.flop_counter import FlopCounterMode

from ..basics.errors import FAILED, UserError
from ..recipe.trainings import FinetuneStage, PretrainStage
from ..training.loop import TrainingStep
from ..training.noise import step_on_noise, wait_for

# Dense bfloat16 peak of one accelerator, TFLOP/s (vendor's data sheets)
PEAK_TFLOPS = {"H100": 989.4, "H200": 989.4, "A100": 312.0}


@dataclass(frozen=True)
class StepConfig:
    """What is measured. segments: of `segment_s` seconds, in one step; steps: how many are timed, after a first one
    that is not."""

    preset: str
    stage: str = "pretrain"
    segments: int = 1
    segment_s: float = 10.0
    precision: str = "auto"
    steps: int = 3
    compile: bool = False
    gradient_checkpointing: bool = False


def measure_step(config: StepConfig, profile: bool = False) -> dict[str, Any]:
    """Seconds per step (median, least, most), segments per second, peak memory (GiB), TFLOP per step and achieved
    TFLOP/s with its share of the accelerator's bfloat16 peak where that is known; with `profile`, the operations that
    take the time. Raises UserError where the memory does not suffice."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return _measure(config, device, profile)
    except torch.OutOfMemoryError:
        raise UserError(
            f"{config.segments} segments of {config.segment_s:g} s do not fit into the accelerator's memory; "
            "lower --segments, or use --gradient-checkpointing",
            FAILED,
        ) from None


def _measure(config: StepConfig, device: torch.device, profile: bool) -> dict[str, Any]:
    preset = PRESETS[config.preset]
    loop: dict[str, Any] = {
        "updates": config.steps + 1, "precision": config.precision, "compile": config.compile,
        "gradient_checkpointing": config.gradient_checkpointing,
    }  # fmt: skip
    stage: PretrainStage | FinetuneStage
    if config.stage == "pretrain":
        stage = PretrainStage(**preset.pretrain.model_dump(), **loop)
    else:  # everything learns from the first update on
        stage = FinetuneStage(**{**preset.finetune.model_dump(), "head_only_updates": 0}, **loop)
    step = step_on_noise(preset.model, stage, config.segments, config.segment_s, device)
    started = time.perf_counter()
    losses = [step(0)["loss"]]
    wait_for(device)
    first = time.perf_counter() - started
    seconds = []
    for number in range(1, config.steps + 1):
        started = time.perf_counter()
        losses.append(step(number)["loss"])
        wait_for(device)
        seconds.append(time.perf_counter() - started)
    memory = _peak_gib(device)
    median = statistics.median(seconds)
    teraflop = None if config.compile else _teraflop(step)
    found = {
        **asdict(config),
        "precision": "bfloat16" if in_bfloat16(config.precision, device) else "float32",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        "parameters": sum(p.numel() for p in step.model.parameters() if p.requires_grad),
        "first_step_s": first,
        "step_s": {"median": median, "least": min(seconds), "most": max(seconds)},
        "segments_per_s": config.segments / median,
        "audio_s_per_s": config.segments * config.segment_s / median,
        "peak_memory_gib": memory,
        "losses": losses,
    }
    if teraflop is not None:
        found |= {"teraflop_per_step": teraflop, "teraflops": teraflop / median}
        peak = next((value for name, value in PEAK_TFLOPS.items() if name in str(found["device"])), None)
        if peak and found["precision"] == "bfloat16":
            found["share_of_peak"] = teraflop / median / peak
    if profile:
        found["profile"] = _profile(step, device)
    return found


def _teraflop(step: TrainingStep) -> float:
    """Multiplications and additions of the matrix products, convolutions and attention of one step, in 10^12."""
    with FlopCounterMode(display=False) as counter:
        step(0)
    return counter.get_total_flops() / 1e12


def _profile(step: TrainingStep, device: torch.device) -> list[dict[str, Any]]:
    """Operations by their own time, the largest first, with their share of all."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profiler(activities=activities) as recorded:
        step(0)
        wait_for(device)
    key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    entries = sorted(recorded.key_averages(), key=lambda entry: getattr(entry, key), reverse=True)
    total = sum(getattr(entry, key) for entry in entries)
    return [
        {"operation": entry.key, "share": getattr(entry, key) / total, "calls": entry.count} for entry in entries[:15]
    ]


def _peak_gib(device: torch.device) -> float:
    """Most memory so far: allocated on the accelerator, or resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
