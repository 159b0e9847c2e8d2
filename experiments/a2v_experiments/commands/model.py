"""`a2v model`."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from .model_promote import promote
from .model_push import ModelSource, described, push
from .options import AllowPlugins, Tracking, check_new
from .say import say, say_text

group = typer.Typer(no_args_is_help=True, help="Look at models; exchange them with the original animal2vec.")
OF_CLASS = ("F1", "precision", "recall", "labels")  # of `thresholds_from`: class -> number


@group.command("import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.pt", help="A checkpoint of the original animal2vec.")],
    out: Annotated[Path, typer.Option("--out", help="Model folder to make.")],
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="A key of the file's configuration that is unknown here and does not matter."),
    ] = None,
) -> None:
    """Read a checkpoint of the original.

    Pretrained or finetuned, float32 or float16. Nothing in the file is executed: it is read as data, and a file that
    holds anything else is refused.
    """
    from a2v_data.storage import refuse_existing

    refuse_existing(out)
    import_into(out, file, ignore or ())


def import_into(out: Path, file: Path, ignore: Collection[str] = (), origin: dict[str, Any] | None = None) -> None:
    """Make the model folder `out` of a checkpoint, with what is known of its origin, and show it. Raises ValueError."""
    from a2v_model import save_model
    from a2v_model.original_checkpoint import import_checkpoint
    from a2v_model.summary import summarise

    from ..basics.progress import advancing, bar

    with bar("importing", 0, "tensors") as shown:
        imported = import_checkpoint(file, ignore, advancing(shown))
    save_model(imported.model, out, imported.provenance | (origin or {}))
    _show(out, summarise(out))


@group.command("info")
def info(
    model: ModelSource,
    as_json: Annotated[bool, typer.Option("--json", help="Everything that is known, as JSON.")] = False,
    tracking_uri: Tracking = None,
) -> None:
    """Show sizes, rates, classes, thresholds and origin."""
    from a2v_model.summary import summarise

    from ..models import model_folder

    with model_folder(model, tracking_uri) as folder:
        summary = summarise(folder)
    if as_json:
        say_text(json.dumps(summary | {"learned": _learned(summary)}, indent=1))
    else:
        _show(model, summary)


@group.command("export")
def export(
    model: ModelSource,
    out: Annotated[Path, typer.Argument(metavar="OUT.pt", help="Checkpoint to write.")],
    tracking_uri: Tracking = None,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Write a checkpoint in the original's form, and its model card beside it (OUT.md).

    `a2v model import` reads it back to the same tensors and configuration. Fields that the original has no key for are
    kept beside its configuration and named.
    """
    from a2v_model import load_model
    from a2v_model.original_checkpoint import export_checkpoint

    from ..card.text import card_text
    from ..models import model_folder

    card = out.with_suffix(".md")
    check_new(card)
    with model_folder(model, tracking_uri) as folder:
        description = described(model, folder, tracking_uri)
        provenance = description.get("extra") or {}
        loaded = load_model(folder)
    told = export_checkpoint(loaded, out, _updates(provenance), provenance)
    use = ["With the original animal2vec, or here: `a2v model import FILE.pt --out FOLDER`"]
    card.write_text(card_text(description, out.stem, use), encoding="utf-8")
    say(f"{out}: {out.stat().st_size / 1e6:.1f} MB, the weights under the original's names; its card: {card}")
    for line in told:
        say(f"  only a2v reads back  {line}")


def _updates(provenance: dict[str, Any]) -> int:
    """Updates done, of a run here or of an imported checkpoint."""
    updates = provenance.get("updates", (provenance.get("imported") or {}).get("updates"))
    return updates if isinstance(updates, int) else 0


def _show(source: str | os.PathLike[str], summary: dict[str, Any]) -> None:
    say(f"{os.fspath(source)}: {summary['kind']} model")
    rows = [*_sizes(summary), *_rates(summary), *_objective(summary), *_thresholds(summary)]
    rows += _origin(summary["provenance"])
    for name, told in summary.get("plugins", {}).items():
        parts = ", ".join(f"{kind} {part}" for kind, parts in told["registers"].items() for part in parts)
        rows.append(("plugin", f"{name} ({told['digest'][:8]}): {parts}; its code lies in plugins/{name}"))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        say(f"  {name:<{width}}  {text}")
    if summary["classes"] and summary["thresholds"] | summary["thresholds_from"]:
        say_text(f"\n{_class_table(summary)}")


def _sizes(summary: dict[str, Any]) -> list[tuple[str, str]]:
    parameters, encoder = summary["parameters"], summary["model"]["encoder"]
    rows = [("parameters", f"{parameters['model']:,}")]
    rows += [(f"  {part.replace('_', ' ')}", f"{count:,}") for part, count in parameters["parts"].items()]
    if encoder.get("kind") == "convolutions":
        layers = f"{encoder['depth']} dilated convolutions, no transformer"
    else:
        layers = f"{encoder['prenet_depth']} + {encoder['depth']} blocks, {encoder['heads']} heads"
    factor = encoder.get("downsampling", 1)
    rate = f", at {summary['frame_rate_hz'] / factor:g} Hz" if factor > 1 else ""
    return [*rows, ("encoder", f"embedding of {encoder['dim']}, {layers}{rate}")]


