"""The soft top-k operator: probabilities that sum to k.

The operator is T. Ahle's (https://math.stackexchange.com/q/3280757); Gupta et al. 2024 (DEXML,
https://arxiv.org/abs/2310.10636) train with it.

1. Each of n scores becomes ``p = σ(z + θ)`` with ``z = α s``; the offset θ = α t is the unique root of ``Σ p = k``. As
   α grows, p becomes the hard top k.
2. The root lies in ``[−max z + c, −min z + c]`` with ``c = logit(k / n)``: at the ends every p is at most, or at
   least, k / n.
3. :func:`solve` starts at minus the k-th largest score and takes Newton steps on ``log(Σp / k)``, almost a straight
   line on the left of the root. A step that leaves the bracket becomes a bisection. Two to four steps
   suffice for 1e-4, one more for 1e-6.
4. The gradient follows from the implicit function theorem: with v = p (1 − p) and V = Σ v,
   ``∂ log p_i / ∂z_j = (1 − p_i) (1[i = j] − v_j / V)``, in which the solver has no part.

The solver asks for Σp and V at an offset and never sees the scores, which may come in chunks or lie in several
processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.autograd.function import once_differentiable

Sums = Callable[[Tensor], tuple[Tensor, Tensor]]
BLOCK = 64  # scores that share a maximum where the start is sought
NEWTON = 12  # passes after which only bisection is left
PASSES = 100  # enough for bisection between any finite scores


def soft_top_k(scores: Tensor, k: float | Tensor, alpha: float = 2.0, mask: Tensor | None = None) -> Tensor:
    """Log-probabilities of the soft top k of each row.

    Args:
        scores: (B, N), fp32 or fp64.
        k: What the probabilities of a row sum to: a number or one per row, (B,), between 0 and the row's live scores.
        alpha: Steepness α > 0.
        mask: True where a score is live, (B, N); all are if omitted.

    Returns:
        ``log p``, (B, N), with a first derivative with respect to the scores; −inf with a zero gradient where a score
        is not live.

    Raises:
        ValueError: k is not between 0 and the number of live scores of a row, or the shapes do not agree.
    """
    if mask is not None and mask.shape != scores.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, scores {tuple(scores.shape)}; they must agree.")
    if not alpha > 0:
        raise ValueError(f"alpha is {alpha}; it must be greater than 0.")
    live = torch.full_like(scores[:, 0], scores.shape[1]) if mask is None else mask.sum(1)
    log_p: Tensor = _SoftTopK.apply(scores, budget(k, live), alpha, mask)  # type: ignore[no-untyped-call]
    return log_p


def soft_top_k_loss(
    scores: Tensor, targets: Tensor, k: float | Tensor, alpha: float = 2.0, mask: Tensor | None = None
) -> Tensor:
    """``−Σ T̄ log p`` of each row: how far the positives are from the soft top k.

    Args:
        scores: (B, N), divided by the temperature.
        targets: T ≥ 0, (B, N), normalised to sum to 1 a row.
        k: As for :func:`soft_top_k`.
        alpha: Steepness α > 0.
        mask: True where a score is live, (B, N); positives must be.

    Returns:
        The loss per row, (B,); 0 without positives.

    Raises:
        ValueError: As :func:`soft_top_k`.
    """
    log_p = soft_top_k(scores, k, alpha, mask)
    share = targets / targets.sum(1, keepdim=True).clamp_min(1e-12)
    return -(share * torch.where(targets > 0, log_p, 0.0)).sum(1)


def budget(k: float | Tensor, live: Tensor) -> Tensor:
    """The k of each row, (B,) in fp64, after checking that 0 < k < n for the live scores n, (B,)."""
    rows = per_row(k, live)
    if not bool(((rows > 0) & (rows < live)).all()):
        raise ValueError(f"k must lie between 0 and the live scores of a row, of which one has {int(live.min())}.")
    return rows


def per_row(k: float | Tensor, like: Tensor) -> Tensor:
    """The k of each row, (B,) in fp64, on the device of another tensor (B,)."""
    rows = torch.as_tensor(k, dtype=torch.float64, device=like.device)
    if rows.dim() and rows.shape != like.shape:
        raise ValueError(f"k has shape {tuple(rows.shape)}; it must be a number or one for each of {len(like)} rows.")
    return rows.expand(like.shape)


def bracket(low: Tensor, high: Tensor, k: Tensor, live: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets (B,) between which the root lies, from the range of z; a range that is too wide is legal."""
    c = torch.logit(k / live).to(low.dtype)
    return c - high, c - low


def block_size(n: int, top: int) -> int:
    """Scores a block: 1, unless there are enough blocks that their maxima stand for the largest scores."""
    return BLOCK if n >= 4 * top * BLOCK else 1


