"""Labels for texts from the texts of labels and from remembered points, without training (RAE-XMC, arXiv 2502.10615).

1. A text finds its best labels by their text, and its nearest training points, exactly. Points without labels are not
   remembered.
2. Scores become z: deviations above the mean of the text's scores on all labels, and likewise on all points.
3. p = (1 − λ) · softmax(z / τ over labels) + λ · softmax(z / τ over points) · Y, where Y holds the labels of the points
   as ones: a point with many labels gives each of them its full weight. Labels stand by p.
4. The paper takes one softmax over both kinds of keys. Here each kind has its own: an encoder that was trained on texts
   with labels never compared texts with texts, and where texts are closer to each other than to labels one softmax
   forgets the labels.
5. λ and τ are chosen on a tenth of the points, with the others as memory: by P@1, then nDCG@5. Recipes hold the same
   tenth out of training. Near-duplicates within the points make the memory look better there than it is on other texts.

A label without text is found through the points that have it. A training point's filter pairs need no care: its labels
are without them, and they say nothing of other texts. What a block of texts holds is sparse: the labels of its
neighbours, never texts × labels or points × labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from retriever.data.xmc_metrics import ndcg, precision
from retriever.data.xmc_points import XmcPoints, holds, split_validation
from retriever.errors import DataError
from retriever.indexing.dense import DenseIndex
from retriever.indexing.labels import BLOCK, LabelIndex
from retriever.indexing.ranking import NO_HIT, Hits, Ranking, best, depth

POINTS, LABELS = 50, 200  # neighbours and labels that a softmax goes over
SHARES = (0.02, 0.05, 0.1, 0.2, 0.5, 0.8)
TEMPERATURES = (0.25, 0.5, 1.0, 2.0)
JUDGED = 5  # labels looked at when λ and τ are chosen


@dataclass(frozen=True)
class Mix:
    """How labels and points are mixed.

    Attributes:
        share: λ, the weight of the points, from 0 to 1.
        temperature: τ, in standard deviations of a text's scores, above 0.

    Raises:
        DataError: A value is out of range.
    """

    share: float
    temperature: float

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and 0 < self.temperature < np.inf):
            raise DataError(
                f"A memory needs a share from 0 to 1 and a temperature above 0, not {self.share} and "
                f"{self.temperature}: change them, or leave them out to have them chosen."
            )


USUAL = Mix(0.1, 1.0)  # of too few points to choose by
GRID = tuple(Mix(share, temperature) for temperature, share in product(TEMPERATURES, SHARES))


class LabelMemory(LabelIndex):
    """A label index that also remembers points; make one with :meth:`remember`.

    Args:
        index: The labels.
        points: The vectors of P points.
        targets: Their labels, (P, L); whatever is stored counts.
        mix: λ and τ.
    """

    def __init__(self, index: LabelIndex, points: DenseIndex, targets: csr_matrix, mix: Mix) -> None:
        super().__init__(index.encoder, index.labels, index._index, index._rows)
        self.mix = mix
        self._points = points
        self._targets = (targets != 0).astype(np.float64)

    @classmethod
    def remember(
        cls,
        index: LabelIndex,
        points: XmcPoints,
        mix: Mix | None = None,
        *,
        dtype: str = "auto",
        progress: Callable[[int], None] | None = None,
    ) -> LabelMemory:
        """Add points to a label index.

        Args:
            index: The labels; its encoder and similarity are those of the memory.
            points: Training points; they are encoded as queries.
            mix: λ and τ; chosen on a tenth of the points if omitted, or .1 and 1 if no point in that tenth has a label.
            dtype: Precision of encoding.
            progress: Called with the number of points just encoded.

        Raises:
            DataError: The points are of other labels, or too few of them have labels.
        """
        if points.targets.shape[1] != len(index.labels):
            raise DataError(
                f"The points are of {points.targets.shape[1]:,} labels and the index of {len(index.labels):,}: take "
                "both from one data set."
            )
        if np.count_nonzero(points.labels_per_point) < 2:
            raise DataError("A memory needs at least two points that have labels: give more, or do without it.")
        vectors = index.encoder.encode(points.texts, "query", dtype=dtype, progress=progress)
        chosen = mix or _choose(index, points, vectors)
        return _remember(index, points, vectors, chosen)

    def search(self, vectors: NDArray[np.float32], k: int) -> Ranking:
        """The ``k`` best labels of each of Q query vectors (Q, D), by p; rows are those of the labels.

        Raises:
            DataError: ``k`` is below 1, or the vectors do not fit.
        """
        width = depth(k, len(self.labels))
        found = self._found(vectors, width)
        return Ranking.stack((hits for block in found for hits in _mixed(block, self.mix, width)), width)

    def _found(self, vectors: NDArray[np.float32], k: int) -> Iterator[_Found]:
        for start in range(0, len(vectors), BLOCK):
            block = vectors[start : start + BLOCK]
            yield _Found(super().search(block, max(k, LABELS)), self._points.search(block, POINTS), self._targets)


@dataclass(frozen=True)
class _Found:
    """What a block of texts is near to."""

    labels: Ranking
    points: Ranking
    targets: csr_matrix  # (P, L)


def _remember(index: LabelIndex, points: XmcPoints, vectors: NDArray[np.float32], mix: Mix) -> LabelMemory:
    labelled = np.flatnonzero(points.labels_per_point)
    keys = DenseIndex.build(vectors[labelled], index._index.similarity)
    return LabelMemory(index, keys, points.targets[labelled], mix)


def _choose(index: LabelIndex, points: XmcPoints, vectors: NDArray[np.float32]) -> Mix:
    """The best of the grid on a tenth of the labelled points."""
    numbered = replace(points, ids=[str(row) for row in range(len(points))])
    kept, held = split_validation(numbered)
    held = held.take(np.flatnonzero(held.labels_per_point))
    if not len(held) or not kept.labels_per_point.any():
        return USUAL
    memory = _remember(index, kept, vectors[[int(row) for row in kept.ids]], GRID[0])
    forbidden = held.forbidden
    width = depth(JUDGED + int(np.diff(forbidden.indptr).max(initial=0)), len(index.labels))
    found = list(memory._found(vectors[[int(row) for row in held.ids]], width))

    def quality(mix: Mix) -> tuple[float, float]:
        ranking = Ranking.stack((hits for block in found for hits in _mixed(block, mix, width)), width)
        rows = ranking.without(holds(forbidden, np.arange(len(held))[:, None], ranking.rows), width).rows
        return float(precision(rows, held.targets, 1).mean()), float(ndcg(rows, held.targets, JUDGED).mean())

    return max(GRID, key=quality)


def _mixed(found: _Found, mix: Mix, k: int) -> Iterator[Hits]:
    """The ``k`` best labels of each text by p."""
    shape = len(found.labels), found.targets.shape[1]
    of_labels = _sparse(found.labels, _softmax(found.labels, mix.temperature, LABELS), shape[1])
    of_points = _sparse(found.points, _softmax(found.points, mix.temperature, POINTS), found.targets.shape[0])
    p = ((1 - mix.share) * of_labels + mix.share * (of_points @ found.targets)).tocsr()  # (Q, L)
    p.sort_indices()
    for query in range(len(found.labels)):
        inside = slice(p.indptr[query], p.indptr[query + 1])
        values = p.data[inside].astype(np.float32)
        yield best(p.indices[inside], np.where(values > 0, values, np.float32(-np.inf)), k)


def _softmax(ranking: Ranking, temperature: float, width: int) -> NDArray[np.float64]:
    """Softmax (Q, K) of z / τ; only the first ``width`` hits are in its sum, so that it is the same at every depth."""
    assert ranking.background is not None
    deviation = ranking.background.deviation[:, None]
    scores = ranking.scores.astype(np.float64) / np.where(deviation > 0, deviation, 1) / temperature
    top = np.where(np.isfinite(scores[:, :1]), scores[:, :1], 0.0)
    weights = np.exp(scores - top)
    total = weights[:, :width].sum(axis=1, keepdims=True)
    found: NDArray[np.float64] = weights / np.where(total > 0, total, 1)
    return found


def _sparse(ranking: Ranking, weights: NDArray[np.float64], columns: int) -> csr_matrix:
    """The weights (Q, K) of hits as a matrix (Q, columns)."""
    queries = np.broadcast_to(np.arange(len(ranking))[:, None], ranking.rows.shape)
    real = ranking.rows != NO_HIT
    return csr_matrix((weights[real], (queries[real], ranking.rows[real])), shape=(len(ranking), columns))
