"""One search of one state of an index: by meaning, by words, or by both.

1. ``dense`` encodes the query and looks for the nearest vectors; ``bm25`` looks for its words and needs no model;
   ``hybrid`` takes the best candidates of both and fuses them.
2. A fusion and a weight that are not asked for are those that the index was tuned to.
3. The documents of the rows found are read, all queries together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.errors import DataError
from retriever.indexing.backend import Allowed, State
from retriever.indexing.hybrid import Fusion, fuse, shares
from retriever.indexing.kinds import SearchSettings
from retriever.indexing.ranking import NO_HIT, Ranking, depth

Mode: TypeAlias = Literal["hybrid", "dense", "bm25"]
Encode: TypeAlias = Callable[[Sequence[str]], NDArray[np.float32]]
"""Q queries → their vectors (Q, D)."""

CANDIDATES = 1000  # hits of each search that a fusion looks at, as deep as the evaluation does
GRAPH_CANDIDATES = 200  # likewise, where deeper walks through a graph would take longer than an exact search


@dataclass(frozen=True, slots=True)
class Hit:
    """One found document: its rank from 1, id, score and content."""

    rank: int
    id: str
    score: float
    title: str
    text: str
    metadata: Mapping[str, Any]


def rank(
    view: State,
    encode: Encode,
    queries: Sequence[str],
    k: int,
    mode: Mode,
    fusion: Fusion | None = None,
    weight: float | None = None,
    allowed: Allowed = None,
    settings: SearchSettings | None = None,
) -> Ranking:
    """Search; see :meth:`retriever.indexing.index.Index.search_batch`.

    Args:
        view: What is searched.
        encode: Makes the vectors of queries.
        queries: Q queries.
        k: Hits wanted.
        mode: ``hybrid``, ``dense`` or ``bm25``.
        fusion: How ``hybrid`` fuses.
        weight: Share of the vectors in ``hybrid``.
        allowed: Which documents may be hits, as the view tells it; all that are alive if not given.
        settings: What the search by vectors may spend, where FAISS does it.

    Returns:
        Rows and scores (Q, K).
    """
    _check_queries(queries)
    if mode == "bm25":
        return view.bm25.search(queries, k, allowed)
    if mode == "dense":
        return view.dense(encode(queries), k, allowed, settings)
    if mode != "hybrid":
        raise DataError(f"The search mode {mode!r} is unknown: choose hybrid, dense or bm25.")
    tuned = view.manifest.fusion
    method = fusion or tuned.method
    if weight is None:
        weight = tuned.weight if method == tuned.method else 0.5
    weights = shares(weight)
    width = max(1, depth(k, len(view)))  # an index whose documents are all deleted has no hits to fuse
    return fuse(parts(view, encode, queries, k, allowed, settings), width, method=method, weights=weights)


def parts(
    view: State,
    encode: Encode,
    queries: Sequence[str],
    k: int,
    allowed: Allowed = None,
    settings: SearchSettings | None = None,
) -> tuple[Ranking, Ranking]:
    """What a hybrid search for ``k`` hits fuses: candidates by vectors and by words; see :func:`rank`."""
    _check_queries(queries)
    candidates = max(k, CANDIDATES if view.is_exact else GRAPH_CANDIDATES)
    dense = view.dense(encode(queries), candidates, allowed, settings)
    return dense, view.bm25.search(queries, candidates, allowed)


def hits(view: State, ranking: Ranking) -> list[list[Hit]]:
    """The documents of a ranking, for each of its queries."""
    rows = np.unique(ranking.rows[ranking.rows != NO_HIT])
    documents = dict(zip(rows.tolist(), view.documents(rows), strict=True))
    return [_hits(ranking, query, documents) for query in range(len(ranking))]


def _hits(ranking: Ranking, query: int, documents: Mapping[int, Document]) -> list[Hit]:
    found = zip(*(values.tolist() for values in ranking.hits(query)), strict=True)
    return [
        Hit(rank, document.id, score, document.title, document.text, document.metadata)
        for rank, (row, score) in enumerate(found, start=1)
        for document in [documents[row]]
    ]


def _check_queries(queries: Sequence[str]) -> None:
    if not all(query.strip() for query in queries):
        raise DataError("The query is empty: give at least one word to search for.")
