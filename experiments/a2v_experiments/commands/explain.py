"""`a2v explain`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..basics.errors import FAILED, UserError
from .annotation_options import table_options
from .options import AllowPlugins, Json, Override, Tracking, check_new, check_new_figure
from .say import say, say_text

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig

group = typer.Typer(no_args_is_help=True, help="See what a model has learned (filters, attention), and its masks.")
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
    allow_plugins: AllowPlugins = False,
) -> None:
    """The learned Sinc filters: their cumulative frequency response against the mel scale that they started from."""
    _check_new(out, npz)
    from ..basics.progress import bar
    from ..explain.drawing import STRETCH_S, Recordings, explain_filters
    from ..models import load_model

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
@table_options("reading", without=["tables", "weak"])
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
        Path | None, typer.Option("--annotations", help="A table of events; drawn as labels.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", min=0, max=0.999, help="Of events; default: the model's, or 0.15.")
    ] = None,
    channel: Channel = 0,
    npz: Npz = None,
    tracking_uri: Tracking = None,
    allow_plugins: AllowPlugins = False,
    *,
    reading: AnnotationConfig,
) -> None:
    """Where a model looks in a stretch of a recording, beside its spectrogram, labels and predictions.

    Attention is not by itself an explanation (so the paper, too): it shows where a model looks, not why it decides.
    """
    _check_new(out, npz)
    from a2v_model import Detector

    from ..explain.drawing import event_config, explain_attention
    from ..models import load_model

    loaded = load_model(model, tracking_uri)
    events = None
    if threshold is not None:
        if not isinstance(loaded, Detector):
            raise UserError("--threshold: this model is pretrained only and predicts no events")
        events = event_config(loaded).model_copy(update={"threshold": threshold})
    found = explain_attention(loaded, file, start, end, layer, head, annotations, channel, events, reading)
    which = _which("layer", layer, loaded.layer_count), _which("head", head, loaded.inner.transformer.config.heads)
    _write(found, out, npz, title=f"{file.name}\n{', '.join(which)}")
    say(f"{len(found.attention)} frames, {len(found.labels)} labels, {len(found.predictions)} predictions")


class MaskedStage(StrEnum):
    """Whose masks."""

    pretrain = "pretrain"
    finetune = "finetune"


@group.command("masks")
def masks(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe, for its masks, segments and batch; its values give way to options.")
    ] = None,
    stage: Annotated[MaskedStage, typer.Option("--stage", help="Whose masks of the recipe.")] = MaskedStage.pretrain,
    probability: Annotated[
        float | None,
        typer.Option(
            "--mask-probability", min=0, max=1, help="p: of a frame to start a masked span; published: mask_prob / l."
        ),
    ] = None,
    length: Annotated[int | None, typer.Option("--mask-length", min=1, help="l: frames of a span.")] = None,
    frames: Annotated[int | None, typer.Option("--frames", min=2, help="Of a segment; default: 2000.")] = None,
    rows: Annotated[
        int | None,
        typer.Option("--rows", min=1, help="That are drawn together and mask equally many frames; default: 72."),
    ] = None,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Batches that masks are drawn for.")] = 20,
    set_: Override = None,
    out: Annotated[Path | None, typer.Option("--out", help="New file for the figure (png, pdf, svg).")] = None,
    npz: Npz = None,
    as_json: Json = False,
) -> None:
    """What a start probability and a length mask: share of the frames, lengths of masked spans and visible gaps.

    Masks are drawn as training draws them: spans overlap, and rows of a batch are made equal by unmasking at random.
    """
    _check_new(out, npz)
    from ..explain.masks import draw_masks, mask_settings
    from ..recipe.files import load_recipe

    if recipe is None and set_:
        raise UserError("--set: changes a recipe, and none is named")
    loaded = None if recipe is None else load_recipe(recipe, set_)
    found = draw_masks(mask_settings(loaded, stage.value, probability, length, frames, rows), draws)
    if as_json:
        say_text(json.dumps(found.to_json(), indent=1))
    else:
        say_text(found.to_text())
    _write(found, out, npz, title="", quiet=as_json)


def _which(kind: str, number: int | None, count: int) -> str:
    return f"mean of {count} {kind}s" if number is None else f"{kind} {number % count} of 0 to {count - 1}"


def _check_new(out: Path | None, npz: Path | None) -> None:
    """Before anything is computed: names that can be written, and nothing that they would overwrite."""
    if npz is not None and npz.suffix != ".npz":
        raise UserError(f"{npz}: a file of arrays ends with .npz")
    if out is not None:
        check_new_figure(out)
    if npz is not None:
        check_new(npz)


def _write(found: Any, out: Path | None, npz: Path | None, title: str, quiet: bool = False) -> None:
    """Arrays and figure, where they are asked for; quiet: says nothing, as where JSON alone may be printed."""
    import numpy as np
    from a2v_data.storage import replaced
    from a2v_eval.figures import save

    if npz is not None:
        with replaced(npz) as aside, aside.open("wb") as file:
            np.savez_compressed(file, **found.arrays())
    if out is not None:
        save(found.figure(title), out)
    for what, path in (("arrays", npz), ("figure", out)):
        if path is not None and not quiet:
            say(f"{what}: {path}")


def _tell(problems: list[str]) -> None:
    """What was left out, a line each, and the exit code that says so."""
    for problem in problems:
        say(f"a2v: left out: {problem}", err=True)
    if problems:
        raise typer.Exit(FAILED)
