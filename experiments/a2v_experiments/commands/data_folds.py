"""`a2v data folds`."""

from __future__ import annotations

import json
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..basics.errors import FAILED, UserError
from ..basics.terminal import one_line
from .annotation_options import table_options
from .data_stats import fold_table
from .options import Json, Labelled, LabelledChoice
from .say import say, say_text

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig
    from a2v_data.folds import Folds
    from a2v_data.groups import Grouping
    from a2v_data.listing import Listing


class Scheme(StrEnum):
    """How folds come about."""

    PARTITION = "partition"
    SHUFFLE = "shuffle"


SHOWN_CLASSES = 12  # named in one line
EVEN = 0.1  # relative deviation of a class's share that needs an explanation


@table_options()
def folds(
    corpus: Annotated[Path, typer.Argument(help="A packed corpus, or a folder of recordings with their annotations.")],
    out: Annotated[Path, typer.Option(help="New folder for the manifests.")],
    count: Annotated[int, typer.Option("--folds", min=2, help="How many folds.")] = 5,
    scheme: Annotated[
        Scheme,
        typer.Option(help="partition: each recording is evaluated in one fold; shuffle: splits drawn independently."),
    ] = Scheme.PARTITION,
    evaluation_share: Annotated[
        float | None, typer.Option(help="Of the recordings, in each shuffle split.  [default: 0.2]")
    ] = None,
    shares: Annotated[
        str, typer.Option(help="Few-shot subsets of each train fold, in per cent with commas; '' for none.")
    ] = "1,25",
    holdout: Annotated[
        str | None,
        typer.Option(help="Instead of folds one hold-out: a share (0.2), or an expression found in groups' names."),
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="What stays together, as the (...) of an expression: '^(bird[0-9]+)_'.")
    ] = None,
    group_table: Annotated[Path | None, typer.Option(help="A CSV with the column file that says the group.")] = None,
    group_column: Annotated[str | None, typer.Option(help="Its column with the group, such as individual.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    labelled: Labelled = LabelledChoice.auto,
    json_: Json = False,
    *,
    annotations: AnnotationConfig,
) -> None:
    """Stratified folds with few-shot subsets, as MeerKAT's manifests: train_K.tsv, valid_K.tsv, train_K_PERCENT.tsv.

    Prints how evenly the classes are spread over the folds' evaluation recordings.
    """
    from a2v_data.class_warnings import told_about
    from a2v_data.folds import hold_out, make_folds, shuffle_folds
    from a2v_data.groups import of_the_same_groups
    from a2v_data.labelled import rule_of
    from a2v_data.listing import labelled_in, open_listing
    from a2v_data.manifests import write_fold_folder
    from a2v_data.stats import class_shares, fold_statistics
    from a2v_data.storage import refuse_existing

    from ..recipe.folds import USUAL_SHARE

    refuse_existing(out)
    percentages = _shares(shares)
    share_of_each = USUAL_SHARE if evaluation_share is None else evaluation_share
    held = _held(holdout)
    if evaluation_share is not None and scheme != Scheme.SHUFFLE:
        raise UserError("--evaluation-share belongs to --scheme shuffle; a partition evaluates one of its folds")
    if held is not None and scheme == Scheme.SHUFFLE:
        raise UserError("--scheme shuffle and --holdout: name one of them; a hold-out is a single split")
    grouping = _grouping(group, group_table, group_column)
    listing = open_listing(corpus, labelled.value, annotations)
    if held is not None:
        found = hold_out(listing, held, seed, grouping)
        names = [recording.name for recording in listing.recordings]
        away = of_the_same_groups(names, set(found[0].evaluation), grouping)
        found = replace(found, pretrain=tuple(name for name in names if name not in away))
    elif scheme == Scheme.SHUFFLE:
        found = shuffle_folds(listing, count, share_of_each, seed, grouping)
    else:
        found = make_folds(listing, count, seed, grouping)
    even = class_shares(listing, found)
    sizes = fold_statistics(listing, found, percentages, seed)
    notices = [*told_about(listing), *found.notices, *_lost_classes(listing, found, percentages, seed)]
    described = {
        "corpus": str(corpus.absolute()),
        "labelled_rule": rule_of(listing.meta),
        "labelled_recordings": sum(recording.labelled for recording in listing.recordings),
        "recordings": len(listing.recordings),
        "folds": count if held is None else None,
        "scheme": scheme.value if held is None else None,
        "evaluation_share": share_of_each if scheme == Scheme.SHUFFLE else None,
        "holdout": held,
        "group": group if group_table is None else f"{group_table.absolute()}, column {group_column}",
        "seed": seed,
        "shares_percent": [100 * share for share in percentages],
        "parts": [{"fold": fold.index, "train": len(fold.train), "evaluation": len(fold.evaluation)} for fold in found],
        "classes": even,
        "sample_sizes": sizes,
        "notices": notices,
        "left_out": listing.problems,
    }
    write_fold_folder(out, found, listing, percentages, seed, described)
    if json_:
        say_text(json.dumps({"out": str(out), **described}, indent=1, ensure_ascii=False))
    else:
        for problem in listing.problems:
            say(f"left out: {problem}")
        say_text(_table(even, len(found)))
        say_text(_explanation(even, chosen=isinstance(held, str)))
        say_text(fold_table(list(listing.classes), sizes))
        say(labelled_in(listing))
        for notice in notices:
            say(f"note: {notice}")
        parts = ", ".join(f"{len(fold.train)}/{len(fold.evaluation)}" for fold in found)
        what = f"{len(found)} folds" if held is None else "a hold-out (fold 0)"
        say(f"{out}: {what}; recordings to train on / to evaluate on: {parts}")
    if listing.problems:
        raise typer.Exit(FAILED)


def _shares(text: str) -> list[float]:
    try:
        percentages = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"--shares {text}: must be percentages with commas between, for example 1,25") from None
    if not all(0 < percentage < 100 for percentage in percentages):
        raise UserError(f"--shares {text}: percentages must be above 0 and below 100; train_K.tsv has all labels")
    if len(set(percentages)) < len(percentages):
        raise UserError(f"--shares {text}: name each percentage once")
    return [percentage / 100 for percentage in percentages]


