"""`a2v bench train`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from .bench_text import Compare, compared_lines, one_of, part_lines, utilisation_text
from .options import finite
from .say import say_text


def train(
    preset: Annotated[str, typer.Option(help="meerkat, xeno-canto, baseline, base, small, tiny, crnn.")] = "small",
    stage: Annotated[str, typer.Option(help="pretrain or finetune (12 classes).")] = "pretrain",
    segments: Annotated[int, typer.Option(min=1, help="Segments in one step.")] = 1,
    segment_s: Annotated[float, typer.Option(min=0.1, callback=finite, help="Seconds of a segment.")] = 10.0,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    steps: Annotated[int, typer.Option(min=1, help="Steps that are timed, after one that is not.")] = 3,
    compile_: Annotated[bool, typer.Option("--compile", help="With torch.compile.")] = False,
    gradient_checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing", help="Less memory.")] = False,
    bcl: Annotated[bool, typer.Option("--bcl", help="Mix segments, as the paper's recipes do.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Show where the time goes.")] = False,
    compare: Compare = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> None:
    """Time training steps of a preset: forward, backward, optimiser, teacher. Uses a GPU where there is one."""
    one_of("--stage", stage, ["pretrain", "finetune"])
    one_of("--precision", precision, ["auto", "float32", "bfloat16"])
    from a2v_model import PRESETS

    one_of("--preset", preset, list(PRESETS))
    from ..bench.earlier import compared, read_earlier
    from ..bench.train import StepConfig, asked, measure_step

    config = StepConfig(preset, stage, segments, segment_s, precision, steps, compile_, gradient_checkpointing, bcl)
    earlier = read_earlier(compare or [], asked(config))
    found = measure_step(config, profile)
    if earlier:
        found["compared"] = compared(found, earlier)
    say_text(json.dumps(found, indent=1) if as_json else _text(found))


def _text(found: dict[str, Any]) -> str:
    step, cpu_s = found["step_s"], found["cpu_s"]
    how = [found["precision"]]
    ways = {"compile": "compiled", "gradient_checkpointing": "checkpointed", "bcl": "segments mixed"}
    how += [name for key, name in ways.items() if found[key]]
    of_peak = f", {found['share_of_peak']:.1%} of the bfloat16 peak" if "share_of_peak" in found else ""
    lines = [
        f"{found['preset']} {found['stage']}, {found['parameters']:,} trained parameters, {', '.join(how)}",
        f"on {found['device']} ({found['processor']['name']}): {found['segments']} x {found['segment_s']:g} s a step",
        f"step            {step['median']:.3f} s ({step['least']:.3f} to {step['most']:.3f}, {found['steps']} steps; "
        f"first {found['first_step_s']:.3f})",
        f"processor       {cpu_s['median']:.3f} s of its time a step ({cpu_s['least']:.3f} to {cpu_s['most']:.3f})",
        f"audio           {found['audio_s_per_s']:.2f} s per second, {found['segments_per_s']:.2f} segments per second",
        f"peak memory     {found['peak_memory_gib']:.2f} GiB",
        f"arithmetic      {found['teraflop_per_step']:.4g} TFLOP a step, {found['teraflops']:.4g} TFLOP/s{of_peak}",
        f"utilisation     {utilisation_text(found)}",
        *part_lines(found["teraflop_by_part"]),
    ]
    if "profile" in found:
        lines.append("time by operation")
    for entry in found.get("profile", []):
        lines.append(f"  {entry['share']:6.1%}  {entry['operation']} ({entry['calls']} calls)")
    return "\n".join([*lines, *compared_lines(found)])
