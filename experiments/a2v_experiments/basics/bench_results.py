"""What `a2v bench train` and `a2v bench predict` printed with --json, read back and checked.

A file holds one result, several one behind the other, a list of them, or the steps of infra/gpu_check.sh
(results.json), of which those that are no benchmark, or have no result, are passed over.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import UserError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
RIGHT = "must be what `a2v bench train` or `bench predict` printed with --json, or results.json of infra/gpu_check.sh"


class _Checked(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Result(_Checked):
    """What every result says. precision: what `auto` came to; leaves: all that it holds, name/of/leaf -> value, of
    which each number is finite and not negative."""

    file: Path
    leaves: dict[str, Any]
    command: str
    preset: str
    precision: str
    device: str


class Spread(_Checked):
    """Seconds of a step."""

    median: Positive


class TrainResult(Result):
    """Of `a2v bench train`; see there. The defaults are those of before these were printed: no segments were mixed,
    `auto` is bfloat16 on GPUs (Ampere or later), and attention took the fastest that there is."""

    stage: str
    segments: Count
    segment_s: Positive
    bcl: bool = False
    compile: bool
    gradient_checkpointing: bool
    auto_precision: str = "bfloat16"
    attention: str = "auto"
    parameters: Count
    step_s: Spread


class PredictResult(Result):
    """Of `a2v bench predict`; see there."""

    minutes: Positive
    recordings: Count
    sample_rate: Count
    processes: Count


KINDS: dict[str, type[Result]] = {"bench train": TrainResult, "bench predict": PredictResult}


def read_results(option: str, path: Path) -> list[Result]:
    """The results in a file, at least one, in their order. option: which names the file.

    Raises UserError, one line, for a file that cannot be read or that holds anything else.
    """
    try:
        found = [_checked(one, path) for one in _contents(path.read_text(encoding="utf-8")) if one is not None]
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise UserError(f"{option} {path}: is no text in UTF-8; {RIGHT}") from None
    except RecursionError:
        raise UserError(f"{option} {path}: is nested too deeply; {RIGHT}") from None
    except ValueError as error:
        raise UserError(f"{option} {path}: {error}") from None
    if not found:
        raise UserError(f"{option} {path}: holds no result; {RIGHT}")
    return found


def _contents(text: str) -> Iterator[Any]:
    """What should be a result; None for a step of gpu_check that has none."""
    decoder, at = json.JSONDecoder(), 0
    while True:
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError as error:
            raise ValueError(f"is no JSON ({error}); {RIGHT}") from None
        for one in value if isinstance(value, list) else [value]:
            yield _of_step(one) if isinstance(one, dict) and "found" in one else one


def _of_step(step: Mapping[str, Any]) -> Any:
    """What a step of gpu_check found; the step's own `command` is that of a shell."""
    found = step["found"]
    return found if not isinstance(found, dict) or found.keys() & {"command", "preset"} else None


def _checked(content: Any, path: Path) -> Result:
    if not isinstance(content, dict):
        raise ValueError(f"holds {json.dumps(content)[:40]} where a result should be; {RIGHT}")
    command = content.get("command")
    if command is None and "preset" in content:
        raise ValueError("was printed by an older version of a2v, without `command`; measure again with this one")
    kind = KINDS.get(command) if isinstance(command, str) else None
    if kind is None:
        raise ValueError(f"holds something else than a result; {RIGHT}")
    found = leaves(content)
    for name, value in found.items():
        if is_number(value) and not 0 <= value <= sys.float_info.max:
            raise ValueError(f"{name} is {str(value)[:20]}; must be a finite number, not negative: measure again")
    try:
        return kind.model_validate({**content, "file": path, "leaves": found})
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'/'.join(map(str, first['loc']))}: {first['msg']}; measure again with this a2v") from None


def is_number(value: Any) -> bool:
    """Whether JSON says a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def leaves(found: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """name/of/leaf -> value."""
    flat: dict[str, Any] = {}
    for name, value in found.items():
        flat |= leaves(value, f"{prefix}{name}/") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
