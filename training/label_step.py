"""The gradient of one batch of points: texts against the labels, as many as there are.

1. Draw the points, their labels, and which labels they are scored against (:mod:`retriever.training.points`). The first
   process has the first part of the labels, and so on; points are shared out likewise.
2. Encode this process' points and labels. With the gradient cache that is done without a gradient first, and again once
   the loss' gradient with respect to the vectors is known, with the same dropout (:mod:`retriever.training.forward`).
3. Contrast everybody's points with all labels (:mod:`retriever.training.objectives.label_space`), in memory that does
   not grow with points × labels, and go back.

What is refreshed now and then: shortlists, the best wrong labels of each point by the encoder as it is; or the vectors
of all labels, which are then constants, save those that a step encodes anew: the batch's own and some at random.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retriever.encoder import Encoder
from retriever.errors import RecipeError
from retriever.training import parallel, sampler
from retriever.training.checkpoint import State
from retriever.training.forward import SIDE, Forward, default_budget
from retriever.training.label_ranking import best_labels
from retriever.training.label_settings import LabelSpace
from retriever.training.objectives.label_space import label_space_loss
from retriever.training.objectives.pairs import Pairs
from retriever.training.points import PointBatch, PointExamples
from retriever.training.recipe import Recipe
from retriever.training.sampler import Sampler

Ids = NDArray[np.int64]


class LabelStep:
    """Batches of points → gradients.

    Args:
        encoder: Trained in place.
        examples: Points and labels.
        sampler: Which points a batch has.
        recipe: All settings, with a section ``label_space``.

    Attributes:
        trained: Everything with weights to train.
        kept: What is refreshed now and then: ``shortlist`` (N, K), or ``labels`` (L, D).
        negatives: Labels that a positive competed with in the last batch.
        tokens: Tokens encoded so far.

    Raises:
        RecipeError: The loss asks for more labels than there are, or cannot take the relevance that the data has.
    """

    def __init__(self, encoder: Encoder, examples: PointExamples, sampler: Sampler, recipe: Recipe) -> None:
        assert recipe.label_space is not None
        _check(examples, recipe.label_space)
        self.encoder, self.examples, self.sampler, self.recipe = encoder, examples, sampler, recipe
        self.settings = recipe.label_space
        self.trained: nn.Module = encoder.stack
        self.forward = Forward(encoder, recipe.dtype, recipe.batch.pack_tokens or default_budget(encoder.device))
        self.kept: dict[str, Tensor] = {}
        self.negatives = len(examples.usable) - 1
        self.tokens = 0

    def begin(self, step: int) -> None:
        """Before update ``step``: refresh what is due."""
        settings = self.settings
        if settings.refresh is None or step % settings.refresh:
            return
        labels = self.encoder.embed(self.examples.labels, dtype=self.recipe.dtype)
        if settings.constants:
            self.kept = {"labels": torch.from_numpy(labels).to(self.encoder.device)}
            return
        points = self.encoder.embed(self.examples.points, "query", dtype=self.recipe.dtype)
        wrong = self.examples.targets + self.examples.filtered
        found = best_labels(points, labels, self.examples.usable, settings.depth, wrong)
        self.kept = {"shortlist": torch.from_numpy(found)}

    def gradient(self, number: int) -> tuple[float, Tensor, Tensor]:
        """Add batch ``number``'s gradient to the weights'; returns the whole loss, points, and a label of each."""
        rows, seed = self.sampler(number), self.recipe.seed
        rank, world = parallel.rank(), parallel.world()
        shortlist = self.kept["shortlist"].numpy() if "shortlist" in self.kept else None
        batch = self.examples.draw(rows, sampler.generator(sampler.VIEWS, seed, number), shortlist)
        self.negatives = len(batch.candidates) - 1
        dropout = int(sampler.generator(sampler.MODEL, seed, number, rank).integers(2**62))
        own = batch.points.take(np.arange(len(rows)).reshape(world, -1)[rank])
        first, shard = _shard(batch.candidates, rank, world)
        encoded = self._encoded(batch, shard, number)
        texts, cache = self.examples.labels.take(shard[encoded]), self.recipe.batch.gradient_cache
        with torch.set_grad_enabled(not cache):
            points, fresh = self.forward(own, dropout, "query"), self.forward(texts, dropout + SIDE)
        if cache:
            points.requires_grad_()
            fresh.requires_grad_()
        labels = self._with_constants(shard, encoded, fresh)
        everybody = parallel.gather(points)
        loss = self._loss(everybody, labels, batch, first)
        (loss / self.recipe.batch.accumulate).backward()  # type: ignore[no-untyped-call]
        if cache:
            assert points.grad is not None and fresh.grad is not None
            self.forward.backward(own, dropout, points.grad, "query")
            self.forward.backward(texts, dropout + SIDE, fresh.grad)
        self.tokens += len(own.ids) + len(texts.ids)
        value = float(loss.detach()) / self.recipe.batch.accumulate
        return value, *_partners(everybody.detach(), labels.detach(), batch.positives, first)

    @property
    def guess(self) -> tuple[int, float]:
        """The candidates of a point, and the loss of guessing among them; infinite for losses that are no choice."""
        candidates = self.negatives + 1
        return candidates, math.log(candidates) if self.settings.terms.keys() <= {"decoupled", "softmax"} else math.inf

    def saved(self) -> dict[str, Any]:
        """The entries of a checkpoint that are this step's own."""
        return {"kept": self.kept}

    def load(self, state: State) -> None:
        """Take these entries up again."""
        self.kept = {
            name: value.to("cpu" if name == "shortlist" else self.encoder.device) for name, value in state.kept.items()
        }

    def _encoded(self, batch: PointBatch, shard: Ids, number: int) -> Ids:
        """Places in the shard of the labels that are encoded at this step, rising."""
        if not self.settings.constants:
            return np.arange(len(shard))
        random = sampler.generator(sampler.FRESH, self.recipe.seed, number)
        some = random.choice(batch.candidates, min(self.settings.fresh, len(batch.candidates)), replace=False)
        own = batch.candidates[batch.positives.labels.numpy()]
        return np.flatnonzero(np.isin(shard, np.concatenate([own, some])))

    def _with_constants(self, shard: Ids, encoded: Ids, fresh: Tensor) -> Tensor:
        """Vectors of the shard's labels, (M, D), those encoded now among them; which later steps take as constants."""
        if not self.settings.constants:
            return fresh
        known, places = self.kept["labels"], torch.from_numpy(shard).to(fresh.device)
        labels = known[places].index_copy(0, torch.from_numpy(encoded).to(fresh.device), fresh)
        known[places[encoded]] = fresh.detach().to(known.dtype)
        return labels

    def _loss(self, points: Tensor, labels: Tensor, batch: PointBatch, first: int) -> Tensor:
        """The loss of the whole batch, the same in all processes."""
        settings = self.settings
        _check_k(settings, len(batch.candidates) - int(torch.bincount(batch.excluded.rows, minlength=1).max()))
        positives, excluded = (_on(pairs, points.device) for pairs in (batch.positives, batch.excluded))
        return label_space_loss(
            points,
            labels,
            positives.shard(first, len(labels)),
            settings.terms,
            excluded=excluded.shard(first, len(labels)),
            temperature=self.recipe.objective.temperature,
            k=settings.k,
            alpha=settings.alpha,
            reduce=parallel.reduce if parallel.world() > 1 else None,
        )


