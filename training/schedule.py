"""How long a run is, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math

from retriever.training.recipe import Recipe, Schedule


def bounded(recipe: Recipe, examples: int, batch: int) -> Recipe:
    """The recipe with ``schedule.epochs`` turned into steps.

    A small corpus read a thousand times is learnt by heart: where ``schedule.steps`` would read each example more often
    than ``schedule.epochs``, steps, warm-up and the distance between evaluations shrink by the same factor.

    Args:
        recipe: All settings.
        examples: How many there are.
        batch: Examples a batch.
    """
    schedule = recipe.schedule
    if schedule.epochs is None:
        return recipe
    steps = max(1, math.ceil(schedule.epochs * examples / (batch * recipe.batch.accumulate)))
    if steps >= schedule.steps:
        return recipe
    shrunk = {"steps": steps, "warmup": schedule.warmup * steps // schedule.steps}
    every = max(1, recipe.selection.every * steps // schedule.steps)
    return recipe.model_copy(
        update={
            "schedule": schedule.model_copy(update=shrunk),
            "selection": recipe.selection.model_copy(update={"every": every}),
        }
    )


def rate(schedule: Schedule, step: int) -> float:
    """The share of the peak learning rate that update ``step`` (from 0) uses.

    Linear warm-up reaches 1 at ``warmup``; the decay ends at 0 after the last step. The first update after the start is
    not wasted: with a warm-up it uses ``1 / warmup``, without one the full rate.
    """
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    done = (step - schedule.warmup) / (schedule.steps - schedule.warmup)
    if schedule.decay == "linear":
        return 1 - done
    if schedule.decay == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    return 1.0
