"""What a call of `a2v predict` did: `recordings.csv` and `predict.json` in its folder, and the text that ends it.

recordings.csv   a row for each recording: file, status (done, done before, left out), reason, duration_s,
                 sample_rate (Hz), channels, events, seconds (of work on all processes), path, notice (what is odd
                 about its file though all of it was read)
predict.json     model, options, totals, events of each class, classes that are not learned, extreme likelihoods of each
                 class and why it has no event, what was left out, notices, speed
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from a2v_data.storage import write_text_aside

from ..basics.tables import clock_text, csv_text, text_table
from ..basics.terminal import one_line
from .extremes import BELOW, HARDLY_VARIES
from .state import Done

SHOWN = 20


@dataclass(frozen=True)
class Summary:
    """model, options: as in `Job`; done: every recording that the folder holds; new: those that this call did; given:
    those that it was called with; left_out: name -> why; elapsed_s: of the call. not_learned: classes that are not
    written for that, with why. likelihoods: as `extremes.extreme_rows` has them. odd: name -> what is odd about its
    file though all of it was read."""

    model: str
    options: dict[str, Any]
    done: dict[str, Done]
    new: list[str]
    given: list[str]
    left_out: dict[str, str]
    notices: list[str]
    elapsed_s: float
    sample_rate: int
    not_learned: dict[str, str] = field(default_factory=dict)
    likelihoods: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each recording, by name."""
        new = set(self.new)
        return [self._row(name, name in new) for name in sorted(self.done.keys() | self.left_out.keys())]

    def _row(self, name: str, new: bool) -> dict[str, Any]:
        reason = self.left_out.get(name, "")
        status = "left out" if reason else "done" if new else "done before"
        row: dict[str, Any] = {"file": name, "status": status, "reason": reason}
        if done := self.done.get(name):
            row |= {
                "duration_s": round(done.duration_s, 6),
                "sample_rate": done.rate,
                "channels": done.channels,
                "events": sum(done.events.values()),
                "seconds": round(done.seconds, 3),
                "path": done.path,
                "notice": self.odd.get(name, ""),
            }
        return row

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        new = [self.done[name] for name in self.new]
        hours = sum(done.duration_s for done in new) / 3600
        work_s, model_s = (sum(getattr(done, key) for done in new) for key in ("seconds", "model_seconds"))
        events: Counter[str] = Counter()
        for done in self.done.values():
            events.update(done.events)
        return {
            "model": self.model,
            "options": self.options,
            "recordings": len(self.done),
            "hours": sum(done.duration_s for done in self.done.values()) / 3600,
            "events": dict(events),
            "not_learned": [{"class": name, "reason": why} for name, why in self.not_learned.items()],
            "likelihoods": self.likelihoods,
            "done_now": {
                "recordings": len(new),
                "hours": hours,
                "seconds": round(self.elapsed_s, 3),
                "times_real_time": round(3600 * hours / self.elapsed_s, 2) if new else None,
                "share_outside_model": round(1 - model_s / work_s, 4) if work_s else None,
            },
            "done_before": len(set(self.given) & self.done.keys() - set(self.new)),
            "left_out": [{"file": name, "reason": self.left_out[name]} for name in sorted(self.left_out)],
            "notices": self.notices,
            "odd": [{"file": name, "notice": self.odd[name]} for name in sorted(self.odd)],
        }

    def nothing_found(self) -> list[dict[str, Any]] | None:
        """Where no recording has an event, a row for each class of which the likelihoods are known; else None."""
        if not self.done or any(sum(done.events.values()) for done in self.done.values()):
            return None
        return [{"class": name, **row} for name, row in self.likelihoods.items() if row is not None]

    def unknown(self) -> int:
        """Recordings of which an earlier a2v kept no extreme likelihoods."""
        return sum(done.likelihoods is None for done in self.done.values())

    def text(self, out: Path) -> str:
        """What a user reads at the end."""
        plain = self.plain()
        now, before = plain["done_now"], plain["done_before"]
        lines = [f"{out}: {_counted(now['recordings'], 'recording')} done ({_hours(now['hours'])})"]
        if now["times_real_time"]:
            lines[0] += f", {now['times_real_time']:.3g} times real time"
        if before:
            lines[0] += f"; {_counted(before, 'recording')} done before"
        if others := len(self.done.keys() - set(self.given)):
            lines.append(f"{_counted(others, 'recording')} of other calls are in its tables, too")
        events = plain["events"]
        counts = [[name, "not learned" if name in self.not_learned else str(n)] for name, n in events.items()]
        lines += ["", text_table(["class", "events"], [*counts, ["all", str(sum(events.values()))]]), ""]
        lines += self._nothing_found_lines()
        lines += [f"  {notice}" for notice in _shown(self.notices)]
        if self.odd:
            lines.append(f"odd, and read to the end ({len(self.odd)}):")
            lines += [f"  {line}" for line in _shown([f"{name}: {self.odd[name]}" for name in sorted(self.odd)])]
        if self.left_out:
            lines.append(f"left out ({len(self.left_out)}):")
            lines += [f"  {line}" for line in _shown([f"{n}: {self.left_out[n]}" for n in sorted(self.left_out)])]
        lines.append(f"events of all recordings: {out / 'events.csv'}; what became of each: {out / 'recordings.csv'}")
        return "\n".join(lines)

    def _nothing_found_lines(self) -> list[str]:
        rows = self.nothing_found()
        if rows is None:
            return []
        count = self.unknown()
        of = f" (not known of {_counted(count, 'recording')} that an earlier a2v did)" if count else ""
        lines = [f"nothing found; the highest likelihood of each class{of}:" if rows else f"nothing found{of}", ""]
        if rows:
            header = ["class", "why no event", "file", "at", "highest", "threshold"]
            lines += [text_table(header, [_extreme_cells(row) for row in rows], left=3), ""]
        # where they hardly vary a notice says what is wrong
        varies = any(row["highest"] - row["lowest"] >= HARDLY_VARIES for row in rows)
        if varies and any(row["why_none"] == BELOW for row in rows):
            how = "(--threshold CLASS=VALUE, in a new --out)"
            lines.append(f"  listen there: where that is a call, a lower threshold finds it {how}")
        return lines


def _extreme_cells(row: dict[str, Any]) -> list[str]:
    numbers = [f"{row['highest']:.3f}", f"{row['threshold']:g}"]
    return [row["class"], row["why_none"] or "", row["file"], clock_text(row["at_s"]), *numbers]


def write_summary(out: Path, summary: Summary) -> None:
    """Write both files, each whole or not at all."""
    columns = (
        "file",
        "status",
        "reason",
        "duration_s",
        "sample_rate",
        "channels",
        "events",
        "seconds",
        "path",
        "notice",
    )
    rows = [{name: row.get(name, "") for name in columns} for row in summary.rows()]
    write_text_aside(out / "recordings.csv", csv_text(rows) if rows else ",".join(columns) + "\n")
    write_text_aside(out / "predict.json", json.dumps(summary.plain(), ensure_ascii=False, indent=1) + "\n")


def _shown(lines: list[str]) -> list[str]:
    more = [f"... and {len(lines) - SHOWN} more (recordings.csv has all)"] if len(lines) > SHOWN else []
    return [*map(one_line, lines[:SHOWN]), *more]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"
