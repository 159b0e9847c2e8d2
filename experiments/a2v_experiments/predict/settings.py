"""How calls are found: windows, thresholds, post-processing. What a model says of itself is the default."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from a2v_data.documents import shortened, shown
from a2v_eval.events import EventConfig
from a2v_eval.learned import class_fits
from a2v_eval.postprocess import by_time, merge_gaps, only_classes, within_durations
from a2v_model import Detector
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..basics.names import rejoined
from ..models import check_event_method, usual_method

SEGMENT_S, OVERLAP_S = 10.0, 0.5
OF_EVENTS = ("window_s", "peak_share")  # how `avg` and `max` find events, beside their thresholds
Seconds = Annotated[float, Field(ge=0)]
OfClass = Seconds | dict[str, Seconds]
"""One number, or class -> number: classes without one are left as they are."""


class PredictSettings(BaseModel):
    """What decides which events are found.

    segment_s, overlap_s: seconds of a window and of what neighbouring windows share. events: how likelihoods become
    events, with the threshold of each class. classes: keep these only; None: all. merge_gap_s: events of a class this
    close are one; None: none are merged. min_duration_s, max_duration_s: shorter and longer events are dropped.
    precision: float32, bfloat16, or auto (bfloat16 where the processor has it).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    segment_s: float = Field(default=SEGMENT_S, gt=0)
    overlap_s: Seconds = OVERLAP_S
    events: EventConfig = EventConfig()
    classes: tuple[str, ...] | None = None
    merge_gap_s: OfClass | None = None
    min_duration_s: OfClass | None = None
    max_duration_s: OfClass | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def threshold(self, label: str) -> float:
        """Of a class."""
        given = self.events.threshold
        return given[label] if isinstance(given, Mapping) else given


def settings_for(model: Detector, **given: Any) -> tuple[PredictSettings, list[str]]:
    """The settings for a model, and what a user should know about them, a line each.

    given: fields of PredictSettings, and `method`, `window_s`, `peak_share` and `threshold` of EventConfig; what is
    None or missing is the model's own: its thresholds, and the event settings and windows that they were chosen for. A
    class without a threshold has EventConfig's. Classes that are `not_written` are left out, with all_classes=True none
    are. Raises ValueError for a wrong value or a class that the model does not know.
    """
    given = {key: value for key, value in given.items() if value is not None}
    odd = given.keys() - PredictSettings.model_fields.keys() - {"method", *OF_EVENTS, "threshold", "all_classes"}
    assert not odd, f"{odd}: no such setting"
    if "classes" in given:
        given["classes"] = tuple(rejoined(given["classes"], model.classes))
    left_out = not_written(model, **given)
    if left_out:
        given["classes"] = tuple(name for name in model.classes if name not in left_out)
    known = model.thresholds_from
    method = given.get("method", known.get("method", usual_method(model)))
    check_event_method(model, method)
    same = method == known.get("method")
    keys: tuple[str, ...] = (*OF_EVENTS, "extent_threshold")
    if method not in ("avg", "max"):
        of_method = {"canny": ("window_s", "low_threshold", "max_duration_s"), "boxes": ()}
        keys = of_method.get(method, ("options",))
    events = {key: known[key] for key in keys if same and key in known}
    events |= {key: given[key] for key in OF_EVENTS if key in given}
    thresholds, notices = _thresholds(model, given.get("threshold"), left_out)
    fields: dict[str, Any] = {key: float(known[key]) for key in ("segment_s", "overlap_s") if key in known}
    if same and "min_duration_s" in known:
        fields["min_duration_s"] = known["min_duration_s"]
    fields |= {key: given[key] for key in PredictSettings.model_fields if key in given}
    try:
        settings = PredictSettings(**{**fields, "events": EventConfig(method=method, threshold=thresholds, **events)})
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(
            f"{first['loc'][0] if first['loc'] else 'settings'}: {first['msg'].removeprefix('Value error, ')}"
        ) from None
    _check(model, settings)
    if model.thresholds and not given.keys().isdisjoint({"method", *OF_EVENTS}) and "threshold" not in given:
        window = known.get("window_s")
        chosen = f"method {known.get('method')}, window_s {'of each class' if isinstance(window, dict) else window}"
        chosen += f", peak_share {known['peak_share']}" if "peak_share" in known else ""
        notices.append(f"the model's thresholds were chosen for {chosen}; they may not fit other settings")
    return settings, notices


