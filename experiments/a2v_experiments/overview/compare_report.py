"""What `a2v experiment compare` prints: text for a terminal, or plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from a2v_eval.comparison import comparison_text
from a2v_eval.events import PROTOCOLS
from a2v_eval.presence import PRESENCE, presence_table
from a2v_eval.summary import UNDEFINED_MARK, metric_name
from a2v_eval.summary import text_table as score_table

from ..basics.errors import UserError
from ..basics.tables import text_table
from ..stages.experiment import class_names, present_names
from ..store.tags import STAGE, VARIANT
from .compare import Pairing, Side, differences, pairings, shares_together, summaries, ui_link

TESTED = [metric_name(protocol, "AP", of) for of in ("micro", "macro") for protocol in PROTOCOLS]
TESTED += [f"{PRESENCE}mAP/{of}" for of in ("micro", "macro")]
LONGEST = 60  # characters of a value that are shown
Group = tuple[tuple[float, ...], list[Pairing]]


def groups(found: Sequence[Side], tested: Sequence[str]) -> list[Group]:
    """Label shares that stand beside each other, with the tests of each."""
    return [(shares, pairings(found, shares, tested)) for shares in shares_together(found)]


def check_metrics(found: Sequence[Side], chosen: Sequence[str]) -> None:
    """Raise UserError where no fold has one of the metrics."""
    known = {name for side in found for share in side.folds for fold in side.scores(share) for name in fold}
    for name in chosen:
        if name not in known:
            like = ", ".join(sorted(known, key=lambda other: (name.split("/")[-1] not in other, other))[:5])
            raise UserError(f"--metric {name}: no fold has it; for example: {like}")


def to_json(found: Sequence[Side], chosen: Sequence[str], address: str) -> dict[str, Any]:
    """Plain data, numbers in full."""
    sides = [
        {
            "side": side.letter, "name": side.name, "run_id": side.run.info.run_id, "status": side.run.info.status,
            "variant": side.run.data.tags.get(VARIANT), "stage": side.run.data.tags[STAGE],
            "folds": {f"{share:g}": {str(fold): run.info.run_id for fold, run in by_fold.items()}
                      for share, by_fold in side.folds.items()},
        }
        for side in found
    ]  # fmt: skip
    scores: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    for shares, paired in groups(found, chosen or TESTED):
        by_letter = {side.letter: share for side, share in zip(found, shares, strict=True)}
        for letter, summary in summaries(found, shares).items():
            scores += [
                {"side": letter, "label_share": by_letter[letter], "metric": name, **spread._asdict()}
                for name, spread in summary.items()
                if not chosen or name in chosen
            ]
        tests += [asdict(pair) for pair in paired]
    links = {"runs": ui_link(found, address, folds=False), "folds": ui_link(found, address, folds=True)}
    return {"sides": sides, "differences": differences(found), "scores": scores, "paired": tests, "links": links}


def to_text(found: Sequence[Side], chosen: Sequence[str]) -> str:
    """Legend, differing configuration, scores and tests, each under its heading."""
    parts = [_legend(found), _differences(found)]
    for shares, paired in groups(found, chosen or TESTED):
        names = _titles(found, shares)
        alike = len(set(shares)) == 1
        title = f"{shares[0]:.0%} of the labels" if alike else "labels: " + ", ".join(names.values())
        parts.append(f"{title}\n{_scores(found, shares, chosen, names)}")
        parts += [_tests(pair, names) for pair in paired]
        missing = [side.letter for side, share in zip(found, shares, strict=True) if share not in side.folds]
        if missing:
            parts.append(f"no fold with {shares[0]:.0%} of the labels: {', '.join(missing)}")
    return "\n\n".join(parts)


def _titles(found: Sequence[Side], shares: tuple[float, ...]) -> dict[str, str]:
    """Letter -> how a column is headed: the letter, and its label share where they are not all the same."""
    alike = len(set(shares)) == 1
    return {
        side.letter: side.letter if alike else f"{side.letter} {share:.0%}"
        for side, share in zip(found, shares, strict=True)
    }


def _legend(found: Sequence[Side]) -> str:
    rows = []
    for side in found:
        tags, info = side.run.data.tags, side.run.info
        kind, run_name = tags[STAGE], info.run_name
        folds = ", ".join(str(fold) for fold in sorted({fold for share in side.folds.values() for fold in share}))
        name = run_name if kind == "experiment" else f"{side.config.get('name', '')}, {run_name}"
        rows.append([side.letter, name, tags.get(VARIANT, ""), kind, side.run.info.run_id, side.run.info.status, folds])
    return text_table(["", "name", "variant", "kind", "run", "status", "folds"], rows, left=7)


def _differences(found: Sequence[Side]) -> str:
    table = differences(found)
    if not table:
        return "configuration: no difference"
    rows = [[key, *(_short(value) for value in values)] for key, values in table.items()]
    return text_table(["what differs", *(side.letter for side in found)], rows, left=1 + len(found))


def _short(value: str | None) -> str:
    if value is None:
        return UNDEFINED_MARK
    return value if len(value) <= LONGEST else value[: LONGEST - 3] + "..."


def _scores(found: Sequence[Side], shares: tuple[float, ...], chosen: Sequence[str], names: dict[str, str]) -> str:
    summary = summaries(found, shares)
    if not chosen:
        folds = [fold for side, share in zip(found, shares, strict=True) for fold in side.scores(share)]
        titled = {names[letter]: spreads for letter, spreads in summary.items()}
        events, present = class_names(folds), present_names(folds)
        tables = [score_table(titled, events)] if events or not present else []
        tables += [presence_table(titled, present)] if present else []
        return "\n\n".join(tables)
    rows = [
        [name, *(str(spreads[name]) if name in spreads else UNDEFINED_MARK for spreads in summary.values())]
        for name in chosen
    ]
    return text_table(["metric", *(names[letter] for letter in summary)], rows)


def _tests(pair: Pairing, names: dict[str, str]) -> str:
    title = f"{names[pair.first]} against {names[pair.second]}"
    if not pair.tests:
        return f"{title}: no paired test: {pair.reason}"
    folds = ", ".join(map(str, pair.folds))
    table = comparison_text(pair.tests, names[pair.first], names[pair.second])
    return f"{title}, paired over folds {folds}\n{table}"
