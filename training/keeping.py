"""Which weights a run ends with.

1. The best step's, or the last one's unless the best is ahead of it by more than the noise of the held-out queries.
   Where no step finds anything, none is the best one, and the last is kept.
2. Those may be averaged with the weights before training, by the share that the held-out queries find best.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from retriever.encoder import Encoder
from retriever.training.averaging import admitted_share, is_ahead, mean_weights
from retriever.training.checkpoint import State
from retriever.training.recipe import Recipe
from retriever.training.selection import HeldOut, Judge, query_metrics

Weights = dict[str, Tensor]


def weights_of(encoder: Encoder) -> Weights:
    """A copy of an encoder's weights, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in encoder.stack.state_dict().items()}


def keep_step(encoder: Encoder, state: State, held_out: Judge | None, recipe: Recipe) -> None:
    """Put the weights of the step to keep into the encoder, which holds the last one's.

    Args:
        encoder: Changed in place.
        state: Knows the best step; told which step is kept, if that is another one.
        held_out: What the best step was found by.
        recipe: Says which step is wanted.
    """
    settings = recipe.selection
    if not state.best or state.best_step == state.step or (settings.average and not state.best_step):
        return
    if settings.of_queries and state.best_score == 0:
        state.best_step = state.step
        return
    if settings.keep == "best":
        encoder.stack.load_state_dict(state.best)
        return
    last, scores = weights_of(encoder), _scores(encoder, held_out, recipe)[settings.metric]
    encoder.stack.load_state_dict(state.best)
    if not is_ahead(_scores(encoder, held_out, recipe)[settings.metric], scores):
        encoder.stack.load_state_dict(last)
        state.best_step, state.best_score = state.step, float(scores.mean())


def keep_share(
    encoder: Encoder, start: Weights, held_out: Judge | None, recipe: Recipe, log: Callable[[dict[str, Any]], None]
) -> float:
    """Put the best average of the weights before and after training into the encoder.

    Args:
        encoder: Holds the weights after training; changed in place.
        start: The weights before it.
        held_out: Queries to choose by; without them the share is ``selection.fallback``.
        recipe: Says which shares to try.
        log: Told what each share scores.

    Returns:
        The share of the trained weights.
    """
    settings, end = recipe.selection, weights_of(encoder)
    share = settings.fallback
    if held_out is not None:
        scores = {}
        for tried in sorted({0.0, *settings.average}):
            encoder.stack.load_state_dict(mean_weights(start, end, tried))
            found = _scores(encoder, held_out, recipe)
            scores[tried] = found[settings.metric]
            log({"share": tried, **{name: float(values.mean()) for name, values in found.items()}})
        share = admitted_share([scores])
    encoder.stack.load_state_dict(mean_weights(start, end, share))
    return share


def _scores(encoder: Encoder, held_out: Judge | None, recipe: Recipe) -> dict[str, NDArray[np.float64]]:
    """Metric → score of each held-out query, (Q,), with the encoder as it is now."""
    assert isinstance(held_out, HeldOut)
    return query_metrics(held_out.ranks(encoder, recipe.dtype), held_out.answers.lengths)