def _check(examples: PointExamples, settings: LabelSpace) -> None:
    """See that the loss fits the data."""
    _check_k(settings, len(examples.usable))
    highest = float(examples.targets.max())
    if "bce" in settings.terms and highest > 1:
        raise RecipeError(
            f"label_space.loss bce takes a relevance as a target, at most 1, and the data has one of {highest:g}; "
            "divide by it, or choose decoupled."
        )


def _check_k(settings: LabelSpace, labels: int) -> None:
    """See that a point has more labels to choose from than the soft top k takes."""
    if "soft_top_k" in settings.terms and settings.k >= labels:
        raise RecipeError(
            f"label_space.k is {settings.k}, but a point has only {labels} labels to choose from; lower k, or choose "
            "another loss."
        )


def _shard(candidates: Ids, rank: int, world: int) -> tuple[int, Ids]:
    """The part of the candidates that is one process', and where it begins."""
    first, last = (len(candidates) * place // world for place in (rank, rank + 1))
    return first, candidates[first:last]


def _on(pairs: Pairs, device: torch.device) -> Pairs:
    return Pairs(pairs.rows.to(device), pairs.labels.to(device), pairs.weights.to(device))


def _partners(points: Tensor, labels: Tensor, positives: Pairs, first: int) -> tuple[Tensor, Tensor]:
    """All points that have a positive among the candidates, and a positive of each, for the log; (P, D) both."""
    rows = positives.rows.numpy()
    having, places = np.unique(rows, return_index=True)
    wanted = positives.labels[torch.from_numpy(places)].to(labels.device) - first
    here = (wanted >= 0) & (wanted < len(labels))
    partners = torch.zeros(len(having), labels.shape[1], device=labels.device)
    partners[here] = labels[wanted[here]].float()
    return points[torch.from_numpy(having).to(points.device)], parallel.reduce(partners, "sum")
