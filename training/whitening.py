"""Shuffled group whitening of a batch (WhitenedCSE; Zhuo et al. 2023, arXiv 2305.17746), as pure functions.

1. The vectors come views-major, (V, B, D). Each view has a permutation of the D channels of its own.
2. Shuffle the channels of a view and cut them into G groups of width d = D / G.
3. Centre each group over the batch; its covariance is ``S = Xᵀ X / B + shrinkage · tr(Xᵀ X / B) / d · I``.
4. Multiply by ``S^{-1/2}``: by the symmetric root (ZCA, through eigenvalues) or by the inverse Cholesky factor, which
   whitens as well but depends on the order of the channels.
5. Undo the shuffle.

G = 1 is full ZCA, G = D standardises each channel; both do not depend on the shuffle. Fewer groups distort a view more.
The batch must be larger than the width of a group: B centred rows have rank B − 1. All is computed in fp32 (or fp64, if
given) with autocast off: bfloat16 covariances have no inverse root.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from retriever.training.objectives.core import fp32

Solver = Literal["eigh", "cholesky"]
FLOOR = 1e-12  # mean variance that a collapsed group is taken to have


def permutations(views: int, width: int, seed: int) -> Tensor:
    """A random permutation of the channels for each view, (V, D); a function of its arguments."""
    random = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(width, generator=random) for _ in range(views)])


def whiten(
    vectors: Tensor,
    groups: int,
    *,
    shuffle: Tensor | None = None,
    shrinkage: float = 1e-5,
    statistics_gradient: bool = False,
    solver: Solver = "eigh",
) -> Tensor:
    """Whiten each group of channels of each view over the batch.

    Args:
        vectors: (V, B, D).
        groups: G; D must be a multiple of it.
        shuffle: A permutation of the channels for each view, (V, D); none if omitted.
        shrinkage: Added to the diagonal of a covariance, in units of its mean variance.
        statistics_gradient: Go back through the covariance too; otherwise the whitening matrix is a constant. The mean
            is never one.
        solver: ``eigh`` for the symmetric root, ``cholesky`` for the quicker triangular one.

    Returns:
        (V, B, D), each group with mean 0 and, but for the shrinkage, covariance I.

    Raises:
        ValueError: G does not divide D, or a group is not narrower than the batch.
    """
    views, batch, width = vectors.shape
    check(batch, width, groups)
    with torch.autocast(vectors.device.type, enabled=False):
        x = fp32(vectors)
        order = None if shuffle is None else shuffle.to(x.device)[:, None].expand_as(x)  # (V, B, D)
        if order is not None:
            x = x.gather(2, order)
        x = x.view(views, batch, groups, -1).transpose(1, 2)  # (V, G, B, d)
        x = x - x.mean(2, keepdim=True)
        covariance = x.mT @ x / batch  # (V, G, d, d)
        if not statistics_gradient:
            covariance = covariance.detach()
        y = x @ inverse_root(_shrunk(covariance, shrinkage), solver)
        flat: Tensor = y.transpose(1, 2).reshape(views, batch, width)
        return flat if order is None else torch.empty_like(flat).scatter(2, order, flat)


def inverse_root(matrices: Tensor, solver: Solver = "eigh") -> Tensor:
    """``W`` with ``Wᵀ S W = I`` for each symmetric positive definite S, (…, d, d).

    Returns:
        The symmetric ``S^{-1/2}`` for ``eigh``, the upper triangular ``L^{-T}`` with ``S = L Lᵀ`` for ``cholesky``.
    """
    if matrices.shape[-1] == 1:
        return matrices.clamp_min(torch.finfo(matrices.dtype).tiny).rsqrt()
    if solver == "eigh":
        root: Tensor = _InverseRoot.apply(matrices)  # type: ignore[no-untyped-call]
        return root
    factor = torch.linalg.cholesky(matrices)
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    triangular: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return triangular.mT


def check(batch: int, width: int, groups: int) -> None:
    """See that a batch can be whitened in so many groups.

    Raises:
        ValueError: It cannot.
    """
    if width % groups:
        raise ValueError(f"{width} dimensions cannot be cut into {groups} groups; choose a divisor of {width}.")
    if width // groups >= batch:
        count = "1 group" if groups == 1 else f"{groups} groups"
        raise ValueError(
            f"{width} dimensions in {count} are {width // groups} a group, which must be less than the batch of "
            f"{batch}; choose more groups or a larger batch."
        )


class _InverseRoot(torch.autograd.Function):
    """``S^{-1/2}`` whose gradient stays finite where eigenvalues are equal.

    With ``S = U diag(l) Uᵀ`` the differential is ``dW = U (F ∘ Uᵀ dS U) Uᵀ`` (Daleckii–Krein), where the divided
    difference ``(l_i^{-1/2} − l_j^{-1/2}) / (l_i − l_j)`` is ``F_ij = −1 / (r_i r_j (r_i + r_j))`` with ``r = √l``.
    """

    @staticmethod
    def forward(context: Any, matrices: Tensor) -> Tensor:  # noqa: ANN401 — autograd's context
        values, basis = torch.linalg.eigh(matrices)
        roots = values.clamp_min(torch.finfo(values.dtype).tiny).sqrt()  # (…, d)
        context.save_for_backward(roots, basis)
        root: Tensor = (basis / roots[..., None, :]) @ basis.mT
        return root

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401 — autograd's context
        roots, basis = context.saved_tensors
        rows, columns = roots[..., :, None], roots[..., None, :]
        divided = -1 / (rows * columns * (rows + columns))  # (…, d, d)
        inner = basis.mT @ ((gradient + gradient.mT) / 2) @ basis
        wanted: Tensor = basis @ (divided * inner) @ basis.mT
        return wanted


def _shrunk(covariance: Tensor, shrinkage: float) -> Tensor:
    """``S + shrinkage · tr(S) / d · I``."""
    scale = covariance.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(FLOOR)[..., None, None]
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    return covariance + shrinkage * scale * identity
