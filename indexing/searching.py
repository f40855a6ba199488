"""One search of one state of an index: by meaning, by words, or by both.

1. ``dense`` encodes the query and looks for the nearest vectors; ``bm25`` looks for its words and needs no model;
   ``hybrid`` takes the best candidates of both, ten for each hit wanted, and fuses them.
2. Hits can be skipped. Pages of one size are cut from one fused order as long as they lie within the candidates of the
   first page; deeper ones are cut from a deeper order.
3. A fusion and a weight that are not asked for are those that the index was tuned to.
4. The documents of the rows found are read, all queries together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.errors import DataError, refuse_text
from retriever.indexing.backend import Allowed, State
from retriever.indexing.hybrid import Fusion, check_method, fuse, shares
from retriever.indexing.kinds import SearchSettings
from retriever.indexing.ranking import NO_HIT, Ranking, depth

Mode: TypeAlias = Literal["hybrid", "dense", "bm25"]
Side: TypeAlias = Literal["dense", "bm25"]
Encode: TypeAlias = Callable[[Sequence[str]], NDArray[np.float32]]
"""Q queries → their vectors (Q, D)."""

CANDIDATES, LEAST, MOST = 10, 100, 1000  # hits of each side that a fusion looks at, for each hit wanted; in all


@dataclass(frozen=True, slots=True)
class Part:
    """What one side of a search says about a hit: its own score and its own rank, from 1."""

    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class Hit:
    """One found document: its rank from 1, id, score and content.

    Where a search is asked to explain itself, ``parts`` tells what each of its sides, ``dense`` and ``bm25``, says
    about the document; None where it is not among the candidates of that side.
    """

    rank: int
    id: str
    score: float
    title: str
    text: str
    metadata: Mapping[str, Any]
    parts: Mapping[Side, Part | None] = field(default_factory=dict)


def search_sides(
    view: State,
    encode: Encode,
    queries: Sequence[str],
    k: int,
    mode: Mode = "hybrid",
    allowed: Allowed = None,
    settings: SearchSettings | None = None,
    background: bool = True,
    offset: int = 0,
) -> dict[Side, Ranking]:
    """Search by vectors, by words, or by both; see :meth:`retriever.indexing.index.Index.search_batch`.

    Args:
        view: What is searched.
        encode: Makes the vectors of queries.
        queries: Q queries.
        k: Hits wanted.
        mode: ``hybrid``, ``dense`` or ``bm25``.
        allowed: Which documents may be hits, as the view tells it; all that are alive if not given.
        settings: What the search by vectors may spend, where FAISS does it.
        background: Whether the vectors tell how they score all documents, which fusions want to know.
        offset: Hits to skip before them.

    Returns:
        The hits of each side, those to skip included: Q rankings as deep as both together; in ``hybrid`` as deep as
        what a fusion looks at.
    """
    refuse_text("queries", queries)
    if other := [query for query in queries if not isinstance(query, str)]:
        raise DataError(f"The query {other[0]!r} is a {type(other[0]).__name__}: give queries as strings.")
    if not all(query.strip() for query in queries):
        raise DataError("The query is empty: give at least one word to search for.")
    if mode not in get_args(Mode):
        raise DataError(f"The search mode {mode!r} is unknown: choose hybrid, dense or bm25.")
    if offset < 0:
        raise DataError(f"offset is {offset}: give the number of hits to skip, 0 or more.")
    deepest = offset + depth(k, k)  # or refuse k
    if mode == "bm25":
        return {"bm25": view.bm25.search(queries, deepest, allowed)}
    if mode == "dense":
        return {"dense": view.dense(encode(queries), deepest, allowed, settings, background=background)}
    width = candidates(k, offset)
    dense = view.dense(encode(queries), width, allowed, settings, background=background, surely=k)
    return {"dense": dense, "bm25": view.bm25.search(queries, width, allowed)}


def candidates(k: int, offset: int = 0) -> int:
    """How many hits of each side a fusion looks at for ``k`` hits behind ``offset`` others.

    It is the same for all pages of ``k`` hits within it, and for all deeper ones within ``MOST``.
    """
    width = max(k, min(max(CANDIDATES * k, LEAST), MOST))
    return width if offset + k <= width else max(offset + k, MOST)


def join_sides(
    view: State, found: Mapping[Side, Ranking], k: int, fusion: Fusion | None = None, weight: float | None = None
) -> Ranking:
    """The ``k`` best hits of the sides of a search.

    Args:
        view: What was searched.
        found: The hits of one side, which are taken as they are, or of both, which are fused.
        k: Hits wanted.
        fusion: How both are fused; as the index was tuned to if not given.
        weight: Share of the vectors; likewise.

    Returns:
        Rows and scores (Q, K).
    """
    if fusion is not None:
        check_method(fusion)
    if weight is not None:
        shares(weight)  # or refuse, also where nothing is fused
    if len(found) == 1:
        return next(iter(found.values()))
    tuned = view.manifest.fusion
    method = fusion or tuned.method
    if weight is None:
        weight = tuned.weight if method == tuned.method else 0.5
    width = max(1, depth(k, len(view)))  # an index whose documents are all deleted has no hits to fuse
    return fuse([found["dense"], found["bm25"]], width, method=method, weights=shares(weight))


def hits(
    view: State, ranking: Ranking, found: Mapping[Side, Ranking] | None = None, offset: int = 0
) -> list[list[Hit]]:
    """The documents of a ranking, for each of its queries, behind the first ``offset``.

    Args:
        view: What was searched.
        ranking: Q rankings.
        found: What the sides of the search say about the hits, if that is wanted.
        offset: Hits to skip; the others keep their ranks.
    """
    kept = Ranking(ranking.rows[:, offset:], ranking.scores[:, offset:])
    rows = np.unique(kept.rows[kept.rows != NO_HIT])
    documents = dict(zip(rows.tolist(), view.documents(rows), strict=True))
    return [_hits(kept, query, documents, found or {}, offset + 1) for query in range(len(kept))]


def _hits(
    ranking: Ranking, query: int, documents: Mapping[int, Document], found: Mapping[Side, Ranking], first: int
) -> list[Hit]:
    """The hits of one query, the best of which has the rank ``first``."""
    told = {side: _parts(one, query) for side, one in found.items()}
    pairs = zip(*(values.tolist() for values in ranking.hits(query)), strict=True)
    return [
        Hit(
            rank,
            document.id,
            score,
            document.title,
            document.text,
            document.metadata,
            {side: own.get(row) for side, own in told.items()},
        )
        for rank, (row, score) in enumerate(pairs, start=first)
        for document in [documents[row]]
    ]


def _parts(ranking: Ranking, query: int) -> dict[int, Part]:
    """What a side says about each of its rows."""
    rows, scores = ranking.hits(query)
    pairs = zip(rows.tolist(), scores.tolist(), strict=True)
    return {row: Part(score, rank) for rank, (row, score) in enumerate(pairs, start=1)}
