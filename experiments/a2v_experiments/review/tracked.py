"""A review in MLflow, and thresholds from it in a model. What needs MLflow is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from a2v_data.storage import file_digest
from a2v_eval.events import EventConfig
from a2v_model import Detector, load_model, save_model
from a2v_model.checkpoints import WEIGHTS, read_description

from ..basics.errors import UserError
from ..basics.fingerprint import fingerprint
from ..models import model_folder, split_name
from .found_with import OF_EVENTS, why_not, with_extents
from .report import Report, plain

EXPERIMENT = "review"
OF_CLASS = ("F1", "precision", "recall", "labels")


def with_thresholds(source: str, report: Report, tracking_uri: str | None) -> tuple[Detector, dict[str, Any]]:
    """The detector with the thresholds of a review, and what its description says of where it comes from.

    Classes that have none keep theirs. Where thresholds of the model are of pooled likelihoods, those of the review get
    an `extent_threshold`, so that they take fewer of the very events that were reviewed. Raises UserError where the
    predictions are another model's or were found in another way, or nothing fits.
    """
    with model_folder(source, tracking_uri) as folder:
        digest = file_digest(folder / WEIGHTS)[:8] if (folder / WEIGHTS).is_file() else ""
        provenance = dict(read_description(folder).get("extra") or {})
        model = load_model(folder)
    if not isinstance(model, Detector):
        raise UserError(f"{source}: is a pretrained model, which has no classes; name the one that predicted")
    said = report.origin["model"]
    if (expected := split_name(said)[1]) and expected != digest:
        raise UserError(f"{source}: did not make these predictions ({said} did); name that model")
    fitting = {name: value for name, value in report.thresholds.items() if name in model.classes}
    if not fitting:
        raise UserError(
            f"{source}: no class has a threshold for precision {report.precision:g}; judge more, or ask less"
        )
    told = dict(model.thresholds_from)
    settings = report.origin["found_with"] or {"method": "avg", **told}  # a table: as the model finds events
    if (reason := why_not(settings, told)) is not None:
        raise UserError(f"{source}: would not find the events that were reviewed: {reason}")
    usual = EventConfig.model_fields["threshold"].default
    given = settings.get("threshold")
    before = given if isinstance(given, dict) else {name: model.thresholds.get(name, usual) for name in fitting}
    told |= {name: settings[name] for name in OF_EVENTS if name in settings}
    told["extent_threshold"] = with_extents(settings, before, fitting)
    model.thresholds = {**model.thresholds, **fitting}
    for key in OF_CLASS:  # they hold for the thresholds of before
        if isinstance(told.get(key), dict):
            told[key] = {name: value for name, value in told[key].items() if name not in fitting}
    chosen = {name: report.chosen[name] for name in fitting}
    told["review"] = {
        **{key: value for key, value in report.origin.items() if key != "found_with"},
        "wanted_precision": report.precision,
        "sure": report.sure,
        "precision": {
            name: [one.share.estimate, one.share.lower, one.share.upper, one.share.judged]
            for name, one in chosen.items()
            if one.share is not None
        },
    }
    model.thresholds_from = told
    return model, provenance


def log(
    report: Report, folder: Path, model: tuple[Detector, dict[str, Any]] | None, work: Path, tracking_uri: str | None,
    say: Callable[[str], None],
) -> str:  # fmt: skip
    """A run of its own in the experiment `review`, the same decisions and questions once. folder: what `write` made.

    Returns its id; with a model, `runs:/ID` is that model with the thresholds of the review.
    """
    from ..pyfunc import log_detector
    from ..store.logged_models import MODEL
    from ..store.tags import HAS_MODEL, LOGGED
    from ..store.tracking import open_store, scratch

    config = {
        **{key: value for key, value in report.origin.items() if key not in ("date", "found_with")},
        "wanted_precision": report.precision,
        "sure": report.sure,
        "thresholds": model[0].thresholds if model else None,
    }
    mark = fingerprint("review", config)
    store = open_store(work, tracking_uri, EXPERIMENT)
    if (found := store.find("review", mark)) is not None:
        say(f"review: reused, run {found.info.run_id}")
        return str(found.info.run_id)
    run_id = store.begin("review", mark, f"review {report.origin['calls']}", config, {}, None)
    try:
        store.name_classes(run_id, [one.label for one in report.numbers.classes])
        store.log_metrics(run_id, metrics(report))
        store.log_folder(run_id, folder, "report")
        if model is not None:
            detector, provenance = model
            with scratch() as aside:
                save_model(detector, Path(aside) / MODEL, {**provenance, "review_run": run_id})
                log_detector(store, run_id, detector, Path(aside) / MODEL)
            store.finish_model(run_id)
            store.tag(run_id, HAS_MODEL, LOGGED)
    except BaseException:
        store.finish(run_id, "FAILED")
        raise
    store.finish(run_id)
    return run_id


def metrics(report: Report) -> dict[str, float]:
    """precision/CLASS and its limits, judged, recall and missed where they are known, decisions, minutes."""
    values: dict[str, float] = {
        "decisions": report.origin["decisions"],
        "reviewed_minutes": report.origin["reviewed_minutes"],
    }
    for name, one in plain(report)["classes"].items():
        for what in ("precision", "recall", "missed"):
            if one[what]:
                values[f"{what}/{name}"] = one[what]["estimate"]
                values[f"{what}_lower/{name}"] = one[what]["lower"]
                values[f"{what}_upper/{name}"] = one[what]["upper"]
        values[f"judged/{name}"] = one["sampled"]
        if one["threshold"] and one["threshold"]["threshold"] is not None:
            values[f"threshold/{name}"] = one["threshold"]["threshold"]
    return values
