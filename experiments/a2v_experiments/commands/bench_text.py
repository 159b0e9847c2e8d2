"""What `a2v bench train` and `predict` say alike: FLOP by part, utilisation, and numbers beside earlier ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ..basics.errors import UserError

Compare = Annotated[
    list[Path] | None,
    typer.Option(help="What an earlier call printed with --json, of the same settings; repeatable: show ratios."),
]


def one_of(option: str, value: str, known: list[str]) -> None:
    """Raise UserError for a value that is not known."""
    if value not in known:
        raise UserError(f"{option} {value}: must be one of {', '.join(known)}")


def part_lines(by_part: Mapping[str, float]) -> list[str]:
    """A line for each part, from TFLOP."""
    from a2v_model.flops import PARTS

    total = sum(by_part.values())
    return [f"  {flop / total:6.1%}  {PARTS[part]}, {1000 * flop:.3g} GFLOP" for part, flop in by_part.items()]


def utilisation_text(found: Mapping[str, Any]) -> str:
    """What share of the machine's matrix rate is reached: on a CPU by its own time, then by the clock."""
    rate, share = found["matrix_teraflops"], found["utilisation"]
    if "per_cpu_s" not in share:
        return f"{share['per_s']:.1%} of the {rate['per_s']:.3g} TFLOP/s of matrix products here"
    return (
        f"{share['per_cpu_s']:.1%} of the {rate['per_cpu_s']:.3g} TFLOP that matrix products do here in a second of "
        f"processor time; by the clock {share['per_s']:.1%}"
    )


def compared_lines(found: Mapping[str, Any]) -> list[str]:
    """A table for every earlier measurement, with what else has changed before it."""
    lines: list[str] = []
    for one in found.get("compared", []):
        lines += ["", f"beside {one['file']}"]
        lines += [
            f"  {name} is another: {then} then, {now} now; the ratios are of that, too"
            for name, then, now in one["differences"]
        ]
        width = max((len(name) for name in one["numbers"]), default=0)
        lines.append(f"  {'':{width}}{'then':>12}{'now':>12}{'then / now':>12}")
        for name, row in one["numbers"].items():
            ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
            lines.append(f"  {name:{width}}{row['then']:>12.4g}{row['now']:>12.4g}{ratio:>12}")
    return lines