def _rates(summary: dict[str, Any]) -> list[tuple[str, str]]:
    samples, seconds = summary["receptive_field_samples"], summary["receptive_field_s"]
    field = "known to its plugin only" if samples is None else f"{samples} samples, {1000 * seconds:.1f} ms per frame"
    return [
        ("sample rate", f"{summary['sample_rate_hz']} Hz"),
        ("frame rate", f"{summary['frame_rate_hz']:g} Hz, {summary['samples_per_frame']} samples per frame"),
        ("front end sees", field),
        *[
            (f"hears {name}", f"{', '.join(one['columns'])} at {one['rate']:g} Hz, where a recording has it")
            for name, one in summary["model"].get("streams", {}).items()
        ],
    ]


def _objective(summary: dict[str, Any]) -> list[tuple[str, str]]:
    masks = summary["masks"]
    frames = f"start probability {masks['mask_probability']:g}, {masks['mask_length']} frames"
    rows = [("masks", frames)]
    if "channel_mask_length" in masks:
        share, length = masks["channel_mask_probability"], masks["channel_mask_length"]
        rows.append(("channel masks", f"{100 * share:g} %, {length} channels"))
    classes = summary["classes"]
    return [*rows, ("classes", f"{len(classes)}: {', '.join(classes)}")] if classes else rows


def _thresholds(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Of a detector: the likelihood above which a class has an event, and what that holds for. What is known of each
    class is in `_class_table`."""
    given = summary["thresholds"]
    if not given:
        return [("thresholds", "none chosen")] if summary["classes"] else []
    missing = [name for name in summary["classes"] if name not in given]
    text = ", ".join(f"{name} {value:g}" for name, value in given.items())
    rows = [("thresholds", f"{text}; none for {', '.join(missing)}" if missing else text)]
    of_all = {key: value for key, value in summary["thresholds_from"].items() if key not in OF_CLASS}
    return rows + [(f"  {key.replace('_', ' ')}", _plain(value)) for key, value in of_all.items()]


def _learned(summary: dict[str, Any]) -> dict[str, bool | None]:
    """Class -> whether the model has learned it; None where that is not known."""
    from a2v_eval.learned import class_fits

    fits = class_fits(summary["classes"], summary["thresholds"], summary["thresholds_from"])
    return {name: fit.learned for name, fit in fits.items()}


def _class_table(summary: dict[str, Any]) -> str:
    """A row for each class: its threshold, scores there, and whether it is learned."""
    from a2v_eval.learned import LEARNED_F1, class_fits

    from ..basics.tables import text_table

    def cell(value: float | None, form: str = ".3f") -> str:
        return "–" if value is None else f"{value:{form}}"

    fits = class_fits(summary["classes"], summary["thresholds"], summary["thresholds_from"])
    words = {True: "yes", False: "no", None: "unknown"}
    rows = [
        [
            name,
            cell(fit.threshold, "g"),
            *(cell(value) for value in (fit.f1, fit.precision, fit.recall)),
            cell(fit.labels, "d"),
            words[fit.learned] + (f": {fit.reason()}" if fit.learned is False and fit.f1 is None else ""),
        ]
        for name, fit in fits.items()
    ]
    table = text_table(["class", "threshold", "F1", "precision", "recall", "labels", "learned"], rows)
    notes = [f"learned: F1 of {LEARNED_F1:g} or more at the threshold, strict protocol, on recordings that flatter it"]
    if any(fit.learned is False for fit in fits.values()):
        notes.append("a2v predict writes no events of classes that are not learned, unless asked to (--all-classes)")
    return "\n".join([table, *notes])


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _origin(provenance: dict[str, Any]) -> list[tuple[str, str]]:
    imported = provenance.get("imported")
    if not isinstance(imported, dict):
        return [(str(key), str(value)) for key, value in provenance.items()] or [("provenance", "none recorded")]
    weights = ", ".join(f"{count} tensors of {dtype}" for dtype, count in imported["weights"].items())
    rows = [
        ("imported from", f"{imported['file']}, {imported['bytes'] / 1e6:.1f} MB"),
        ("sha256", imported["sha256"]),
        ("updates", "unknown" if imported["updates"] is None else f"{imported['updates']:,}"),
        ("weights", f"{weights}; float32 here"),
    ]
    if imported["teacher"] != "none":
        rows.append(("teacher", imported["teacher"]))
    if imported["dropped"]:
        rows.append(("left out", ", ".join(imported["dropped"])))
    published = provenance.get("published")
    if isinstance(published, dict):
        rows += [("published as", f"doi:{published['doi']}"), ("licence", published["licence"])]
        rows.append(("cite", published["citation"]))
    return rows + [("not taken over", note) for note in imported["not_taken_over"]]


group.command("push")(push)
group.command("promote")(promote)
