"""Labels as an index: which labels fit a text?

1. Encode the text of each label as a document, behind the token that the encoder may have for it
   (:mod:`retriever.encoder.own_tokens`), and a text to be labelled as a query.
2. A label's score is the similarity of the two vectors; the search is exact.
3. A label with neither text nor token has no vector, and is never found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retriever.data.xmc_points import XmcLabels
from retriever.encoder.encoder import Encoder, Similarity
from retriever.encoder.own_tokens import encode_labels, findable
from retriever.errors import DataError
from retriever.indexing.dense import DenseIndex
from retriever.indexing.ranking import NO_HIT, Ranking

BLOCK = 1_024  # queries searched at a time: what a search holds does not grow with their number


@dataclass(frozen=True)
class Tag:
    """A label found for a text.

    Attributes:
        label: Its id.
        text: Its text.
        score: How well it fits: cosine or dot product.
    """

    label: str
    text: str
    score: float


class LabelIndex:
    """The labels of a data set, to be found by text; make one with :meth:`build`.

    Args:
        encoder: The encoder of labels and texts.
        labels: L labels.
        index: The vectors of those that have a text or a token.
        rows: Their rows among the labels, rising.
    """

    def __init__(self, encoder: Encoder, labels: XmcLabels, index: DenseIndex, rows: NDArray[np.int64]) -> None:
        self.encoder = encoder
        self.labels = labels
        self._index = index
        self._rows = rows

    @classmethod
    def build(
        cls,
        encoder: Encoder,
        labels: XmcLabels,
        *,
        similarity: Similarity | None = None,
        dtype: str = "auto",
        progress: Callable[[int], None] | None = None,
    ) -> LabelIndex:
        """Encode labels.

        Args:
            encoder: The encoder; its document prompt is put before labels.
            labels: L labels.
            similarity: Similarity of the vectors, instead of the encoder's own.
            dtype: Precision of encoding: ``float32``, ``bfloat16`` or ``auto``.
            progress: Called with the number of labels just encoded.

        Raises:
            DataError: No label has a text.
        """
        rows = findable(encoder, labels)
        if not len(rows):
            raise DataError(f"None of the {len(labels):,} labels has a text: give labels a title or a content.")
        ids, texts = ([values[row] for row in rows] for values in (labels.ids, labels.texts))
        vectors = encode_labels(encoder, ids, texts, dtype=dtype, progress=progress)
        return cls(encoder, labels, DenseIndex.build(vectors, similarity or encoder.similarity), rows)

    def search(self, vectors: NDArray[np.float32], k: int) -> Ranking:
        """The ``k`` best labels of each of Q query vectors (Q, D); rows are those of the labels.

        Raises:
            DataError: ``k`` is below 1, or the vectors do not fit.
        """
        found = self._index.search(vectors, k)
        rows = np.where(found.rows == NO_HIT, NO_HIT, self._rows[found.rows])  # rising, so that ties keep their order
        return Ranking(rows, found.scores, found.background)

    def predict(self, texts: Sequence[str], k: int = 5, *, dtype: str = "auto") -> list[list[Tag]]:
        """The ``k`` best labels of each text, best first.

        Args:
            texts: Texts; one without a known word has no label, if the encoder is static.
            k: Labels wanted.
            dtype: Precision of encoding.

        Raises:
            DataError: ``k`` is below 1.
        """
        found: list[list[Tag]] = []
        for start in range(0, len(texts), BLOCK):
            block = texts[start : start + BLOCK]
            ranking = self.search(self.encoder.encode(block, "query", dtype=dtype), k)
            found += [self._tags(*ranking.hits(query)) for query in range(len(block))]
        return found

    def _tags(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> list[Tag]:
        return [
            Tag(self.labels.ids[row], self.labels.texts[row], float(score))
            for row, score in zip(rows, scores, strict=True)
        ]
