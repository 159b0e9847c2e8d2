"""What `a2v experiment compare` prints: text for a terminal, or plain data."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from a2v_eval.presence import PRESENCE, presence_table
from a2v_eval.summary import STRICT_FIRST, UNDEFINED_MARK, metric_name
from a2v_eval.summary import text_table as score_table
from mlflow.entities import Run

from ..basics.errors import UserError
from ..basics.tables import text_table
from ..stages.experiment import class_names, present_names
from ..store.tags import STAGE, VARIANT
from ..sweep.answer_text import WIDTH, difference, metric_title, named, number, p_text
from ..training.validation_report import VALIDATION
from .compare import Side, differences, shares_together, summaries, ui_link
from .compare_tests import RANKED_BY, Baseline, Pairing, Test, pairings

TESTED = ["strict/mAP/micro"]
TESTED += [metric_name(protocol, "AP", of) for of in ("micro", "macro") for protocol in STRICT_FIRST]
TESTED += [f"{PRESENCE}mAP/{of}" for of in ("micro", "macro")]
LONGEST = 60  # characters of a value that are shown
SHOWN_TIES = 2  # sides tied with the best whose differences are in the first line
Group = tuple[tuple[float, ...], list[Pairing]]


def groups(found: Sequence[Side], tested: Sequence[str], baseline: Baseline) -> list[Group]:
    """Label shares that stand beside each other, with the tests of each."""
    return [(shares, pairings(found, shares, tested, baseline)) for shares in shares_together(found)]


def check_metrics(found: Sequence[Side], chosen: Sequence[str]) -> None:
    """Raise UserError where no fold has one of the metrics."""
    known = {name for side in found for share in side.shares for fold in side.scores(share) for name in fold}
    for name in chosen:
        if name not in known:
            like = ", ".join(sorted(known, key=lambda other: (name.split("/")[-1] not in other, other))[:5])
            raise UserError(f"--metric {name}: no fold has it; for example: {like}")


def to_json(found: Sequence[Side], chosen: Sequence[str], address: str, baseline: Baseline) -> dict[str, Any]:
    """Plain data, numbers in full."""
    sides = [
        {
            "side": side.letter, "name": side.name, "run_id": side.run.info.run_id, "status": side.run.info.status,
            "variant": side.run.data.tags.get(VARIANT), "stage": side.run.data.tags[STAGE],
            "folds": _run_ids(next(iter(side.seeds.values()))),
            "seeds": {str(seed): _run_ids(by_share) for seed, by_share in side.seeds.items() if seed is not None},
        }
        for side in found
    ]  # fmt: skip
    scores: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    for shares, paired in groups(found, chosen or TESTED, baseline):
        by_letter = {side.letter: share for side, share in zip(found, shares, strict=True)}
        for letter, summary in summaries(found, shares).items():
            scores += [
                {"side": letter, "label_share": by_letter[letter], "metric": name, **spread._asdict()}
                for name, spread in summary.items()
                if not chosen or name in chosen
            ]
        tests += [pair.plain() for pair in paired]
    links = {"runs": ui_link(found, address, folds=False), "folds": ui_link(found, address, folds=True)}
    told = {"side": baseline.side.letter, "best_by": baseline.by or None}
    return {
        "sides": sides, "baseline": told, "differences": differences(found), "scores": scores, "paired": tests,
        "links": links,
    }  # fmt: skip


def _run_ids(by_share: Mapping[float, Mapping[int, Run]]) -> dict[str, dict[str, str]]:
    return {
        f"{share:g}": {str(fold): run.info.run_id for fold, run in by_fold.items()}
        for share, by_fold in by_share.items()
    }


def to_text(found: Sequence[Side], chosen: Sequence[str], baseline: Baseline) -> str:
    """What the baseline is better than, then legend, differing configuration, scores and tests, each under its
    heading."""
    parts = [_legend(found), _differences(found)]
    every = groups(found, chosen or TESTED, baseline)
    parts.insert(0, "\n".join(_verdict(pairs, shares, chosen, baseline, len(every) > 1) for shares, pairs in every))
    for shares, paired in every:
        names = _titles(found, shares)
        alike = len(set(shares)) == 1
        title = f"{shares[0]:.0%} of the labels" if alike else "labels: " + ", ".join(names.values())
        parts.append(f"{title}\n{_scores(found, shares, chosen, names)}")
        parts += tests_text(paired, names)
        missing = [side.letter for side, share in zip(found, shares, strict=True) if share not in side.shares]
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
        folds = ", ".join(map(str, sorted({fold for share in side.shares for fold in side.folds(share)})))
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


def _verdict(
    paired: Sequence[Pairing], shares: tuple[float, ...], chosen: Sequence[str], baseline: Baseline, several: bool
) -> str:
    """`B, the best by strict mAP: better than A by +.04 [.01, .07], p = .02 (Holm)`, of the metric that counts."""
    letter = baseline.side.letter
    metric = baseline.by.removeprefix(VALIDATION) or next(
        (
            test.metric
            for name in (chosen or RANKED_BY)
            for pair in paired
            for test in pair.tests
            if test.metric == name
        ),
        "",
    )
    who = (
        f"{letter}, the best by {metric_title(baseline.by)}" if baseline.by else f"{letter}, in {metric_title(metric)}"
    )
    who += f" ({shares[0]:.0%} of the labels)" if several else ""
    tests = {pair.second: test for pair in paired for test in pair.tests if test.metric == metric}
    known = {other: test for other, test in tests.items() if test.p_adjusted is not None}
    if not known:
        return f"{who}: no test says whether the others differ"

    def told(sign: float) -> list[str]:
        return [
            f"{other} by {difference(test.effect)}, {p_text(test.p_adjusted)}"
            for other, test in known.items()
            if not test.tie and test.effect.difference * sign > 0
        ]

    tied = [other for other, test in known.items() if test.tie]
    if len(tied) <= SHOWN_TIES:
        tied = [f"{other} ({difference(known[other].effect)}, {p_text(known[other].p_adjusted)})" for other in tied]
    parts = [f"better than {named(told(1))}"] if told(1) else []
    parts += [f"worse than {named(told(-1))}"] if told(-1) else []
    parts += [f"tied with {named(tied)}"] if tied else []
    parts += (
        [f"not tested against {named(untested)}"]
        if (untested := [pair.second for pair in paired if pair.second not in known])
        else []
    )
    return textwrap.fill(f"{who}: {'; '.join(parts)} (Holm)", WIDTH, subsequent_indent="  ")


def tests_text(paired: Sequence[Pairing], names: dict[str, str]) -> list[str]:
    """A table of what the baseline is tested against, metric by metric; a line for each side that it is not."""
    known = [pair for pair in paired if pair.tests]
    lines = [
        f"{names[pair.first]} against {names[pair.second]}: no paired test: {pair.reason}"
        for pair in paired
        if not pair.tests
    ]
    if not known:
        return lines
    first = names[known[0].first]
    rows = []
    for metric in dict.fromkeys(test.metric for pair in known for test in pair.tests):
        those = [(pair, test) for pair in known for test in pair.tests if test.metric == metric]
        rows += [_row(metric if not place else "", names[pair.second], test)
                 for place, (pair, test) in enumerate(those)]  # fmt: skip
    head = ["metric", "against", first, "other", "difference [95 %]", "p", "p Holm", "p sign flips", "folds", "seeds"]
    every = [test for pair in known for test in pair.tests]
    smallest = {(test.effect.folds, test.smallest_p) for test in every if test.smallest_p is not None}
    notes = [f"with {n} folds no p of sign flips is below {p:.3g}" for n, p in sorted(smallest)]
    notes += sorted({f"{test.effect.note}" for test in every if test.effect.note})
    title = f"{first} against {named([names[pair.second] for pair in known])}, paired over {_paired_over(known)}"
    return ["\n".join([title, text_table(head, rows, left=2), *notes]), *lines]


def _paired_over(known: Sequence[Pairing]) -> str:
    """`folds 0, 1, 2 and seeds`."""
    folds = {tuple(pair.folds) for pair in known}
    which = f"folds {', '.join(map(str, next(iter(folds))))}" if len(folds) == 1 else "the folds that both have"
    return which + (" and seeds" if any(test.effect.seeds > 1 for pair in known for test in pair.tests) else "")


def _row(metric: str, other: str, test: Test) -> list[str]:
    effect = test.effect
    means = [number(value, 3) for value in (effect.first_mean, effect.second_mean)]
    p = [UNDEFINED_MARK if p is None else p_text(p).removeprefix("p ").removeprefix("= ")
         for p in (effect.p, test.p_adjusted, test.p_sign_flips)]  # fmt: skip
    return [metric, other, *means, difference(effect), *p, str(effect.folds), str(effect.seeds)]
