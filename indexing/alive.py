"""Exact search where only a part of the rows may be found, because others are deleted or a filter leaves them out.

Few queries skip the other rows in place; for more of them, rows are copied in chunks and compared by a matrix product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.indexing.kinds import selector, told
from retriever.kernels import faiss

Found = tuple[NDArray[np.int64], NDArray[np.float32]]

CHUNK = 16_384  # rows copied at a time
SKIP, COPY = 0.01, 10.0  # cost of skipping a row, and of copying one, where comparing with one costs 1 (measured)


def compare(store: Any, queries: NDArray[np.float32], k: int, alive: NDArray[np.bool_] | None = None) -> Found:  # noqa: ANN401
    """The exact hits among the rows alive.

    Args:
        store: A FAISS index of N full vectors.
        queries: Queries (Q, D).
        k: Hits wanted, at most as many as there are rows alive.
        alive: Which rows may be found, (N,); all if not given.

    Returns:
        Rows and inner products (Q, k).
    """
    if alive is None and isinstance(store, faiss.IndexFlat):
        scores, rows = store.search(queries, k)
        return rows, scores
    chosen = np.arange(store.ntotal) if alive is None else np.flatnonzero(alive)  # (A,)
    if alive is not None and len(queries) * (len(alive) * SKIP + len(chosen)) < COPY * len(chosen):
        scores, rows = store.search(queries, k, params=told("SearchParameters", sel=selector(alive)))
        return rows, scores
    rows, scores = np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    for start in range(0, len(chosen), CHUNK):
        part = chosen[start : start + CHUNK]
        vectors = store.reconstruct_batch(part)  # (C, D)
        values, places = faiss.knn(queries, vectors, min(k, len(part)), metric=faiss.METRIC_INNER_PRODUCT)
        rows, scores = _first(k, np.hstack([rows, part[places]]), np.hstack([scores, values]))
    return rows, scores


def _first(k: int, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> Found:
    """The ``k`` best of each query's hits (Q, W)."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
