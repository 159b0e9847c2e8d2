"""`a2v bench`: speed, memory and scores on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..basics.errors import UserError
from .bench_detect import detect
from .bench_eval import eval_
from .bench_predict import predict
from .bench_review import review
from .options import say

group = typer.Typer(no_args_is_help=True, help="Measure speed, memory and scores on this machine.")
group.command("detect")(detect)
group.command("eval")(eval_)
group.command("predict")(predict)
group.command("review")(review)


@group.command("train")
def train(
    preset: Annotated[str, typer.Option(help="meerkat, xeno-canto, baseline, base, small, tiny, crnn.")] = "small",
    stage: Annotated[str, typer.Option(help="pretrain or finetune (12 classes).")] = "pretrain",
    segments: Annotated[int, typer.Option(min=1, help="Segments in one step.")] = 1,
    segment_s: Annotated[float, typer.Option(min=0.1, help="Seconds of a segment.")] = 10.0,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    steps: Annotated[int, typer.Option(min=1, help="Steps that are timed, after one that is not.")] = 3,
    compile_: Annotated[bool, typer.Option("--compile", help="With torch.compile.")] = False,
    gradient_checkpointing: Annotated[bool, typer.Option("--gradient-checkpointing", help="Less memory.")] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Show where the time goes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of text.")] = False,
) -> None:
    """Time training steps of a preset: forward, backward, optimiser, teacher. Uses a GPU where there is one."""
    _one_of("--stage", stage, ["pretrain", "finetune"])
    _one_of("--precision", precision, ["auto", "float32", "bfloat16"])
    from a2v_model import PRESETS

    _one_of("--preset", preset, list(PRESETS))
    from ..bench.train import StepConfig, measure_step

    config = StepConfig(preset, stage, segments, segment_s, precision, steps, compile_, gradient_checkpointing)
    found = measure_step(config, profile)
    say(json.dumps(found, indent=1) if as_json else _step_text(found))


@group.command("data")
def data(
    store: Annotated[Path, typer.Argument(help="A packed store.")],
    segment_s: Annotated[float, typer.Option("--segment-s", help="Seconds of a segment.")] = 10.0,
    segments: Annotated[int, typer.Option("--segments", min=1, help="How many different ones are read.")] = 1000,
    processes: Annotated[int | None, typer.Option("--processes", min=1, help="Default: one for each core.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.01, help="Of each measurement.")] = 3.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Read random segments from a store and the same ones from WAV files, warm, and compare."""
    from json import dumps

    from a2v_data.scheduling import cores

    from ..bench.data import reading_speed

    count = processes or cores()
    speed = reading_speed(store, segment_s, segments, count, seconds)
    if json:
        values = {"segments": speed.segments, "segment_s": segment_s, "processes": count, "seconds": seconds}
        say(dumps({**values, "audio_s_per_s": speed.per_process}, indent=2))
        return
    say(f"{store}: {speed.segments} segments of {segment_s:g} s, read at random by {count} process(es), warm")
    say(f"{'':16}{'segments/s':>12}{'audio s/s':>12}{'per process':>13}")
    for source, shown in (("store", "store"), ("wav", "WAV (soundfile)")):
        total = speed.total(source)
        say(f"{shown:16}{total / segment_s:>12,.0f}{total:>12,.0f}{total / count:>13,.0f}")
    say(f"the store is {speed.total('store') / speed.total('wav'):.1f} times as fast")


def _one_of(option: str, value: str, known: list[str]) -> None:
    if value not in known:
        raise UserError(f"{option} {value}: must be one of {', '.join(known)}")


def _step_text(found: dict[str, Any]) -> str:
    step = found["step_s"]
    how = [found["precision"]]
    how += [name for key, name in (("compile", "compiled"), ("gradient_checkpointing", "checkpointed")) if found[key]]
    lines = [
        f"{found['preset']} {found['stage']}, {found['parameters']:,} trained parameters, {', '.join(how)}",
        f"on {found['device']}: {found['segments']} x {found['segment_s']:g} s a step",
        f"step            {step['median']:.3f} s ({step['least']:.3f} to {step['most']:.3f}, {found['steps']} steps; "
        f"first {found['first_step_s']:.3f})",
        f"audio           {found['audio_s_per_s']:.2f} s per second, {found['segments_per_s']:.2f} segments per second",
        f"peak memory     {found['peak_memory_gib']:.2f} GiB",
    ]
    if "teraflops" in found:
        share = f", {found['share_of_peak']:.1%} of the bfloat16 peak" if "share_of_peak" in found else ""
        lines.append(
            f"arithmetic      {found['teraflop_per_step']:.3f} TFLOP a step, {found['teraflops']:.3f} TFLOP/s{share}"
        )
    for entry in found.get("profile", []):
        lines.append(f"  {entry['share']:6.1%}  {entry['operation']} ({entry['calls']} calls)")
    return "\n".join(lines)
