"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from retriever.training.recipe import Schedule


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
