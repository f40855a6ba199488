"""Between start and end: averages of a model's weights before and after training.

1. Training moves a pretrained model away from what it knew. A mean of the weights before and after, ``(1 − a) · start +
   a · end``, keeps much of both (WiSE-FT; Wortsman et al. 2022, arXiv 2109.01903, eq. 1).
2. Which share a of the trained weights is best is measured on held-out queries, a = 0 being the start itself.
3. Held-out queries are few and their scores noisy: a share must be ahead of the start by more than noise, paired over
   the queries.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NOISE = 1.645  # standard errors of the mean difference: 5 % of the lucky draws pass, one-sided

Weights = Mapping[str, Tensor]


def mean_weights(start: Weights, end: Weights, share: float) -> dict[str, Tensor]:
    """``(1 − share) · start + share · end``, exactly the start at 0 and exactly the end at 1.

    Args:
        start: Weights before training, by name.
        end: Weights after it, of the same names and shapes. Whole numbers among them are no weights: the start's stay.
        share: a, from 0 to 1.
    """
    if share in (0, 1):
        return dict(end if share else start)
    return {
        name: torch.lerp(value, end[name].to(value.device), share) if value.is_floating_point() else value
        for name, value in start.items()
    }


def best_share(scores: Mapping[float, NDArray[np.float64]], noise: float = NOISE) -> float:
    """The share of the trained weights that does best, or 0 unless that is better than the start by more than noise.

    Args:
        scores: Share → score of each of Q held-out queries, (Q,); share 0 is the start.
        noise: Standard errors of the paired difference of the means that the best must be ahead.
    """
    best = max(sorted(scores), key=lambda share: scores[share].mean())
    return best if is_ahead(scores[best], scores[0.0], noise) else 0.0


def admitted_share(
    agreement: Mapping[float, NDArray[np.float64]], found: Mapping[float, NDArray[np.float64]], fallback: float
) -> float:
    """The share that finds known items best, of those that are proven otherwise and find them no worse than the start.

    Args:
        agreement: Share → agreement with a teacher on each of P held-out pseudo-queries, (P,); to be ahead of share 0.
        found: Share → score of each of Q known items, (Q,); empty if the corpus has none.
        fallback: The largest share taken on agreement alone.

    Returns:
        A share, 0 if none is admitted.
    """
    proven = [share for share in sorted(agreement) if is_ahead(agreement[share], agreement[0.0])]
    if not found:
        return max((share for share in proven if share <= fallback), default=0.0)
    harmless = [share for share in proven if found[share].mean() >= found[0.0].mean()]
    return max(harmless, key=lambda share: found[share].mean(), default=0.0)


def is_ahead(ours: NDArray[np.float64], theirs: NDArray[np.float64], noise: float = NOISE) -> bool:
    """Whether the mean of paired scores (Q,) is ahead by more than ``noise`` standard errors of the difference."""
    gaps = ours - theirs
    if len(gaps) < 2:
        return False
    return bool(gaps.mean() > noise * gaps.std(ddof=1) / len(gaps) ** 0.5)
