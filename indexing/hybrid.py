"""Fusion: several rankings of the same documents into one.

Standardised scores (``zscore``):
1. For each query, the scores of a ranking's hits are brought to mean 0 and standard deviation 1.
2. A document that a ranking did not find gets that ranking's lowest standardised score.
3. A document's fused score is the weighted sum over the rankings.
Where all hits of a ranking score the same there is no deviation to divide by: they get 0, all others −1. A ranking
without hits says nothing.

Reciprocal ranks (``rrf``; Cormack et al. 2009): a document's fused score is Σ weight / (60 + rank), ranks from 1, over
the rankings that found it.

Sums are in fp64, fused scores in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retriever.errors import DataError
from retriever.indexing.ranking import Hits, Ranking, best, depth

Fusion: TypeAlias = Literal["zscore", "rrf"]


def fuse(
    rankings: Sequence[Ranking],
    k: int,
    *,
    method: Fusion = "zscore",
    weights: Sequence[float] | None = None,
    rrf_k: float = 60,
) -> Ranking:
    """Fuse rankings of the same Q queries over the same documents.

    Args:
        rankings: Rankings of Q queries each, of any width.
        k: Hits wanted.
        method: ``zscore`` or ``rrf``.
        weights: Weight of each ranking; 1 each if not given.
        rrf_k: What is added to the ranks of ``rrf``.

    Returns:
        Rows and fused scores, (Q, k) or as wide as all the rankings together where that is less.

    Raises:
        DataError: There are no rankings, they differ in queries, the weights differ in number, the method is unknown,
            or ``k`` is below 1.
    """
    if method not in ("zscore", "rrf"):
        raise DataError(f"The fusion {method!r} is unknown: choose zscore or rrf.")
    if len({len(ranking) for ranking in rankings}) != 1:
        raise DataError(
            f"Fusion needs rankings of the same queries, not of {[len(ranking) for ranking in rankings]} queries."
        )
    if weights is None:
        weights = [1.0] * len(rankings)
    if len(weights) != len(rankings):
        raise DataError(f"{len(rankings)} rankings need as many weights, not {len(weights)}.")
    width = depth(k, sum(ranking.rows.shape[1] for ranking in rankings))
    found = ([ranking.hits(query) for ranking in rankings] for query in range(len(rankings[0])))
    return Ranking.stack((_fuse_hits(hits, weights, width, method, rrf_k) for hits in found), width)


def _fuse_hits(lists: list[Hits], weights: Sequence[float], k: int, method: Fusion, rrf_k: float) -> Hits:
    """Fuse the hits of one query."""
    candidates = np.unique(np.concatenate([rows for rows, _ in lists]))  # (M,)
    fused = np.zeros(len(candidates))
    for (rows, scores), weight in zip(lists, weights, strict=True):
        if len(rows):
            values, missing = _standardised(scores) if method == "zscore" else _reciprocal(len(rows), rrf_k)
            part = np.full(len(candidates), missing)
            part[np.searchsorted(candidates, rows)] = values
            fused += weight * part
    return best(candidates, fused.astype(np.float32), k)


def _standardised(scores: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Standardised scores (H,) and the score of a document that is missing."""
    values = scores.astype(np.float64)
    if values.min() == values.max():
        return np.zeros(len(values)), -1.0
    values -= values.mean()
    values /= values.std()
    return values, float(values.min())


def _reciprocal(hits: int, rrf_k: float) -> tuple[NDArray[np.float64], float]:
    """Reciprocal ranks (H,) and the score of a document that is missing."""
    return 1.0 / (rrf_k + np.arange(1, hits + 1, dtype=np.float64)), 0.0
