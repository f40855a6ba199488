"""Ragged integer rows: the token ids of many texts as one flat array with boundaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ragged:
    """N rows of token ids; row i is ``ids[offsets[i]:offsets[i + 1]]``."""

    ids: NDArray[np.int32]  # (T,)
    offsets: NDArray[np.int64]  # (N + 1,)

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int] | NDArray[np.int32]]) -> Ragged:
        """Pack a list of rows."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        flat = np.concatenate([np.asarray(row, np.int32) for row in rows]) if rows else np.empty(0, np.int32)
        return cls(flat, offsets_of(lengths))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens a row, (N,)."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: NDArray[np.int64]) -> Ragged:
        """The given rows, in the given order."""
        return slices(self.ids, self.offsets[rows], self.lengths[rows])

    def keep(self, mask: NDArray[np.bool_]) -> Ragged:
        """Drop the tokens where ``mask`` (T,) is false."""
        kept = np.concatenate(([0], np.cumsum(mask)))
        return Ragged(self.ids[mask], kept[self.offsets])

    def fingerprints(self) -> NDArray[np.int64]:
        """A hash of each row's tokens and their order, (N,): different rows share one with a probability of 2⁻⁶⁴."""
        within = np.arange(len(self.ids)) - np.repeat(self.offsets[:-1], self.lengths)
        mixed = _mix(_mix(within.astype(np.uint64)) ^ self.ids.astype(np.uint64))
        sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(mixed)))  # wraps around, differences stay right
        return _mix(np.diff(sums[self.offsets]) + self.lengths.astype(np.uint64)).view(np.int64)

    def cut(self, limit: int) -> Ragged:
        """Keep at most the first ``limit`` tokens of each row."""
        return slices(self.ids, self.offsets[:-1], np.minimum(self.lengths, limit))


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row lengths (N,) → boundaries (N + 1,), starting at 0."""
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)))


def slices(ids: NDArray[np.int32], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Ragged:
    """Gather ``ids[start : start + length]`` for every row in one vectorised step."""
    offsets = offsets_of(lengths)
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    return Ragged(np.asarray(ids[np.repeat(starts, lengths) + within]), offsets)


def prepend(prefix: NDArray[np.int32], texts: Ragged) -> Ragged:
    """Put the same tokens, such as those of a prompt, before each row."""
    if not len(prefix):
        return texts
    ids = np.insert(texts.ids, np.repeat(texts.offsets[:-1], len(prefix)), np.tile(prefix, len(texts)))
    return Ragged(ids, texts.offsets + len(prefix) * np.arange(len(texts) + 1))


def concatenate(parts: Iterable[Ragged]) -> Ragged:
    """Stack the rows of several ragged arrays."""
    parts = [Ragged.from_rows([]), *parts]
    lengths = np.concatenate([part.lengths for part in parts])
    return Ragged(np.concatenate([part.ids for part in parts]), offsets_of(lengths))


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A bijection of 64-bit words that scatters them (splitmix64; Steele et al. 2014, doi 10.1145/2714064.2660195)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = values ^ (values >> np.uint64(31))
    return mixed
