"""Average precision, precision, recall and F1 of rankings (spec 8.4). N entries of a ranking."""

from __future__ import annotations

import numpy as np

UNDEFINED = float("nan")
"""A score that nothing defines, such as AP of a class without labels: neither 0 nor 1, and never averaged."""


def precision_recall_curve(
    target_N: np.ndarray, likelihood_N: np.ndarray, n_positive: int | None = None, n_zeros: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and likelihood at each distinct likelihood, from the highest down.

    n_positive  what recall is relative to; default the number of targets. Larger when some positives are in
                no entry (labels missed under `strict`): recall then ends below 1.
    n_zeros     further entries without target and with likelihood 0, not listed.
    Raises ValueError if likelihoods are NaN or there are more targets than positives.
    """
    target_N = np.asarray(target_N, dtype=bool)
    likelihood_N = np.asarray(likelihood_N, dtype=np.float64)
    n_positive = int(target_N.sum()) if n_positive is None else n_positive
    if np.isnan(likelihood_N).any():
        raise ValueError("likelihood: NaN in a ranking; should be a number for each entry")
    if target_N.sum() > n_positive:
        raise ValueError(f"n_positive: {n_positive} should be at least the {target_N.sum()} targets")
    order = np.argsort(-likelihood_N, kind="stable")
    sorted_N = likelihood_N[order]
    last = np.flatnonzero(np.r_[sorted_N[1:] != sorted_N[:-1], True]) if len(order) else order
    hits = np.cumsum(target_N[order])[last]
    value = sorted_N[last]
    entries = last + 1 + np.where(value <= 0, n_zeros, 0)
    recall = hits / n_positive if n_positive else np.full(len(hits), UNDEFINED)
    return hits / entries, recall, value


def average_precision(
    target_N: np.ndarray, likelihood_N: np.ndarray, n_positive: int | None = None, n_zeros: int = 0
) -> float:
    """Sum over the distinct likelihoods of (gain in recall) x precision, as scikit-learn's; arguments as
    above.

    With `n_positive` above the number of targets, the missing positives add nothing: appending them to the
    ranking with a likelihood of minus infinity would recall them all in the end, at the precision there.
    UNDEFINED without positives.
    """
    precision, recall, _ = precision_recall_curve(target_N, likelihood_N, n_positive, n_zeros)
    positives = int(np.sum(target_N)) if n_positive is None else n_positive
    if positives == 0:
        return UNDEFINED
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def mean_defined(values: np.ndarray) -> float:
    """Mean over the values that are defined; UNDEFINED if none is."""
    values = np.asarray(values, dtype=np.float64)
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else UNDEFINED


def ratio(part: float, whole: float) -> float:
    """part / whole, UNDEFINED when whole is 0."""
    return float(part / whole) if whole else UNDEFINED


def f1_score(hits: float, predicted: float, positive: float) -> float:
    """2 hits / (predicted + positive); UNDEFINED without positives, where nothing could be found."""
    return ratio(2 * hits, predicted + positive) if positive else UNDEFINED


def none_if_nan(value: float) -> float | None:
    """For JSON and tables, which know no NaN."""
    return None if np.isnan(value) else float(value)
