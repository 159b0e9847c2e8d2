"""`a2v data check`."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..basics.errors import FAILED, UserError
from ..basics.places import command
from .annotation_options import table_options
from .options import Json, Labelled, LabelledChoice
from .say import say, say_text

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig
    from a2v_data.check import CheckReport
    from a2v_data.check_problem import Problem


@table_options()
def check(
    root: Annotated[Path, typer.Argument(help="Folder of recordings with tables, or with wav/, lbl/ and manifest/.")],
    json_: Json = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that read; by default one for each core.")] = (
        os.cpu_count() or 1
    ),
    rows: Annotated[int, typer.Option(min=0, help="Problems of each kind that the table shows; 0: all.")] = 20,
    manifests: Annotated[Path | None, typer.Option(help="Folder of the manifests, if not manifest/ in it.")] = None,
    sample_rate: Annotated[
        int | None,
        typer.Option(min=1, help="In Hz; default: 8000. Of segments what each must have, else what a model hears."),
    ] = None,
    segment_s: Annotated[
        float | None, typer.Option(min=0.001, help="Length that every WAV must have, in seconds; default: 10.")
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            help="Class names in the order of their numbers, with commas; may be repeated; default: MeerKAT's."
        ),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Also require the numbers of files of the published corpus.")
    ] = False,
    labelled: Labelled = LabelledChoice.auto,
    *,
    annotations: AnnotationConfig,
) -> None:
    """Verify a folder of recordings with their tables, or a copy of MeerKAT or of a corpus in its layout: headers,
    labels and manifests of every file.

    Of recordings with tables: every header, every row, labels beyond their recording, and those above half of --sample-
    rate. In MeerKAT's layout labelled are the segments with events (in MeerKAT every one has a label file), or those
    with a label file where `a2v data prepare` wrote the folder. A WAV without a label file is a problem only where a
    train or valid manifest lists it. A folder that `a2v data prepare` made says its own rate, length and classes. Exit
    code 1 where there are problems.
    """
    from a2v_data.check import check as check_corpus
    from a2v_data.check_problem import Expected
    from a2v_data.check_source import check_source, is_source
    from a2v_data.corpus_files import META
    from a2v_data.meerkat import MEERKAT_CLASSES
    from a2v_data.prepared import read_prepared

    from ..basics.names import listed
    from ..basics.progress import advancing, bar

    if (root / META).is_file():
        raise UserError(f"{root}: is a packed store; {command('data', 'verify', root)} compares its checksums")
    segments = {"--manifests": manifests, "--segment-s": segment_s, "--classes": classes, "--published": published}
    if is_source(root, annotations):
        if given := [option for option, value in segments.items() if value]:
            raise UserError(f"{given[0]}: is for MeerKAT's layout (wav/ and lbl/), which {root} has not")
        with bar("checking", 0, "files") as shown:
            report = check_source(root, labelled.value, annotations, sample_rate or 8000, advancing(shown))
        _say(report, json_, rows)
        return
    if annotations.model_fields_set:
        raise UserError(f"--{min(annotations.model_fields_set).replace('_', '-')}: is for tables, which {root} has not")
    made = read_prepared(root)
    names = (made.classes if made else None) or MEERKAT_CLASSES
    if classes is not None:
        names = tuple(listed(classes) or ())
    rate = sample_rate or (made.sample_rate if made else 8000)
    samples = made.segment_samples if made and segment_s is None else round((segment_s or 10.0) * rate)
    expected = Expected(rate, samples, tuple(names))
    with bar("checking", 0, "files") as shown:
        report = check_corpus(root, expected, manifests, jobs, published, advancing(shown), labelled.value)
    _say(report, json_, rows)


def _say(report: CheckReport, as_json: bool, rows: int) -> None:
    from ..basics.tables import text_table
    from ..score.files import with_options

    if as_json:
        say_text(json.dumps(report.as_json(), indent=1, ensure_ascii=False))
    else:
        table = [
            (one.kind, one.file, one.where, with_options(one.message))
            for one in _first_of_each_kind(report.problems, rows)
        ]
        if table:
            say_text(text_table(("kind", "file", "where", "what is wrong"), table, left=4))
            if len(table) < len(report.problems):
                say(f"... and {len(report.problems) - len(table)} more; --rows 0 or --json shows all")
            say("")
        for notice in report.notices:
            say(f"note: {with_options(notice)}")
        for warning in report.warnings:
            say(f"warning: {warning}")
        say(report.labelled_line())
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
