"""Each fold is counted at the thresholds that the other folds choose."""

from __future__ import annotations

import numpy as np
import pytest
from a2v_eval.cross_fitting import counts_at, cross_fitted
from a2v_eval.thresholds import ThresholdScores

THRESHOLDS = np.array([0.1, 0.5, 0.9])


def fold(hits, predicted, labelled) -> ThresholdScores:
    return ThresholdScores(("a", "b"), THRESHOLDS, np.array(hits), np.array(predicted), np.array(labelled))


# of class a, fold 0 alone would choose .1 (F1 1), fold 1 .5 (F1 1), fold 2 .9 (F1 1); of class b nothing is found in
# fold 2, which has no label of it
FOLDS = [
    fold([[4, 2, 1], [2, 2, 1]], [[4, 2, 1], [8, 2, 1]], [4, 2]),
    fold([[4, 4, 1], [1, 1, 0]], [[9, 4, 1], [6, 1, 0]], [4, 1]),
    fold([[6, 6, 6], [0, 0, 0]], [[30, 9, 6], [5, 3, 0]], [6, 0]),
]


def test_counts_are_read_off_where_the_others_are_best():
    """Class a. For fold 0: F1 of folds 1 and 2 is 20/49, 20/23, 14/17 -> .5. For fold 1: 20/44, 16/21, 14/17 -> .9.
    For fold 2: 16/21, 12/14, 4/10 -> .5. Class b: 2/12, 2/5, 0 -> .5; 4/15, 4/7, 2/3 -> .9; 6/17, 6/6, 2/4 -> .5."""
    found = cross_fitted(FOLDS)
    assert [one["strict/found/a"] for one in found] == [2, 1, 6]
    assert [one["strict/predicted/a"] for one in found] == [2, 1, 9]
    assert [one["strict/labelled/a"] for one in found] == [4, 4, 6]
    assert [one["strict/F1/a"] for one in found] == pytest.approx([2 / 3, 2 / 5, 12 / 15])
    assert [one["strict/precision/a"] for one in found] == pytest.approx([1, 1, 2 / 3])
    assert [one["strict/recall/a"] for one in found] == pytest.approx([1 / 2, 1 / 4, 1])
    assert [one["strict/predicted/b"] for one in found] == [2, 0, 3]
    # pooled over both classes, and their mean; class b has no label in fold 2 and is no part of that
    assert [one["strict/found/micro"] for one in found] == [4, 1, 6]
    assert [one["strict/F1/micro"] for one in found] == pytest.approx([8 / 10, 2 / 6, 12 / 18])
    assert [one["strict/F1/macro"] for one in found] == pytest.approx([(2 / 3 + 1) / 2, (2 / 5 + 0) / 2, 12 / 15])
    assert "strict/precision/b" not in found[1] and found[1]["strict/precision/macro"] == 1
    assert "strict/F1/b" not in found[2] and found[2]["strict/precision/b"] == 0


def test_a_fold_does_not_choose_for_itself():
    """Whatever stands in fold 0 at other thresholds changes nothing of its own counts."""
    other = fold([[0, 2, 4], [0, 2, 2]], [[90, 2, 4], [90, 2, 2]], [4, 2])
    assert cross_fitted([other, *FOLDS[1:]])[0] == cross_fitted(FOLDS)[0]


def test_few_labels_lean_on_all_classes():
    """For fold 0 of two, class b has 1 label in fold 1, where .9 suits it; what suits all is .5."""
    one = fold([[9, 9, 2], [1, 1, 1]], [[40, 9, 2], [5, 2, 1]], [9, 1])
    assert one.best() == {"a": 0.5, "b": 0.9} and one.best(10.0)["b"] == 0.5
    first = cross_fitted([FOLDS[0], one], 10.0)[0]
    assert (first["strict/found/b"], first["strict/predicted/b"]) == (2, 2)


def test_what_nothing_defines_is_left_out():
    """Of a class without a threshold the usual .15 counts, here the next to it, .1; no prediction has no precision."""
    found = counts_at(fold([[1, 1, 1], [0, 0, 0]], [[2, 1, 1], [0, 0, 0]], [2, 3]), {"a": 0.9})
    assert found["strict/found/a"] == 1 and found["strict/predicted/a"] == 1
    assert "strict/precision/b" not in found and found["strict/F1/b"] == 0 == found["strict/recall/b"]
    assert found["strict/precision/macro"] == 1 and found["strict/recall/macro"] == pytest.approx(1 / 4)
    usual = counts_at(fold([[1, 0, 0], [0, 0, 0]], [[7, 0, 0], [0, 0, 0]], [2, 3]), {})
    assert usual["strict/predicted/a"] == 7
    with pytest.raises(ValueError, match="folds: 1; there must be others"):
        cross_fitted(FOLDS[:1])
