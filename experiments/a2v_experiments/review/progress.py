"""How far a review is, and the precision that it has found so far; cheap after each decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .calls import Event
from .items import Item
from .journal import State

ALL = ("right", "wrong", "other")  # `unsure` is no part of a precision


class Progress:
    """members: class and band of likelihood -> its events in their random order (`order.by_band`)."""

    def __init__(self, items: Sequence[Item], members: dict[tuple[str, int], list[Event]], state: State) -> None:
        self._items, self._members, self._state = [item.id for item in items], members, state
        self._mine = set(self._items)
        self._decided = {item for item in self._items if state.of(item)}
        self._band = {event.id: key for key, events in members.items() for event in events}
        self._prefix = dict.fromkeys(members, 0)
        self._standing: dict[str, dict[str, str]] = {label: {} for label, _ in members}  # class -> event -> verdict
        for event in self._band:
            if last := state.of(event):
                self._standing[self._band[event][0]][event] = last.verdict

    def added(self, item: Item) -> None:
        """Another item is to be reviewed."""
        self._items.append(item.id)
        self._mine.add(item.id)
        self.changed(item.id)

    def changed(self, item: str) -> None:
        """Something was decided on an item, or taken back."""
        last = self._state.of(item)
        if item in self._mine:
            (self._decided.add if last else self._decided.discard)(item)
        if key := self._band.get(item):
            if last:
                self._standing[key[0]][item] = last.verdict
            else:
                self._standing[key[0]].pop(item, None)
                self._prefix[key] = 0

    def told(self) -> dict[str, Any]:
        """decided, total: of the items; classes: label -> what `_of_class` says; all: the same of all classes."""
        classes = {label: self._of_class([label]) for label in self._standing}
        every = self._of_class(list(self._standing))
        return {"decided": len(self._decided), "total": len(self._items), "classes": classes, "all": every}

    def _of_class(self, labels: Sequence[str]) -> dict[str, Any]:
        """decided: right, wrong or another class; right: of these; sample: of them those that are a random sample of
        their band; precision: right ones of the sample, each band counted by its events; None where it has none.
        covered: the share of events that lies in bands with a sample."""
        verdicts = [verdict for label in labels for verdict in self._standing[label].values() if verdict in ALL]
        weights, good, sample, events = 0.0, 0.0, 0, 0
        for key, members in self._members.items():
            if key[0] not in labels:
                continue
            events += len(members)
            end = self._prefix[key]
            known = self._standing[key[0]]
            while end < len(members) and members[end].id in known:
                end += 1
            self._prefix[key] = end
            counted = [known[event.id] for event in members[:end] if known[event.id] in ALL]
            if counted:
                weights += len(members)
                good += len(members) * counted.count("right") / len(counted)
                sample += len(counted)
        return {
            "decided": len(verdicts), "right": verdicts.count("right"), "sample": sample, "events": events,
            "precision": good / weights if weights else None, "covered": weights / events if events else 0.0,
        }  # fmt: skip
