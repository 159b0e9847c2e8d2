"""A validation part of training recordings: groups stay whole, classes are in both parts, training lacks none."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from a2v_data.corpus_files import EVENT_DTYPE
from a2v_data.validation import validation_split


def listing(*classes_of: str) -> SimpleNamespace:
    """Recordings r00, r01, ... with one event of each letter (a class) that is named."""
    names = [f"r{n:02d}" for n in range(len(classes_of))]
    events = np.array(
        [(n, "abcd".index(c), 0.0, 0.1) for n, found in enumerate(classes_of) for c in found],
        dtype=EVENT_DTYPE,
    )
    recordings = [SimpleNamespace(name=name, labelled=True) for name in names]
    return SimpleNamespace(
        classes=tuple("abcd"), recordings=recordings, events=events, unsure=events[:0], meta={},
        indices=lambda wanted: [names.index(name) for name in wanted],
    )  # fmt: skip


def classes(found: list[str], corpus: SimpleNamespace) -> set[str]:
    rows = corpus.indices(found)
    return {"abcd"[e["class"]] for e in corpus.events if e["recording"] in rows}


@pytest.mark.parametrize("seed", range(4))
def test_groups_stay_whole_and_every_class_that_can_is_in_both_parts(seed):
    corpus = listing(*["ab", "a", "ac", "a", "ab", "a", "c", "ad", "a", "", "b", "ab"] * 2)
    corpus.events = corpus.events[~((corpus.events["class"] == 3) & (corpus.events["recording"] > 12))]  # d: once
    recordings = [f"r{n:02d}" for n in range(20)]  # the other four are evaluated
    group = {f"r{n:02d}": f"day{n // 2}" for n in range(24)}
    train, validation, notices = validation_split(corpus, recordings, 0.2, seed, group)
    assert sorted(train + validation) == recordings and not set(train) & set(validation)
    assert not {group[name] for name in train} & {group[name] for name in validation}
    assert len(validation) in (4, 6)  # 2 of 10 days, at most 3
    assert classes(train, corpus) == set("abcd") and classes(validation, corpus) == set("abc")
    assert notices == ("not in validation: d (in too few training recordings)",)
    assert validation_split(corpus, recordings, 0.2, seed, group) == (train, validation, notices)


@pytest.mark.parametrize("found", [("abc",), ("a", "b", ""), ("ab", "ac", ""), ("", "")])
def test_where_training_can_spare_none_there_is_no_validation_and_a_line_says_so(found):
    corpus = listing(*found)
    names = [f"r{n:02d}" for n in range(len(found))]
    train, validation, (line,) = validation_split(corpus, names, 0.5, 0)
    assert train == names and validation is None and line.startswith("no validation: ")


def test_two_recordings_are_one_for_each():
    train, validation, _ = validation_split(listing("ab", "ab"), ["r00", "r01"], 0.1, 0)
    assert len(train) == len(validation) == 1


def test_a_share_of_everything_is_refused():
    with pytest.raises(ValueError, match=r"^share: 1\.0; a share for validation must be above 0 and below 1$"):
        validation_split(listing("a", "a"), ["r00", "r01"], 1.0, 0)
