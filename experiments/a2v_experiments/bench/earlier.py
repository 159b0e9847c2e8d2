"""A measurement beside earlier ones of the same: `a2v bench train | predict --compare FILE`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..basics.bench_results import Result, is_number, leaves, read_results
from ..basics.errors import UserError

MACHINE = ("processor/name", "processor/cores", "processor/torch", "device", "parameters", "attention")
"""What is told where it differs: a ratio then says something of that, too."""
NUMBERS = (
    "step_s", "cpu_s", "first_step_s", "segments_per_s", "audio_s_per_s", "elapsed_s", "window_s", "times_real_time",
    "times_real_time_of_a_process", "audio_s_per_cpu_s", "share_outside_model", "peak_memory_gib", "teraflop",
    "teraflop_per_step", "teraflop_by_part", "teraflops", "matrix_teraflops", "utilisation", "utilisation_of_model",
)  # fmt: skip
"""What is compared, of whatever of it both have."""


def read_earlier(paths: Sequence[Path], asked: Mapping[str, Any]) -> list[Result]:
    """Every earlier measurement of what is asked for: `command` and the settings that decide how long it takes. Those
    of other settings are passed over, where a file holds several.

    Raises UserError as `read_results`, and for a file that has none of what is asked for.
    """
    return [result for path in paths for result in _matching(path, asked)]


def _matching(path: Path, asked: Mapping[str, Any]) -> list[Result]:
    command, results = asked["command"], read_results("--compare", path)
    alike = [result for result in results if result.command == command]
    if not alike:
        raise UserError(f"--compare {path}: was printed by `a2v {results[0].command}`; must be by `a2v {command}`")
    same = [result for result in alike if not _differing(result, asked)]
    if not same:
        nearest = min(alike, key=lambda result: len(_differing(result, asked)))
        names = _differing(nearest, asked)
        then = ", ".join(f"{name} {getattr(nearest, name)}" for name in names)
        now = ", ".join(f"{name} {asked[name]}" for name in names)
        raise UserError(f"--compare {path}: was measured with {then}; must be {now}, as now")
    return same


def _differing(result: Result, asked: Mapping[str, Any]) -> list[str]:
    return [name for name in asked if getattr(result, name) != asked[name]]


def compared(found: Mapping[str, Any], earlier: Iterable[Result]) -> list[dict[str, Any]]:
    """For every earlier measurement, as JSON data: its `file`, `differences` (what else than the code changed: [name,
    then, now]) and `numbers`, name -> {then, now, ratio}, ratio = then / now (None where now is 0)."""
    now = leaves(found)
    return [_beside(result, now) for result in earlier]


def _beside(result: Result, now: Mapping[str, Any]) -> dict[str, Any]:
    then = result.leaves
    changed = [[name, then.get(name), now.get(name)] for name in MACHINE if then.get(name) != now.get(name)]
    numbers = {
        name: {"then": then[name], "now": value, "ratio": then[name] / value if value else None}
        for name, value in now.items()
        if name.partition("/")[0] in NUMBERS and is_number(value) and is_number(then.get(name))
    }
    return {"file": str(result.file), "differences": changed, "numbers": numbers}
