"""The one loss core: an anchor sees a row of candidates with a target, a weight and a temperature each.

1. Similarities become logits: ``z = scores / temperature``.
2. Candidates with target > 0 are positives P, candidates with target 0 and weight > 0 are negatives N.
3. The negatives enter through one number per anchor, ``n = log Σ_N W e^z``.
4. The *link* says how one positive meets the negatives:

   ====== ==================================== ==========================================================
   all    ``logaddexp(n, LSE_P(z + log W)) − z``  InfoNCE, SupCon (out), soft cross entropy for dense targets
   self   ``softplus(n − z)``                    decoupled softmax: other positives leave the denominator
   none   ``n − z``                              DCL: the positive itself leaves the denominator too
   ====== ==================================== ==========================================================

5. The *pool* says how several positives are combined: ``out`` averages the terms with the (normalised) targets,
   ``in`` pools the positives inside the logarithm, ``split`` separates positives and negatives into two terms.

Masking is a true −inf through :func:`masked_logsumexp`, never a large finite number, and ``log 0`` never reaches
autograd. Everything is computed in the dtype of ``scores``; callers pass fp32.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

Link = Literal["all", "self", "none"]
Pool = Literal["out", "in", "split"]


def masked_logsumexp(z: Tensor, mask: Tensor, dim: int = 1) -> Tensor:
    """Log-sum-exp over the entries where ``mask`` holds.

    Args:
        z: Logits, any shape.
        mask: Booleans of the same shape.
        dim: The dimension summed over.

    Returns:
        ``z`` reduced over ``dim``; −inf with a zero gradient where no entry is kept.
    """
    some = mask.any(dim, keepdim=True)
    kept = torch.where(some, z.masked_fill(~mask, -math.inf), torch.zeros_like(z))
    out = torch.logsumexp(kept, dim)
    return torch.where(some.squeeze(dim), out, torch.full_like(out, -math.inf))


def contrast(
    scores: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    temperature: float | Tensor = 0.05,
    link: Link = "all",
    pool: Pool = "out",
    normalise: bool = True,
) -> Tensor:
    """Contrastive loss of each anchor against its row of candidates.

    Args:
        scores: Similarities s_ij, (B, M).
        targets: T ≥ 0, (B, M): how much candidate j is a positive of anchor i. Dense (soft) targets are legal with
            link ``all`` or pool ``split``.
        weights: W ≥ 0, (B, M): weight in the denominator, 0 removes the candidate; all ones if omitted. On a
            positive only link ``all`` reads it.
        temperature: τ > 0: a number, or a tensor that broadcasts to (B, M).
        link: How one positive meets the negatives; read by pool ``out`` only.
        pool: How several positives are combined.
        normalise: Divide each row of targets by its sum; pool ``split`` never does.

    Returns:
        The loss per anchor, (B,). An anchor without positives gives exactly 0 (in ``split`` its negative half),
        with a finite gradient.

    Raises:
        ValueError: The settings cannot train: wrong shapes, negative or non-finite targets or weights, a row
            without candidates, soft targets with a link that would silently give 0.
    """
    weights = torch.ones_like(scores) if weights is None else weights
    _check(scores, targets, weights, temperature, link, pool)
    z = scores / temperature  # (B, M)
    positive, live = targets > 0, weights > 0
    if pool == "split":
        return _split(z, targets, weights)
    share = targets / targets.sum(1, keepdim=True).clamp_min(1e-12) if normalise else targets
    weighted = z + _masked_log(weights, live)
    n = masked_logsumexp(weighted, live & ~positive)  # (B,)
    if pool == "in":
        some = positive.any(1)
        pooled = masked_logsumexp(z + _masked_log(share, positive), positive)
        return torch.where(some, F.softplus(n - torch.where(some, pooled, torch.zeros_like(n))), torch.zeros_like(n))
    n = n[:, None]
    if link == "all":
        term = torch.logaddexp(n, masked_logsumexp(weighted, positive & live)[:, None]) - z
    elif link == "self":
        term = F.softplus(n - z)  # the paper's idea: positive p competes with the negatives only
    else:
        term = torch.where(n.isfinite(), n - z, torch.zeros_like(z))
    return (share * torch.where(positive, term, torch.zeros_like(z))).sum(1)


def weighted_mean(losses: Tensor, anchor_weights: Tensor | None = None) -> Tensor:
    """Mean of the per-anchor losses (B,), weighted by ω (B,) if given: Σ ω ℓ / Σ ω."""
    if anchor_weights is None:
        return losses.mean()
    return (anchor_weights * losses).sum() / anchor_weights.sum()


def _split(z: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """``log(1 + Σ W (1 − T) e^z) + log(1 + Σ T e^−z)``."""
    negative = weights * (1 - targets)
    push = masked_logsumexp(z + _masked_log(negative, negative > 0), negative > 0)
    pull = masked_logsumexp(_masked_log(targets, targets > 0) - z, targets > 0)
    return F.softplus(push) + F.softplus(pull)


def _masked_log(values: Tensor, mask: Tensor) -> Tensor:
    """Log of the kept entries, 0 elsewhere: log 0 never reaches autograd."""
    return torch.where(mask, values, torch.ones_like(values)).log()


def _check(
    scores: Tensor, targets: Tensor, weights: Tensor, temperature: float | Tensor, link: str, pool: str
) -> None:
    if link not in ("all", "self", "none"):
        raise ValueError(f"link is {link!r}; choose 'all', 'self' or 'none'.")
    if pool not in ("out", "in", "split"):
        raise ValueError(f"pool is {pool!r}; choose 'out', 'in' or 'split'.")
    for name, value in (("targets", targets), ("weights", weights)):
        if value.shape != scores.shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, scores {tuple(scores.shape)}; they must agree.")
        if not bool(((value >= 0) & value.isfinite()).all()):
            raise ValueError(f"{name} must be finite and at least 0.")
    if not bool((torch.as_tensor(temperature) > 0).all()):
        raise ValueError("temperature must be greater than 0.")
    positive = targets > 0
    if not bool(((weights > 0) | positive).any(1).all()):
        raise ValueError("every anchor needs at least one candidate: a row has neither a positive nor a weight.")
    if pool == "split" and bool((targets > 1).any()):
        raise ValueError("pool 'split' needs targets in [0, 1].")
    soft = pool == "in" or (pool == "out" and link != "all")
    if soft and targets.shape[1] > 1 and bool(positive.all(1).any()):
        raise ValueError(
            f"every candidate is a positive, so link {link!r} with pool {pool!r} would have no negatives and a loss of "
            "0; use link 'all' with pool 'out' for soft targets."
        )
