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


def fp32(values: Tensor) -> Tensor:
    """The values in fp32, or fp64 if they are."""
    return values if values.dtype == torch.float64 else values.float()


def masked_logsumexp(z: Tensor, mask: Tensor | None, dim: int = 1) -> Tensor:
    """Log-sum-exp over the entries where ``mask`` holds.

    Args:
        z: Logits, any shape.
        mask: Booleans of the same shape; every entry is kept if None.
        dim: The dimension summed over.

    Returns:
        ``z`` reduced over ``dim``; −inf with a zero gradient where no entry is kept.
    """
    if mask is None:
        return torch.logsumexp(z, dim)
    some = mask.any(dim, keepdim=True)
    fill = torch.where(some, -math.inf, 0.0).to(z.dtype)  # an empty row must not hand −inf − (−inf) to autograd
    out = torch.logsumexp(torch.where(mask, z, fill), dim)
    return torch.where(some.squeeze(dim), out, -math.inf)


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
        The loss per anchor, (B,). An anchor without positives, or whose positives meet no rival, gives exactly 0
        (in ``split`` its other half) with a finite gradient. NaN scores give a NaN loss.

    Raises:
        ValueError: The settings cannot train: wrong shapes, negative or non-finite targets or weights, a row
            without candidates, soft targets with a link that would silently give 0.
    """
    _check(scores, targets, weights, temperature, link, pool)
    z = scores / temperature  # (B, M)
    if pool == "split":
        return _split(z, targets, weights)
    positive = targets > 0
    negative, live, weighted = ~positive, None, z
    if weights is not None:
        live = weights > 0
        negative, weighted = negative & live, z + _masked_log(weights, live)
    share = targets / targets.sum(1, keepdim=True).clamp_min(1e-12) if normalise else targets
    if pool == "in":
        return _in(z, share, positive, masked_logsumexp(weighted, negative))
    rivals = live if link == "all" else negative  # whom a positive competes with; its own share included in "all"
    n = masked_logsumexp(weighted, rivals)[:, None]  # (B, 1)
    term = F.softplus(n - z) if link == "self" else n - z
    counted = positive & (n != -math.inf)  # no rivals, no loss
    return (share * torch.where(counted, term, 0.0)).sum(1)


def weighted_mean(losses: Tensor, anchor_weights: Tensor | None = None) -> Tensor:
    """Mean of the per-anchor losses (B,), weighted by ω (B,) if given: ``Σ ω ℓ / Σ ω``."""
    if anchor_weights is None:
        return losses.mean()
    return (anchor_weights * losses).sum() / anchor_weights.sum()


def _in(z: Tensor, share: Tensor, positive: Tensor, n: Tensor) -> Tensor:
    """``softplus(n − LSE_P(z + log T̄))``, 0 without positives."""
    some = positive.any(1)
    pooled = masked_logsumexp(z + _masked_log(share, positive), positive)
    return torch.where(some, F.softplus(n - torch.where(some, pooled, 0.0)), 0.0)


def _split(z: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """``log(1 + Σ W (1 − T) e^z) + log(1 + Σ T e^−z)``."""
    negative = 1 - targets if weights is None else weights * (1 - targets)
    push = masked_logsumexp(z + _masked_log(negative, negative > 0), negative > 0)
    pull = masked_logsumexp(_masked_log(targets, targets > 0) - z, targets > 0)
    return F.softplus(push) + F.softplus(pull)


def _masked_log(values: Tensor, mask: Tensor) -> Tensor:
    """Log of the kept entries, 0 elsewhere: log 0 never reaches autograd."""
    return torch.where(mask, values, 1.0).log()


def _check(
    scores: Tensor, targets: Tensor, weights: Tensor | None, temperature: float | Tensor, link: str, pool: str
) -> None:
    if link not in ("all", "self", "none"):
        raise ValueError(f"link is {link!r}; choose 'all', 'self' or 'none'.")
    if pool not in ("out", "in", "split"):
        raise ValueError(f"pool is {pool!r}; choose 'out', 'in' or 'split'.")
    if not scores.numel():
        raise ValueError(f"scores have shape {tuple(scores.shape)}; there must be an anchor and a candidate.")
    if not _range(temperature)[0] > 0:
        raise ValueError("temperature must be greater than 0.")
    top = _check_range("targets", targets, scores)
    if pool == "split" and top > 1:
        raise ValueError("pool 'split' needs targets in [0, 1].")
    if weights is not None:
        _check_range("weights", weights, scores)
        if not bool(torch.maximum(weights, targets).amax(1).gt(0).all()):
            raise ValueError("every anchor needs at least one candidate: a row has neither a positive nor a weight.")
    hard_only = pool == "in" or (pool == "out" and link != "all")
    if hard_only and targets.shape[1] > 1 and bool(targets.amin(1).gt(0).any()):
        raise ValueError(
            f"every candidate is a positive, so link {link!r} with pool {pool!r} would have no negatives and a loss of "
            "0; use link 'all' with pool 'out' for soft targets."
        )


def _check_range(name: str, value: Tensor, scores: Tensor) -> float:
    """The largest entry, after checking shape, sign and finiteness."""
    if value.shape != scores.shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, scores {tuple(scores.shape)}; they must agree.")
    low, high = _range(value)
    if not (low >= 0 and high < math.inf):
        raise ValueError(f"{name} must be finite and at least 0.")
    return high


def _range(value: float | Tensor) -> tuple[float, float]:
    """Smallest and largest entry in one pass; NaN if any entry is."""
    if not isinstance(value, Tensor):
        return value, value
    low, high = value.detach().aminmax()
    return float(low), float(high)
