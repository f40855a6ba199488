"""Which examples a step sees: a pure function of (seed, step), so that a run continues exactly where it was.

1. One source: each epoch is one random permutation of its examples, cut into batches; the incomplete batch at its end
   is left out, so no example occurs twice in a batch.
2. Several sources are drawn in fixed proportions: a cycle of many slots is dealt out to them once, shuffled, and then
   repeated. Each source is read in permutations of its own, without replacement within an epoch. A slot is an example,
   or a whole batch where each batch comes from one source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from retriever.errors import DataError

ORDER, VIEWS, MODEL, DEAL, HEAD, HELD, FRESH = range(7)  # the streams of a run's randomness, kept apart by this key
CYCLE = 2**16  # slots dealt out, about

Ids = NDArray[np.int64]


def generator(stream: int, *keys: int) -> np.random.Generator:
    """Random numbers that depend on nothing but a stream and its keys."""
    return np.random.default_rng([stream, *keys])


@dataclass(frozen=True)
class Sampler:
    """The examples of each batch.

    Args:
        sources: Numbers of the examples of each source, (N_s,) each.
        size: Examples a batch.
        seed: Of the run.
        shares: How often each source is drawn from, (S,), in any unit; by size if omitted.
        single: Each batch comes from one source.

    Raises:
        DataError: A source that must fill a batch has fewer examples.
    """

    sources: Sequence[Ids]
    size: int
    seed: int
    shares: Sequence[float] | None = None
    single: bool = False
    _orders: dict[int, tuple[int, Ids]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        least = min(map(len, self.sources))
        if (self.single or len(self.sources) == 1) and least < self.size:
            raise DataError(f"A batch of {self.size} needs as many examples, but there are {least}; lower batch.size.")

    def __call__(self, step: int) -> Ids:
        """The examples of batch number ``step``, (size,)."""
        if len(self.sources) == 1:
            return self._batch(0, step)
        if self.single:
            source, number = self._deal(np.array([step]), CYCLE)
            return self._batch(int(source[0]), int(number[0]))
        slots = step * self.size + np.arange(self.size)
        source, number = self._deal(slots, -(-CYCLE // self.size) * self.size)
        picks = np.empty(self.size, np.int64)
        for which in np.unique(source):
            picks[source == which] = self._pick(int(which), number[source == which])
        return picks

    def _batch(self, source: int, number: int) -> Ids:
        """A stretch of an epoch's permutation."""
        rows = self.sources[source]
        epoch, place = divmod(number, len(rows) // self.size)
        return rows[self._order(source, epoch)[place * self.size :][: self.size]]

    def _pick(self, source: int, numbers: Ids) -> Ids:
        """Examples by their number in the endless sequence of a source's permutations."""
        rows = self.sources[source]
        epochs, places = np.divmod(numbers, len(rows))
        picks = np.empty(len(numbers), np.int64)
        for epoch in np.unique(epochs):
            now = epochs == epoch
            picks[now] = rows[self._order(source, int(epoch))[places[now]]]
        return picks

    def _order(self, source: int, epoch: int) -> Ids:
        """The permutation of a source's examples in an epoch; only the last one asked for is kept."""
        if source not in self._orders or self._orders[source][0] != epoch:
            count = len(self.sources[source])
            self._orders[source] = epoch, generator(ORDER, self.seed, source, epoch).permutation(count)
        return self._orders[source][1]

    def _deal(self, slots: Ids, cycle: int) -> tuple[Ids, Ids]:
        """The source of each slot, and how many slots this source had before."""
        shares = [len(rows) for rows in self.sources] if self.shares is None else self.shares
        owner, before, count = _cycle(tuple(shares), cycle, self.seed)
        rounds, places = np.divmod(slots, cycle)
        return owner[places], rounds * count[owner[places]] + before[places]


@lru_cache(maxsize=2)
def _cycle(shares: tuple[float, ...], slots: int, seed: int) -> tuple[Ids, Ids, Ids]:
    """Owner of each slot, how many slots before it have the same owner, and how many slots each owner has."""
    exact = np.asarray(shares) / np.sum(shares) * slots
    count = np.floor(exact).astype(np.int64)
    count[np.argsort(count - exact, kind="stable")[: slots - count.sum()]] += 1  # largest remainders
    owner = generator(DEAL, seed).permutation(np.repeat(np.arange(len(count)), count))
    before = np.empty(slots, np.int64)
    for source, slots_of in enumerate(count):
        before[owner == source] = np.arange(slots_of)
    return owner, before, count
