"""`a2v data prepare`, `pack` and `verify`: from recordings to segments and to the packed store."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..basics.errors import FAILED, INTERRUPTED, UserError
from .annotation_options import table_options
from .options import Labelled, LabelledChoice
from .say import say, say_text

if TYPE_CHECKING:
    from a2v_data.annotation_config import AnnotationConfig
    from a2v_data.scheduling import Run

SHOWN = 20


Source = Annotated[Path, typer.Argument(help="Folder of recordings with annotations, or a prepared one.")]
SampleRate = Annotated[
    int | None, typer.Option("--sample-rate", help="Hz; default: that of the recordings, if they all have one.")
]
ChannelOption = Annotated[
    str, typer.Option("--channel", help="Channel to read, from 0 (Raven's from 1), or 'mix': their mean.")
]
Channels = Annotated[
    Path | None, typer.Option("--channels", help="CSV with file,channel for recordings that need another one.")
]
Processes = Annotated[int | None, typer.Option("--processes", min=1, help="Default: one for each core.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON only.")]


@table_options()
def prepare(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="Folder to make, or to go on with.")],
    sample_rate: SampleRate = None,
    segment_s: Annotated[float, typer.Option("--segment-s", help="Seconds of a segment.")] = 10.0,
    labelled: Labelled = LabelledChoice.auto,
    channel: ChannelOption = "0",
    channels: Channels = None,
    random_names: Annotated[
        bool, typer.Option("--random-names", help="Name segments by chance; segments.csv is the key.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the random names.")] = 0,
    processes: Processes = None,
    ray: Annotated[bool, typer.Option("--ray", help="Spread the recordings over a Ray cluster.")] = False,
    address: Annotated[
        str | None, typer.Option("--address", help="Of the cluster; default: RAY_ADDRESS, or Ray on this machine.")
    ] = None,
    *,
    annotations: AnnotationConfig,
    json: Json = False,
) -> None:
    """Cut recordings and their annotations into segments in MeerKAT's form; goes on where an earlier call stopped."""
    if address and not ray:
        raise UserError("--address: is the address of a Ray cluster; give --ray as well")
    from a2v_data.prepare import PrepareConfig
    from a2v_data.prepare import prepare as prepare_segments

    from ..basics.progress import advancing, bar

    options = {"segment_s": segment_s, "random_names": random_names, "seed": seed, "annotations": annotations}
    config = _config(PrepareConfig, sample_rate, labelled, channel, channels, **options)
    run = _run(processes, ray, address)
    try:
        with bar("preparing", 0, "s of audio") as shown:
            done = prepare_segments(source, out, config, advancing(shown), run)
    except KeyboardInterrupt:
        raise UserError("stopped; the same command goes on with what is not done", INTERRUPTED) from None
    finally:
        if ray:
            from ..cluster.session import stop_ray

            stop_ray()
    prepared, recordings = done.prepared, done.prepared.recordings
    samples = sum(recording.samples for recording in recordings.values())
    segments = sum(len(recording.segments) for recording in recordings.values())
    events = prepared.meta["events"]
    result = {
        "folder": str(out),
        "recordings": len(recordings),
        "done_before": done.kept,
        "hours": samples / prepared.sample_rate / 3600,
        "sample_rate": prepared.sample_rate,
        "segments": segments,
        "segment_samples": prepared.segment_samples,
        **events,
    }
    text = [
        f"{out}: {len(recordings)} recordings ({_hours(result)}) in {segments} segments of {segment_s:g} s at "
        f"{prepared.sample_rate} Hz" + (f"; {done.kept} recordings were done before" if done.kept else ""),
        f"{events['labelled']} recordings labelled, with {events['events']} events of {len(events['classes'])} classes;"
        f" {events['cut']} events cross a segment's border and were cut there",
    ]
    _end(result, text, prepared.problems, prepared.notices, json)


