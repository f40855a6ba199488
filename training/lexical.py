"""BM25 of all documents at once, for a teacher that ranks a pool of some thousand texts.

The score of document d for query q is Lucene's variant over stemmed words,
``Σ_w ln(1 + (N − n_w + ½) / (n_w + ½)) · tf / (tf + k1 · (1 − b + b · |d| / mean |d|))``,
a word that q holds twice counting twice (Robertson & Zaragoza 2009, doi 10.1561/1500000019). The word–document scores
are one sparse matrix; a search multiplies it by the queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from retriever.data.tokenizers import WordTokenizer

K1, B = 1.5, 0.75


class LexicalScores:
    """BM25 over N texts.

    Args:
        texts: The documents.

    Raises:
        DataError: They hold no words.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.tokenizer = WordTokenizer.train(texts)
        words, size = self.tokenizer.encode(texts), self.tokenizer.size
        rows = np.repeat(np.arange(len(texts)), words.lengths)
        keys, counts = np.unique(rows * size + words.ids, return_counts=True)  # a word of a document each
        rows, ids = keys // size, keys % size
        holders = np.bincount(ids, minlength=size)  # (V,)
        idf = np.log1p((len(texts) - holders + 0.5) / (holders + 0.5))
        relative = words.lengths / words.lengths.mean()
        values = idf[ids] * counts / (counts + K1 * (1 - B + B * relative[rows]))
        self._scores = csr_matrix((values.astype(np.float32), (ids, rows)), (size, len(texts)))  # (V, N)

    def __call__(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Scores (Q, N) of all documents; 0 where no word is shared."""
        words = self.tokenizer.encode(queries)
        ones = np.ones(len(words.ids), np.float32)
        bags = csr_matrix((ones, words.ids, words.offsets), (len(queries), self.tokenizer.size))
        scores: NDArray[np.float32] = (bags @ self._scores).toarray()
        return scores
