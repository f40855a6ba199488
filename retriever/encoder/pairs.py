"""Pairs of sentences: how similar an encoder finds them, and whether it orders them as their gold scores do.

1. Each distinct sentence is encoded once, however many pairs it stands in.
2. Cosines are rounded to six decimals: below stands float32's noise, and pairs that tie must not be told apart by it.
3. Spearman's correlation is Pearson's over average ranks: equal values share the mean of their ranks. Where all values
   are equal, but for that noise, there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from retriever.data.sts import StsSet
from retriever.encoder.encoder import Encoder, Kind

Array: TypeAlias = NDArray[np.float64]
PairSimilarity: TypeAlias = Literal["cosine", "dot", "euclidean"]

DECIMALS = 6  # of a cosine
NOISE = 1e-6  # relative; equal vectors from different batches differ by less


def encode_sets(
    encoder: Encoder,
    sets: Sequence[StsSet],
    *,
    lower: bool = False,
    kind: Kind = "document",
    dtype: str = "float32",
    progress: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.float32], list[list[NDArray[np.int64]]]]:
    """Encode the distinct sentences of all sets.

    Returns:
        Vectors (N, D), and for each set and each of its subsets the two rows of every pair (P, 2).
    """
    row_of: dict[str, int] = {}
    rows = []
    for one in sets:
        of_set = []
        for subset in one.subsets:
            sides = [[text.lower() for text in side] if lower else side for side in (subset.first, subset.second)]
            numbers = [[row_of.setdefault(text, len(row_of)) for text in side] for side in sides]
            of_set.append(np.array(numbers, dtype=np.int64).T)
        rows.append(of_set)
    return encoder.encode(list(row_of), kind, dtype=dtype, progress=progress), rows


def compare(first: NDArray[np.float32], second: NDArray[np.float32], similarity: PairSimilarity = "cosine") -> Array:
    """The similarities (P,) of vectors (P, D) and their partners (P, D), in float64."""
    x, y = first.astype(np.float64), second.astype(np.float64)
    if similarity == "euclidean":
        distances: Array = -np.linalg.norm(x - y, axis=1)
        return distances
    products: Array = np.einsum("pd,pd->p", x, y)
    if similarity == "dot":
        return products
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    cosines: Array = np.round(products / np.where(lengths > 0, lengths, 1), DECIMALS)
    return cosines


def flat(values: Array) -> bool:
    """Whether values (P,) are all the same but for the arithmetic's last bits: then no correlation with them exists."""
    return bool(np.ptp(values) <= NOISE * max(1.0, float(np.abs(values).max())))


def spearman(x: Array, y: Array) -> float | None:
    """Spearman's correlation of two rows of values (P,), with average ranks; ``None`` where one of them is flat."""
    return None if flat(x) or flat(y) else float(stats.spearmanr(x, y).statistic)


def pearson(x: Array, y: Array) -> float | None:
    """Pearson's correlation of two rows of values (P,); ``None`` where one of them is flat."""
    return None if flat(x) or flat(y) else float(stats.pearsonr(x, y).statistic)
