"""Metrics of extreme multi-label classification, as the Extreme Classification Repository defines them.

With y the labels of a point, l_r the label in place r, n = |y|, and w_l the inverse propensity of a label:

    P@k     = (1/k) Σ_{r≤k} [l_r ∈ y]
    R@k     = Σ_{r≤k} [l_r ∈ y] / n
    nDCG@k  = Σ_{r≤k} [l_r ∈ y] / log2(r + 1)  /  I,   I = Σ_{r ≤ min(k, n)} 1 / log2(r + 1)
    PSP@k   : numerator (1/k) Σ_{r≤k} w [l_r ∈ y], denominator (1/k) Σ of the k highest w in y
    PSnDCG@k: numerator Σ_{r≤k} w [l_r ∈ y] / (log2(r + 1) I), denominator the same of y in the order of falling w
    w_l     = 1 + C (N_l + B)^(−A),   C = (ln N − 1) (B + 1)^A      (Jain, Prabhu and Varma 2016)

1. P, R and nDCG are means over points. A point without labels counts as 0.
2. PSP and PSnDCG are ratios of two means over points, so that they are at most 1; they have no value for one point.
3. N and N_l count training points, all of them and those with label l. A and B go by the family of data sets.
4. A missing prediction, label −1, is never correct.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from retriever.data.xmc_points import holds

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

DEFAULT = (0.55, 1.5)
FAMILIES = {"amazoncat": DEFAULT, "amazon": (0.6, 2.6), "wikipedia": (0.5, 0.4), "wikilshtc": (0.5, 0.4)}


class Ratio(NamedTuple):
    """A metric whose value is the mean of its numerators over the mean of its denominators."""

    numerators: Array  # (Q,)
    denominators: Array  # (Q,)

    @property
    def value(self) -> float:
        """The metric; 0 where all denominators are 0."""
        below = self.denominators.mean()
        return float(self.numerators.mean() / below) if below else 0.0


def propensity_constants(name: str) -> tuple[float, float]:
    """A and B of the propensity model for a data set of that name, such as ``LF-AmazonTitles-131K``."""
    return next((found for family, found in FAMILIES.items() if family in name.lower()), DEFAULT)


def inverse_propensity(frequency: NDArray[np.int64], points: int, a: float, b: float) -> Array:
    """How much a correct label counts in PSP and PSnDCG: rare labels more, for they go missing more often.

    Args:
        frequency: Training points (L,) of each label.
        points: N, all training points.
        a: A.
        b: B, above 0.

    Returns:
        Weights (L,).
    """
    weights: Array = 1 + (np.log(points) - 1) * (b + 1) ** a * (frequency + b) ** -a
    return weights


def precision(rows: Rows, truth: csr_matrix, k: int) -> Array:
    """P@k of each point.

    Args:
        rows: Labels (Q, K), best first; −1 where there is none.
        truth: The labels of each point, (Q, L); whatever is stored counts.
        k: Places looked at; places beyond K are empty.

    Returns:
        Values (Q,).
    """
    shares: Array = _hits(rows, truth, k).sum(axis=1) / k
    return shares


def recall(rows: Rows, truth: csr_matrix, k: int) -> Array:
    """R@k of each point; see :func:`precision`."""
    shares: Array = _hits(rows, truth, k).sum(axis=1) / np.maximum(np.diff(truth.indptr), 1)
    return shares


def ndcg(rows: Rows, truth: csr_matrix, k: int) -> Array:
    """NDCG@k of each point; see :func:`precision`."""
    hits = _hits(rows, truth, k)
    gains: Array = hits @ _discounts(k)[: hits.shape[1]] / _ideal(truth, k)
    return gains


def ps_precision(rows: Rows, truth: csr_matrix, weights: Array, k: int) -> Ratio:
    """PSP@k.

    Args:
        rows: As in :func:`precision`.
        truth: As in :func:`precision`.
        weights: Inverse propensities (L,).
        k: As in :func:`precision`.
    """
    gains = np.full(k, 1 / k)
    return Ratio(_weighted(rows, truth, weights, gains), _best(truth, weights, gains))


def ps_ndcg(rows: Rows, truth: csr_matrix, weights: Array, k: int) -> Ratio:
    """PSnDCG@k; see :func:`ps_precision`."""
    gains, ideal = _discounts(k), _ideal(truth, k)
    return Ratio(_weighted(rows, truth, weights, gains) / ideal, _best(truth, weights, gains) / ideal)


def all_metrics(rows: Rows, truth: csr_matrix, weights: Array) -> dict[str, Ratio]:
    """P, PSP, nDCG and PSnDCG at 1, 3 and 5, R at 10 and 100; plain means have denominators of 1."""

    def mean(values: Array) -> Ratio:
        return Ratio(values, np.ones(len(values)))

    families: dict[str, tuple[tuple[int, ...], Callable[[int], Ratio]]] = {
        "p": ((1, 3, 5), lambda k: mean(precision(rows, truth, k))),
        "psp": ((1, 3, 5), lambda k: ps_precision(rows, truth, weights, k)),
        "ndcg": ((1, 3, 5), lambda k: mean(ndcg(rows, truth, k))),
        "psndcg": ((1, 3, 5), lambda k: ps_ndcg(rows, truth, weights, k)),
        "recall": ((10, 100), lambda k: mean(recall(rows, truth, k))),
    }
    return {f"{name}@{k}": of(k) for name, (depths, of) in families.items() for k in depths}


def _hits(rows: Rows, truth: csr_matrix, k: int) -> NDArray[np.bool_]:
    """Which of the first k places are correct, (Q, min(k, K))."""
    return holds(truth, np.arange(len(rows))[:, None], rows[:, :k])


def _weighted(rows: Rows, truth: csr_matrix, weights: Array, gains: Array) -> Array:
    """Σ over the places of gain · w where correct, (Q,)."""
    hits = _hits(rows, truth, len(gains))
    return np.where(hits, weights[rows[:, : len(gains)]], 0.0) @ gains[: hits.shape[1]]


def _best(truth: csr_matrix, weights: Array, gains: Array) -> Array:
    """Σ over the places of gain · w, with the labels of each point in order of falling w, (Q,)."""
    points = np.repeat(np.arange(truth.shape[0]), np.diff(truth.indptr))
    values = weights[truth.indices]
    values = values[np.lexsort((-values, points))]
    place = np.arange(len(points)) - truth.indptr[points]
    kept = place < len(gains)
    return np.bincount(points[kept], values[kept] * gains[place[kept]], minlength=truth.shape[0]).astype(np.float64)


def _discounts(k: int) -> Array:
    discounts: Array = 1 / np.log2(np.arange(2, k + 2))
    return discounts


def _ideal(truth: csr_matrix, k: int) -> Array:
    """I of each point, (Q,); 1 where it has no label, for its sum is 0 anyhow."""
    sums = np.concatenate([[1.0], np.cumsum(_discounts(k))])
    ideal: Array = sums[np.minimum(np.diff(truth.indptr), k)]
    return ideal
