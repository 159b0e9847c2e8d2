"""Figures and the HTML report of what `a2v predict` has in its folder; made again by each call that asks for them.

report.html holds all that it shows: pictures as data, style inline, no script, nothing from a network. Its links lead
to the tables beside it. A reader's names (recordings, classes, reasons) are text in it, never markup.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from a2v_data.audio import Channel
from a2v_data.recording_times import PATTERN
from a2v_data.storage import write_text_aside
from a2v_eval.figures import activity_figure, quiet_fonts, save, strip_figure

from ..basics.tables import clock_text, csv_text
from .look import (
    CONTEXT_S,
    Seen,
    activity_rows,
    event_panels,
    file_names,
    look,
    panel_seconds,
)
from .outputs import FORMATS, combined_path
from .summary import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = "report.html.j2"
SCREEN_DPI = 160
MOST_ROWS = 500
Progress = Callable[[int, int], None]


def show_predictions(
    out: Path, summary: Summary, count: int, report: bool, channel: Channel, progress: Progress
) -> list[str]:
    """Draw `figures/` for the recordings that `out` holds, `count` events of each class, and write `report.html` if
    asked for; what was made, a line each. progress: told of events (drawn, of all)."""
    done = summary.done
    classes = list(next(iter(done.values())).events) if done else []
    seen = look(out, done, classes, count)
    drawn = _draw_strips(out, seen, count, channel, summary.sample_rate, progress)
    made = []
    folder = out / "figures"
    if seen.activity is not None:
        figure = activity_figure(seen.activity, classes)
        save(figure, folder / "activity.png")
        drawn["activity"] = _png(figure)
        write_text_aside(folder / "activity.csv", csv_text(activity_rows(seen.activity, classes)))
        made.append(f"figures: {folder}")
    if report:
        write_text_aside(out / "report.html", _html(out, summary, seen, drawn, count))
        made.append(f"report, for any browser: {out / 'report.html'}")
    return made


def _draw_strips(
    out: Path, seen: Seen, count: int, channel: Channel, sample_rate: int, progress: Progress
) -> dict[str, str]:
    """figures/events-CLASS.png of each class with events; class -> the same as data for HTML."""
    drawn = {}
    names = file_names(list(seen.highest))
    total = sum(len(events[:count]) for events in seen.highest.values())
    reached = 0
    for label, ranked in seen.highest.items():
        path = out / "figures" / names[label]
        events = ranked[:count]
        if not ranked:
            path.unlink(missing_ok=True)  # of an earlier call: there are none any more
        if not events:
            continue
        panels = []
        for panel in event_panels(events, channel, sample_rate):
            panels.append(panel)
            reached += 1
            progress(reached, total)
        title = f"{label}: events of the highest likelihood (the last number)"
        figure = strip_figure(panels, panel_seconds(events), CONTEXT_S, title)
        save(figure, path)
        drawn[f"events {label}"] = _png(figure)
    return drawn


def _png(figure: Figure) -> str:
    """As a data URI, as fine as a screen needs it."""
    buffer = io.BytesIO()
    with quiet_fonts():
        figure.savefig(buffer, format="png", dpi=SCREEN_DPI)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _html(out: Path, summary: Summary, seen: Seen, drawn: dict[str, str], count: int) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    plain, nothing = summary.plain(), summary.nothing_found()
    rows = sorted(summary.rows(), key=lambda row: row["status"] != "left out")
    text: str = environment.get_template(TEMPLATE).render(
        now=f"{datetime.now():%Y-%m-%d %H:%M}",
        plain=plain,
        length=_length(3600 * plain["hours"]),
        events=sum(plain["events"].values()),
        settings=_settings(summary),
        classes=_classes(summary, seen),
        nothing=None if nothing is None else [{**row, "at": clock_text(row["at_s"])} for row in nothing],
        unknown=summary.unknown(),
        activity=drawn.get("activity"),
        by_day=seen.activity is not None and seen.activity.by_day,
        undated=seen.undated,
        pattern=PATTERN,
        strips=[(label, drawn[f"events {label}"]) for label in seen.highest if f"events {label}" in drawn],
        count=count,
        rows=[{**row, "length": _length(row["duration_s"]) if "duration_s" in row else ""} for row in rows[:MOST_ROWS]],
        more_rows=max(0, len(rows) - MOST_ROWS),
        tables=_tables(out),
    )
    # a name that is not UTF-8 stands among what was left out
    return text.encode("utf-8", "replace").decode("utf-8")


def _classes(summary: Summary, seen: Seen) -> list[dict[str, Any]]:
    """A row for each class that was looked for."""
    hours = sum(done.duration_s for done in summary.done.values()) / 3600
    chosen = summary.options["classes"]
    wanted = list(seen.highest) if chosen is None else chosen
    threshold = summary.options["events"]["threshold"]
    totals = summary.plain()["events"]
    return [
        {
            "name": label,
            "threshold": threshold[label] if isinstance(threshold, dict) else threshold,
            "events": totals[label],
            "per_hour": totals[label] / hours,
            "recordings": seen.found_in[label],
            "highest": ranked[0].likelihood if ranked else None,
        }
        for label, ranked in seen.highest.items()
        if label in wanted
    ]


def _each(value: float | dict[str, float]) -> str:
    """Seconds, of each class where they differ."""
    given = value.items() if isinstance(value, dict) else [("", value)]
    return ", ".join(f"{label} {seconds:.3g} s".strip() for label, seconds in given)


def _found_by(events: Mapping[str, Any]) -> str:
    if events["method"] == "boxes":
        return "onsets matched with offsets; events of a class may overlap"
    return f"{events['method']} pooling over {_each(events['window_s'])}"


def _settings(summary: Summary) -> list[tuple[str, str]]:
    """What decided which events were found, beside the thresholds, in words."""
    options = summary.options
    events = options["events"]
    said = [
        ("Sound", f"channel {options['channel']}, up to {summary.sample_rate / 2000:g} kHz"),
        ("Windows", f"{options['segment_s']:g} s, {options['overlap_s']:g} s shared by neighbours"),
        ("Events", _found_by(events)),
    ]
    if share := events.get("peak_share"):
        said.append(("Parted", f"where the likelihood falls below {share:.3g} of the lower of two peaks"))
    for key, name in (
        ("min_duration_s", "Shorter ones dropped"),
        ("max_duration_s", "Longer ones dropped"),
        ("merge_gap_s", "Joined where this close"),
    ):
        if (value := options[key]) is not None:
            said.append((name, _each(value)))
    return [*said, ("Precision", options["precision"])]


def _tables(out: Path) -> list[tuple[str, str]]:
    """Links to what lies beside the report: where, and what it is."""
    found = [(combined_path(out, format_), f"all events ({format_})") for format_ in FORMATS]
    found += [(out / format_, f"a table for each recording ({format_})") for format_ in FORMATS]
    found += [
        (out / "recordings.csv", "what became of each recording"),
        (out / "predict.json", "this call, for programs"),
        (out / "figures" / "activity.csv", "activity as numbers, with the seconds recorded"),
        (out / "figures", "figures for print"),
    ]
    return [
        (quote(path.relative_to(out).as_posix()), what) for path, what in found if path is not None and path.exists()
    ]


def _length(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else clock_text(seconds)
