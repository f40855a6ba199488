"""The best labels of points, and how good they are: what shortlists are made of, and steps chosen by.

Scores are computed for a block of points at a time; a label that a point must not get is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from retriever.data.ragged import Ragged
from retriever.data.xmc_metrics import ndcg, precision, recall
from retriever.encoder import Encoder

BLOCK = 256  # points scored at a time
DEPTH = 100
Ids = NDArray[np.int64]
Floats = NDArray[np.float32]


def best_labels(
    points: Floats, labels: Floats, usable: Ids, depth: int, left_out: csr_matrix | None = None
) -> NDArray[np.int32]:
    """The best labels of each point, the best first.

    Args:
        points: (N, D).
        labels: (L, D).
        usable: Labels that may be given, rising.
        depth: How many, K.
        left_out: Nonzero (N, L) where a label is not to be given.

    Returns:
        (N, K) numbers of labels; −1 where a point has no more.
    """
    found = np.full((len(points), depth), -1, np.int32)
    width = min(depth, len(usable))
    for first in range(0, len(points), BLOCK):
        scores = points[first : first + BLOCK] @ labels[usable].T  # (block, U)
        if left_out is not None:
            scores[left_out[first : first + BLOCK][:, usable].nonzero()] = -np.inf
        best = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        values = np.take_along_axis(scores, best, 1)
        order = np.argsort(-values, axis=1, kind="stable")
        best, values = np.take_along_axis(best, order, 1), np.take_along_axis(values, order, 1)
        found[first : first + BLOCK, :width] = np.where(values > -np.inf, usable[best], -1)
    return found


@dataclass(frozen=True)
class HeldOutPoints:
    """Q points with their labels.

    Attributes:
        points: Tokens of the points.
        labels: Tokens of all L labels.
        targets: Relevance (Q, L); each point has a label.
        filtered: Filter pairs (Q, L): what is stored is not to be given.
        usable: Labels that have a text, rising.
    """

    points: Ragged
    labels: Ragged
    targets: csr_matrix
    filtered: csr_matrix
    usable: Ids
    what: ClassVar[str] = "held-out points"

    @property
    def rows(self) -> Ids:
        """Documents of the corpus that training must not see: none, the points are not among its examples."""
        return np.empty(0, np.int64)

    def score(self, encoder: Encoder, dtype: str) -> dict[str, float]:
        """P@1, P@3, P@5, nDCG@5, Recall@10 and Recall@100 of the encoder as it is now."""
        points = encoder.embed(self.points, "query", dtype=dtype)
        labels = encoder.embed(self.labels, dtype=dtype)
        return label_metrics(best_labels(points, labels, self.usable, DEPTH, self.filtered), self.targets)


def label_metrics(found: NDArray[np.int32], targets: csr_matrix) -> dict[str, float]:
    """Means over the points, from the labels found (Q, 100) and the truth (Q, L), by the definitions of XMC."""
    rows = found.astype(np.int64)
    values = {f"p@{k}": precision(rows, targets, k) for k in (1, 3, 5)} | {"ndcg@5": ndcg(rows, targets, 5)}
    values |= {f"recall@{k}": recall(rows, targets, k) for k in (10, 100)}
    return {name: float(of_points.mean()) for name, of_points in values.items()}
