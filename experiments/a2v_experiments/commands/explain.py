"""`a2v explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import FAILED, UserError
from .options import Tracking, say

group = typer.Typer(no_args_is_help=True, help="See what a model has learned: its filters, its attention.")
ModelSource = Annotated[str, typer.Option("--model", help="A model's folder, or runs:/ID, models:/NAME/VERSION.")]
Out = Annotated[Path, typer.Option("--out", help="New file for the figure (png, pdf, svg).")]
Npz = Annotated[Path | None, typer.Option("--npz", help="New file for the arrays behind the figure.")]
Channel = Annotated[int, typer.Option("--channel", min=0, help="Channel of the recordings, from 0.")]


@group.command("filters")
def filters(
    model: ModelSource,
    out: Out,
    audio: Annotated[
        list[Path] | None,
        typer.Option("--audio", help="Packed corpus, folder or recording: draws its mean spectrum; repeatable."),
    ] = None,
    minutes: Annotated[
        float, typer.Option("--minutes", min=0.1, help="At most so many minutes of the recordings, evenly spread.")
    ] = 60.0,
    channel: Channel = 0,
    npz: Npz = None,
    tracking_uri: Tracking = None,
) -> None:
    """The learned Sinc filters: their cumulative frequency response against the mel scale that they started from."""
    _check_new(out, npz)
    from ..explain import STRETCH_S, Recordings, explain_filters
    from ..models import load_model
    from ..progress import bar

    loaded = load_model(model, tracking_uri)
    recordings = Recordings(audio, loaded.sample_rate, channel, minutes) if audio else None
    if recordings is None:
        found = explain_filters(loaded, None)
    else:
        with bar("spectrum", len(recordings), "stretches") as shown:
            found = explain_filters(loaded, (waveform for waveform in recordings if shown.update() or True))
    _write(found, out, npz, title="")
    change_db, at_hz = found.largest_change()
    say(f"largest change from the mel initialisation: {change_db:+.2g} dB at {at_hz / 1000:.2f} kHz")
    if recordings is not None:
        say(f"mean spectrum of {len(recordings)} of {recordings.found} stretches of up to {STRETCH_S:g} s")
        _tell(recordings.problems)


@group.command("attention")
def attention(
    file: Annotated[Path, typer.Argument(help="A recording (WAV, FLAC, OGG, MP3, AIFF).")],
    model: ModelSource,
    start: Annotated[float, typer.Option("--start", min=0, help="Seconds from the recording's start.")],
    end: Annotated[float, typer.Option("--end", min=0, help="Seconds from the recording's start.")],
    out: Out,
    layer: Annotated[
        int | None,
        typer.Option("--layer", help="One layer, from 0 (prenet first), -1: last; default: mean of all."),
    ] = None,
    head: Annotated[int | None, typer.Option("--head", help="One head, from 0; default: mean of all.")] = None,
    annotations: Annotated[
        Path | None, typer.Option("--annotations", help="CSV with file,onset_s,offset_s,label; drawn as labels.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", min=0, max=0.999, help="Of events; default: the model's, or 0.15.")
    ] = None,
    channel: Channel = 0,
    npz: Npz = None,
    tracking_uri: Tracking = None,
) -> None:
    """Where a model looks in a stretch of a recording, beside its spectrogram, labels and predictions."""
    _check_new(out, npz)
    from a2v_model import Detector

    from ..explain import event_config, explain_attention
    from ..models import load_model

    loaded = load_model(model, tracking_uri)
    events = None
    if threshold is not None:
        if not isinstance(loaded, Detector):
            raise UserError("--threshold: this model is pretrained only and predicts no events")
        events = event_config(loaded).model_copy(update={"threshold": threshold})
    found = explain_attention(loaded, file, start, end, layer, head, annotations, channel, events)
    which = _which("layer", layer, loaded.layer_count), _which("head", head, loaded.inner.transformer.config.heads)
    _write(found, out, npz, title=f"{file.name}\n{', '.join(which)}")
    say(f"{len(found.attention)} frames, {len(found.labels)} labels, {len(found.predictions)} predictions")


def _which(kind: str, number: int | None, count: int) -> str:
    return f"mean of {count} {kind}s" if number is None else f"{kind} {number % count} of 0 to {count - 1}"


def _check_new(out: Path, npz: Path | None) -> None:
    """Before anything is computed: names that can be written, and nothing that they would overwrite."""
    formats = (".png", ".pdf", ".svg")
    if out.suffix.lower() not in formats:
        raise UserError(f"{out}: a figure's name ends with {', '.join(formats)}")
    if npz is not None and npz.suffix != ".npz":
        raise UserError(f"{npz}: a file of arrays ends with .npz")
    for path in (out, npz):
        if path is not None and (path.exists() or path.is_symlink()):
            raise UserError(f"{path}: exists already; name a new file or remove this one first")


def _write(found: Any, out: Path, npz: Path | None, title: str) -> None:
    from a2v_eval.figures import save

    if npz is not None:
        _save_arrays(npz, found.arrays())
        say(f"arrays: {npz}")
    save(found.figure(title), out)
    say(f"figure: {out}")


def _save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial.npz")
    try:
        np.savez_compressed(aside, **arrays)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _tell(problems: list[str]) -> None:
    """What was left out, a line each, and the exit code that says so."""
    for problem in problems:
        typer.echo(f"a2v: left out: {problem}", err=True)
    if problems:
        raise typer.Exit(FAILED)
