"""`python -m a2v_experiments.stages.pin`: say of changed code whether it computes what it did before.

Without options: it does, so what was made before stays valid. `--raise PART` (repeatable): that part's results differ,
so what it made before is made again by whoever upgrades; say so in CHANGELOG.md. Writes code_versions.json.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..basics.code_versions import PLACE, Pinned, Version, pinned
from ..basics.left_out import class_key, configurations, defaults
from ..basics.source_code import installed
from ..recipe.sections import Recipe
from .code import PARTS, digest, modules


def left_out(before: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """`Pinned.left_out` for the configurations that there are: fields that are known keep their value, new ones have
    their default."""
    found: dict[str, dict[str, Any]] = {}
    waiting = list(configurations(Recipe))[::-1]
    for kind in waiting:  # an inner one first, as an outer one's default is shown without what is usual in it
        known = before.get(class_key(kind), {})
        found[class_key(kind)] = {name: known.get(name, value) for name, value in defaults(kind, before).items()}
    return dict(sorted(found.items()))


def up_to_date(raised: frozenset[str] = frozenset()) -> Pinned:
    """What the file should hold. raised: parts whose results differ from before."""
    before = pinned()
    values = left_out(before["left_out"])
    code: dict[str, Version] = {}
    for part in PARTS:
        found = digest(modules(part, installed(), values))
        version = before["code"].get(part, {"version": 0 if part in raised else 1, "digest": ""})["version"]
        code[part] = {"version": version + (part in raised), "digest": found}
    return {"code": code, "left_out": values}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m a2v_experiments.stages.pin", description=__doc__)
    parser.add_argument(
        "--raise", dest="raised", action="append", default=[], choices=list(PARTS), metavar="PART",
        help=f"results of this part differ from before: {', '.join(PARTS)}",
    )  # fmt: skip
    raised = frozenset(parser.parse_args().raised)
    before = pinned()["code"]
    after = up_to_date(raised)
    PLACE.write_text(json.dumps(after, indent=1) + "\n", encoding="utf-8")
    for part, now in after["code"].items():
        if now != before.get(part):
            what = "results differ from before" if part in raised else "as before"
            print(f"{part}: v{now['version']}, {what}")


if __name__ == "__main__":
    main()
