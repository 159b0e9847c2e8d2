"""`a2v data stats`."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..basics.errors import FAILED
from ..basics.terminal import one_line
from .annotation_options import table_options
from .options import Json, Labelled, LabelledChoice
from .say import say, say_text

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig

SHOWN_OVERLAPS = 12
CAPTION = "length: median (orange), 25 to 75 % (thick) and 5 to 95 % (thin) of the events"


@table_options()
def stats(
    corpus: Annotated[Path, typer.Argument(help="A packed corpus, or a folder of recordings with their annotations.")],
    folds: Annotated[Path | None, typer.Option(help="Folder of manifests, as `a2v data folds` writes it.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw the figure to this new file (png, pdf, svg).")] = None,
    not_vocal: Annotated[
        list[str] | None,
        typer.Option(
            help="Classes that are no vocalisation, with commas; may be repeated; default: beep, synch, eating if they"
            " exist."
        ),
    ] = None,
    labelled: Labelled = LabelledChoice.auto,
    json_: Json = False,
    *,
    annotations: AnnotationConfig,
) -> None:
    """What a corpus holds: events, durations and lengths per class, how sparse it is, what overlaps, and folds."""
    from a2v_data.class_warnings import told_about
    from a2v_data.figures import check_format, save, statistics_figure
    from a2v_data.listing import labelled_in, open_listing
    from a2v_data.manifests import folds_in, holdout_in, read_manifests, shares_in
    from a2v_data.stats import NOT_VOCAL, check_not_vocal, corpus_statistics, fold_statistics

    from ..basics.names import listed, rejoined

    if png is not None:
        check_format(png)
    listing = open_listing(corpus, labelled.value, annotations)
    names = (
        NOT_VOCAL
        if not_vocal is None
        else tuple(rejoined(list(filter(None, listed(not_vocal) or ())), listing.classes))
    )
    if not_vocal is not None:
        check_not_vocal(listing, names)
    found = corpus_statistics(listing, names)
    if folds is not None:
        for key, there in (("folds", folds_in(folds) or not holdout_in(folds)), ("holdout", holdout_in(folds))):
            if there:
                read = read_manifests(folds, listing, holdout=key == "holdout")
                found[key] = fold_statistics(listing, read, shares_in(read))
    if png is not None:
        save(statistics_figure(found, corpus.resolve().name), png)
    if json_:
        more = {"left_out": listing.problems, "notices": told_about(listing)}
        say_text(json.dumps({"corpus": str(corpus), **found, **more}, indent=1, ensure_ascii=False))
    else:
        for problem in listing.problems:
            say(f"left out: {problem}")
        for notice in told_about(listing):
            say(f"note: {notice}")
        say_text(_text(found, labelled_in(listing)))
        if png is not None:
            say(f"{png}: {CAPTION}")
    if listing.problems:
        raise typer.Exit(FAILED)


def _text(found: dict[str, Any], labelled: str) -> str:
    parts = [
        f"{found['recordings']} recordings, {found['hours']:.2f} h; labelled {found['labelled_recordings']}, "
        f"{found['labelled_hours']:.2f} h, {found['events']} events",
        labelled,
        *map(one_line, _weak(found)),
        *_parts(found),
        one_line(_sparsity(found)),
        "",
        _classes(found),
        "",
        _overlaps(found),
    ]
    if "folds" in found:
        parts += ["", fold_table(list(found["per_class"]), found["folds"])]
    if "holdout" in found:
        parts += ["", f"hold-out (lof)\n{fold_table(list(found['per_class']), found['holdout'])}"]
    return "\n".join(parts)


def _weak(found: dict[str, Any]) -> list[str]:
    """A line on recording-level labels, where there are some."""
    if "weak_recordings" not in found:
        return []
    classes = ", ".join(f"{name} {count}" for name, count in found["weak_per_class"].items() if count)
    return [
        f"labelled as a whole only (weak): {found['weak_recordings']} recordings, {found['weak_hours']:.2f} h; with "
        f"{classes or 'no call'}; in {found['weak_silent']} nothing calls"
    ]


def _parts(found: dict[str, Any]) -> list[str]:
    """What is not known of labelled recordings."""
    lines = []
    hours = found["unlabelled_parts_hours"]
    if hours * 3600 >= 0.01:
        lines.append(f"{hours:.2f} h of these recordings were not annotated (outside of regions, or ignored)")
    if count := found["unknown_events"]:
        lines.append(f"{count} calls of an unknown class (`?`), which count neither way")
    return lines


def _sparsity(found: dict[str, Any]) -> str:
    line = f"of the labelled time {100 * found['share_any']:.2f} % has an event"
    if found["not_vocal"]:
        line += f", {100 * found['share_vocal']:.2f} % a vocalisation (all but {', '.join(found['not_vocal'])})"
    return line


def _classes(found: dict[str, Any]) -> str:
    from ..basics.tables import text_table

    header = ["class", "events", "recordings", "total s", "% of time"]
    header += ["5 %", "25 %", "median", "75 %", "95 %", "longest s"]
    rows = []
    for name, row in found["per_class"].items():
        counts = [str(row["events"]), str(row["recordings"])]
        times = [f"{row['seconds']:.1f}", f"{100 * row['share']:.3f}"]
        lengths = [*row["quantiles_s"].values(), row["longest_s"]]
        rows.append([name, *counts, *times, *("" if length is None else f"{length:.3f}" for length in lengths)])
    return text_table(header, rows) if rows else "no classes"


def _overlaps(found: dict[str, Any]) -> str:
    from ..basics.tables import text_table

    if not found["overlaps"]:
        return "no two classes sound at once"
    rows = [
        [first, second, f"{row['seconds']:.2f}", *(_of(found, row, place) for place in (0, 1))]
        for row in found["overlaps"][:SHOWN_OVERLAPS]
        for first, second in [row["classes"]]
    ]
    table = text_table(["overlapping", "", "s", "events of the first", "of the second"], rows, left=2)
    left = len(found["overlaps"]) - len(rows)
    return table + (f"\n... and {left} more pairs; --json has all" if left else "")


def _of(found: dict[str, Any], row: dict[str, Any], place: int) -> str:
    events = found["per_class"][row["classes"][place]]["events"]
    return f"{row['events'][place]} ({100 * row['events'][place] / events:.0f} %)"


def fold_table(classes: list[str], folds: list[dict[str, Any]]) -> str:
    """Sample sizes: events per class, mean and standard deviation over the folds, by label share, and in each fold.

    folds: as `fold_statistics` has them.
    """
    from ..basics.tables import text_table

    shares = list(folds[0]["train"])
    header = ["class", *(f"{100 * float(share):g} % train" for share in shares), "evaluation"]
    header += [f"fold {fold['fold']}" for fold in folds]
    parts = [*([fold["train"][share] for fold in folds] for share in shares), [fold["evaluation"] for fold in folds]]
    rows = []
    for name in classes:
        means = [_spread([part["events"][name] for part in one], 0) for one in parts]
        each = [f"{fold['train']['1']['events'][name]}/{fold['evaluation']['events'][name]}" for fold in folds]
        rows.append([name, *means, *each])
    for key, digits in (("recordings", 0), ("hours", 2)):
        means = [_spread([part[key] for part in one], digits) for one in parts]
        each = [f"{fold['train']['1'][key]:.{digits}f}/{fold['evaluation'][key]:.{digits}f}" for fold in folds]
        rows.append([key, *means, *each])
    told = "mean ± standard deviation over the folds, then train/evaluation of each"
    return f"events: {told if len(folds) > 1 else 'of the fold'}\n" + text_table(header, rows)


def _spread(values: list[float], digits: int) -> str:
    """Mean and, of several, sample standard deviation."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{max(digits, 1)}f}"
