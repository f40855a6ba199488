"""The encoder inside a training step.

1. The rows are sorted by length and cut into packs of a token budget, so that little is padded; each pack is one
   forward pass with a dropout seed of its own, which depends on nothing but the seed given and the pack's number.
2. With a gradient, all activations stay until the backward pass. Batches that do not fit use the gradient cache
   (GradCache, Gao et al. 2021, arXiv 2101.06983): encode without a gradient, take the loss' gradient with respect to
   the vectors, then encode each pack once more, with the same dropout, and carry the gradient through it. The result is
   the gradient of the whole batch, in the memory of one pack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retriever.data.ragged import Ragged
from retriever.encoder import Encoder, Kind
from retriever.encoder.loop import arithmetic, packs

SIDE = 2**31  # keeps the dropout seeds of two views apart; of a seed, torch's generator on the CPU reads 32 bits


@dataclass(frozen=True)
class Forward:
    """Token rows → vectors, as the encoder stands (in training or evaluation mode).

    Args:
        encoder: Run as it is.
        dtype: ``auto``, ``float32`` or ``bfloat16``.
        budget: Padded tokens a pack.
        normalise: End with the encoder's own normalisation, if it has one.
    """

    encoder: Encoder
    dtype: str
    budget: int
    normalise: bool = True

    def __call__(self, tokens: Ragged, seed: int, kind: Kind = "document") -> Tensor:
        """Vectors (N, D) of queries or documents in fp32, with a gradient where one is enabled."""
        rows = self._packs(tokens)
        if len(rows) == 1:
            return self._encode(tokens, seed, kind)
        order = np.argsort(np.concatenate(rows), kind="stable")
        vectors = [self._encode(tokens.take(pack), seed + number, kind) for number, pack in enumerate(rows)]
        return torch.cat(vectors)[torch.from_numpy(order).to(vectors[0].device)]

    def backward(self, tokens: Ragged, seed: int, gradient: Tensor, kind: Kind = "document") -> None:
        """Encode again and carry the loss' gradient (N, D) with respect to the vectors on to the weights."""
        rows = self._packs(tokens)
        if len(rows) == 1:
            torch.autograd.backward(self._encode(tokens, seed, kind), gradient)
            return
        for number, pack in enumerate(rows):
            wanted = gradient[torch.from_numpy(pack).to(gradient.device)]
            torch.autograd.backward(self._encode(tokens.take(pack), seed + number, kind), wanted)

    def _packs(self, tokens: Ragged) -> list[NDArray[np.int64]]:
        """Rows of each pack; a bag of tokens has no padding to avoid."""
        if self.encoder.limit is None:
            return [np.arange(len(tokens))]
        lengths = np.minimum(tokens.lengths, self.encoder.limit) + self.encoder.frame
        return list(packs(lengths, self.budget))

    def _encode(self, tokens: Ragged, seed: int, kind: Kind) -> Tensor:
        torch.manual_seed(seed)
        with arithmetic(self.encoder.device, self.dtype):
            vectors = self.encoder(self.encoder.features(tokens, kind), self.normalise)
        return vectors.float()


def default_budget(device: torch.device) -> int:
    """Padded tokens a pack: what stays in a CPU's caches, or fills another device."""
    return 2_048 if device.type == "cpu" else 65_536
