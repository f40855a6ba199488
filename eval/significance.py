"""How sure: bootstrap intervals and paired randomisation tests over queries.

Interval. 1. Draw Q queries with replacement from the Q queries. 2. Take the mean of their scores, or the ratio of two
means. 3. Repeat; the middle 95 % of these is the interval (Efron's percentile bootstrap). All columns of a score matrix
share the draws.

Test. 1. Under the null hypothesis the two systems are exchangeable on every query, so each difference a − b could as
well have had the other sign. 2. Flip signs at random. 3. The p-value is the share of flips whose mean difference is at
least as far from zero as the one observed, which itself counts as one flip: p is never zero (Smucker et al. 2007).

Both hold a few megabytes at a time, whatever the number of queries, and depend on nothing but their arguments.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from retriever.errors import DataError

Array = npt.NDArray[np.float64]

BLOCK = 1 << 20  # random draws held at a time
ROUNDING = 1e-12  # relative; two flips with equal means in exact arithmetic must not be told apart


def bootstrap_intervals(
    values: npt.ArrayLike,
    over: npt.ArrayLike | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Array:
    """Percentile bootstrap intervals of several means over the same queries, or of ratios of means.

    Args:
        values: Scores (Q, M): one row a query, one column a metric.
        over: Denominators (Q, M), at least 0, of metrics that are a mean of scores over a mean of these; a ratio
            counts as 0 where all denominators drawn are 0.
        confidence: Share of the resampled means inside the interval, between 0 and 1.
        resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        Low and high end (M, 2) of each column.

    Raises:
        DataError: There are no queries, or a score is not finite.
    """
    scores = _checked(values, dimensions=2)  # (Q, M)
    below = None if over is None else _checked(over, dimensions=2)  # (Q, M)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}: give 0.95 for a 95 % interval.")
    rng = np.random.default_rng(seed)
    queries = len(scores)
    means = []
    for counts in resampled(rng, resamples, queries):
        totals = queries if below is None else counts @ below
        means.append(counts @ scores / np.where(totals, totals, 1.0))  # (size, M)
    tail = (1 - confidence) / 2
    ends: Array = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0).T  # (M, 2)
    return ends


def bootstrap_interval(
    values: npt.ArrayLike, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of one mean over queries: `bootstrap_intervals` for scores (Q,)."""
    column = _checked(values, dimensions=1)[:, None]
    low, high = bootstrap_intervals(column, confidence=confidence, resamples=resamples, seed=seed)[0]
    return float(low), float(high)


def paired_randomisation(a: npt.ArrayLike, b: npt.ArrayLike, *, resamples: int = 100_000, seed: int = 0) -> float:
    """Two-sided paired randomisation test of the difference between two means.

    Args:
        a: Scores (Q,) of one system.
        b: Scores (Q,) of the other system on the same queries, in the same order.
        resamples: Number of random sign flips; the smallest possible p-value is 1 / (resamples + 1).
        seed: Seed of the flips.

    Returns:
        The p-value, 1 when the two systems score the same on every query.

    Raises:
        DataError: The lengths differ, there are no queries, or a score is not finite.
    """
    first, second = _checked(a, dimensions=1), _checked(b, dimensions=1)
    if len(first) != len(second):
        raise DataError(
            f"A paired test needs the same queries on both sides, not {len(first)} and {len(second)}: "
            "score both runs against the same qrels."
        )
    differences = first - second
    differences = differences[differences != 0]  # a zero has no sign to flip
    total = differences.sum()
    bar = abs(total) - ROUNDING * np.abs(differences).sum()
    rng = np.random.default_rng(seed)
    extreme = 0
    for size in _blocks(resamples, len(differences)):
        random = rng.integers(256, size=(size, -(-len(differences) // 8)), dtype=np.uint8)
        flips = np.unpackbits(random, axis=1, count=len(differences))  # (size, Q) of 0 and 1
        extreme += int(np.count_nonzero(np.abs(total - 2 * (flips @ differences)) >= bar))
    return (extreme + 1) / (resamples + 1)


def resampled(rng: np.random.Generator, resamples: int, queries: int) -> Iterator[npt.NDArray[np.int64]]:
    """How often each of Q queries is among Q drawn with replacement, (R, Q) for all resamples, some rows at a time."""
    for size in _blocks(resamples, queries):
        drawn = rng.integers(queries, size=(size, queries))
        drawn += np.arange(size)[:, None] * queries
        yield np.bincount(drawn.ravel(), minlength=size * queries).reshape(size, queries)


def _blocks(resamples: int, queries: int) -> Iterator[int]:
    """The resamples cut into blocks of about `BLOCK` draws."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, not {resamples}.")
    size = max(1, BLOCK // max(1, queries))
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def _checked(values: npt.ArrayLike, dimensions: int) -> Array:
    """The scores as a float64 array of the given number of dimensions, finite and not empty."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != dimensions:
        raise ValueError(f"scores must have {dimensions} dimension(s), one row a query, not the shape {scores.shape}.")
    if not scores.size:
        raise DataError("There are no queries to draw from: a mean over no query has no interval and no test.")
    if not np.isfinite(scores).all():
        raise DataError("A per-query score is NaN or infinite: leave such queries out or mend the run they came from.")
    return scores
