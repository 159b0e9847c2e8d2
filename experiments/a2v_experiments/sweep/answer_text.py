"""A sweep's answer in words, for a terminal of 100 columns: what won comes first."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from a2v_eval.effects import ALPHA, Compared, Effect
from a2v_eval.parameter_effects import ParameterEffect, Unpaired

from .answer import Answer, told
from .trials import short_names

WIDTH = 100
NAMED = 6  # of trials in one line
NOTHING = 0.0005  # a difference that no score shows
FINE = 0.05  # width of an interval below which its ends have three digits


def answer_lines(answer: Answer) -> list[str]:
    """One line for each parameter, in the recipe's order, then one for the best trial. Without line breaks."""
    keys = short_names([*(one.key for one in answer.parameters), *(one.key for one in answer.unpaired)])
    metric = metric_title(answer.metric)
    lines = [f"{keys[one.key]}: {_of_parameter(one, metric)}" for one in answer.parameters]
    lines += [f"{keys[one.key]}: {_unpaired(one, metric)}" for one in answer.unpaired]
    return [*lines, *_of_best(answer, metric)]


def to_text(answer: Answer) -> str:
    """The answer and what it is worth, for a terminal."""
    lines = [*answer_lines(answer), "", *worth(answer)]
    return "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ", break_long_words=False) for line in lines)


def worth(answer: Answer) -> list[str]:
    """How the answer was come by, a line each."""
    if answer.best is None:
        return [*_left_out(answer), *answer.notes]
    lines = [
        f"{len(answer.names)} trials over {over(answer)}" + (f"; {_left_out(answer)[0]}" if answer.left_out else "")
    ]
    if answer.on_validation:
        lines.append(
            "the best was chosen on validation recordings; the folds that it is tested on played no part in it"
        )
    else:
        lines.append("the best was chosen on the folds that it is scored on, so its score is somewhat too good")
    tested = [one.effect for one in answer.rest if one.effect.p is not None]
    if tested:
        lines.append(
            f"[95 % interval] of each difference alone, paired over {tested[0].over}"
            + (", of this split of the recordings alone" if tested[0].over == "seeds" else "")
            + f"; tie: p, corrected for {family(answer)} (Holm), is .05 or more"
        )
        if answer.seeds == 1:
            lines.append(
                "one seed of each: a part of a difference may be the seed's, which seeds: [0, 1, 2] would tell"
            )
    return lines + answer.notes


def family(answer: Answer) -> str:
    """What p of the best trial and of parameters are adjusted for."""
    trials = "the other trials" if answer.on_validation else "all pairs of trials"
    if answer.parameters:
        return f"all pairs of values ({sum(len(one.compared) for one in answer.parameters)}), or {trials}"
    return f"all parameters, or {trials}" if answer.unpaired else trials


def over(answer: Answer) -> str:
    """`5 folds x 3 seeds`."""
    folds = f"{answer.folds} fold{'s' if answer.folds != 1 else ''}"
    return f"{folds} x {answer.seeds} seed{'s' if answer.seeds != 1 else ''}"


def _left_out(answer: Answer) -> list[str]:
    counts: dict[str, int] = {}
    for status in answer.left_out.values():
        name = "finished without this score" if status == "finished" else status
        counts[name] = counts.get(name, 0) + 1
    told_ = ", ".join(f"{count} {status}" for status, count in counts.items())
    return [f"left out: {told_}"] if counts else []


def metric_title(metric: str) -> str:
    """`strict/mAP/micro` -> 'strict mAP', `AP/cc` -> 'AP cc'."""
    return metric.removesuffix("/micro").replace("/", " ")


def number(value: float, digits: int = 2) -> str:
    """.04, -.02: without the 0 before the point, as all scores are below 1."""
    text = f"{value:.{digits}f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def signed(value: float, digits: int = 2) -> str:
    text = number(value, digits)
    return text if text.startswith("-") else f"+{text}"


def p_text(p: float | None) -> str:
    """p = .02, p < .001; as many digits as tell on which side of .05 it is."""
    if p is None:
        return "p unknown"
    if p < 0.001:
        return "p < .001"
    fewest = 3 if p < 0.01 else 2
    digits = next((n for n in range(fewest, 6) if (round(p, n) < ALPHA) == (p < ALPHA)), 6)
    return "p = 1" if p > 0.995 else f"p = {number(p, digits)}"


def difference(effect: Effect) -> str:
    """+.04 [.01, .07], with as many digits as tell its ends apart."""
    if effect.low is None or effect.high is None or effect.low == effect.high:
        return signed(effect.difference, 3)
    digits = 2 if effect.high - effect.low >= FINE else 3
    return f"{signed(effect.difference, digits)} [{number(effect.low, digits)}, {number(effect.high, digits)}]"


def _turned(effect: Effect) -> Effect:
    """The second minus the first."""
    ends = [None if end is None else -end for end in (effect.high, effect.low)]
    return replace(effect, difference=-effect.difference, low=ends[0], high=ends[1])


