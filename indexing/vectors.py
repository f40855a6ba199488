"""Vectors as they are compared, and how a query scores a whole collection of them.

1. Under cosine similarity vectors are scaled to length 1; then both similarities are inner products.
2. The scores that a query q gives n documents have mean q·m and deviation ‖R q‖ / √n, where m is the mean of their
   vectors and Q R the QR decomposition of the centred vectors (n, D): ‖X q‖ = ‖R q‖, with D rows instead of n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retriever.errors import DataError
from retriever.indexing.ranking import Background

if TYPE_CHECKING:
    from typing_extensions import Self

    from retriever.encoder.encoder import Similarity

Array = NDArray[np.float32]


def check_similarity(similarity: str) -> None:
    """See that a similarity is known.

    Raises:
        DataError: It is not.
    """
    if similarity not in ("cosine", "dot"):
        raise DataError(f"The similarity {similarity!r} is unknown: choose cosine or dot.")


def unit(vectors: Array, similarity: Similarity) -> Array:
    """Vectors (N, D) as they are compared: of length 1 under cosine similarity, zero where they are zero.

    Raises:
        DataError: A vector is not finite.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        raise DataError(
            f"Vector {int(np.argmin(finite))} holds NaN or infinity: the encoder is broken, train or load it again."
        )
    if similarity == "dot":
        return vectors
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))  # (N,)
    return (vectors / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)


def spectrum(vectors: Array) -> NDArray[np.float64]:
    """The variances of vectors (N, D) along their principal components, falling (D,)."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    variances: NDArray[np.float64] = np.linalg.eigvalsh(centred.T @ centred / max(len(vectors), 1))[::-1]
    return variances


@dataclass(frozen=True, slots=True)
class Spread:
    """How documents lie, as far as the scores of queries depend on it; make it with :meth:`of`."""

    centre: Array  # (D,)
    factor: Array  # (D, D), or less high

    @classmethod
    def of(cls, vectors: Array) -> Self:
        """The spread of documents (N, D)."""
        sample = vectors.astype(np.float64)
        centre = sample.mean(axis=0) if len(sample) else np.zeros(sample.shape[1])
        factor = np.asarray(np.linalg.qr(sample - centre, mode="r")) / math.sqrt(max(len(sample), 1))
        return cls(centre.astype(np.float32), factor.astype(np.float32))

    def background(self, queries: Array, similarity: Similarity) -> Background:
        """How queries (Q, D) score these documents."""
        deviation = np.linalg.norm(queries @ self.factor.T, axis=1)
        mean, known = (queries @ self.centre).astype(np.float64), np.ones(len(queries))
        least = -1.0 if similarity == "cosine" else -math.inf
        return Background(mean, deviation.astype(np.float64), known, least)