def _held(text: str | None) -> float | str | None:
    """A number is a share, anything else an expression."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _grouping(pattern: str | None, table: Path | None, column: str | None) -> Grouping:
    from a2v_data.groups import by_pattern, by_table

    if (table is None) != (column is None):
        raise UserError("--group-table and --group-column go together: a CSV, and its column that says the group")
    if table is not None and column is not None:
        if pattern is not None:
            raise UserError("--group and --group-table: name one of them")
        return by_table(table, column)
    return "recording" if pattern is None else by_pattern(pattern)


def _lost_classes(listing: Listing, found: Folds, shares: list[float], seed: int) -> list[str]:
    """One line for every few-shot subset that lacks classes which its train fold has."""
    from a2v_data.class_mapping import some_of
    from a2v_data.folds import class_counts, label_share

    counts_RC = class_counts(listing)
    lines = []
    for share in shares:
        for fold in found:
            kept = label_share(fold, share, seed).train
            there_C, kept_C = (counts_RC[listing.indices(names)].sum(0) > 0 for names in (fold.train, kept))
            rows = zip(listing.classes, there_C, kept_C, strict=True)
            lost = [name for name, there, has in rows if there and not has]
            if lost:
                told = some_of(lost, SHOWN_CLASSES)
                lines.append(f"fold {fold.index} at {100 * share:g} %: {len(kept)} recordings, without {told}")
    return lines


def _table(even: dict[str, Any], count: int) -> str:
    from ..basics.tables import text_table

    header = ["class", "events", "share", *(f"fold {fold}" for fold in range(count)), "deviation"]
    rows = [
        [
            name,
            str(row["events"]),
            f"{100 * row['share']:.2f} %",
            *(f"{100 * share:.2f} %" for share in row["fold_shares"]),
            "" if row["deviation"] is None else f"{100 * row['deviation']:.1f} %",
        ]
        for name, row in even.items()
    ]
    return text_table(header, rows)


def _explanation(even: dict[str, Any], chosen: bool) -> str:
    """The largest deviation, and for every class above 10 % why it is; chosen: the user said what is held out."""
    from a2v_data.class_mapping import some_of

    defined = {name: row for name, row in even.items() if row["deviation"] is not None}
    if not defined:
        return "no events: folds are even in their number of recordings only"
    worst = max(defined, key=lambda name: defined[name]["deviation"])
    lines = [
        "share: of all events; fold: of the events in its evaluation recordings; deviation: the largest, relative",
        f"largest deviation {100 * defined[worst]['deviation']:.1f} % ({worst})",
    ]
    uneven = {name: row for name, row in defined.items() if row["deviation"] > EVEN}
    if not uneven or chosen:
        return "\n".join(map(one_line, lines))
    few = [name for name, row in uneven.items() if row["at_best"] > 0.8 * EVEN]
    clumped = [name for name in uneven if name not in few]
    if few:
        least = [f"{name} ({even[name]['events']}: {100 * even[name]['at_best']:.0f} %)" for name in few]
        each = some_of(least, SHOWN_CLASSES)
        lines.append(f"too few events to be more even (whole events alone make it): {each}")
    if clumped:
        lines.append(
            f"above {100 * EVEN:.0f} % since recordings and groups cannot be divided: {some_of(clumped, SHOWN_CLASSES)}"
        )
    rest = [row["deviation"] for name, row in defined.items() if name not in uneven]
    if rest:
        lines.append(f"the other {len(rest)} classes: at most {100 * max(rest):.1f} %")
    return "\n".join(map(one_line, lines))
