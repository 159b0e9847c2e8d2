"""What stands twice counts once, held against the definition: every pair looked at."""

import random

import pytest
from a2v_data.annotations import Annotation
from a2v_data.repeated_events import SAME_S, _same, without_repeats


def by_definition(tables):
    """By onset, each event against all before it that are kept; of two that are the same the later table's goes."""
    listed = sorted(
        (
            (row.file, row.label, row.onset_s, at, n, row)
            for at, (_, rows) in enumerate(tables)
            for n, row in enumerate(rows)
        ),
        key=lambda one: one[:3],
    )
    gone = set()
    for now, one in enumerate(listed):
        for other in listed[:now]:
            near = other[:2] == one[:2] and one[2] - other[2] <= SAME_S
            if not near or other[3:5] in gone or not _same(one[5], other[5]):
                continue
            later = max(one[3:5], other[3:5])
            gone.add(later)
            if later == one[3:5]:
                break
    return [[row for n, row in enumerate(rows) if (at, n) not in gone] for at, (_, rows) in enumerate(tables)]


@pytest.mark.parametrize("seed", range(200))
def test_as_the_definition_says(seed: int) -> None:
    rng = random.Random(seed)
    tables = []
    for at in range(rng.randint(1, 4)):
        rows = []
        for _ in range(rng.randint(0, 14)):
            onset_s = rng.choice([0, 1, 1.0004, 1.001, 1.002, 1.9999])
            offset_s = onset_s + rng.choice([0.5, 0.5004, 0.501, 0.502, 0.4996, 1])
            likelihood, channels = rng.choice([None, 0.5, 0.5004, 0.6]), rng.choice([None, frozenset([1])])
            rows.append(
                Annotation(rng.choice("ab"), onset_s, offset_s, rng.choice("xy"), False, "", likelihood, channels)
            )
        tables.append((f"t{at}", rows))
    assert without_repeats(tables)[0] == by_definition(tables)


@pytest.mark.parametrize("span", [lambda k: (0, 1), lambda k: (0, 1 + k / 100), lambda k: (k / 100, 1e4)])
def test_a_hundred_thousand_at_one_time_come_to_an_end(span) -> None:
    """By the definition they would be five thousand million pairs."""
    rows = [Annotation("a", *span(k), "x", False, "") for k in range(100_000)]
    kept, notices = without_repeats([("t", rows)])
    alike = span(0) == span(1)
    assert len(kept[0]) == (1 if alike else len(rows)) and bool(notices) == alike
