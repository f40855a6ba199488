"""What a run remembers beyond a step: the momentum encoder and the queue of MoCo (He et al. 2020, arXiv 1911.05722).

1. The momentum encoder is a copy that follows the trained one, ``θ_k ← m θ_k + (1 − m) θ_q`` before each step, always
   in evaluation mode, never with a gradient. Buffers are copied.
2. The queue holds the last Q keys, first in, first out, with the ids of their documents and texts. It is a plain tensor
   outside the model. Keys enter after the loss they were candidates of; slots not yet filled are never seen.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from retriever.encoder import Encoder


class Momentum:
    """A moving average of an encoder.

    Args:
        encoder: Copied as it is now.
        m: Share of the average that stays at each update, in [0, 1]: 1 never moves, 0 copies.
    """

    def __init__(self, encoder: Encoder, m: float) -> None:
        self.encoder, self.m = Encoder(copy.deepcopy(encoder.stack)), m
        self.encoder.stack.requires_grad_(False)

    @torch.no_grad()
    def update(self, trained: nn.Module) -> None:
        """Move towards the trained weights."""
        own, new = ([p.detach() for p in stack.parameters()] for stack in (self.encoder.stack, trained))
        torch._foreach_lerp_(own, new, 1 - self.m)
        for buffer, value in zip(self.encoder.stack.buffers(), trained.buffers(), strict=True):
            buffer.copy_(value)


class Queue:
    """The last Q keys.

    Args:
        size: Q.
        dimension: D.
        device: Where the keys are.

    Attributes:
        state: All there is to save: ``vectors`` (Q, D), ``ids`` (Q, 2), ``next`` slot and ``filled`` slots, (1,) each.
    """

    def __init__(self, size: int, dimension: int, device: torch.device) -> None:
        self.state = {
            "vectors": torch.zeros(size, dimension, device=device),
            "ids": torch.zeros(size, 2, dtype=torch.int64, device=device),
            "next": torch.zeros(1, dtype=torch.int64),
            "filled": torch.zeros(1, dtype=torch.int64),
        }

    def __len__(self) -> int:
        return int(self.state["filled"])

    @property
    def vectors(self) -> Tensor:
        """The keys, (F, D) for F filled slots."""
        return self.state["vectors"][: len(self)]

    @property
    def ids(self) -> Tensor:
        """Document and text of each key, (F, 2)."""
        return self.state["ids"][: len(self)]

    @torch.no_grad()
    def push(self, vectors: Tensor, ids: Tensor) -> None:
        """Let N ≤ Q keys in, and as many of the oldest out."""
        size = len(self.state["vectors"])
        slots = (int(self.state["next"]) + torch.arange(len(vectors), device=vectors.device)) % size
        self.state["vectors"][slots] = vectors.detach().to(self.state["vectors"].dtype)
        self.state["ids"][slots] = ids
        self.state["next"].fill_((int(self.state["next"]) + len(vectors)) % size)
        self.state["filled"].fill_(min(len(self) + len(vectors), size))

    def load(self, state: dict[str, Tensor]) -> None:
        """Take up a saved queue."""
        self.state = {name: value.to(self.state[name].device) for name, value in state.items()}
