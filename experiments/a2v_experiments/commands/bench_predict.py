"""`a2v bench predict`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from .options import Json, say
from .predict import Precision


class Preset(StrEnum):
    meerkat = "meerkat"
    xeno_canto = "xeno-canto"
    baseline = "baseline"
    base = "base"
    small = "small"
    tiny = "tiny"


def predict(
    preset: Annotated[Preset, typer.Option(help="Of the model; its weights are random.")] = Preset.small,
    precision: Annotated[Precision, typer.Option(help="auto: bfloat16 where the processor has it.")] = Precision.auto,
    minutes: Annotated[float, typer.Option(min=0.1, help="Of all recordings together.")] = 10.0,
    recordings: Annotated[int | None, typer.Option(min=1, help="Default: one for each process.")] = None,
    sample_rate: Annotated[int, typer.Option(min=1000, help="Of the recordings, Hz.")] = 48_000,
    processes: Annotated[int | None, typer.Option(min=1, help="Default: one for each core, or 4 for a GPU.")] = None,
    as_json: Json = False,
) -> None:
    """Time `a2v predict`, files in, tables out, on recordings of noise, which it makes and removes."""
    from json import dumps

    from ..basics.progress import hours_bar
    from ..bench.predict import PredictConfig, measure_prediction

    config = PredictConfig(preset.value, minutes, recordings, sample_rate, precision.value, processes)
    with hours_bar("predicting") as shown:
        found = measure_prediction(config, shown)
    say(dumps(found, indent=1) if as_json else _text(found))


def _text(found: dict[str, Any]) -> str:
    memory = found["peak_memory_gib"]
    return "\n".join(
        [
            f"{found['preset']}, {found['precision']}, on {found['device']}, {found['processes']} processes",
            f"audio           {found['audio_s'] / 60:.1f} min in {found['recordings']} recordings of "
            f"{found['sample_rate']} Hz, {found['events']} events found",
            f"speed           {found['times_real_time']:.3g} times real time, the start of the processes in it "
            f"({found['elapsed_s']:.1f} s)",
            f"a process       {found['times_real_time_of_a_process']:.3g} times real time once it runs, "
            f"{found['share_outside_model']:.1%} of it outside the model",
            f"processor       {found['audio_s_per_cpu_s']:.3g} s of audio per second of processor time "
            f"({found['cpu_s']:.1f} s, the start in it)",
            f"peak memory     {memory['process']:.2f} GiB in the largest process, {memory['all']:.2f} GiB in all",
        ]
    )
