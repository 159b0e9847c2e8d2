"""A measurement beside earlier ones of the same: `a2v bench train | predict --compare FILE`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..basics.errors import UserError

MACHINE = ("processor/name", "processor/cores", "processor/torch", "device", "parameters")
"""What is told where it differs: a ratio then says something of that, too."""
NUMBERS = (
    "step_s", "cpu_s", "first_step_s", "segments_per_s", "audio_s_per_s", "elapsed_s", "window_s", "times_real_time",
    "times_real_time_of_a_process", "audio_s_per_cpu_s", "share_outside_model", "peak_memory_gib", "teraflop",
    "teraflop_per_step", "teraflop_by_part", "teraflops", "matrix_teraflops", "utilisation", "utilisation_of_model",
)  # fmt: skip
"""What is compared, of whatever of it both have."""

Result = Mapping[str, Any]


def read_earlier(paths: Sequence[Path], asked: Result) -> list[tuple[Path, Result]]:
    """(file, result) of every earlier measurement of what is asked for: `command` and the settings that decide how
    long it takes. A file may hold several results, one behind the other; those of other settings are passed over.

    Raises UserError for a file that is missing or no JSON, or that has none of what is asked for.
    """
    return [(path, result) for path in paths for result in _matching(path, asked)]


def _matching(path: Path, asked: Result) -> list[Result]:
    command = asked["command"]
    results = [result for result in _results(path) if isinstance(result, dict) and "command" in result]
    if not results:
        raise UserError(f"--compare {path}: holds nothing that `a2v {command} --json` printed")
    alike = [result for result in results if result["command"] == command]
    if not alike:
        raise UserError(f"--compare {path}: was printed by `a2v {results[0]['command']}`; must be by `a2v {command}`")
    same: list[Result] = [result for result in alike if not _differing(result, asked)]
    if not same:
        nearest = min(alike, key=lambda result: len(_differing(result, asked)))
        names = _differing(nearest, asked)
        then, now = (", ".join(f"{name} {one.get(name)}" for name in names) for one in (nearest, asked))
        raise UserError(f"--compare {path}: was measured with {then}; must be {now}, as now")
    return same


def _results(path: Path) -> Iterator[Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise UserError(f"--compare {path}: cannot be read ({reason})") from None
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            result, at = decoder.raw_decode(text, at)
        except ValueError as error:
            raise UserError(f"--compare {path}: is no JSON ({error})") from None
        yield from result if isinstance(result, list) else [result]


def _differing(result: Result, asked: Result) -> list[str]:
    return [name for name in asked if result.get(name) != asked[name]]


def compared(found: Result, earlier: Iterable[tuple[Path, Result]]) -> list[dict[str, Any]]:
    """For every earlier measurement, as JSON data: its `file`, `differences` (what else than the code changed: [name,
    then, now]) and `numbers`, name -> {then, now, ratio}, ratio = then / now (None where now is 0)."""
    now = _leaves(found)
    return [_beside(path, _leaves(result), now) for path, result in earlier]


def _beside(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    changed = [[name, then.get(name), now.get(name)] for name in MACHINE if then.get(name) != now.get(name)]
    numbers = {
        name: {"then": then[name], "now": value, "ratio": then[name] / value if value else None}
        for name, value in now.items()
        if name.partition("/")[0] in NUMBERS and _is_number(value) and _is_number(then.get(name))
    }
    return {"file": str(path), "differences": changed, "numbers": numbers}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _leaves(found: Result, prefix: str = "") -> dict[str, Any]:
    """name/of/leaf -> value."""
    leaves: dict[str, Any] = {}
    for name, value in found.items():
        leaves |= _leaves(value, f"{prefix}{name}/") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return leaves