def named(names: Sequence[str], most: int = NAMED) -> str:
    """A, B and C; of many the first and how many more."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _of_parameter(one: ParameterEffect, metric: str) -> str:
    """`0.5 wins over 0.65 by +.04 strict mAP micro [.01, .07], p = .02 (Holm)`, or a tie."""
    best, pairs = told(one.values[0].value), one.of_best
    names = {pair.second: told(one.values[pair.second].value) for pair in pairs}
    if not pairs:
        return f"{best} has the highest mean; no combination has it and another value"
    if all(pair.effect.p is None for pair in pairs):
        first = pairs[0]
        return f"{best} is ahead of {names[first.second]} by {_by(first, metric)}: {first.effect.note}"
    tied, beaten = [p for p in pairs if p.tie], [p for p in pairs if p.won]
    if lost := [p for p in pairs if p.lost]:
        first = lost[0]
        return (
            f"{best} has the highest mean, yet is behind {named([names[pair.second] for pair in lost])} where both have"
            f" the same combinations: {_by(first, metric)}, {_p(first)}"
        )
    if not beaten:
        first = pairs[0]
        if all(pair.effect.difference == 0 for pair in pairs):
            return f"tie of {named([best, *names.values()])}: equal scores"
        if all(abs(pair.effect.difference) < NOTHING for pair in pairs):
            return (
                f"tie of {named([best, *names.values()])}: they differ by less than {number(NOTHING, 4)}, {_p(first)}"
            )
        every = named([best, *(names[pair.second] for pair in tied)])
        ahead = f"{best} is ahead of {names[first.second]} by" if len(pairs) > 1 else f"{best} is ahead by"
        return f"tie of {every}; {ahead} {_by(first, metric)}, {_p(first)}"
    won = "; ".join(
        f"over {names[pair.second]} by {_by(pair, metric if not number_ else '')}, {_p(pair)}"
        for number_, pair in enumerate(beaten[:2])
    )
    more = f"; and over {named([names[pair.second] for pair in beaten[2:]])}" if len(beaten) > 2 else ""
    also = f", tied with {named([names[pair.second] for pair in tied])}," if tied else ""
    return f"{best}{also} wins {won}{more}"


def _by(pair: Compared, metric: str) -> str:
    """The difference with its metric between number and interval."""
    amount, _, interval = difference(pair.effect).partition(" ")
    return " ".join(part for part in (amount, metric, interval) if part)


def _p(pair: Compared) -> str:
    return f"{p_text(pair.p)} (Holm)" if pair.p is not None else pair.effect.note


def _unpaired(one: Unpaired, metric: str) -> str:
    p = f"{p_text(one.adjusted)} (Holm)" if one.adjusted is not None else "too few trials for a test"
    verdict = "tie: " if one.tie else ""
    if one.correlation is not None:
        way = "higher values score better" if one.correlation > 0 else "lower values score better"
        what = f"rank correlation of value and {metric} {signed(one.correlation)} over {one.trials} trials"
        return f"{verdict}{what}, {p}; not paired" if one.tie else f"{way}: {what}, {p}; not paired"
    groups = [f"{told(value.value)} {number(value.mean)} ({value.trials})" for value in one.values]
    return f"{verdict or f'{told(one.values[0].value)} leads: '}mean {metric} (trials) {named(groups)}, {p}; not paired"


def _of_best(answer: Answer, metric: str) -> list[str]:
    """The best trial against the others."""
    if answer.best is None:
        return ["no trial is finished with a score, so nothing can be said"]
    names = answer.names
    line = f"best trial: {names[answer.best]}, {metric} {number(answer.means[answer.best])}"
    if len(names) < 2:
        return [f"{line}; it is alone"]
    if not any(one.effect.p is not None for one in answer.rest):
        why = answer.rest[0].effect.note if answer.rest else "no other has its folds"
        return [f"{line}; against the other {len(names) - 1}: {why}"]
    if answer.apart:
        line += f"; not compared with {named(answer.apart, 3)}, of other folds"
    others = len(answer.rest)
    ranked = sorted(answer.rest, key=lambda one: -answer.means[one.second])
    tied = sorted(answer.tied, key=lambda name: -answer.means[names.index(name)])
    beaten, better = [one for one in ranked if one.won], [one for one in ranked if one.lost]
    if better:
        first, is_ = better[0], "is" if len(better) == 1 else "are"
        line += (
            f"; on the folds {len(better)} of the {others} others {is_} better, {names[first.second]} by"
            f" {difference(_turned(first.effect))}, {p_text(first.p)} (Holm)"
        )
        if not beaten:
            return [f"{line}; tied with {named(tied, 3)}" if tied else line]
    if not beaten:
        first = ranked[0]
        everyone = "the other one" if others == 1 else f"all {others} others"
        told_ = f"{names[first.second]}: {difference(first.effect)}, {p_text(first.p)}, Holm"
        if all(one.effect.difference == 0 for one in ranked):
            told_ = "equal scores"
        elif all(abs(one.effect.difference) < NOTHING for one in ranked):
            told_ = f"none differs by {number(NOTHING, 4)}"
        return [f"{line}; tied with {everyone} ({told_})"]
    nearest = beaten[0]
    won = f"better than {len(beaten)} of the {others} others, the nearest {names[nearest.second]}"
    told_ = f"{line}; {won}: {difference(nearest.effect)}, {p_text(nearest.p)} (Holm)"
    return [f"{told_}; tied with {named(tied, 3)}" if tied else told_]
