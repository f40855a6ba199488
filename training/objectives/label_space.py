"""Losses of queries against a whole label space, in memory that does not grow with queries × labels.

The scores S = X Yᵀ / τ of B queries and L labels are never held at once (the labels of a large task may be a million;
Gupta et al. 2024, https://arxiv.org/abs/2310.10636, hold them and need 80 GB):

1. Forward: the labels come in chunks that fit a processor's cache. Each chunk's scores give a few numbers a row
   (running maximum and sum for log-sum-exp, the range for the soft top k) and the scores of its positives, then are
   overwritten.
2. The soft top k goes through the chunks once more for each Newton step.
3. Backward: each chunk's scores are computed again and turned in place into their gradient G (B, C); then
   ``dX += G Y_C / τ`` and ``dY_C = Gᵀ X / τ``.

Each loss is a term of :mod:`~retriever.training.objectives.label_terms`; a mixture adds the gradients before the
products. The labels may be a shard: with ``reduce`` the numbers of the rows are combined over the processes, each of
which has all queries and its own labels. Every process then has the loss of all labels, the gradient of its own labels,
and its part of the queries' gradient, which the backward pass of a gathering adds up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from retriever.training.objectives.core import fp32
from retriever.training.objectives.label_terms import Batch, Binary, Reduce, Softmax, SoftTopK, Term
from retriever.training.objectives.pairs import Pairs
from retriever.training.objectives.soft_top_k import BLOCK

TERMS = ("decoupled", "softmax", "bce", "soft_top_k")


def label_space_loss(
    queries: Tensor,
    labels: Tensor,
    positives: Pairs,
    terms: str | Mapping[str, float] = "decoupled",
    *,
    excluded: Pairs | None = None,
    temperature: float | Tensor = 0.05,
    k: float | Tensor = 5,
    alpha: float = 2.0,
    chunk: int | None = None,
    reduce: Reduce | None = None,
) -> Tensor:
    """Mean loss of the queries that have a positive among all labels.

    Args:
        queries: X (B, D); L2-normalised for cosine similarity.
        labels: Y (L, D), of any floating dtype: all labels, or the shard of this process.
        positives: Rows and labels that belong together, and their weights; the weights of a row are divided by their
            sum, except that ``bce`` takes them as targets.
        terms: ``decoupled``, ``softmax``, ``bce`` or ``soft_top_k``, or a mixture such as
            ``{"decoupled": 1.0, "soft_top_k": 0.5}``.
        excluded: Pairs that take no part in anything, not even as a positive.
        temperature: τ > 0: a number, or a tensor without dimensions that gets a gradient.
        k: Of the soft top k: a number or one a query, (B,).
        alpha: Steepness of the soft top k.
        chunk: Labels at a time; what fits the cache if omitted.
        reduce: Sum or maximum of a tensor over the processes that share the labels.

    Returns:
        The loss, a scalar in fp32 (fp64 if the queries are): 0 if no query has a positive. It can be differentiated
        once with respect to queries, labels and temperature.

    Raises:
        ValueError: The shapes do not agree, a pair lies outside, or a setting is out of range.
    """
    mixture = {terms: 1.0} if isinstance(terms, str) else dict(terms)
    excluded = positives.take(slice(0)) if excluded is None else excluded
    positives = positives.without(excluded)
    _check(queries, labels, positives, mixture, excluded, temperature, alpha, chunk)
    with torch.autocast(queries.device.type, enabled=False):
        plan = _Plan(mixture, positives, excluded, k, alpha, chunk or chunk_size(len(queries), queries.device), reduce)
        loss: Tensor = _LabelSpace.apply(fp32(queries), labels, temperature, plan)  # type: ignore[no-untyped-call]
    return loss


def chunk_size(queries: int, device: torch.device) -> int:
    """Labels whose scores stay in the cache of a CPU's core (2^17 of them), or fill another device."""
    scores = 2 ** (17 if device.type == "cpu" else 26)
    return max(1, scores // max(1, queries) // BLOCK) * BLOCK


class _Plan(NamedTuple):
    mixture: Mapping[str, float]
    positives: Pairs
    excluded: Pairs
    k: float | Tensor
    alpha: float
    chunk: int
    reduce: Reduce | None

    def terms(self, rows: Tensor, labels: int) -> list[tuple[float, Term]]:
        """Fresh terms for rows (B,) and all labels, with what each counts."""
        makers: dict[str, Callable[[], Term]] = {
            "decoupled": lambda: Softmax(rows, decoupled=True),
            "softmax": lambda: Softmax(rows, decoupled=False),
            "bce": lambda: Binary(rows),
            "soft_top_k": lambda: SoftTopK(rows, self.k, self.alpha, labels),
        }
        return [(factor, makers[name]()) for name, factor in self.mixture.items()]

    def batch(self, rows: Tensor, labels: int) -> Batch:
        """What the terms share."""
        reduce = self.reduce or (lambda tensor, how: tensor)
        none, positives = torch.zeros_like(rows, dtype=torch.float64), self.positives
        blocked = none.index_add(0, self.excluded.rows, torch.ones_like(self.excluded.weights))
        own = positives.weights.new_empty(len(positives))
        total = int(reduce(torch.tensor([labels], device=rows.device), "sum"))
        weight = reduce(none.index_add(0, positives.rows, positives.weights), "sum")
        live = total - reduce(blocked, "sum")
        return Batch(positives, own, positives.weights / weight[positives.rows], weight > 0, live, total, reduce)


class _Chunk(NamedTuple):
    scores: Tensor  # (B, C), −inf where excluded; valid until the next chunk
    labels: Tensor  # (C, D)
    here: slice  # of the labels
    own: slice  # of the positives
    rows: Tensor
    columns: Tensor


class _Chunks:
    """The scores of all labels, a chunk at a time."""

    def __init__(self, queries: Tensor, labels: Tensor, plan: _Plan) -> None:
        self.queries, self.labels, self.plan = queries, labels, plan  # queries divided by τ
        self.starts = range(0, len(labels), plan.chunk)
        edges = torch.tensor([*self.starts, len(labels)], device=labels.device)
        self.of_positives, self.of_excluded = (
            torch.searchsorted(pairs.labels, edges).tolist() for pairs in (plan.positives, plan.excluded)
        )
        self.room = queries.new_empty(len(queries) * min(plan.chunk, len(labels)))

    def __iter__(self) -> Iterator[_Chunk]:
        for number, first in enumerate(self.starts):
            part = self.labels[first : first + self.plan.chunk].to(self.queries.dtype)
            scores = self.room[: len(self.queries) * len(part)].view(len(self.queries), len(part))
            torch.mm(self.queries, part.T, out=scores)
            _, rows, columns = _within(self.plan.excluded, self.of_excluded, number, first)
            scores[rows, columns] = -math.inf
            here = slice(first, first + len(part))
            yield _Chunk(scores, part, here, *_within(self.plan.positives, self.of_positives, number, first))


class _LabelSpace(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, queries: Tensor, labels: Tensor, temperature: float | Tensor, plan: _Plan) -> Tensor:  # noqa: ANN401
        chunks = _Chunks(queries / temperature, labels, plan)
        batch = plan.batch(queries[:, 0], len(labels))
        terms = plan.terms(queries[:, 0], batch.labels)
        for chunk in chunks:
            batch.own[chunk.own] = chunk.scores[chunk.rows, chunk.columns].double()
            for (_, term), scores in zip(terms, _copies(chunk.scores, len(terms)), strict=True):
                term.observe(scores, chunk.rows, chunk.columns)
        local = sum(factor * term.settle(batch, lambda: (c.scores for c in chunks)) for factor, term in terms)
        context.save_for_backward(queries, labels)
        context.temperature, context.plan, context.terms = temperature, plan, terms
        return (batch.reduce(torch.as_tensor(local), "sum") / batch.count).to(queries.dtype)

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:  # noqa: ANN401
        queries, labels = context.saved_tensors
        terms, temperature, wanted = context.terms, context.temperature, gradients[0]
        to_queries, to_labels = torch.zeros_like(queries), None
        if context.needs_input_grad[1]:
            to_labels = torch.empty_like(labels)
        with torch.autocast(queries.device.type, enabled=False):
            chunks = _Chunks(queries / temperature, labels, context.plan)
            pulled = sum(factor * term.pull for factor, term in terms).to(queries.dtype)
            scaled = chunks.queries * wanted
            for chunk in chunks:
                slope = _slope(chunk, terms)
                slope[chunk.rows, chunk.columns] += pulled[chunk.own]
                to_queries.addmm_(slope, chunk.labels)
                if to_labels is not None:
                    _product(slope.T, scaled, to_labels[chunk.here])
        to_queries.mul_(wanted / temperature)
        to_temperature = None
        if context.needs_input_grad[2]:
            to_temperature = -(queries * to_queries).sum().to(temperature.dtype) / temperature
        return to_queries, to_labels, to_temperature, None


def _slope(chunk: _Chunk, terms: list[tuple[float, Term]]) -> Tensor:
    """The gradient of a chunk's scores without the pull of the positives, (B, C)."""
    total = None
    for (factor, term), scores in zip(terms, _copies(chunk.scores, len(terms)), strict=True):
        part = term.push(scores, chunk.rows, chunk.columns)
        part = part if factor == 1 else part.mul_(factor)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def _copies(scores: Tensor, count: int) -> Iterator[Tensor]:
    """Scores for each of the terms to overwrite; the last gets the original."""
    for _ in range(count - 1):
        yield scores.clone()
    yield scores


def _product(left: Tensor, right: Tensor, out: Tensor) -> None:
    if out.dtype == left.dtype:
        torch.mm(left, right, out=out)
    else:
        out.copy_(left @ right)


def _within(pairs: Pairs, edges: list[int], number: int, first: int) -> tuple[slice, Tensor, Tensor]:
    """The pairs of a chunk: where they are, their rows and their columns."""
    where = slice(edges[number], edges[number + 1])
    return where, pairs.rows[where], pairs.labels[where] - first


def _check(
    queries: Tensor,
    labels: Tensor,
    positives: Pairs,
    mixture: Mapping[str, float],
    excluded: Pairs,
    temperature: float | Tensor,
    alpha: float,
    chunk: int | None,
) -> None:
    if queries.dim() != 2 or labels.dim() != 2 or queries.shape[1] != labels.shape[1]:
        raise ValueError(f"queries {tuple(queries.shape)} and labels {tuple(labels.shape)} must be (B, D) and (L, D).")
    if not (len(queries) and len(labels)):
        raise ValueError("there must be a query and a label.")
    for name in mixture:
        if name not in TERMS:
            raise ValueError(f"{name!r} is no loss over labels; choose among {', '.join(TERMS)}.")
    if not mixture or not all(0 < factor < math.inf for factor in mixture.values()):
        raise ValueError("a mixture needs at least one loss, and each a finite factor greater than 0.")
    if not temperature > 0 or not alpha > 0 or (chunk is not None and chunk < 1):
        raise ValueError("temperature, alpha and chunk must be greater than 0.")
    for kind, pairs in (("positive", positives), ("excluded", excluded)):
        if len(pairs):
            row, label = int(pairs.rows.max()), int(pairs.labels[-1])
            if row >= len(queries) or label >= len(labels):
                raise ValueError(
                    f"a {kind} pair has row {row} or label {label}; there are {len(queries)} queries and {len(labels)} "
                    "labels, numbered from 0 on."
                )
    if "bce" in mixture and bool((positives.weights > 1).any()):
        raise ValueError("with bce the weights are targets; they must be at most 1.")
