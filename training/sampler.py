"""Which documents a step sees: a pure function of (seed, step, rank), so that a run continues exactly where it was.

Each epoch is one random permutation of the documents, cut into batches; the incomplete batch at its end is left out, so
no document occurs twice in a batch and none is its own negative.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from retriever.errors import DataError

ORDER, VIEWS, MODEL = range(3)  # the streams of randomness of a run, kept apart by the first key


def generator(stream: int, *keys: int) -> np.random.Generator:
    """Random numbers that depend on nothing but a stream and its keys."""
    return np.random.default_rng([stream, *keys])


def batch_rows(
    rows: NDArray[np.int64], size: int, step: int, seed: int, rank: int = 0, world: int = 1
) -> NDArray[np.int64]:
    """The documents of one batch.

    Args:
        rows: The documents to train on, (N,).
        size: Documents a batch and process.
        step: Counts batches from 0 on, over all epochs.
        seed: Of the run.
        rank: Of the process.
        world: Number of processes; together they see ``world · size`` distinct documents.

    Returns:
        Members of ``rows``, (size,).

    Raises:
        DataError: There are fewer documents than a step needs.
    """
    batches = len(rows) // (size * world)
    if not batches:
        raise DataError(
            f"A batch of {size * world} needs as many documents, but there are {len(rows)}; lower batch.size."
        )
    epoch, place = divmod(step, batches)
    start = (place * world + rank) * size
    return rows[_order(len(rows), seed, epoch)[start : start + size]]


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return generator(ORDER, seed, epoch).permutation(count)
