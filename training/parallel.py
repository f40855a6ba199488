"""What several processes of one run have to tell each other.

Each process encodes its share of a batch and contrasts it with everybody's vectors:

1. :func:`gather` stacks the vectors of all processes; going back, each process adds up what all of them want of its
   own vectors, so that no gradient is lost (unlike with a plain ``all_gather``).
2. :func:`sum_gradients` adds the gradients of the weights, dense or sparse, over the processes.
3. :func:`reduce` combines the numbers of the rows where each process scores a shard of a label space.

With losses divided by the size of the whole batch the sum is the gradient of one process that has the whole batch.
Outside ``accelerate launch`` or ``torchrun`` there is one process, and nothing here does anything.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn


def meet(device: str | None) -> None:
    """Let the processes of a launcher meet; they part when Python ends.

    They meet once: a later run of the same Python may be on another device. A thread of the process group that lets go
    of a tensor while Python ends would abort the process.
    """
    PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    atexit.register(part)


def part() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Number of this process, from 0 on."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather(tensor: Tensor) -> Tensor:
    """Rows of all processes, in their order: (N, …) → (W · N, …), with a gradient; every process must have N rows."""
    if world() == 1:
        return tensor
    stacked: Tensor = _Gather.apply(tensor)  # type: ignore[no-untyped-call]
    return stacked


def reduce(tensor: Tensor, how: Literal["sum", "max"]) -> Tensor:
    """Sum or maximum of a tensor over the processes, without a gradient."""
    if world() == 1:
        return tensor
    shared = tensor.detach().clone()
    dist.all_reduce(shared, dist.ReduceOp.SUM if how == "sum" else dist.ReduceOp.MAX)
    return shared


def total(value: float) -> float:
    """The sum of a number over the processes."""
    if world() == 1:
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"  # NCCL takes no tensors of the CPU
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(shared)
    return float(shared)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients of all processes, in place."""
    if world() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            parameter.grad = _sum_sparse(parameter.grad.coalesce())
        else:
            dist.all_reduce(parameter.grad)


@contextmanager
def main_first() -> Iterator[None]:
    """The first process goes through the block alone, for what it writes the others then find."""
    if world() > 1 and rank() > 0:
        dist.barrier()
    yield
    if world() > 1 and rank() == 0:
        dist.barrier()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:  # noqa: ANN401 — autograd's context
        parts = [torch.empty_like(tensor) for _ in range(world())]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401 — autograd's context
        gradient = gradients[0].contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(world())[rank()]


def _sum_sparse(gradient: Tensor) -> Tensor:
    """Stack the rows of all processes and add those of the same token."""
    sizes = gather(torch.tensor([gradient._nnz()], device=gradient.device)).tolist()

    def padded(values: Tensor) -> list[Tensor]:
        room = values.new_zeros(max(sizes), *values.shape[1:])
        room[: len(values)] = values
        return [part[:size] for part, size in zip(gather(room).chunk(world()), sizes, strict=True)]

    rows, values = torch.cat(padded(gradient.indices()[0])), torch.cat(padded(gradient.values()))
    return torch.sparse_coo_tensor(rows[None], values, gradient.shape, check_invariants=False).coalesce()
