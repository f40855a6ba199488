"""BM25 in a collection that compares sparse vectors: the weights of words, split between documents and queries.

1. The score of :mod:`retriever.indexing.bm25` is a sum over the words of a query of idf · tf / (tf + norm). The second
   factor depends on the document alone, if the mean length of documents is taken as it was at the start: it is stored
   with the document. The first depends on how many documents hold the word, and is the weight of a query's word.
2. A word is a number of 32 bits, by hash; 0 stands for no word, and is all that a document without words has.
3. How many documents hold each word is counted here, in a table that changes with the documents.

So scores are those of a local index, up to the mean length. That stays as it was when the index was built, also when
words are counted anew: every document has stored it, and one that stored another would not compare with the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from retriever.data.words import WordAnalyzer
from retriever.errors import IndexFolderError
from retriever.indexing.arrays import read_array
from retriever.indexing.bm25 import inverse_frequency
from retriever.indexing.damage import is_lack
from retriever.indexing.postings import word_hash

KEYS = 2**32 - 2  # different numbers of words


class WordCounts:
    """How many documents hold each word.

    Args:
        analyzer: Text → words.
        counts: Number of a word → documents that hold it.
    """

    def __init__(self, analyzer: WordAnalyzer, counts: Counter[int] | None = None) -> None:
        self.analyzer = analyzer
        self._counts = Counter() if counts is None else counts

    @classmethod
    def open(cls, path: Path, analyzer: WordAnalyzer) -> WordCounts:
        """Read what :meth:`save` wrote.

        Raises:
            IndexFolderError: The file is missing or damaged.
            OSError: Too many files are open, or memory is lacking.
        """
        try:
            table = read_array(path)
        except (OSError, EOFError, ValueError, TypeError) as error:
            if is_lack(error):
                raise
            raise IndexFolderError(f"The index file {path} is damaged: build the index again.") from error
        return cls(analyzer, Counter(dict(table.tolist())))

    def save(self, path: Path) -> None:
        """Write the table, a pair of number and count a word."""
        held = sorted((key, count) for key, count in self._counts.items() if count > 0)
        np.save(path, np.array(held, np.int64).reshape(-1, 2))

    def add(self, texts: Iterable[str]) -> int:
        """Count the words of texts that are stored; returns how many there are, repeated ones included."""
        return sum(self._change(text, 1) for text in texts)

    def remove(self, texts: Iterable[str]) -> None:
        """Count no more the words of texts that go."""
        for text in texts:
            self._change(text, -1)

    def of_document(self, text: str, k1: float, b: float, mean: float) -> dict[int, float]:
        """What a document stores: tf / (tf + k1 · (1 − b + b · length / mean)) by word."""
        times = self._times(text)
        norm = k1 * (1 - b + b * times.total() / mean)
        return {key: count / (count + norm) for key, count in times.items()} or {0: 1.0}

    def of_query(self, text: str, documents: int) -> tuple[dict[int, float], float]:
        """Weights of the words of a query that documents hold, and the share of the query that is known."""
        weights = {
            key: times * inverse_frequency(self._counts[key], documents) for key, times in self._times(text).items()
        }
        held = {key: weight for key, weight in weights.items() if self._counts[key] > 0}
        total = sum(weights.values())
        return held, sum(held.values()) / total if total else 0.0

    def _times(self, text: str) -> Counter[int]:
        return Counter(1 + word_hash(word) % KEYS for word in self.analyzer(text))

    def _change(self, text: str, by: int) -> int:
        times = self._times(text)
        for key in times:
            self._counts[key] += by
        return times.total()
