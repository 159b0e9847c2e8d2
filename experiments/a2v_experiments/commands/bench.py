"""`a2v bench`: speed, memory and scores on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .bench_detect import detect
from .bench_eval import eval_
from .bench_predict import predict
from .bench_review import review
from .bench_train import train
from .options import finite
from .say import say, say_text

group = typer.Typer(no_args_is_help=True, help="Measure speed, memory and scores on this machine.")
group.command("detect")(detect)
group.command("eval")(eval_)
group.command("predict")(predict)
group.command("review")(review)
group.command("train")(train)


@group.command("data")
def data(
    store: Annotated[Path, typer.Argument(help="A packed store.")],
    segment_s: Annotated[float, typer.Option("--segment-s", callback=finite, help="Seconds of a segment.")] = 10.0,
    segments: Annotated[int, typer.Option("--segments", min=1, help="How many different ones are read.")] = 1000,
    processes: Annotated[int | None, typer.Option("--processes", min=1, help="Default: one for each core.")] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.01, callback=finite, help="Of each measurement.")] = 3.0,
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
        say_text(dumps({**values, "audio_s_per_s": speed.per_process}, indent=2))
        return
    say(f"{store}: {speed.segments} segments of {segment_s:g} s, read at random by {count} process(es), warm")
    say(f"{'':16}{'segments/s':>12}{'audio s/s':>12}{'per process':>13}")
    for source, shown in (("store", "store"), ("wav", "WAV (soundfile)")):
        total = speed.total(source)
        say(f"{shown:16}{total / segment_s:>12,.0f}{total:>12,.0f}{total / count:>13,.0f}")
    say(f"the store is {speed.total('store') / speed.total('wav'):.1f} times as fast")
