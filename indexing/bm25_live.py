"""BM25 over a collection that changes: the scores of :mod:`retriever.indexing.bm25`, exact after every change.

1. The documents lie in several postings, one after the other; a mask tells which of them are alive.
2. Everything that a score depends on is counted over the documents alive: how many there are, their mean length, and
   how many hold a word. So scores, hits and backgrounds are those of an index built of these documents alone, to the
   last bit.
3. A common word, held by one document in 16 or more, has its tf / (tf + …) kept as a column over all documents: adding
   a column is faster than visiting postings one by one. The 64 columns used last are kept, 256 bytes a document at
   most. Other words are computed from their postings at every search.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from retriever.data.words import WordAnalyzer
from retriever.indexing.bm25 import inverse_frequency, rank
from retriever.indexing.postings import Postings, word_hash
from retriever.indexing.ranking import Ranking

COMMON, COLUMNS = 16, 64  # a word is common if 1 document in COMMON holds it; columns kept
MEMORY = 1 << 16  # words whose document frequency is kept


class LiveBm25:
    """BM25 over the documents alive of several postings; threads may share it.

    Args:
        parts: Postings of N₁, N₂ … documents; together N, whose positions are the rows that a search returns.
        alive: Which documents are alive, (N,).
        analyzer: Text → words, as in building the postings.
        k1: See :meth:`retriever.indexing.bm25.Bm25Index.build`.
        b: Likewise.
    """

    def __init__(
        self, parts: Sequence[Postings], alive: NDArray[np.bool_], analyzer: WordAnalyzer, k1: float, b: float
    ) -> None:
        self._parts = [part for part in parts if len(part)]
        self._starts = np.cumsum([0, *map(len, self._parts)])  # the first row of each part, and N
        self._alive, self._dead = alive, np.flatnonzero(~alive)
        self._analyzer = analyzer
        lengths = np.concatenate([np.empty(0, np.int32), *(part.lengths for part in self._parts)])
        self._count = int(alive.sum())
        mean = lengths[alive].sum(dtype=np.int64) / max(1, self._count) or 1.0  # without any word, none is scored
        self._norms = (k1 * (1 - b + b * lengths / mean)).astype(np.float32)  # (N,)
        self._holding = lru_cache(MEMORY)(self._count_holding)
        self._column = lru_cache(COLUMNS)(self._make_column)

    def search(self, queries: Sequence[str], k: int, allowed: NDArray[np.bool_] | None = None) -> Ranking:
        """The ``k`` best documents of each query; see :meth:`retriever.indexing.bm25.Bm25Index.search`.

        Args:
            queries: Q queries.
            k: Hits wanted.
            allowed: Which documents may be hits, (N,), all of them alive; all that are alive if not given.
        """
        return rank(map(self._scores, queries), k, self._count, allowed)

    def _scores(self, query: str) -> tuple[NDArray[np.float32], float]:
        """Scores of all documents (N,), 0 for those that are not alive, and the share of the query that is known."""
        scores = np.zeros(len(self._norms), np.float32)
        known = total = 0.0
        for word, times in Counter(map(word_hash, self._analyzer(query))).items():
            holding = self._holding(word)
            weight = times * inverse_frequency(holding, self._count)
            total += weight
            if holding:
                known += weight
                self._add(scores, word, np.float32(weight), holding)
        scores[self._dead] = 0
        return scores, known / total if total else 0.0

    def _add(self, scores: NDArray[np.float32], word: int, weight: np.float32, holding: int) -> None:
        """Add weight · tf / (tf + norm) of a word to the scores (N,)."""
        if holding * COMMON >= self._count:
            scores += weight * self._column(word)
            return
        for start, part, place in self._postings(word):
            rows = part.rows[place] + start
            scores[rows] += weight * self._saturated(part.counts[place], rows)

    def _make_column(self, word: int) -> NDArray[np.float32]:
        """What a word adds to each document before it is weighted, tf / (tf + norm), (N,)."""
        column = np.zeros(len(self._norms), np.float32)
        for start, part, place in self._postings(word):
            rows = part.rows[place] + start
            column[rows] = self._saturated(part.counts[place], rows)
        return column

    def _saturated(self, counts: NDArray[np.int32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        frequencies = counts.astype(np.float32)
        return frequencies / (frequencies + self._norms[rows])

    def _count_holding(self, word: int) -> int:
        """Documents alive that hold a word."""
        return sum(int(self._alive[part.rows[place] + start].sum()) for start, part, place in self._postings(word))

    def _postings(self, word: int) -> list[tuple[np.int64, Postings, slice]]:
        """Where the postings of a word are: the first row of a part, the part, and the slice of it."""
        return [(start, part, part.find(word)) for start, part in zip(self._starts[:-1], self._parts, strict=True)]

    def __len__(self) -> int:
        return self._count
