"""What the pages of a review ask for and decide, without HTTP; for many threads.

Pages: each has a random name. An item that a page has on its screen is not handed to another one for HELD_S.
"""

from __future__ import annotations

import secrets
import threading
import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from itertools import chain, islice
from typing import Any

from a2v_data.recording_times import start_time

from .calls import Calls, Event
from .clips import Clips, Span, pieces
from .items import STRETCHES, Filter, Item, of_event, of_stretch
from .journal import Decision, Journal
from .order import Stretch, by_band
from .progress import Progress

HELD_S = 120.0
AHEAD = 3
KEPT_FILTERS = 8
MOST_ROWS = 200
Similar = Callable[[str, float, float], Iterable[Stretch]]


class UnknownItemError(ValueError):
    """No such item; the page is of an earlier start."""


class Desk:
    """items: in their order. similar: finds parts of recordings that sound like a part of one; None where nothing
    can."""

    def __init__(
        self,
        calls: Calls,
        journal: Journal,
        items: list[Item],
        clips: Clips,
        reviewer: str,
        similar: Similar | None = None,
    ) -> None:
        self.calls, self.clips, self.reviewer, self._similar = calls, clips, reviewer, similar
        self._journal, self._items, self._lock = journal, items, threading.RLock()
        self._place = {item.id: place for place, item in enumerate(items)}
        self._events = calls.by_id
        self._of_file: dict[str, list[Event]] = {}
        for event in sorted(calls.events, key=_onset):
            self._of_file.setdefault(event.file, []).append(event)
        self._longest_s = {
            name: max(one.offset_s - one.onset_s for one in events) for name, events in self._of_file.items()
        }
        self._drawn: dict[str, list[str]] = {}  # recording -> calls that were drawn in it, also removed ones
        for line in journal.state.lines:
            self._note_drawn(line)
        self._progress = Progress(items, by_band(calls.events), journal.state)
        self._held: dict[str, tuple[str, float]] = {}
        self._filtered: OrderedDict[Filter, list[int]] = OrderedDict()

    # what there is

    def about(self) -> dict[str, Any]:
        """What a page needs once."""
        return {
            "classes": self.classes(), "reviewer": self.reviewer, "stretches": STRETCHES,
            "files": sorted({item.file for item in self._items})[:2000], "folder": str(self.calls.folder),
            "total": len(self._items), "similar": self._similar is not None,
        }  # fmt: skip

    def classes(self) -> list[str]:
        """Those of the predictions, and those that reviewers added."""
        added = {line.label for line in self._journal.state.lines if line.label}
        return [*self.calls.classes, *sorted(added - set(self.calls.classes))]

    def state(self, since: int, page: str, held: str) -> dict[str, Any]:
        """How far the review is, and what was decided after line `since`. held: what the page still works on."""
        with self._lock:
            if held in self._place:
                self._hold(held, page)
            lines = self._journal.state.lines
            news = [{"item": line.item, "verdict": line.verdict, "by": line.reviewer} for line in lines[since:]]
            return {"n": len(lines), "news": news[-MOST_ROWS:], "progress": self._progress.told()}

    def listing(self, kept: Filter, first: int, count: int) -> dict[str, Any]:
        """Rows `first` to `first + count` of the list."""
        with self._lock:
            places = list(self._places(kept))
            rows = [self._row(self._items[place]) for place in places[first : first + min(count, MOST_ROWS)]]
            return {"total": len(places), "first": first, "rows": rows}

    def item(self, item: str, page: str, kept: Filter) -> dict[str, Any]:
        """All about an item, which the page has on its screen from now on, and what will come next. Raises
        UnknownItemError."""
        with self._lock:
            found = self._find(item)
            self._hold(item, page)
            following = list(islice(self._open(page, item, kept), AHEAD))
            clips = pieces(*found.clip)
            recorded = self.calls.recordings[found.file]
            begin = start_time(found.file)
            answer = {
                **asdict(found), "boxes": self._boxes(found), "decision": self._decision(item),
                "seen": self._seen(item), "pieces": clips, "duration_s": recorded.duration_s, "rate": recorded.rate,
                "slow": self.clips.slow(found.file), "began": begin.isoformat() if begin else None,
                "row": self._row_of(item, kept),
                "ahead": [{"id": one.id, "pieces": pieces(*one.clip)[:1]} for one in following],
            }  # fmt: skip
        return answer

    def prepare(self, answer: dict[str, Any] | None) -> None:
        """Make the clips of an answer of `item` and of what comes next; called when it is sent, so that it is not held
        up."""
        if answer:
            with self._lock:
                found = [self._find(one["id"]) for one in (answer, *answer["ahead"])]
            self.clips.prepare([self._span(one.file, pieces(*one.clip)[0]) for one in found])

    def next(self, page: str, after: str, kept: Filter) -> dict[str, Any] | None:
        """The next open item of the order that no other page holds, from the beginning again after the last one; None
        where nothing is open."""
        with self._lock:
            found = next(self._open(page, after, kept), None)
            return self.item(found.id, page, kept) if found else None

    def clip(self, item: str, start_s: float, stop_s: float) -> Span:
        """A part of what is shown of an item, to be made. Raises UnknownItemError, ValueError."""
        with self._lock:
            found = self._find(item)
        low, high = found.clip
        if not low - 1e-6 <= start_s < stop_s <= high + 1e-6:
            raise ValueError(f"{start_s} to {stop_s} s is not within {low} to {high} s")
        return self._span(found.file, (start_s, stop_s))

    # what is decided

    def decide(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Write a decision down. asked: `shown`, the item on the screen; `item`, what is decided on, '' for a call that
        was just drawn; `kind`, `verdict`, `label`, `onset_s`, `offset_s`, `clip`, `whole`, `seen`, `page`, `chosen`,
        `reviewer`, `spent_s`. Raises ConflictError, UnknownItemError, ValueError."""
        with self._lock:
            decision = self._asked(asked)
            seen = asked.get("seen") or 0
            if not isinstance(seen, int):
                raise ValueError(f"seen: {seen!r}; should be the number of a line")
            kept = self._journal.decide(decision, seen)
            self._note_drawn(kept)
            self._progress.changed(kept.item)
            if self._held.get(kept.item, ("", 0.0))[0] == asked.get("page"):
                self._held.pop(kept.item)
            return {"decision": self._decision(kept.item), "line": asdict(kept), "progress": self._progress.told()}

    def similar(self, item: str, start_s: float, stop_s: float) -> list[dict[str, Any]]:
        """Parts of recordings that sound like a part of an item, added to what is reviewed, the likest first."""
        if self._similar is None:
            raise ValueError("search needs a model that has heard the recordings; start a2v review with --model")
        span = self.clip(item, start_s, stop_s)
        found = [of_stretch(one, "search") for one in self._similar(*span)]
        with self._lock:
            for one in found:
                if one.id not in self._place:
                    self._place[one.id] = len(self._items)
                    self._items.append(one)
                    self._progress.added(one)
            self._filtered.clear()
            return [self._row(one) for one in found]

    def _asked(self, asked: dict[str, Any]) -> Decision:
        shown = self._find(str(asked.get("shown", "")))
        name, kind, verdict = (str(asked.get(key) or "") for key in ("item", "kind", "verdict"))
        recorded = self.calls.recordings[shown.file]
        label, onset_s, offset_s = str(asked.get("label") or ""), *_span_of(asked, recorded.duration_s)
        last = self._journal.state.of(name) if name else None
        if kind == "event":
            event = self._events.get(name)
            if event is None or event.file != shown.file:
                raise UnknownItemError(f"{name}: no such prediction")
            label = label if verdict == "other" else event.label
            verdict = "right" if verdict == "other" and label == event.label else verdict
            if verdict == "wrong":
                onset_s, offset_s = event.onset_s, event.offset_s
        elif kind == "stretch":
            if name != shown.id or shown.kind != "stretch":
                raise UnknownItemError(f"{name}: no such part of a recording")
            label, onset_s, offset_s = "", shown.onset_s, shown.offset_s
        elif kind == "drawn":
            if name and name not in self._drawn.get(shown.file, ()):
                raise UnknownItemError(f"{name}: no such call")
            name = name or secrets.token_hex(6)
        if verdict == "undone":
            if last is None:
                raise ValueError("nothing is decided that could be taken back")
            label, onset_s, offset_s = last.label, last.onset_s, last.offset_s
        try:
            label.encode()
        except UnicodeEncodeError:
            if label not in self.calls.classes:
                raise ValueError("label: is no text") from None
        spent, clip = asked.get("spent_s"), asked.get("clip")
        chosen = name != shown.id if kind == "event" else bool(asked.get("chosen"))
        return Decision(
            0, name, kind, verdict, shown.file, label, onset_s, offset_s,
            clip=_clip(clip, recorded.duration_s) if clip else None,
            whole=bool(asked.get("whole")) and name == shown.id,
            order="chosen" if chosen or asked.get("chosen") else shown.order,
            reviewer=str(asked.get("reviewer") or self.reviewer)[:200],
            spent_s=round(float(spent), 1) if isinstance(spent, int | float) and 0 <= spent < 1e9 else None,
        )  # fmt: skip

    # the list

    def _places(self, kept: Filter) -> Iterator[int]:
        asked = replace(kept, undecided=False)
        if asked not in self._filtered:
            self._filtered[asked] = [place for place, item in enumerate(self._items) if asked.keeps(item)]
            while len(self._filtered) > KEPT_FILTERS:
                self._filtered.popitem(last=False)
        of = self._journal.state.of
        for place in self._filtered[asked]:
            if not kept.undecided or of(self._items[place].id) is None:
                yield place

    def _open(self, page: str, after: str, kept: Filter) -> Iterator[Item]:
        """What is open and free for a page, in the order from behind `after`, which is none of it."""
        places = list(self._places(replace(kept, undecided=False)))
        first = bisect_right(places, self._place.get(after, -1))
        now = time.monotonic()
        for place in chain(islice(places, first, None), islice(places, first)):
            item = self._items[place]
            holder, since = self._held.get(item.id, (page, now))
            free = holder == page or now - since > HELD_S
            if item.id != after and free and self._journal.state.of(item.id) is None:
                yield item

    def _row(self, item: Item) -> dict[str, Any]:
        last = self._journal.state.of(item.id)
        return {
            "id": item.id, "kind": item.kind, "file": item.file, "label": item.label, "onset_s": item.onset_s,
            "likelihood": item.likelihood, "order": item.order,
            "verdict": last.verdict if last else None, "now": last.label if last else None,
        }  # fmt: skip

    def _row_of(self, item: str, kept: Filter) -> int | None:
        here = self._place.get(item)
        return next((row for row, place in enumerate(self._places(kept)) if place == here), None)

    # one item

    def _find(self, item: str) -> Item:
        if item in self._place:
            return self._items[self._place[item]]
        if item in self._events:
            return of_event(self._events[item], self.calls, "chosen")
        raise UnknownItemError(f"{item}: no such item; load the page again")

    def _boxes(self, shown: Item) -> list[dict[str, Any]]:
        """Predictions and drawn calls within what is shown of an item, by their onset."""
        start_s, stop_s = shown.clip
        boxes = []
        events = self._of_file.get(shown.file, [])
        first = bisect_left(events, start_s - self._longest_s.get(shown.file, 0.0), key=_onset)
        for event in islice(events, first, bisect_left(events, stop_s, key=_onset)):
            if event.offset_s > start_s:
                decided = {"decision": self._decision(event.id), "seen": self._seen(event.id)}
                boxes.append({**asdict(event), "kind": "event", **decided})
        for name in self._drawn.get(shown.file, ()):
            last = self._journal.state.of(name)
            if last and last.verdict != "removed" and last.offset_s > start_s and last.onset_s < stop_s:
                edges = {"label": last.label, "onset_s": last.onset_s, "offset_s": last.offset_s}
                about = {"id": name, "kind": "drawn", "file": shown.file, "likelihood": None}
                boxes.append({**about, **edges, "decision": asdict(last), "seen": self._seen(name)})
        return sorted(boxes, key=lambda box: box["onset_s"])

    def _decision(self, item: str) -> dict[str, Any] | None:
        found = self._journal.state.of(item)
        return asdict(found) if found else None

    def _seen(self, item: str) -> int:
        last = self._journal.state.last(item)
        return last.n if last else 0

    def _span(self, file: str, clip: tuple[float, float]) -> Span:
        return file, round(clip[0], 6), round(clip[1], 6)

    def _hold(self, item: str, page: str) -> None:
        now = time.monotonic()
        holder, since = self._held.get(item, (page, now))
        if holder != page and now - since <= HELD_S:
            return  # both look at it; the one that came first has it
        for other in [name for name, (who, _) in self._held.items() if who == page]:
            del self._held[other]
        self._held[item] = (page, now)

    def _note_drawn(self, line: Decision) -> None:
        if line.kind == "drawn" and line.item not in self._drawn.setdefault(line.file, []):
            self._drawn[line.file].append(line.item)


def _onset(event: Event) -> float:
    return event.onset_s


def _span_of(asked: dict[str, Any], duration_s: float) -> tuple[float, float]:
    return _clip([asked.get("onset_s", 0.0), asked.get("offset_s", 0.0)], duration_s)


def _clip(span: Any, duration_s: float) -> tuple[float, float]:
    """Two numbers of a page, to the microsecond. Raises ValueError."""
    try:
        start, stop = (round(float(value), 6) for value in span)
    except (TypeError, ValueError):
        raise ValueError(f"{span!r}: should be two numbers, in seconds") from None
    if not 0 <= start <= stop:
        raise ValueError(f"{start} to {stop} s: should ascend from 0")
    return start, min(stop, max(duration_s, start))
