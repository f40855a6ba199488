"""Presets: published systems as rows of settings of the one core.

A preset turns embeddings into scores, targets and weights, and hands them to
:func:`~retriever.training.objectives.core.contrast`. Scores are computed in fp32 with autocast off: at a temperature of
0.05 a bfloat16 score is off by a tenth of a logit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from retriever.training.objectives.core import Link, contrast, fp32


def in_batch(
    queries: Tensor,
    documents: Tensor,
    temperature: float = 0.05,
    symmetric: bool = False,
    link: Link = "all",
    *,
    first: int = 0,
    shares: Tensor | None = None,
    live: Tensor | None = None,
    margin: float | None = None,
) -> Tensor:
    """InfoNCE of queries against documents (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748, eq. 4).

    With hard negatives or a queue behind the positives this is also MoCo's loss (He et al. 2020, arXiv 1911.05722) and
    the supervised one of DPR (Karpukhin et al. 2020, arXiv 2004.04906); with ``shares`` it is ReContriever's
    (Lei et al. 2023, arXiv 2306.03166).

    Args:
        queries: (B, D); L2-normalised for cosine similarity.
        documents: (M, D). The positives of query i are documents ``first + v · B + i`` for v < K; all others are its
            negatives.
        temperature: τ > 0.
        symmetric: Average with the opposite direction, where the first positive of each query looks for its query among
            the B queries; needs ``first = 0``.
        link: How the positive meets the negatives: ``all`` is InfoNCE, ``none`` is DCL (arXiv 2110.06848), ``self``
            keeps the other positives of a query out of the denominator.
        first: Where the positives begin.
        shares: How much each of its K positives counts for a query, (B, K); one positive if omitted.
        live: False where a document is no candidate of a query, (B, M); its positives always are.
        margin: Leave out the negatives that score more than an anchor's first positive plus this, as likely relevant
            too (Solatorio 2024, arXiv 2402.16829).

    Returns:
        The loss per query, (B,), fp32 (fp64 if the inputs are).

    Raises:
        ValueError: There are fewer documents than positives, or the temperature is not positive.
    """
    views = 1 if shares is None else shares.shape[1]
    if len(documents) < first + views * len(queries):
        raise ValueError(
            f"{len(documents)} documents for {len(queries)} queries; document i is the positive of query i."
        )
    with torch.autocast(queries.device.type, enabled=False):
        scores = fp32(queries) @ fp32(documents).T  # (B, M)
        columns = _columns(scores, first, views)  # (B, K)
        targets = torch.zeros_like(scores)
        targets.scatter_(1, columns, 1.0 if shares is None else shares.to(scores.dtype))
        loss = contrast(scores, targets, _weights(scores, columns, live, margin), temperature, link)
        if not symmetric:
            return loss
        size = len(queries)
        back, among = scores[:, :size].T, None if live is None else live[:, :size].T  # (B, B)
        diagonal = torch.eye(size, dtype=scores.dtype, device=scores.device)
        weights = _weights(back, _columns(back, 0, 1), among, margin)
        return (loss + contrast(back, diagonal, weights, temperature, link)) / 2


def all_pairs(
    anchors: Tensor,
    candidates: Tensor,
    temperature: float = 0.05,
    link: Link = "all",
    *,
    first: int = 0,
    live: Tensor | None = None,
) -> Tensor:
    """InfoNCE between all views of a text, each an anchor once: the mean over all ordered pairs of views.

    Args:
        anchors: V views of b texts, (V, b, D); L2-normalised for cosine similarity.
        candidates: V views of B ≥ b texts, the anchors among them, (V, B, D). The positives of an anchor are the other
            views of its text, its negatives all V · (B − 1) views of other texts.
        temperature: τ > 0.
        link: ``self`` lets each positive meet the negatives alone, ``all`` (SupCon; Khosla et al. 2020, arXiv
            2004.11362, eq. 2) the anchor's other positives too; with two views they are one.
        first: Which candidate the first anchor is.
        live: False where a candidate is none of an anchor, (V · b, V · B); views of its own text always are.

    Returns:
        The loss per anchor, (V · b,), views-major, fp32 (fp64 if the inputs are).

    Raises:
        ValueError: There are fewer than two views, or the temperature is not positive.
    """
    views, size, count = *anchors.shape[:2], candidates.shape[1]
    if views < 2:
        raise ValueError(f"all_pairs needs at least two views of a text, not {views}.")
    with torch.autocast(anchors.device.type, enabled=False):
        scores = fp32(anchors).flatten(0, 1) @ fp32(candidates).flatten(0, 1).T  # (V · b, V · B)
        own = torch.eye(count, dtype=torch.bool, device=scores.device)[first : first + size]  # (b, B)
        same = own.repeat(views, views)
        rows, columns = (torch.arange(views, device=own.device).repeat_interleave(n) for n in (size, count))
        itself = same & (rows[:, None] == columns)
        weights = torch.ones_like(scores) if live is None else (live | same).to(scores.dtype)
        return contrast(scores, (same & ~itself).to(scores.dtype), weights.masked_fill(itself, 0), temperature, link)


def _columns(scores: Tensor, first: int, views: int) -> Tensor:
    """Where each query's positives are, (B, K)."""
    rows, starts = (torch.arange(count, device=scores.device) for count in (len(scores), views))
    return first + rows[:, None] + starts * len(scores)


def _weights(scores: Tensor, columns: Tensor, live: Tensor | None, margin: float | None) -> Tensor | None:
    """Weights of the candidates, (B, M): those of positives are 1; None where all are."""
    if margin is not None:
        near = scores.detach() <= scores.detach().gather(1, columns[:, :1]) + margin
        live = near if live is None else live & near
    return None if live is None else live.to(scores.dtype).scatter_(1, columns, 1.0)
