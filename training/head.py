"""A linear map on top of a frozen encoder: all that adaptation trains.

1. The vectors of the pool and of the pseudo-queries are computed once; a training step is a few matrix products.
2. The map starts as the identity, so that training starts at the encoder's own rankings, and it is one for queries and
   documents.
3. It becomes a dense layer at the end of the module stack, or, in a static encoder over words that has no map of
   queries, part of the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from sentence_transformers.sentence_transformer.modules import Normalize
from torch import Tensor, nn

from retriever.encoder import Encoder
from retriever.encoder.linear import with_linear
from retriever.encoder.static import TermEmbedding
from retriever.errors import RecipeError
from retriever.training import sampler
from retriever.training.distil import Lessons
from retriever.training.optimizers import apply_gradients, build_optimizers, clip
from retriever.training.recipe import Recipe
from retriever.training.schedule import rate


def train_map(
    lessons: Lessons, count: int, cosine: bool, settings: Recipe, log: Callable[[dict[str, Any]], None]
) -> Tensor:
    """Fit the map to the teacher; a function of its arguments alone.

    Args:
        lessons: What the teacher says.
        count: Pseudo-queries to train on, the first ones.
        cosine: Compare by cosine, not by dot product.
        settings: Batch size, optimizer, schedule and seed.
        log: Told of the first step and of every ``log_every``-th.

    Returns:
        (D, D); a vector is multiplied by its transpose.

    Raises:
        RecipeError: The loss is no longer finite.
    """
    width = lessons.queries.shape[1]
    student = nn.Linear(width, width, bias=False)
    with torch.no_grad():
        student.weight.copy_(torch.eye(width))
    optimizers = build_optimizers(student, settings.optimizer)
    batches = sampler.Sampler([torch.arange(count).numpy()], min(settings.batch.size, count), settings.seed)
    for step in range(settings.schedule.steps):
        loss = lessons.loss(student.weight, torch.from_numpy(batches(step)), cosine).mean()
        if not math.isfinite(loss.item()):
            raise RecipeError(f"The loss is {loss.item()} at step {step + 1}; lower optimizer.lr.")
        loss.backward()  # type: ignore[no-untyped-call]
        if settings.optimizer.clip:
            clip(student.parameters(), settings.optimizer.clip)
        lr = settings.optimizer.lr * rate(settings.schedule, step)
        apply_gradients(optimizers, lr)
        if step == 0 or (step + 1) % settings.log_every == 0:
            log({"step": step + 1, "loss": loss.item(), "lr": lr})
    return student.weight.detach()


def with_map(encoder: Encoder, weight: Tensor) -> Encoder:
    """The encoder followed by a linear map.

    Args:
        encoder: Its modules become part of the new encoder.
        weight: (D, D); a vector is multiplied by its transpose.
    """
    first = encoder.stack[0]
    if isinstance(first, TermEmbedding) and not encoder.sided:
        with torch.no_grad():
            first.table.copy_(first.table @ weight.T.to(first.table.device))
        encoder.path = None  # its folder holds another table
        return encoder
    return with_linear(encoder, weight, cosine=isinstance(encoder.stack[-1], Normalize))
