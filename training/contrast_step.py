"""The gradient of one batch of examples: queries against documents.

1. Draw the batch (:mod:`retriever.training.examples`), and take this process' share of it.
2. Encode it (:mod:`retriever.training.forward`); documents by the momentum encoder, if there is one
   (:mod:`retriever.training.memory`). Pass the vectors through the training head, if there is one
   (:mod:`retriever.training.projection`).
3. Contrast queries with everybody's documents and the queue (:mod:`retriever.training.loss`), and compare their order
   with the teachers', if there are any (:mod:`retriever.training.ranking`).
4. Go back. Documents enter the queue after the loss they were candidates of.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from retriever.data.ragged import Ragged
from retriever.encoder import Encoder, Kind
from retriever.training import parallel, sampler
from retriever.training.checkpoint import State
from retriever.training.examples import Batch, Examples
from retriever.training.forward import SIDE, Forward, default_budget
from retriever.training.loss import batch_loss, gather_keys
from retriever.training.memory import Momentum, Queue
from retriever.training.projection import TrainingHead
from retriever.training.ranking import Teachers
from retriever.training.recipe import Recipe
from retriever.training.sampler import Sampler


class ContrastStep:
    """Batches of examples → gradients.

    Args:
        encoder: Trained in place.
        examples: What batches are drawn from.
        sampler: Which examples a batch has.
        recipe: All settings.

    Attributes:
        trained: Everything with weights to train: the encoder, and the head if there is one.
        ranking: What teachers think of the texts, if any do.
        tokens: Tokens encoded so far.
    """

    def __init__(self, encoder: Encoder, examples: Examples, sampler: Sampler, recipe: Recipe) -> None:
        self.encoder, self.examples, self.sampler, self.recipe = encoder, examples, sampler, recipe
        self.head: TrainingHead | None = None
        if recipe.head is not None:
            head = TrainingHead(recipe.head, encoder.dimension, sampler.size, self._head_seed())
            self.head = head.to(encoder.device)
        self.trained: nn.Module = encoder.stack if self.head is None else nn.ModuleList([encoder.stack, self.head])
        budget = recipe.batch.pack_tokens or default_budget(encoder.device)
        self.forward = Forward(encoder, recipe.dtype, budget, normalise=self.head is None)
        m, queue = recipe.negatives.momentum, recipe.negatives.queue
        self.momentum = None if m is None else Momentum(encoder, m)
        self.teacher = None if self.momentum is None else replace(self.forward, encoder=self.momentum.encoder)
        self.queue = Queue(queue, encoder.dimension, encoder.device) if queue else None
        self.ranking: Teachers | None = None
        self.tokens = 0

    def begin(self, step: int) -> None:
        """Before each update: the momentum encoder follows."""
        if self.momentum is not None:
            self.momentum.update(self.encoder.stack)

    def gradient(self, number: int) -> tuple[float, Tensor, Tensor]:
        """Add batch ``number``'s gradient to the weights'; returns the whole loss and this process' vectors in it."""
        batch, seed = self._draw(number)
        cache, texts = self.recipe.batch.gradient_cache, seed + SIDE
        with torch.set_grad_enabled(not cache):
            queries = self.forward(batch.queries, seed, "query")
            documents = self.forward(batch.documents, texts) if self.teacher is None else self._taught(batch.documents)
        if cache:
            queries.requires_grad_()
            documents.requires_grad_(self.teacher is None)
        teacher = None
        if self.teacher is not None and batch.positives > 1:
            teacher = self._taught(batch.queries, "query"), documents
        q, d = queries, documents
        if self.head is not None:
            q, d = self.head(queries, documents, self._head_seed(number))
        loss = self._loss(q, d, batch, teacher)
        if self.ranking is not None:
            loss = loss + self.ranking.loss(q, d, batch.known[:, 0])
        loss = loss / self.recipe.batch.accumulate
        loss.backward()  # type: ignore[no-untyped-call]
        if cache:
            assert queries.grad is not None
            self.forward.backward(batch.queries, seed, queries.grad, "query")
            if documents.grad is not None:
                self.forward.backward(batch.documents, texts, documents.grad)
        self.tokens += len(batch.queries.ids) + len(batch.documents.ids)
        return parallel.total(float(loss.detach())), q.detach(), d.detach()

    @property
    def positives(self) -> int:
        """Documents of its own a query has."""
        return self.recipe.views.positives if self.recipe.views else 1

    @property
    def negatives(self) -> int:
        """Texts that a positive competes with, masked ones included."""
        settings, labels = self.recipe.negatives, self.recipe.labels
        explicit = labels.explicit if labels else 0
        views = {"joint": self.positives, "sum": 1, "all_pairs": self.positives + 1}[self.recipe.objective.terms]
        size = self.sampler.size
        batch = views * (size - 1) + explicit * size if settings.in_batch else explicit
        return batch + (0 if self.queue is None else len(self.queue))

    @property
    def guess(self) -> tuple[int, float]:
        """The candidates of a query, and the loss of guessing among them; infinite with teachers, who add to it."""
        objective = self.recipe.objective
        together = 1 if objective.terms == "sum" else self.positives
        candidates = max(1, self.negatives + {"all": together, "self": 1, "none": 0}[objective.link])
        terms = self.positives if objective.terms == "sum" else 1
        return candidates, math.log(candidates) * terms if self.ranking is None else math.inf

    def saved(self) -> dict[str, Any]:
        """The entries of a checkpoint that are this step's own."""
        return {
            "momentum": {} if self.momentum is None else self.momentum.encoder.stack.state_dict(),
            "head": {} if self.head is None else self.head.state_dict(),
            "queue": {} if self.queue is None else self.queue.state,
        }

    def load(self, state: State) -> None:
        """Take these entries up again."""
        if self.head is not None:
            self.head.load_state_dict(state.head)
        if self.momentum is not None:
            self.momentum.encoder.stack.load_state_dict(state.momentum)
        if self.queue is not None:
            self.queue.load(state.queue)

    def _draw(self, number: int) -> tuple[Batch, int]:
        """This process' share of batch ``number``, and the seed of its dropout."""
        seed, rank = self.recipe.seed, parallel.rank()
        random = sampler.generator(sampler.VIEWS, seed, number)
        batch = self.examples.draw(self.sampler(number), random).share(rank, parallel.world())
        return batch, int(sampler.generator(sampler.MODEL, seed, number, rank).integers(2**62))

    def _head_seed(self, *number: int) -> int:
        """The seed of the head's weights, or of its shuffles in a batch: the same in all processes."""
        return int(sampler.generator(sampler.HEAD, self.recipe.seed, *number).integers(2**62))

    @torch.no_grad()
    def _taught(self, tokens: Ragged, kind: Kind = "document") -> Tensor:
        """Vectors of the momentum encoder, (N, D); it has no dropout that a seed would matter to."""
        assert self.teacher is not None
        return self.teacher(tokens, 0, kind)

    def _loss(self, queries: Tensor, documents: Tensor, batch: Batch, teacher: tuple[Tensor, Tensor] | None) -> Tensor:
        """This process' part of the batch's loss; afterwards the queue holds the batch's positives."""
        keys = gather_keys(documents, batch)
        loss = batch_loss(
            queries, documents, keys, batch, self.queue, teacher, self.recipe.objective, self.recipe.negatives
        )
        if self.queue is not None:
            own = len(queries)  # the first positive of each query enters: explicit negatives come again anyway
            blocks = torch.arange(len(keys.vectors), device=keys.vectors.device).view(parallel.world(), -1)[:, :own]
            self.queue.push(keys.vectors[blocks.flatten()], keys.ids[blocks.flatten()])
        return loss
