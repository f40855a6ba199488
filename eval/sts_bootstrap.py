"""How sure is a rank correlation: a bootstrap that ranks every resample anew and never sorts one.

1. Draw P pairs with replacement from the P pairs; a resample is the number of times each pair was drawn.
2. The rank of a value within the resample is the number of drawn values below it, plus half the number of drawn values
   equal to it, plus one half. Distinct values are sorted once, so this is a cumulative sum.
3. Pearson's correlation of these ranks, each pair weighted by its number of draws, is the resample's Spearman: ranked
   anew, exactly, in O(P).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retriever.encoder.pairs import Array
from retriever.eval.significance import resampled


def resampled_spearman(x: Array, y: Array, resamples: int, rng: np.random.Generator) -> Array:
    """Spearman's correlation of bootstrap resamples; see the module's header.

    Args:
        x: Values (P,).
        y: Values (P,).
        resamples: R.
        rng: Draws the resamples.

    Returns:
        The correlations (R,); NaN where a resample holds one distinct value only.
    """
    found = [np.empty(0)]
    for counts in resampled(rng, resamples, len(x)) if resamples else ():
        found.append(_correlation(_ranks(x, counts), _ranks(y, counts), counts))
    return np.concatenate(found)


def percentiles(values: Array, confidence: float = 0.95) -> list[float] | None:
    """The middle share of resampled values (R,), those without a value left out; ``None`` if nothing is left."""
    known = values[np.isfinite(values)]
    tail = (1 - confidence) / 2
    return [float(end) for end in np.quantile(known, [tail, 1 - tail])] if len(known) else None


def _ranks(values: Array, counts: NDArray[np.int64]) -> Array:
    """Average ranks (R, P) of values (P,) that occur ``counts`` (R, P) times, minus their mean."""
    order = np.argsort(values, kind="stable")
    _, starts, groups = np.unique(values[order], return_index=True, return_inverse=True)
    equal = np.add.reduceat(counts[:, order], starts, axis=1)  # (R, distinct)
    centred = np.cumsum(equal, axis=1) - equal / 2 - len(values) / 2
    place = np.empty_like(groups)
    place[order] = groups
    ranks: Array = centred[:, place]
    return ranks


def _correlation(x: Array, y: Array, counts: NDArray[np.int64]) -> Array:
    """Pearson's correlation of centred rows (R, P), weighted by counts."""
    weighted = counts * x
    product = np.einsum("rp,rp->r", weighted, y)
    spread = np.einsum("rp,rp->r", weighted, x) * np.einsum("rp,rp,rp->r", counts, y, y)
    with np.errstate(invalid="ignore"):
        correlation: Array = product / np.sqrt(spread)
    return correlation
