"""Pairs of a row and a label: a sparse matrix of which each range of labels is found at once.

Positives and exclusions of a batch are such pairs, in the order of their labels. A training step that sees one positive
of a text draws it with :func:`sample_positives`, which excludes the text's other positives.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROW_BITS = 31


@dataclass(frozen=True)
class Pairs:
    """Distinct pairs in the order of their labels, then rows; make them with :meth:`of` or :meth:`from_csr`.

    Args:
        rows: (P,), int64.
        labels: (P,), int64, ascending.
        weights: (P,), fp64: how much a positive counts within its row.
    """

    rows: Tensor
    labels: Tensor
    weights: Tensor

    @classmethod
    def of(cls, rows: Tensor, labels: Tensor, weights: Tensor | None = None) -> Pairs:
        """Pairs in any order; of equal ones the first counts. The weights are 1 if omitted.

        Raises:
            ValueError: The lengths differ, a number is negative, or a weight is not finite and greater than 0.
        """
        weights = torch.ones_like(rows, dtype=torch.float64) if weights is None else weights.double()
        if not len(rows) == len(labels) == len(weights):
            raise ValueError(
                f"{len(rows)} rows, {len(labels)} labels and {len(weights)} weights; they must be as many."
            )
        if len(rows) and min(int(rows.min()), int(labels.min())) < 0:
            raise ValueError("rows and labels are numbered from 0 on; one is negative.")
        if not bool(((weights > 0) & weights.isfinite()).all()):
            raise ValueError("weights must be finite and greater than 0.")
        keys, order = _keys(rows, labels).sort(stable=True)
        new = torch.ones_like(keys, dtype=torch.bool)
        new[1:] = keys[1:] != keys[:-1]
        return cls(rows.long(), labels.long(), weights).take(order[new])

    @classmethod
    def from_csr(cls, offsets: Tensor, labels: Tensor, weights: Tensor | None = None) -> Pairs:
        """Row i has the labels ``labels[offsets[i] : offsets[i + 1]]``; ``offsets`` is (B + 1,)."""
        rows = torch.arange(len(offsets) - 1, device=labels.device).repeat_interleave(offsets.diff())
        return cls.of(rows, labels, weights)

    def __len__(self) -> int:
        return len(self.rows)

    def shard(self, first: int, count: int) -> Pairs:
        """The pairs of the labels ``first`` to ``first + count``, numbered from 0 on."""
        inside = (self.labels >= first) & (self.labels < first + count)
        return Pairs(self.rows[inside], self.labels[inside] - first, self.weights[inside])

    def without(self, others: Pairs | None) -> Pairs:
        """The pairs that are none of the others."""
        if others is None or not len(others):
            return self
        return self.take(~torch.isin(_keys(self.rows, self.labels), _keys(others.rows, others.labels)))

    def union(self, others: Pairs | None) -> Pairs:
        """The pairs of both."""
        if others is None:
            return self
        rows, labels = torch.cat((self.rows, others.rows)), torch.cat((self.labels, others.labels))
        return Pairs.of(rows, labels, torch.cat((self.weights, others.weights)))

    def take(self, index: Tensor | slice) -> Pairs:
        """The pairs at these positions, ascending, or under a mask."""
        return Pairs(self.rows[index], self.labels[index], self.weights[index])


def sample_positives(
    positives: Pairs, excluded: Pairs | None = None, count: int = 1, generator: torch.Generator | None = None
) -> tuple[Pairs, Pairs]:
    """Draw a few positives of each row and exclude the others.

    A positive is drawn with a probability proportional to its weight, without replacement, and then weighs 1. With one
    a row the decoupled loss is an unbiased estimate of that of all positives.

    Args:
        positives: All positives. With labels in several processes, draw before :meth:`Pairs.shard`.
        excluded: Pairs that are excluded anyway; such a positive is never drawn.
        count: How many a row.
        generator: Draws.

    Returns:
        The positives drawn, and everything excluded.
    """
    left = positives.without(excluded)
    # The smallest of exponential variables over their rates is drawn in proportion to the rates.
    waits = torch.empty(len(left), dtype=torch.float64, device=left.rows.device).exponential_(generator=generator)
    order = (waits / left.weights).argsort()
    order = order[left.rows[order].argsort(stable=True)]
    rows = left.rows[order]
    place = torch.arange(len(rows), device=rows.device) - torch.searchsorted(rows, rows)
    drawn = torch.zeros_like(rows, dtype=torch.bool)
    drawn[order] = place < count
    kept, dropped = left.take(drawn), left.take(~drawn)
    return Pairs(kept.rows, kept.labels, torch.ones_like(kept.weights)), dropped.union(excluded)


def _keys(rows: Tensor, labels: Tensor) -> Tensor:
    """One number a pair; ascending for pairs in order."""
    return labels.long() << ROW_BITS | rows.long()
