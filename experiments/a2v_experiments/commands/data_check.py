"""`a2v data check`."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import FAILED
from .options import Json, say

if TYPE_CHECKING:
    from a2v_data.check_problem import Problem


def check(
    root: Annotated[Path, typer.Argument(help="Folder with wav/, lbl/ and manifest/.")],
    json_: Json = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that read; by default one for each core.")] = (
        os.cpu_count() or 1
    ),
    rows: Annotated[int, typer.Option(min=0, help="Problems of each kind that the table shows; 0: all.")] = 20,
    manifests: Annotated[Path | None, typer.Option(help="Folder of the manifests, if not manifest/ in it.")] = None,
    sample_rate: Annotated[int, typer.Option(min=1, help="Rate that every WAV must have, in Hz.")] = 8000,
    segment_s: Annotated[float, typer.Option(min=0.001, help="Length that every WAV must have, in seconds.")] = 10.0,
    classes: Annotated[
        str | None, typer.Option(help="Class names in the order of their numbers, with commas; default: MeerKAT's.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Also require the numbers of files of the published corpus.")
    ] = False,
) -> None:
    """Verify a copy of MeerKAT, or of a corpus in its layout: headers, labels and manifests of every file.

    A WAV without a label file counts as not labelled (most of MeerKAT is); it is a problem only where a train or valid
    manifest lists it. Exit code 1 where there are problems.
    """
    from a2v_data.check import check as check_corpus
    from a2v_data.check_problem import Expected
    from a2v_data.meerkat import MEERKAT_CLASSES

    from ..progress import advancing, bar
    from ..tables import text_table

    names = MEERKAT_CLASSES if classes is None else tuple(name.strip() for name in classes.split(","))
    expected = Expected(sample_rate, round(segment_s * sample_rate), names)
    with bar("checking", 0, "files") as shown:
        report = check_corpus(root, expected, manifests, jobs, published, advancing(shown))
    if json_:
        say(json.dumps(report.as_json(), indent=1, ensure_ascii=False))
    else:
        table = [(one.kind, one.file, one.where, one.message) for one in _first_of_each_kind(report.problems, rows)]
        if table:
            say(text_table(("kind", "file", "where", "what is wrong"), table, left=4))
            if len(table) < len(report.problems):
                say(f"... and {len(report.problems) - len(table)} more; --rows 0 or --json shows all")
            say("")
        for notice in report.notices:
            say(f"note: {notice}")
        say(report.summary())
    if report.problems:
        raise typer.Exit(FAILED)


def _first_of_each_kind(problems: list[Problem], most: int) -> list[Problem]:
    """In their order, at most so many of a kind (0: all), so that a kind with thousands hides no other."""
    seen: Counter[str] = Counter()
    kept = []
    for problem in problems:
        seen[problem.kind] += 1
        if not most or seen[problem.kind] <= most:
            kept.append(problem)
    return kept
