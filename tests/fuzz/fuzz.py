"""Mutated inputs by the hundred, and how many of each family fell: `make fuzz`, or

    python tests/fuzz/fuzz.py [--family NAME] [--seed N] [--count N] [--keep FOLDER] [--json FILE]

A case is its family, the seed and its number: `--family audio --seed 3 --only 17 --keep FOLDER` runs one of them again
and leaves its input there.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")

from fuzz_families import FAMILIES
from fuzz_run import Family, Outcome, run_case


def rng_of(family: str, seed: int, number: int) -> Random:
    return Random(f"{family} {seed} {number}")


def run_family(family: Family, seed: int, numbers: range, work: Path, keep: Path | None) -> list[dict]:
    """What became of the cases of one family."""
    ready = work / f"{family.name}-ready"
    if not ready.exists():
        ready.mkdir(parents=True)
        family.ready(ready)
    found = []
    for number in numbers:
        folder = (keep or work) / f"{family.name}-{seed}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        case = family.make(rng_of(family.name, seed, number), ready, folder)
        outcome = run_case(case, folder)
        found.append(row(family.name, seed, number, case.what, outcome))
        if outcome.fault:
            said = "\n".join(f"    {line[:300]}" for line in outcome.output.splitlines()[-6:])
            print(
                f"FELL {family.name} --seed {seed} --only {number}: {outcome.fault} ({case.what[:200]})\n{said}",
                flush=True,
            )
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(
                f"{folder}: exit {outcome.code}, {outcome.cpu_s:.1f} CPU-s, {case.what[:200]}\n{outcome.output[:3000]}"
            )
    return found


def row(family: str, seed: int, number: int, what: str, outcome: Outcome) -> dict:
    return {
        "family": family, "seed": seed, "number": number, "what": what[:300], "fault": outcome.fault,
        "code": outcome.code, "cpu_s": round(outcome.cpu_s, 2), "memory_mb": round(outcome.memory_mb),
        "output": outcome.output[-2000:],
    }  # fmt: skip


def table(rows: list[dict]) -> str:
    """Counts by family: cases, taken (exit 0), refused, fell, the longest CPU time and the largest memory."""
    lines = ["| family | cases | taken | refused | fell | most CPU-s | most MB |", "|---|---|---|---|---|---|---|"]
    for name in [*dict.fromkeys(one["family"] for one in rows), "all"]:
        of = [one for one in rows if name in ("all", one["family"])]
        fell = sum(bool(one["fault"]) for one in of)
        taken = sum(one["code"] == 0 and not one["fault"] for one in of)
        most = [f"{max(one[key] for one in of):{form}}" for key, form in (("cpu_s", ".1f"), ("memory_mb", ".0f"))]
        lines.append(f"| {name} | {len(of)} | {taken} | {len(of) - taken - fell} | {fell} | {' | '.join(most)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", action="append", choices=sorted(FAMILIES), help="these alone; all without it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100, help="cases of each family")
    parser.add_argument("--only", type=int, help="the one case of this number")
    parser.add_argument("--keep", type=Path, help="leave the inputs in this folder, and print what was said")
    parser.add_argument("--json", type=Path, help="write what became of each case there")
    options = parser.parse_args()
    numbers = range(options.count) if options.only is None else range(options.only, options.only + 1)
    begun, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory() as work:
        for name in options.family or FAMILIES:
            rows += run_family(FAMILIES[name], options.seed, numbers, Path(work), options.keep)
    print(f"seed {options.seed}, {time.monotonic() - begun:.0f} s\n{table(rows)}")
    if options.json:
        options.json.write_text(json.dumps(rows))
    return int(any(one["fault"] for one in rows))


if __name__ == "__main__":
    sys.exit(main())
