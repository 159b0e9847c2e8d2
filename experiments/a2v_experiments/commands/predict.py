"""`a2v predict`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..basics.errors import FAILED, INTERRUPTED, UserError
from .options import AllowPlugins, Json, Tracking, channel_of
from .say import say_text


class TableFormat(StrEnum):
    raven = "raven"
    audacity = "audacity"
    csv = "csv"
    parquet = "parquet"
    json = "json"


class TrackFormat(StrEnum):
    npz = "npz"
    hdf5 = "hdf5"


class Embeddings(StrEnum):
    frames = "frames"
    events = "events"


class Method(StrEnum):
    avg = "avg"
    max = "max"
    canny = "canny"


class Precision(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


FIGURES_IN_REPORT = 6
OfClass = "VALUE for all classes or CLASS=VALUE for one; may be repeated."


def predict(
    recordings: Annotated[
        list[str],
        typer.Argument(help="Files, folders, patterns in quotes ('day*/**/*.wav'), lists (.txt, a path a line)."),
    ],
    model: Annotated[
        str, typer.Option("--model", help="A detector: its folder, runs:/RUN_ID or models:/NAME/VERSION.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to make, or to go on with.")],
    formats: Annotated[
        list[TableFormat] | None,
        typer.Option("--format", help="Tables of each recording; may be repeated. Default: raven. events.csv has all."),
    ] = None,
    likelihoods: Annotated[
        TrackFormat | None, typer.Option("--likelihoods", help="Keep the likelihoods of all frames, too.")
    ] = None,
    embeddings: Annotated[
        Embeddings | None, typer.Option("--embeddings", help="Keep the embeddings of frames or events (Parquet).")
    ] = None,
    thresholds: Annotated[
        Path | None, typer.Option("--thresholds", help="JSON, YAML or CSV (class,threshold). Default: the model's own.")
    ] = None,
    threshold: Annotated[list[str] | None, typer.Option("--threshold", help=OfClass)] = None,
    classes: Annotated[
        list[str] | None, typer.Option("--classes", help="Find only these, with commas; may be repeated.")
    ] = None,
    all_classes: Annotated[
        bool, typer.Option("--all-classes", help="Write events of classes that the model has not learned, too.")
    ] = False,
    min_duration: Annotated[
        list[str] | None, typer.Option("--min-duration", help=f"Drop shorter events, seconds. {OfClass}")
    ] = None,
    max_duration: Annotated[
        list[str] | None, typer.Option("--max-duration", help=f"Drop longer events, seconds. {OfClass}")
    ] = None,
    merge_gap: Annotated[
        list[str] | None, typer.Option("--merge-gap", help=f"Join events this close, seconds. {OfClass}")
    ] = None,
    method: Annotated[
        Method | None,
        typer.Option("--method", help="How likelihoods become events. Default: as the model's thresholds."),
    ] = None,
    window_s: Annotated[
        float | None, typer.Option("--window-s", help="Seconds of the pooling. Default: as the model's thresholds.")
    ] = None,
    peak_share: Annotated[
        float | None,
        typer.Option(
            "--peak-share",
            help="Part calls that follow closely, where the likelihood falls below this share of both peaks; 0: never."
            " Default: as the model's thresholds.",
        ),
    ] = None,
    segment_s: Annotated[
        float | None,
        typer.Option("--segment-s", help="Seconds that the model hears at once. Default: the model's, or 10."),
    ] = None,
    overlap_s: Annotated[
        float | None,
        typer.Option("--overlap-s", help="Seconds that these windows share. Default: the model's, or 0.5."),
    ] = None,
    channel: Annotated[str, typer.Option("--channel", help="Channel to read, from 0, or 'mix' for their mean.")] = "0",
    streams: Annotated[
        str | None,
        typer.Option(
            "--streams",
            help="Folder with streams.csv or streams/, for a model that hears acceleration and the like. Default: the"
            " recordings'.",
        ),
    ] = None,
    device: Annotated[Device, typer.Option("--device", help="auto: CUDA where there is a GPU.")] = Device.auto,
    precision: Annotated[
        Precision, typer.Option("--precision", help="auto: bfloat16 where the processor has it.")
    ] = Precision.auto,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Windows at once. Default: 2000 frames on a CPU, 16 on a GPU.")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="Default: as many as pay, at most one for each core; 4 for a GPU."),
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Spread the work over a Ray cluster.")] = False,
    address: Annotated[
        str | None, typer.Option("--address", help="Of the cluster; default: RAY_ADDRESS, or Ray on this machine.")
    ] = None,
    figures: Annotated[
        int | None,
        typer.Option(
            "--figures",
            min=0,
            max=60,
            help="Draw so many of each class's highest-ranked events. Default: 0; 6 in a report.",
        ),
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Write report.html, which any browser opens.")] = False,
    tracking_uri: Tracking = None,
    allow_plugins: AllowPlugins = False,
    as_json: Json = False,
) -> None:
    """Find the calls in recordings of any length; goes on where an earlier call stopped."""
    if address and not ray:
        raise UserError("--address: is the address of a Ray cluster; give --ray as well")
    heard = channel_of(channel)
    if channel != "mix" and not channel.isdigit():
        raise UserError(f"--channel: {channel!r} must be a number from 0, or mix")
    from ..basics.names import listed
    from ..basics.progress import advancing, bar, hours_bar
    from ..predict.call import call
    from ..predict.options import Choice, seconds_of, threshold_of

    choice = Choice(
        model=model,
        formats=tuple(dict.fromkeys(one.value for one in formats or [TableFormat.raven])),
        likelihoods=likelihoods.value if likelihoods else None,
        embeddings=embeddings.value if embeddings else None,
        settings={
            "threshold": threshold_of(thresholds, threshold),
            "classes": listed(classes),
            "all_classes": all_classes,
            "min_duration_s": seconds_of("--min-duration", min_duration),
            "max_duration_s": seconds_of("--max-duration", max_duration),
            "merge_gap_s": seconds_of("--merge-gap", merge_gap),
            "method": method.value if method else None,
            "window_s": window_s,
            "peak_share": peak_share,
            "segment_s": segment_s,
            "overlap_s": overlap_s,
        },
        channel=heard,
        device=device.value,
        precision=precision.value,
        batch=batch,
        streams=streams,
        processes=processes,
        ray=ray,
        address=address,
        tracking_uri=tracking_uri,
    )
    try:
        with hours_bar("predicting") as shown:
            summary = call(recordings, out, choice, shown)
        made = []
        if figures or report:
            from ..predict.report import show_predictions

            with bar("drawing", 0, "events") as drawing:
                count = FIGURES_IN_REPORT if figures is None else figures
                made = show_predictions(out, summary, count, report, choice.channel, advancing(drawing))
    except KeyboardInterrupt:
        raise UserError("stopped; the same command goes on with what is not done", INTERRUPTED) from None
    if as_json:
        from json import dumps

        say_text(dumps(summary.plain(), ensure_ascii=False, indent=1))
    else:
        say_text("\n".join([summary.text(out), *made]))
    if summary.left_out:
        raise typer.Exit(FAILED)
