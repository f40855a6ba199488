"""Rankings of whole score matrices, to compare with."""

from __future__ import annotations

import numpy as np

from retriever.indexing.ranking import Ranking, best


def ranked(scores, k):
    """The ``k`` best of a score matrix (Q, N); a score of −∞ is no hit."""
    everything = np.arange(scores.shape[1])
    width = min(k, len(everything))
    return Ranking.stack((best(everything, row, width) for row in scores), width)
