"""Fusion: several rankings of the same documents into one.

Combined surprise (``fisher``, the default; Fisher 1932):
1. A query scores most documents of a collection alike. This background is taken to be normal; each search tells its
   mean and standard deviation (:mod:`retriever.indexing.dense`, :mod:`retriever.indexing.bm25`).
2. A hit whose score is z deviations above the mean would reach it by chance with probability p = 1 − Φ(z).
3. What a search cannot look for is no evidence: z is multiplied by √κ, where κ is the share of the query that the
   search knows. For BM25, words that no document holds bring it below 1, as in a question in another language.
4. A document's fused score is Σ weight · −ln p over the rankings that found it.
Since −ln p grows with z² / 2, a ranking in which few documents stand out decides the first places, and one that is
lukewarm adds to the depth. Over the collections of one language in ``benchmarks/fusion.py`` this fusion is nowhere
significantly below the better of its parts, at nDCG@10 or Recall@100. Where both are good and err differently,
``zscore`` gains more. No fusion here tells an encoder that knows nothing of a language from one that does: there all
but ``tmm`` lose first places at equal weights, which a small weight of the vectors wins back.

Standardised scores (``zscore``):
1. For each query, the scores of a ranking's hits are brought to mean 0 and standard deviation 1.
2. A document that a ranking did not find gets that ranking's lowest standardised score.
3. A document's fused score is the weighted sum over the rankings.
Where all hits of a ranking score the same there is no deviation to divide by: they get 0, all others −1. A ranking
without hits says nothing.

Convex combinations (Bruch, Gai and Ingber 2023, "An analysis of fusion functions for hybrid retrieval"): a document's
fused score is Σ weight · (s − low) / (high − low), where high is a ranking's best score for the query.
- ``minmax``: low is the score of its last hit.
- ``tmm``: low is the least score there can be, 0 of BM25 and −1 of a cosine; where there is none, as of dot products,
  the score of the last hit.

Products (``product``; LEDR in Xu et al. 2022, "LaPraDoR": BM25 times cosine): ln of the fused score is
Σ weight · ln(s / high), each ratio at least e⁻¹⁴. So a document without a score in one ranking stands after those that
have one in each, in the order of the other; a ranking without a score above 0 says nothing.

Under ``tmm`` and ``product``, a document that a ranking did not find scores like its last hit where it was cut off, and
least where it ran out of hits.

Reciprocal ranks (``rrf``; Cormack et al. 2009): a document's fused score is Σ weight / (60 + rank), ranks from 1, over
the rankings that found it.

A ranking of weight 0 is left out, with the documents that it alone found. Sums are in fp64, fused scores in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from retriever.errors import DataError
from retriever.indexing.ranking import Background, Hits, Ranking, best, depth

Fusion: TypeAlias = Literal["fisher", "zscore", "minmax", "tmm", "product", "rrf"]
METHODS: tuple[Fusion, ...] = get_args(Fusion)

LEAST = -14.0  # ln of the least factor of a product: about one millionth
RRF_K = 60  # what is added to ranks
TIED = 1e-6  # a deviation below this part of the scores is rounding: all documents score the same


def fuse(
    rankings: Sequence[Ranking],
    k: int,
    *,
    method: Fusion = "fisher",
    weights: Sequence[float] | None = None,
) -> Ranking:
    """Fuse rankings of the same Q queries over the same documents.

    Args:
        rankings: Rankings of Q queries each, of any width.
        k: Hits wanted.
        method: ``fisher``, ``zscore``, ``minmax``, ``tmm``, ``product`` or ``rrf``.
        weights: Weight of each ranking; 1 each if not given.

    Returns:
        Rows and fused scores, (Q, k) or as wide as all the rankings together where that is less.

    Raises:
        DataError: There are no rankings, they differ in queries, the weights differ in number, the method is unknown
            or needs a background that a ranking does not have, or ``k`` is below 1.
    """
    check_method(method)
    if len({len(ranking) for ranking in rankings}) != 1:
        raise DataError(
            f"Fusion needs rankings of the same queries, not of {[len(ranking) for ranking in rankings]} queries."
        )
    if weights is None:
        weights = [1.0] * len(rankings)
    if len(weights) != len(rankings):
        raise DataError(f"{len(rankings)} rankings need as many weights, not {len(weights)}.")
    if method == "fisher" and any(ranking.background is None for ranking in rankings):
        raise DataError(
            "The fusion fisher needs rankings with the background of their scores, as searches give them: choose "
            "zscore or rrf for others."
        )
    width = depth(k, sum(ranking.rows.shape[1] for ranking in rankings))
    heard = [ranking for ranking, weight in zip(rankings, weights, strict=True) if weight]
    weights = [weight for weight in weights if weight]
    fused = (
        _sum([_part(ranking, query, method) for ranking in heard], weights, width) for query in range(len(rankings[0]))
    )
    return Ranking.stack(fused, width)


def check_method(method: str) -> None:
    """See that a fusion is known.

    Raises:
        DataError: It is not.
    """
    if method not in METHODS:
        raise DataError(f"The fusion {method!r} is unknown: choose {', '.join(METHODS)}.")


def shares(weight: float) -> tuple[float, float]:
    """The weights of vectors and words, where the vectors have ``weight`` of both; at 0.5 each counts once.

    Raises:
        DataError: It is not between 0 and 1.
    """
    if not 0 <= weight <= 1:
        raise DataError(f"The weight of the vectors in a hybrid search is {weight}: choose one between 0 and 1.")
    return 2 * weight, 2 - 2 * weight


@dataclass(frozen=True, slots=True)
class _Part:
    """What one ranking says about one query."""

    rows: NDArray[np.int64]  # (H,)
    values: NDArray[np.float64]  # (H,)
    missing: float  # of a document that is not there


def _sum(parts: Sequence[_Part], weights: Sequence[float], k: int) -> Hits:
    """The best hits of one query."""
    candidates = np.unique(np.concatenate([np.empty(0, np.int64), *(part.rows for part in parts)]))  # (M,)
    fused = np.zeros(len(candidates))
    for part, weight in zip(parts, weights, strict=True):
        if len(part.rows):
            values = np.full(len(candidates), part.missing)
            values[np.searchsorted(candidates, part.rows)] = part.values
            fused += weight * values
    return best(candidates, fused.astype(np.float32), k)


def _part(ranking: Ranking, query: int, method: Fusion) -> _Part:
    rows, scores = ranking.hits(query)
    values = scores.astype(np.float64)
    if not len(rows):
        return _Part(rows, values, 0.0)
    if method == "rrf":
        return _Part(rows, 1.0 / (RRF_K + np.arange(1, len(rows) + 1, dtype=np.float64)), 0.0)
    if method == "fisher" and ranking.background is not None:
        return _Part(rows, _surprise(values, ranking.background, query), 0.0)
    if method == "zscore":
        values = _standardised(values)
        return _Part(rows, values, -1.0 if values[0] == values[-1] else float(values[-1]))
    if method == "minmax":
        return _Part(rows, _scaled(values, values[-1]), 0.0)
    if method == "tmm":
        values, least = _scaled(values, ranking.background.least if ranking.background else -math.inf), 0.0
    else:
        values, least = _logarithms(values), LEAST
    return _Part(rows, values, float(values[-1]) if len(rows) == ranking.rows.shape[1] else least)


def _standardised(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (H,) with mean 0 and deviation 1; 0 where they are all the same."""
    if scores[0] == scores[-1]:
        return np.zeros(len(scores))
    standardised: NDArray[np.float64] = (scores - scores.mean()) / scores.std()
    return standardised


def _scaled(scores: NDArray[np.float64], low: float) -> NDArray[np.float64]:
    """Scores (H,) brought to 0 at ``low``, at the last of them if that is infinite, and to 1 at the best."""
    low = low if math.isfinite(low) else scores[-1]
    return (scores - low) / (scores[0] - low) if scores[0] > low else np.ones(len(scores))


def _logarithms(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of each score (H,) over the best."""
    ratios = scores / scores[0] if scores[0] > 0 else np.zeros(len(scores))
    logarithms: NDArray[np.float64] = np.log(np.maximum(ratios, math.exp(LEAST)))
    return logarithms


def _surprise(scores: NDArray[np.float64], background: Background, query: int) -> NDArray[np.float64]:
    """−ln p of each score (H,)."""
    mean, deviation = background.mean[query], background.deviation[query]
    if deviation <= TIED * abs(mean):
        z = np.zeros(len(scores))
    else:
        z = (scores - mean) / deviation * np.sqrt(background.known[query])
    surprise: NDArray[np.float64] = -log_ndtr(-z)
    return surprise
