"""How fast one training step is and how much memory it takes: what `a2v bench train` measures.

A step is training's own (`training.loop`): reading, forward, backward, gradient clipping, AdamW, and for pretraining
the teacher's update, on noise of the right size, with as many threads as training in this process takes.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from a2v_data.bcl import BclConfig
from a2v_model import PRESETS, in_bfloat16, own_threads, threads
from a2v_model.attention_bias import SWITCH
from a2v_model.flops import PARTS, finetuning_flop, pretraining_flop

from ..basics.errors import FAILED, UserError
from ..recipe.trainings import FinetuneStage, PretrainStage
from ..training.loop import TrainingStep
from ..training.noise import CLASSES, step_on_noise, wait_for
from .machine import described, matrix_rate

# Dense bfloat16 peak of one accelerator, TFLOP/s (vendor's data sheets)
PEAK_TFLOPS = {"H100": 989.4, "H200": 989.4, "A100": 312.0}


@dataclass(frozen=True)
class StepConfig:
    """What is measured. segments: of `segment_s` seconds, in one step; steps: how many are timed, after a first one
    that is not. bcl: segments are mixed, between-classes, as in the paper's recipes."""

    preset: str
    stage: str = "pretrain"
    segments: int = 1
    segment_s: float = 10.0
    precision: str = "auto"
    steps: int = 3
    compile: bool = False
    gradient_checkpointing: bool = False
    bcl: bool = False


def asked(config: StepConfig) -> dict[str, Any]:
    """What an earlier measurement must have been of to be compared; the precision is that which `auto` comes to."""
    same = {key: value for key, value in asdict(config).items() if key != "steps"}
    precision = "bfloat16" if in_bfloat16(config.precision, _device()) else "float32"
    return {"command": "bench train", **same, "precision": precision}


def measure_step(config: StepConfig, profile: bool = False) -> dict[str, Any]:
    """Seconds and processor seconds per step (median, least, most), segments per second, peak memory (GiB), TFLOP per
    step, by part and achieved per second, the matrix rate of this machine and what share of it that is (of the least
    times; on a known accelerator also the share of its bfloat16 peak); with `profile`, the operations that take the
    time. Raises UserError where the memory does not suffice."""
    device = _device()
    try:
        return _measure(config, device, profile)
    except torch.OutOfMemoryError:
        raise UserError(
            f"{config.segments} segments of {config.segment_s:g} s do not fit into the accelerator's memory; "
            "lower --segments, or use --gradient-checkpointing",
            FAILED,
        ) from None


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _measure(config: StepConfig, device: torch.device, profile: bool) -> dict[str, Any]:
    preset = PRESETS[config.preset]
    loop: dict[str, Any] = {
        "updates": config.steps + 1, "precision": config.precision, "compile": config.compile,
        "gradient_checkpointing": config.gradient_checkpointing, "bcl": BclConfig() if config.bcl else None,
    }  # fmt: skip
    stage: PretrainStage | FinetuneStage
    if config.stage == "pretrain":
        stage = PretrainStage(**preset.pretrain.model_dump(), **loop)
    else:  # everything learns from the first update on
        stage = FinetuneStage(**{**preset.finetune.model_dump(), "head_only_updates": 0}, **loop)
    step = step_on_noise(preset.model, stage, config.segments, config.segment_s, device)
    with threads(own_threads(step.model, device)):
        return _timed(config, stage, step, device, profile)


def _timed(
    config: StepConfig, stage: PretrainStage | FinetuneStage, step: TrainingStep, device: torch.device, profile: bool
) -> dict[str, Any]:
    started = time.perf_counter()
    metrics = [step(0)]
    wait_for(device)
    first = time.perf_counter() - started
    seconds, cpu_s = [], []
    for number in range(1, config.steps + 1):
        used, started = time.process_time(), time.perf_counter()
        metrics.append(step(number))
        wait_for(device)
        seconds.append(time.perf_counter() - started)
        cpu_s.append(time.process_time() - used)
    memory = _peak_gib(device)
    median = statistics.median(seconds)
    by_part = _teraflop(config, stage, metrics[1:])
    teraflop = sum(by_part.values())
    rate = matrix_rate(device, asked(config)["precision"] == "bfloat16")
    found = {
        **asdict(config),
        **asked(config),
        "auto_precision": "bfloat16" if in_bfloat16("auto", device) else "float32",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        "processor": described(),
        "parameters": sum(p.numel() for p in step.model.parameters() if p.requires_grad),
        "first_step_s": first,
        "step_s": _spread(seconds),
        "cpu_s": _spread(cpu_s),
        "segments_per_s": config.segments / median,
        "audio_s_per_s": config.segments * config.segment_s / median,
        "peak_memory_gib": memory,
        "teraflop_per_step": teraflop,
        "teraflop_by_part": by_part,
        "teraflops": teraflop / median,
        "matrix_teraflops": rate.plain(),
        "utilisation": rate.utilisation(teraflop, min(seconds), min(cpu_s)),
        "losses": [one["loss"] for one in metrics],
    }
    peak = next((value for name, value in PEAK_TFLOPS.items() if name in str(found["device"])), None)
    if peak and found["precision"] == "bfloat16":
        found["share_of_peak"] = teraflop / median / peak
    if (attention := os.environ.get(SWITCH)) is not None:
        found["attention"] = attention
    if profile:
        found["profile"] = _profile(step, device)
    return found


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def _teraflop(
    config: StepConfig, stage: PretrainStage | FinetuneStage, metrics: list[dict[str, float]]
) -> dict[str, float]:
    """TFLOP of a step by part, the mean over steps: in pretraining, how many frames are kept is drawn in each."""
    model = PRESETS[config.preset].model
    samples = round(config.segment_s * model.front_end.sample_rate)
    if isinstance(stage, FinetuneStage):
        counts = [finetuning_flop(model, stage, config.segments, samples, len(CLASSES))]
    else:
        frames = model.encoder_frames(model.front_end.frames(samples))
        kept = [round(frames * (1 - one["masked_share"])) for one in metrics]
        counts = [pretraining_flop(model, stage, config.segments, samples, number) for number in kept]
    return {part: statistics.fmean(count[part] for count in counts) / 1e12 for part in PARTS if part in counts[0]}


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
