"""Rankings: what every search returns, whatever found it.

1. A ranking holds K hits for each of Q queries: row numbers of documents and their scores.
2. Hits stand by falling score; hits of equal score by rising row, so that the same scores always give the same ranking.
3. Where a query has fewer than K hits, the rest are "no hit": row −1, score −∞.
4. A ranking may tell the background of its scores: how a query scores the documents of the whole collection.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from retriever.errors import DataError

Hits: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Rows (H,) and scores (H,) of one query's hits, best first."""

NO_HIT = -1
NOTHING: Hits = (np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class Background:
    """The scores of all documents, hits or not, for each of Q queries, and the least score there can be."""

    mean: NDArray[np.float64]  # (Q,)
    deviation: NDArray[np.float64]  # (Q,)
    known: NDArray[np.float64]  # (Q,), share of the query that the search can look for, from 0 to 1
    least: float = -math.inf


@dataclass(frozen=True, slots=True)
class Ranking:
    """The hits of Q queries, best first; row −1 with score −∞ is no hit."""

    rows: NDArray[np.int64]  # (Q, K)
    scores: NDArray[np.float32]  # (Q, K)
    background: Background | None = None

    @classmethod
    def stack(cls, hits: Iterable[Hits], k: int, background: Background | None = None) -> Ranking:
        """Pad the hits of each query, at most ``k``, to width ``k``."""
        hits = list(hits)
        rows = np.full((len(hits), k), NO_HIT, np.int64)
        scores = np.full((len(hits), k), -np.inf, np.float32)
        for query, (found, values) in enumerate(hits):
            rows[query, : len(found)] = found
            scores[query, : len(found)] = values
        return cls(rows, scores, background)

    @classmethod
    def sorted(
        cls, rows: NDArray[np.int64], scores: NDArray[np.float32], background: Background | None = None
    ) -> Ranking:
        """Put hits (Q, K) into order; whatever has row −1 becomes no hit."""
        scores = np.where(rows == NO_HIT, np.float32(-np.inf), scores)
        order = np.arange(len(rows))[:, None], np.lexsort((rows, -scores), axis=1)
        return cls(rows[order], scores[order], background)

    def without(self, dropped: NDArray[np.bool_], k: int) -> Ranking:
        """The first ``k`` hits of each query but those ``dropped`` (Q, K), in their order; (Q, min(K, k))."""
        kept = np.argsort(dropped, axis=1, kind="stable")[:, :k]  # what is dropped goes last
        rows = np.where(dropped, NO_HIT, self.rows)
        scores = np.where(dropped, np.float32(-np.inf), self.scores)
        rows, scores = np.take_along_axis(rows, kept, axis=1), np.take_along_axis(scores, kept, axis=1)
        return Ranking(rows, scores, self.background)

    def hits(self, query: int) -> Hits:
        """The hits of one query, without the padding."""
        real = self.rows[query] != NO_HIT
        return self.rows[query][real], self.scores[query][real]

    def __len__(self) -> int:
        return len(self.rows)


def best(rows: NDArray[np.integer], scores: NDArray[np.float32], k: int) -> Hits:
    """The ``k`` best of one query's candidates, ties by rising row.

    Args:
        rows: Rows (M,), rising.
        scores: Their scores (M,); −∞ is no hit.
        k: Hits wanted.

    Returns:
        At most ``k`` rows and scores.
    """
    if len(scores) > k:  # all that reach the k-th best score: a tie at the border must not be cut by chance
        bar = np.partition(scores, len(scores) - k)[len(scores) - k]
        reached = np.flatnonzero(scores >= bar)
        rows, scores = rows[reached], scores[reached]
    order = np.argsort(-scores, kind="stable")[:k]
    order = order[scores[order] > -np.inf]
    return rows[order].astype(np.int64, copy=False), scores[order]


def depth(k: int, documents: int) -> int:
    """How many hits a query can have: ``k``, or all documents where there are fewer.

    Raises:
        DataError: ``k`` is below 1.
    """
    if k < 1:
        raise DataError(f"k is {k}: ask for at least one hit.")
    return min(operator.index(k), documents)