def not_written(model: Detector, **given: Any) -> dict[str, str]:
    """The classes that the model has not learned and nobody asked for, with why: they would flood every table.

    given: as `settings_for` takes it. `classes` and a `threshold` for a class ask for those that they name, all_classes
    for all. Raises ValueError where all_classes stands beside classes.
    """
    threshold, classes = given.get("threshold"), given.get("classes")
    if given.get("all_classes"):
        if classes is not None:
            raise ValueError("all_classes: means all of them, and classes only some; give one of the two")
        return {}
    if classes is not None:
        return {}
    named = threshold if isinstance(threshold, Mapping) else {}
    fits = class_fits(model.classes, model.thresholds, model.thresholds_from)
    return {name: fit.reason() for name, fit in fits.items() if fit.learned is False and name not in named}


def not_learned_notice(left_out: Mapping[str, str], asking: str) -> list[str]:
    """What to say of `not_written`, if anything. asking: how events of all classes are asked for."""
    if not left_out:
        return []
    said = ", ".join(f"{name} ({why})" for name, why in left_out.items())
    return [f"not learned, no events written: {said}; {asking} writes them all the same, more labels or updates help"]


def postprocess(events: np.ndarray, settings: PredictSettings, classes: list[str]) -> np.ndarray:
    """Found events (dtype EVENT) as the settings want them, in the order of onset and class.

    First gaps are closed, then durations asked for, so that pieces of a call count as the call.
    """
    if settings.classes is not None:
        events = only_classes(events, np.array([classes.index(name) for name in settings.classes], np.int64))
    if settings.merge_gap_s is not None:
        events = merge_gaps(events, _of_each(settings.merge_gap_s, classes, -1.0))
    shortest = _of_each(settings.min_duration_s, classes, 0.0)
    return by_time(within_durations(events, shortest, _of_each(settings.max_duration_s, classes, np.inf)))


def _thresholds(model: Detector, given: Any, left_out: Iterable[str]) -> tuple[dict[str, float], list[str]]:
    default = EventConfig.model_fields["threshold"].default
    of_all = given is not None and not isinstance(given, Mapping)
    chosen = dict.fromkeys(model.classes, given) if of_all else {**model.thresholds, **(given or {})}
    for name, value in chosen.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise ValueError(f"threshold: {shown(value)} of {shortened(name)} should be a number from 0 to below 1")
    if unknown := sorted(set(chosen) - set(model.classes)):
        raise ValueError(f"threshold: {shown(unknown[0])} is none of the model's classes {', '.join(model.classes)}")
    without = [name for name in model.classes if name not in chosen and name not in left_out]
    notices = [f"no threshold was chosen for {', '.join(without)}: {default} is used"] if without else []
    return {name: float(chosen.get(name, default)) for name in model.classes}, notices


def _check(model: Detector, settings: PredictSettings) -> None:
    if settings.overlap_s >= settings.segment_s:
        raise ValueError(f"overlap_s: {settings.overlap_s} s must be less than segment_s, {settings.segment_s} s")
    front_end = model.model_config.front_end
    least_s = max(front_end.shortest, front_end.stride) / front_end.sample_rate
    if settings.segment_s < least_s:
        raise ValueError(f"segment_s: {settings.segment_s} s is too short for a frame; at least {least_s:.4f} s")
    for field in ("classes", "merge_gap_s", "min_duration_s", "max_duration_s"):
        value = getattr(settings, field)
        names = value if isinstance(value, tuple | dict) else ()
        for name in names:
            if name not in model.classes:
                raise ValueError(f"{field}: {name!r} is none of the model's classes {', '.join(model.classes)}")


def _of_each(value: OfClass | None, classes: list[str], default: float) -> np.ndarray:
    """(C,), `default` where a class has none."""
    if value is None:
        return np.full(len(classes), default)
    return np.array([value.get(name, default) if isinstance(value, dict) else value for name in classes])
