"""Presets: published systems as rows of settings of the one core.

A preset turns embeddings into scores, targets and weights, and hands them to
:func:`~retriever.training.objectives.core.contrast`. Scores are computed in fp32 with autocast off: at a temperature of
0.05 a bfloat16 score is off by a tenth of a logit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retriever.training.objectives.core import Link, contrast


def in_batch(
    queries: Tensor, documents: Tensor, temperature: float = 0.05, symmetric: bool = False, link: Link = "all"
) -> Tensor:
    """InfoNCE with in-batch negatives (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748, eq. 4).

    Args:
        queries: (B, D); L2-normalised for cosine similarity.
        documents: (M, D) with M ≥ B. Document i is the positive of query i and a negative of every other query; the
            documents from B on are negatives of all queries.
        temperature: τ > 0.
        symmetric: Average with the opposite direction, where each of the first B documents looks for its query.
        link: How the positive meets the negatives: ``all`` is InfoNCE, ``none`` is DCL (arXiv 2110.06848).

    Returns:
        The loss per query, (B,), fp32 (fp64 if the inputs are).

    Raises:
        ValueError: There are fewer documents than queries, or the temperature is not positive.
    """
    if len(documents) < len(queries):
        raise ValueError(
            f"{len(documents)} documents for {len(queries)} queries; document i is the positive of query i."
        )
    with torch.autocast(queries.device.type, enabled=False):
        scores = _fp32(queries) @ _fp32(documents).T  # (B, M)
        loss = contrast(scores, _diagonal(scores), temperature=temperature, link=link)
        if not symmetric:
            return loss
        reverse = scores[:, : len(queries)].T  # (B, B)
        return (loss + contrast(reverse, _diagonal(reverse), temperature=temperature, link=link)) / 2


def _diagonal(scores: Tensor) -> Tensor:
    """Targets (B, M): candidate i is the positive of anchor i."""
    return torch.eye(*scores.shape, dtype=scores.dtype, device=scores.device)


def _fp32(vectors: Tensor) -> Tensor:
    return vectors if vectors.dtype == torch.float64 else vectors.float()
