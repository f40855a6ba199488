"""An untrained control: cosine similarity of tf-idf vectors.

1. Words are those of :class:`retriever.data.words.WordAnalyzer`, the same as BM25's.
2. A word weighs (1 + ln tf) · (1 + ln((1 + N) / (1 + n))), with N documents, n of which hold it, tf times in the text.
3. Each text's weights are scaled to length 1; the score is the dot product of query and document, in fp32.
4. Only documents that share a word with the query are hits.

A trained encoder that does not beat this has learned nothing that counting words does not give for free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from retriever.data.words import WordAnalyzer
from retriever.errors import DataError
from retriever.indexing.ranking import Hits, Ranking, best, depth

CHUNK = 256  # queries scored at a time


class TfidfIndex:
    """A tf-idf index in memory; make one with :meth:`build`.

    Args:
        vectorizer: The fitted weights of the words.
        documents: Weights (V, N) of the documents' words, columns of length 1.
    """

    def __init__(self, vectorizer: TfidfVectorizer, documents: csc_matrix) -> None:
        self._vectorizer = vectorizer
        self._documents = documents

    @classmethod
    def build(cls, texts: Iterable[str], stemmer: str = "porter") -> TfidfIndex:
        """Index texts.

        Args:
            texts: N texts; their positions are the rows that a search returns. An empty text is never a hit.
            stemmer: See :class:`retriever.data.words.WordAnalyzer`.

        Raises:
            DataError: There is no word in the texts.
        """
        vectorizer = TfidfVectorizer(analyzer=WordAnalyzer(stemmer), sublinear_tf=True, dtype=np.float32)
        try:
            documents = vectorizer.fit_transform(texts)
        except ValueError as error:
            raise DataError("There is no word in the texts to index: give at least one document with text.") from error
        return cls(vectorizer, documents.T)

    def search(self, queries: Sequence[str], k: int) -> Ranking:
        """The ``k`` best documents of each query.

        Args:
            queries: Q queries; one without a known word has no hits.
            k: Hits wanted.

        Returns:
            Rows and scores (Q, min(k, N)).

        Raises:
            DataError: ``k`` is below 1.
        """
        width = depth(k, self._documents.shape[1])
        return Ranking.stack(self._hits(queries, width), width)

    def _hits(self, queries: Sequence[str], k: int) -> Iterator[Hits]:
        for start in range(0, len(queries), CHUNK):
            weights = self._vectorizer.transform(queries[start : start + CHUNK])
            scores = csr_matrix(weights @ self._documents)
            scores.sort_indices()
            for first, last in zip(scores.indptr, scores.indptr[1:], strict=False):
                yield best(scores.indices[first:last], scores.data[first:last], k)
