"""The losses over a whole label space, each as what it needs of the chunks of the scores.

A term sees the scores S (B, C) of a chunk of labels twice, with −inf where a pair is excluded:

1. ``observe`` takes from each chunk what the loss needs of all labels: a few numbers a row.
2. ``settle`` gives the loss, from those numbers and the scores of the positives.
3. ``push`` turns the scores of a chunk into their gradient as if there were no positives; ``pull`` is what is added to
   it at each positive.

With w̄ the weights of the positives, which sum to 1 in a row, and B the rows that have one:

============ ============================================ ==================================== ====================
term         loss of a row                                push                                 pull
============ ============================================ ==================================== ====================
decoupled    ``Σ w̄_i softplus(Z − s_i)``, Z = LSE over    ``e^(s − Z) Σ w̄_i σ(Z − s_i) / B``,  ``−w̄_i σ(Z − s_i)/B``
             labels that are no positives                 0 at the positives
softmax      ``LSE − Σ w̄_i s_i``                          ``e^(s − LSE) / B``                  ``−w̄_i / B``
bce          ``Σ_j softplus(s_j) / L − Σ w_i s_i / L``    ``σ(s) / (B L)``                     ``−w_i / (B L)``
soft_top_k   ``−Σ w̄_i log p_i``, Σ p = k                  ``−α v Σu / V``                      ``α u_i``, with
                                                                                               ``u = −w̄ (1 − p)/B``
============ ============================================ ==================================== ====================

What is one number a row is kept in fp64.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from retriever.training.objectives.pairs import Pairs
from retriever.training.objectives.soft_top_k import (
    block_maxima,
    block_size,
    bracket,
    budget,
    per_row,
    solve,
    start,
    variance,
)

Reduce = Callable[[Tensor, Literal["sum", "max"]], Tensor]


@dataclass(frozen=True)
class Batch:
    """What every term knows of the rows and of all shards of the labels.

    Attributes:
        positives: Those among the labels of this process.
        own: Their scores, (P,), fp64; filled while the chunks are observed.
        share: w̄ (P,), fp64.
        counted: Rows with a positive anywhere, (B,).
        live: Labels that are not excluded, (B,).
        labels: L, in all processes.
        reduce: Sum or maximum of a tensor over the processes.
    """

    positives: Pairs
    own: Tensor
    share: Tensor
    counted: Tensor
    live: Tensor
    labels: int
    reduce: Reduce

    @property
    def count(self) -> int:
        """Rows that count, at least 1."""
        return max(1, int(self.counted.sum()))

    def per_row(self, values: Tensor) -> Tensor:
        """Sum of values of the positives, (P,), in each row over all processes, (B,)."""
        local = torch.zeros_like(self.counted, dtype=torch.float64).index_add_(0, self.positives.rows, values)
        return self.reduce(local, "sum")


class Term(ABC):
    """One loss; see the module's header."""

    pull: Tensor

    @abstractmethod
    def observe(self, scores: Tensor, rows: Tensor, columns: Tensor) -> None:
        """Take note of a chunk (B, C) with positives at (rows, columns); the scores may be overwritten."""

    @abstractmethod
    def settle(self, batch: Batch, again: Callable[[], Iterator[Tensor]]) -> Tensor:
        """This process' part of the sum of the loss over the rows, fp64; ``again`` goes through the chunks' scores."""

    @abstractmethod
    def push(self, scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The gradient (B, C) of the mean of the loss, in place of the scores."""


class Softmax(Term):
    """Softmax over all labels, or, decoupled, of each positive among the labels that are no positives."""

    def __init__(self, rows: Tensor, decoupled: bool) -> None:
        self.decoupled = decoupled
        self.top = torch.full_like(rows, torch.finfo(rows.dtype).min)  # finite, so that no −inf − (−inf) arises
        self.sum = torch.zeros_like(rows, dtype=torch.float64)

    def observe(self, scores: Tensor, rows: Tensor, columns: Tensor) -> None:
        """Online log-sum-exp."""
        if self.decoupled:
            scores[rows, columns] = -math.inf
        top = torch.maximum(self.top, scores.amax(1))
        self.sum.mul_((self.top - top).double().exp()).add_(scores.sub_(top[:, None]).exp_().sum(1))
        self.top = top

    def settle(self, batch: Batch, again: Callable[[], Iterator[Tensor]]) -> Tensor:
        """Combine the shards; a positive without rivals costs nothing."""
        top = batch.reduce(self.top, "max")
        z = batch.reduce(self.sum * (self.top - top).double().exp(), "sum").log() + top  # (B,)
        gap = z[batch.positives.rows] - batch.own  # (P,)
        missing = batch.share * gap.sigmoid() if self.decoupled else batch.share
        self.pull = -missing / batch.count
        mass = batch.per_row(missing) / batch.count
        shift = torch.where((mass > 0) & (z != -math.inf), z - mass.log(), math.inf)
        self.shift = shift.to(self.top.dtype)[:, None]
        return (batch.share * (F.softplus(gap) if self.decoupled else gap)).sum()

    def push(self, scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The positives' shares spread over the labels they compete with."""
        if self.decoupled:
            scores[rows, columns] = -math.inf
        return scores.sub_(self.shift).exp_()


class Binary(Term):
    """One-versus-all binary cross entropy; a positive's target is its weight."""

    def __init__(self, rows: Tensor) -> None:
        self.total, self.dtype = torch.zeros_like(rows, dtype=torch.float64), rows.dtype

    def observe(self, scores: Tensor, rows: Tensor, columns: Tensor) -> None:
        """Add up what the labels cost as negatives."""
        self.total += F.softplus(scores).sum(1)

    def settle(self, batch: Batch, again: Callable[[], Iterator[Tensor]]) -> Tensor:
        """The share of this process, as neither sum needs the other."""
        self.pull = -batch.positives.weights / (batch.count * batch.labels)
        self.scale = batch.counted[:, None].to(self.dtype) / (batch.count * batch.labels)
        return (self.total[batch.counted].sum() - (batch.positives.weights * batch.own).sum()) / batch.labels

    def push(self, scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Every label as a negative."""
        return scores.sigmoid_().mul_(self.scale)


class SoftTopK(Term):
    """Minus the log-probability of the positives in the soft top k."""

    def __init__(self, rows: Tensor, k: float | Tensor, alpha: float, labels: int) -> None:
        self.k, self.alpha = per_row(k, rows), alpha
        self.width = math.ceil(float(self.k.max()))
        self.block = block_size(labels, self.width)
        self.low, self.high = torch.full_like(rows, math.inf), torch.full_like(rows, -math.inf)
        self.top = rows.new_empty(len(rows), 0)

    def observe(self, scores: Tensor, rows: Tensor, columns: Tensor) -> None:
        """The range of the live scores, and the largest of them."""
        self.low = torch.minimum(self.low, torch.where(scores > -math.inf, scores, math.inf).amin(1))
        self.high = torch.maximum(self.high, scores.amax(1))
        top = torch.cat((self.top, block_maxima(scores, self.width, self.block)), 1)
        self.top = top.topk(min(self.width, top.shape[1]), 1).values

    def settle(self, batch: Batch, again: Callable[[], Iterator[Tensor]]) -> Tensor:
        """Newton passes over the chunks."""
        live = torch.where(batch.counted, batch.live, batch.live.clamp_min(2))
        k = budget(torch.where(batch.counted, self.k, 1.0), live)
        low, high = -batch.reduce(-self.low, "max"), batch.reduce(self.high, "max")
        large = -start(self.top, k) if self.top.shape[1] else self.high
        offset = -batch.reduce(large, "max") * self.alpha

        def sums(offset: Tensor) -> tuple[Tensor, Tensor]:
            both = torch.zeros(2, len(k), dtype=torch.float64, device=k.device)
            for scores in again():
                p = scores.mul_(self.alpha).add_(offset[:, None]).sigmoid_()
                both[0] += p.sum(1)
                both[1] += variance(p).sum(1)
            total, slope = batch.reduce(both, "sum")
            return total, slope

        offset, slope = solve(sums, k, *bracket(low * self.alpha, high * self.alpha, k, live), offset)
        x = batch.own * self.alpha + offset[batch.positives.rows]
        u = -batch.share * torch.sigmoid(-x) / batch.count
        self.pull, self.offset = self.alpha * u, offset[:, None]
        self.rate = (-self.alpha * batch.per_row(u) / slope.clamp_min(1e-30)).to(offset.dtype)[:, None]
        return -(batch.share * F.logsigmoid(x)).sum()

    def push(self, scores: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """What the fixed sum takes from every label for what the positives gain."""
        return variance(scores.mul_(self.alpha).add_(self.offset).sigmoid_()).mul_(self.rate)