@table_options()
def pack(
    source: Source,
    out: Annotated[Path, typer.Option("--out", help="Folder of the store to make.")],
    sample_rate: SampleRate = None,
    labelled: Labelled = LabelledChoice.auto,
    channel: ChannelOption = "0",
    channels: Channels = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--classes", help="Their names in order, with commas; may be repeated; default: from the annotations."
        ),
    ] = None,
    exclude_labels: Annotated[
        list[str] | None, typer.Option("--exclude-label", help="Drop the events of this label; may be repeated.")
    ] = None,
    focal_class: Annotated[
        bool, typer.Option("--focal-class/--no-focal-class", help="Focal events are also events of the class 'focal'.")
    ] = True,
    keep_rates: Annotated[
        float | None,
        typer.Option(
            "--keep-rates",
            metavar="FRAMES",
            help="Recordings keep lower rates than --sample-rate; frames a second: 100.",
        ),
    ] = None,
    processes: Processes = None,
    *,
    annotations: AnnotationConfig,
    json: Json = False,
) -> None:
    """Pack recordings, or the segments of a prepared folder, into one memory-mapped store for training."""
    import numpy as np
    from a2v_data.pack import PackConfig
    from a2v_data.pack import pack as pack_store

    from ..basics.names import listed
    from ..basics.progress import advancing, bar

    options: dict[str, Any] = {
        "classes": listed(classes),
        "exclude_labels": exclude_labels or [],
        "focal_class": focal_class,
        "keep_rates": keep_rates,
    }
    options["annotations"] = annotations
    config = _config(PackConfig, sample_rate, labelled, channel, channels, **options)
    try:
        with bar("packing", 0, "s of audio") as shown:
            corpus = pack_store(source, out, config, advancing(shown), _run(processes, False, None))
    except KeyboardInterrupt:
        raise UserError(f"stopped; nothing was written to {out}", INTERRUPTED) from None
    known = [recording for recording in corpus.recordings if recording.labelled]
    result = {
        "folder": str(out),
        "recordings": len(corpus.recordings),
        "labelled": len(known),
        "hours": corpus.seconds() / 3600,
        "sample_rate": corpus.sample_rate,
        **({"rates": dict(sorted(Counter(corpus.rates.tolist()).items()))} if keep_rates is not None else {}),
        "events": len(corpus.events),
        "classes": list(corpus.classes),
        **({"weak": len(corpus.weak)} if corpus.weak else {}),
    }
    text = [
        f"{out}: {len(corpus.recordings)} recordings ({_hours(result)}) at "
        + ", ".join(f"{rate} Hz" for rate in np.unique(corpus.rates).tolist()),
        f"{len(known)} recordings labelled, with {len(corpus.events)} events of {len(corpus.classes)} classes: "
        + ", ".join(corpus.classes),
        *([f"{len(corpus.weak)} more labelled as a whole (weak)"] if corpus.weak else []),
    ]
    _end(result, text, corpus.problems, corpus.notices, json)


def verify(
    store: Annotated[Path, typer.Argument(help="A packed store.")],
    json: Json = False,
) -> None:
    """Read a packed store and compare its checksums; exit code 1 where they differ."""
    from a2v_data.corpus import Corpus

    if not (store / "corpus.json").is_file():
        raise UserError(f"{store}: no packed store (corpus.json is missing); `a2v data pack` makes one")
    problem = None
    try:
        corpus = Corpus.open(store)
        corpus.verify()
    except ValueError as error:
        problem = str(error)
    if json:
        _say_json({"store": str(store), "problem": problem})
    elif problem is None:
        say(f"{store}: {len(corpus.recordings)} recordings, as they were written")
    if problem is not None:
        raise UserError(problem, FAILED) if not json else typer.Exit(FAILED)


def _config(
    kind: type, sample_rate: int | None, labelled: LabelledChoice, channel: str, channels: Path | None, **options: Any
) -> Any:
    """A validated PrepareConfig or PackConfig; `UserError` names the option that is wrong."""
    from a2v_data.plan import read_channel_table
    from pydantic import ValidationError

    table = read_channel_table(channels) if channels is not None else {}
    try:
        return kind(
            sample_rate=sample_rate,
            labelled=labelled.value,
            channel=int(channel) if channel.isdigit() else channel,
            channels=table,
            **options,
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""  # of several options: the text names them
        said = "must be a number from 0, or mix" if name == "channel" else first["msg"].removeprefix("Value error, ")
        raise UserError(f"--{name.replace('_', '-')}: {said}" if name else said) from None


def _run(processes: int | None, ray: bool, address: str | None) -> Run:
    from a2v_data.scheduling import on_cores

    if not ray:
        return on_cores(processes)
    from ..cluster.run import on_ray

    return on_ray(address)


def _hours(result: dict[str, Any]) -> str:
    hours = result["hours"]
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def _end(result: dict[str, Any], text: list[str], problems: list[str], notices: list[str], json: bool) -> None:
    """Say what was made and what was not; exit code 1 where anything was left out."""
    if json:
        _say_json({**result, "problems": problems, "notices": notices})
    else:
        for line in text:
            say(line)
        _list(notices)
        if problems:
            say(f"left out ({len(problems)}):")
            _list(problems)
    if problems:
        raise typer.Exit(FAILED)


def _list(lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        say(f"  {line}")
    if len(lines) > SHOWN:
        say(f"  ... and {len(lines) - SHOWN} more (--json lists all)")


def _say_json(value: dict[str, Any]) -> None:
    from json import dumps

    say_text(dumps(value, ensure_ascii=False, indent=2))
