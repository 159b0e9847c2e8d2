"""Confusion of classes, against counts by hand and sums that hold for any input."""

import numpy as np
import pytest
from a2v_eval.confusion import confusion, row_shares
from a2v_eval.matching import SPAN, match


def spans(*rows):
    """(recording, class, start, stop, likelihood)"""
    return np.array(list(rows), SPAN)


def test_every_case_by_hand():
    """Classes 0, 1, 2 and, accompanying others, 3."""
    labels = spans(
        (0, 0, 10, 20, 0),  # found
        (0, 1, 30, 40, 0),  # taken for 0
        (0, 2, 50, 60, 0),  # missed
        (0, 0, 70, 80, 0),  # found twice
        (0, 1, 90, 100, 0),  # too little overlap with a 2
        (1, 3, 10, 20, 0),  # found, as is the call that it accompanies
        (1, 1, 10, 20, 0),
    )
    predictions = spans(
        (0, 0, 11, 20, 0.9),
        (0, 0, 30, 41, 0.8),
        (0, 0, 70, 80, 0.7),
        (0, 0, 71, 80, 0.6),  # the second one: false
        (0, 2, 98, 120, 0.5),
        (1, 3, 10, 20, 0.9),
        (1, 1, 10, 20, 0.9),
        (2, 1, 10, 20, 0.9),  # where there is no label
    )
    expected = [
        [2, 0, 0, 0, 0],
        [1, 1, 0, 0, 1],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 1, 0],
        [1, 1, 1, 0, 0],
    ]
    assert confusion(labels, predictions, 4, 0.3).tolist() == expected
    shares = row_shares(confusion(labels, predictions, 4, 0.3))
    np.testing.assert_allclose(shares[1], [1 / 3, 1 / 3, 0, 0, 1 / 3])


def test_the_own_class_comes_first_even_where_another_is_likelier():
    labels = spans((0, 0, 10, 20, 0))
    predictions = spans((0, 1, 10, 20, 0.9), (0, 0, 10, 20, 0.2))
    assert confusion(labels, predictions, 2, 0.3).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_labels_columns_are_predictions_and_the_diagonal_is_what_strict_finds(seed):
    rng = np.random.default_rng(seed)

    def some(n):
        start = rng.integers(0, 500, n)
        columns = (rng.integers(0, 3, n), rng.integers(0, 4, n), start, start + rng.integers(1, 40, n), rng.random(n))
        return spans(*zip(*columns, strict=True))

    labels, predictions = some(60), some(80)
    for iou in (0.0, 0.3, 0.6):
        counts = confusion(labels, predictions, 4, iou)
        np.testing.assert_array_equal(counts[:4].sum(axis=1), np.bincount(labels["class"], minlength=4))
        np.testing.assert_array_equal(counts[:, :4].sum(axis=0), np.bincount(predictions["class"], minlength=4))
        found = labels["class"][match(labels, predictions, 4, "strict", iou).pairs.label]
        np.testing.assert_array_equal(counts.diagonal()[:4], np.bincount(found, minlength=4))
        assert counts[4, 4] == 0


def test_nothing_at_all_and_classes_without_labels():
    none = np.zeros(0, SPAN)
    assert confusion(none, none, 2, 0.3).tolist() == [[0] * 3] * 3
    shares = row_shares(confusion(spans((0, 0, 1, 5, 0)), none, 2, 0.3))
    np.testing.assert_array_equal(shares, [[0, 0, 1], [np.nan] * 3])
