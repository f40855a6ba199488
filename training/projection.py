"""What stands between the encoder's vectors and the loss, in training only: whitening and a projection.

1. The vectors are the encoder's before any normalisation of its own: (V, B, D), the queries being the first view, each
   lot of documents another.
2. Whiten each view over the whole batch of all processes (:mod:`retriever.training.whitening`), so that a run in
   several processes is that of one. The shuffle is a function of the seed of the batch.
3. Project: ``tanh(W x + b)``, at the start with W from N(0, 0.02) and b = 0 (SimCSE; Gao et al. 2021, arXiv
   2104.08821).
4. Scale to length 1: the loss compares by cosine.

The projection's weights are trained with the encoder's and are part of a checkpoint, but not of the model: what the
encoder gives without them is the embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retriever.errors import RecipeError
from retriever.training import parallel
from retriever.training.recipe import Head
from retriever.training.whitening import check, permutations, whiten

SPREAD = 0.02  # standard deviation of W at the start


class TrainingHead(nn.Module):
    """Vectors of a batch → what the loss compares.

    Args:
        settings: Section ``head`` of the recipe.
        width: D.
        batch: Sentences a batch, over all processes.
        seed: Of the projection's weights.

    Raises:
        RecipeError: The vectors cannot be cut into so many groups, or the batch is too small for their width.
    """

    def __init__(self, settings: Head, width: int, batch: int, seed: int) -> None:
        super().__init__()
        self.settings = settings
        self.groups = {"group": settings.groups, "zca": 1, "standardise": width}.get(settings.whiten or "", 0)
        if self.groups:
            try:
                check(batch, width, self.groups)
            except ValueError as error:
                raise RecipeError(f"head.whiten is {settings.whiten}: {error}") from error
        self.linear = None
        if settings.projection == "mlp":
            self.linear = nn.Linear(width, width)
            random = torch.Generator().manual_seed(seed)
            with torch.no_grad():
                self.linear.weight.copy_(torch.randn(width, width, generator=random) * SPREAD)
                self.linear.bias.zero_()

    def forward(self, queries: Tensor, documents: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """The vectors the loss compares.

        Args:
            queries: Of this process, (B, D).
            documents: Of this process, views-major, (V · B, D).
            seed: Of the batch's shuffles, the same in all processes.

        Returns:
            Queries (B, D) and documents (V · B, D) of length 1, with a gradient to those given.
        """
        x = torch.cat([queries, documents]).view(-1, *queries.shape)  # (1 + V, B, D)
        if self.groups:
            x = self._whitened(x, seed)
        if self.linear is not None:
            x = torch.tanh(self.linear(x))
        x = nn.functional.normalize(x, dim=-1)
        return x[0], x[1:].flatten(0, 1)

    def _whitened(self, own: Tensor, seed: int) -> Tensor:
        """Whiten with the statistics of all processes; the rows of this one, (1 + V, B, D)."""
        settings, (views, size, width) = self.settings, own.shape
        whole = parallel.gather(own.transpose(0, 1).contiguous()).transpose(0, 1)  # (1 + V, W · B, D)
        y = whiten(
            whole,
            self.groups,
            shuffle=permutations(views, width, seed) if settings.shuffle and 1 < self.groups < width else None,
            shrinkage=settings.shrinkage,
            statistics_gradient=settings.statistics_gradient,
            solver=settings.solver,
        )
        return y[:, parallel.rank() * size :][:, :size]
