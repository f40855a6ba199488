"""Between start and end: averages of a model's weights before and after training.

1. Training moves a pretrained model away from what it knew. A mean of the weights before and after, ``(1 − a) · start +
   a · end``, keeps much of both (WiSE-FT; Wortsman et al. 2022, arXiv 2109.01903, eq. 1).
2. Which share a of the trained weights is best is measured on held-out queries, a = 0 being the start itself.
3. Held-out queries are few and their scores noisy: a share must be ahead of the start by more than noise, paired over
   the queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def admitted_share(tests: Sequence[Mapping[float, NDArray[np.float64]]]) -> float:
    """The share that does best in the last of several tests, of those that are ahead of the start in all of them.

    Args:
        tests: For each test, share → score of each query, (Q,); share 0 is the start.

    Returns:
        A share, 0 if none is admitted.
    """
    admitted = [share for share in sorted(tests[-1]) if all(is_ahead(of[share], of[0.0]) for of in tests)]
    return max(admitted, key=lambda share: float(tests[-1][share].mean()), default=0.0)


def is_ahead(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> bool:
    """Whether the mean of paired scores (Q,) is ahead by more than ``NOISE`` standard errors of the difference."""
    gaps = ours - theirs
    if len(gaps) < 2:
        return False
    return bool(gaps.mean() > NOISE * gaps.std(ddof=1) / len(gaps) ** 0.5)
