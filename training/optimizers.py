"""Optimizers for both families, their step, and a gradient norm that understands sparse gradients.

A static encoder's table gets ``SparseAdam``: moments and weights move only in the rows of the tokens in the batch. All
other parameters get AdamW, with weight decay on matrices only, not on biases, norms and single vectors.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from retriever.encoder.static import TermEmbedding
from retriever.training.recipe import Optimizer


def build_optimizers(model: nn.Module, settings: Optimizer) -> list[torch.optim.Optimizer]:
    """One optimizer for the sparse tables, one for the rest; empty ones are left out."""
    tables = [module.table for module in model.modules() if isinstance(module, TermEmbedding)]
    sparse = {id(table) for table in tables}
    dense = [p for p in model.parameters() if p.requires_grad and id(p) not in sparse]
    lr, betas, eps = settings.lr, settings.betas, settings.eps
    optimizers: list[torch.optim.Optimizer] = []
    if tables:
        optimizers.append(torch.optim.SparseAdam(tables, lr, betas, eps))
    if dense:
        decayed = {"params": [p for p in dense if p.ndim > 1], "weight_decay": settings.weight_decay}
        plain = {"params": [p for p in dense if p.ndim <= 1], "weight_decay": 0.0}
        groups = [group for group in (decayed, plain) if group["params"]]
        optimizers.append(torch.optim.AdamW(groups, lr, betas, eps))
    return optimizers


def apply_gradients(optimizers: Iterable[torch.optim.Optimizer], lr: float) -> None:
    """Update the weights with a learning rate, and drop their gradients."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def clip(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Scale all gradients, sparse ones too, so that their common norm is at most ``limit``; return the old norm."""
    values = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            values.append(parameter.grad.values())
        elif parameter.grad is not None:
            values.append(parameter.grad)
    norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(value) for value in values]))
    for value in values:
        value.mul_((limit / (norm + 1e-6)).clamp(max=1.0))
    return norm
