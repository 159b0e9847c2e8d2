"""`a2v bench predict`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .bench_text import Compare, compared_lines, one_of, part_lines, utilisation_text
from .options import Json, finite
from .predict import Precision
from .say import say_text


def predict(
    preset: Annotated[str, typer.Option(help="As of `bench train`; the model's weights are random.")] = "small",
    precision: Annotated[Precision, typer.Option(help="auto: bfloat16 where the processor has it.")] = Precision.auto,
    minutes: Annotated[float, typer.Option(min=0.1, callback=finite, help="Of all recordings together.")] = 10.0,
    recordings: Annotated[int | None, typer.Option(min=1, help="Default: one for each process.")] = None,
    sample_rate: Annotated[int, typer.Option(min=1000, help="Of the recordings, Hz.")] = 48_000,
    processes: Annotated[int | None, typer.Option(min=1, help="Default: one for each core, or 4 for a GPU.")] = None,
    compare: Compare = None,
    as_json: Json = False,
) -> None:
    """Time `a2v predict`, files in, tables out, on recordings of noise, which it makes and removes."""
    from json import dumps

    from a2v_model import PRESETS

    one_of("--preset", preset, list(PRESETS))
    from ..basics.progress import hours_bar
    from ..bench.earlier import compared, read_earlier
    from ..bench.predict import PredictConfig, asked, measure_prediction

    config = PredictConfig(preset, minutes, recordings, sample_rate, precision.value, processes)
    earlier = read_earlier(compare or [], asked(config))
    with hours_bar("predicting") as shown:
        found = measure_prediction(config, shown)
    if earlier:
        found["compared"] = compared(found, earlier)
    say_text(dumps(found, indent=1) if as_json else _text(found))


def _text(found: dict[str, Any]) -> str:
    memory = found["peak_memory_gib"]
    return "\n".join(
        [
            f"{found['preset']}, {found['precision']}, on {found['device']} "
            f"({found['processor']['name']}), {found['processes']} processes",
            f"audio           {found['audio_s'] / 60:.1f} min in {found['recordings']} recordings of "
            f"{found['sample_rate']} Hz, {found['events']} events found",
            f"speed           {found['times_real_time']:.3g} times real time, the start of the processes in it "
            f"({found['elapsed_s']:.1f} s)",
            f"a process       {found['times_real_time_of_a_process']:.3g} times real time once it runs, "
            f"{found['share_outside_model']:.1%} of it outside the model",
            f"processor       {found['audio_s_per_cpu_s']:.3g} s of audio per second of processor time "
            f"({found['cpu_s']:.1f} s, the start in it)",
            f"peak memory     {memory['process']:.2f} GiB in the largest process, {memory['all']:.2f} GiB in all",
            f"arithmetic      {found['teraflop']:.4g} TFLOP in the model, "
            f"{1000 * found['teraflop'] / found['audio_s']:.3g} GFLOP a second of audio",
            f"utilisation     {utilisation_text(found)}",
            f"the model       {found['window_s']:.3g} s for a window by itself, utilisation "
            f"{found['utilisation_of_model']:.1%}",
            *part_lines(found["teraflop_by_part"]),
            *compared_lines(found),
        ]
    )
