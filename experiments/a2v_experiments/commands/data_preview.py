"""`a2v data preview`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .annotation_options import table_options
from .say import say

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig
    from a2v_data.preview import Piece

LONG_S = 600.0  # a piece so long takes seconds to read: a bar shows it


@table_options("reading", without=["tables", "weak"])
def preview(
    file: Annotated[Path, typer.Argument(help="A recording, or a packed corpus (then with --recording).")],
    start: Annotated[float | None, typer.Option(min=0, help="Seconds from the recording's start.")] = None,
    end: Annotated[float | None, typer.Option(min=0, help="Seconds from the recording's start.")] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="A table of labels; default: those that belong to the recording.")
    ] = None,
    recording: Annotated[str | None, typer.Option(help="Which recording of a packed corpus.")] = None,
    channel: Annotated[int, typer.Option(min=0, help="Which channel of a file, from 0.")] = 0,
    out: Annotated[Path | None, typer.Option(help="New file (png, pdf, svg); default: NAME_START-ENDs.png.")] = None,
    *,
    reading: AnnotationConfig,
) -> None:
    """Draw waveform, spectrogram and labels of a piece of a recording; only that piece is read.

    Without --start and --end: all of a recording of up to 30 s, of a longer one the first 10 s, or those around its
    first event where that comes later. Labels come from its label file (MeerKAT's layout) or the tables of its folder
    (annotations.csv, annotations/, beside it), if there are any.
    """
    from a2v_data.figures import check_format, clock, save
    from a2v_data.preview import open_piece, picture, preview_figure

    from ..basics.progress import advancing, bar

    piece = open_piece(file, start, end, annotations, recording, channel, reading)
    default = f"{Path(recording or file).stem}_{piece.start_s:g}-{piece.end_s:g}s.png"
    target = check_format(out or Path(default))
    if piece.end_s - piece.start_s > LONG_S:
        with bar("reading", 0, "samples") as shown:
            seen = picture(piece, advancing(shown))
    else:
        seen = picture(piece)
    save(preview_figure(piece, seen), target)
    span = f"{clock(piece.start_s)} to {clock(piece.end_s)} ({piece.start_s:g} to {piece.end_s:g} s)"
    length = f"{clock(piece.duration_s)} ({piece.duration_s:.6g} s)"
    say(f"{target}: {span} of {piece.name}, which has {length} at {piece.rate} Hz")
    say(*_labels(piece))


def _labels(piece: Piece) -> list[str]:
    from a2v_data.figures import clock

    if piece.events is None:
        return ["no labels are known for it; --annotations names a table"]
    inside = piece.inside()
    classes = ", ".join(dict.fromkeys(label for label, _, _ in inside))
    line = f"events: {len(inside)} in this piece{f' ({classes})' if inside else ''}, "
    lines = [f"{line}{len(piece.events)} in the recording; labels: {piece.labels}"]
    if unknown_s := sum(stop - begin for begin, stop in piece.unknown()):
        lines.append(f"not annotated: {unknown_s:.4g} s of this piece (grey)")
    if not inside and piece.events:
        after = [event[1] for event in piece.events if event[1] >= piece.end_s]
        first = min(after) if after else min(event[1] for event in piece.events)
        which, at = "next" if after else "first", f"{clock(round(first, 3))} ({first:.3f} s)"
        lines.append(f"the {which} event begins at {at}: --start {max(first - 1, 0):.0f}")
    return lines