def block_maxima(z: Tensor, top: int, block: int) -> Tensor:
    """The ``top`` largest maxima of blocks of each row, descending, (B, ≤ top); the rest of a last block is left out.

    The k-th of them is at most the k-th largest score, seldom much less, and cheaper to find.
    """
    blocks = z.shape[1] // block
    maxima = z if block == 1 else z[:, : blocks * block].reshape(len(z), blocks, block).amax(2)
    return maxima.topk(min(top, blocks), 1).values


def start(top: Tensor, k: Tensor) -> Tensor:
    """Minus the k-th largest score, (B,), of the largest of each row, (B, K)."""
    position = k.ceil().long().clamp(1, top.shape[1]) - 1
    return -top.gather(1, position[:, None]).squeeze(1)


def solve(sums: Sums, k: Tensor, low: Tensor, high: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """The offset θ at which Σp = k, and V there.

    Args:
        sums: θ (B,) → Σp and V = Σ p (1 − p), (B,) each in fp64.
        k: (B,), fp64.
        low: Lower ends of the bracket, (B,), in the dtype of the scores.
        high: Upper ends.
        offset: Where to start.

    Returns:
        θ (B,) and V (B,); ``|log(Σp / k)|`` is at most 1e-6 in fp32, 1e-13 in fp64, or what a step of one unit in the
        last place of θ leaves.
    """
    tolerance = 1e-6 if offset.dtype == torch.float32 else 1e-13
    unit = 2 * torch.finfo(offset.dtype).eps
    offset = offset.clamp(low, high)
    for number in range(PASSES):
        total, slope = sums(offset)
        error = (total / k).log()
        far = error.abs() > tolerance
        if not bool(far.any()):
            break
        under = error < 0
        low, high = torch.where(under, offset, low), torch.where(under, high, offset)
        newton = (offset - error * total / slope).to(offset.dtype)
        trusted = (newton >= low) & (newton <= high) if number < NEWTON else torch.zeros_like(under)
        target = torch.where(trusted, newton, (low + high) / 2)
        far &= (target - offset).abs() > unit * offset.abs()
        if not bool(far.any()):
            break
        offset = torch.where(far, target, offset)
    return offset, slope


def variance(p: Tensor) -> Tensor:
    """``v = p (1 − p)``, in place."""
    return p.addcmul_(p, p, value=-1)


class _SoftTopK(torch.autograd.Function):
    """Row by row on a CPU, so that a row stays in the cache through all passes."""

    @staticmethod
    def forward(context: Any, scores: Tensor, k: Tensor, alpha: float, mask: Tensor | None) -> Tensor:  # noqa: ANN401
        log_p = torch.empty_like(scores)
        for rows in _row_groups(scores):
            log_p[rows] = F.logsigmoid(_shifted(scores[rows] * alpha, k[rows], None if mask is None else mask[rows]))
        context.save_for_backward(log_p)
        context.alpha = alpha
        return log_p

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        (log_p,) = context.saved_tensors
        wanted, out = gradients[0], torch.empty_like(log_p)
        for rows in _row_groups(log_p):
            p, q = log_p[rows].exp(), -log_p[rows].expm1()
            u = torch.where(log_p[rows] > -math.inf, wanted[rows] * q, 0.0)
            v = p * q
            total = v.sum(1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)  # a saturated row: 0 / 0
            out[rows] = u.sub_(v.div_(total).mul_(u.sum(1, keepdim=True))).mul_(context.alpha)
        return out, None, None, None


def _shifted(z: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """Z + θ of a few rows of scores (b, N)."""
    live = torch.full_like(k, z.shape[1]) if mask is None else mask.sum(1)
    below = _masked(z, mask, -math.inf)
    low, high = bracket(_masked(z, mask, math.inf).amin(1), below.amax(1), k, live)
    width = math.ceil(float(k.max()))
    first = start(block_maxima(below, width, block_size(z.shape[1], width)), k).clamp(low, high)
    below += first[:, None]  # the scores that matter are now near 0, where fp32 is finest
    room = torch.empty_like(z)

    def sums(offset: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.add(below, offset[:, None], out=room).sigmoid_()
        return p.sum(1).double(), variance(p).sum(1).double()

    rest, _ = solve(sums, k, low - first, high - first, torch.zeros_like(first))
    return below.add_(rest[:, None])


def _masked(z: Tensor, mask: Tensor | None, fill: float) -> Tensor:
    return z if mask is None else z.masked_fill(~mask, fill)


def _row_groups(scores: Tensor) -> Iterator[slice]:
    """Slices of the rows of about 2^17 scores on a CPU, 2^26 elsewhere."""
    size = max(1, 2 ** (17 if scores.device.type == "cpu" else 26) // max(1, scores.shape[1]))
    return (slice(first, first + size) for first in range(0, len(scores), size))
