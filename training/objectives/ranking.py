"""Ranking distillation: a student orders candidates as a teacher does (RankCSE; Liu et al. 2023, arXiv 2305.16726).

1. ListNet (Cao et al. 2007) is the cross entropy of the student's softmax to the teacher's.
2. ListMLE (Xia et al. 2008) is minus the log-likelihood of the teacher's order under Plackett and Luce's model, which
   draws the best candidate, then the best of the rest, and so on.
3. Consistency is the Jensen–Shannon divergence between the softmaxes of two views of the student.

In RankCSE the candidates of a sentence are the other sentences of its batch, and several teachers are one by a weighted
mean of their scores. All is computed in fp32 (or fp64, if given).
"""

from __future__ import annotations

import torch
from torch import Tensor

from retriever.training.objectives.core import fp32


def listnet(scores: Tensor, teacher: Tensor, temperature: float = 0.05, teacher_temperature: float = 0.05) -> Tensor:
    """Cross entropy of the student's softmax to the teacher's.

    Args:
        scores: The student's, (B, M).
        teacher: The teacher's for the same candidates, (B, M); no gradient goes to it.
        temperature: τ > 0 of the student.
        teacher_temperature: τ > 0 of the teacher.

    Returns:
        The loss per row, (B,).

    Raises:
        ValueError: The shapes differ, or a temperature is not positive.
    """
    _check(scores, teacher, temperature, teacher_temperature)
    targets = torch.softmax(fp32(teacher.detach()) / teacher_temperature, 1)
    return -(targets * torch.log_softmax(fp32(scores) / temperature, 1)).sum(1)


def listmle(scores: Tensor, teacher: Tensor, temperature: float = 0.05) -> Tensor:
    """Minus the log-likelihood of the teacher's order, over the number of candidates.

    Args:
        scores: The student's, (B, M).
        teacher: The teacher's for the same candidates, (B, M); candidates that tie stay in their order.
        temperature: τ > 0.

    Returns:
        The loss per row, (B,).

    Raises:
        ValueError: The shapes differ, or the temperature is not positive.
    """
    _check(scores, teacher, temperature)
    order = teacher.sort(dim=1, descending=True, stable=True).indices
    z = (fp32(scores) / temperature).gather(1, order)  # (B, M), best first
    rest = z.flip(1).logcumsumexp(1).flip(1)  # log of the sum over a candidate and those behind it
    return (rest - z).mean(1)


def consistency(first: Tensor, second: Tensor, temperature: float = 0.05) -> Tensor:
    """Jensen–Shannon divergence between the softmaxes of two rows of scores, in nats.

    Args:
        first: Scores of one view, (B, M).
        second: Scores of the other, (B, M); a gradient goes to both.
        temperature: τ > 0.

    Returns:
        The divergence per row, (B,), from 0 to log 2.

    Raises:
        ValueError: The shapes differ, or the temperature is not positive.
    """
    _check(first, second, temperature)
    logs = [torch.log_softmax(fp32(scores) / temperature, 1) for scores in (first, second)]
    middle = torch.logaddexp(*logs) - torch.log(torch.tensor(2.0, dtype=logs[0].dtype))
    return torch.stack([(log.exp() * (log - middle)).sum(1) for log in logs]).mean(0)


def others(scores: Tensor, first: int = 0) -> Tensor:
    """Scores of texts ``first`` … ``first + B − 1`` with all M, (B, M) → those with the other texts, (B, M − 1)."""
    keep = torch.ones_like(scores, dtype=torch.bool)
    rows = torch.arange(len(scores), device=scores.device)
    keep[rows, first + rows] = False
    return scores[keep].view(len(scores), -1)


def _check(scores: Tensor, teacher: Tensor, *temperatures: float) -> None:
    if scores.shape != teacher.shape:
        raise ValueError(
            f"scores are {tuple(scores.shape)} and the teacher's {tuple(teacher.shape)}; give one for one."
        )
    if min(temperatures) <= 0:
        raise ValueError(f"temperature must be positive, not {min(temperatures)}; 0.05 is usual.")
