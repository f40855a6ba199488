"""The loss of one batch: who competes with whom.

1. The keys of the batch are gathered from all processes, those of the queue stand behind them.
2. A key is no candidate of a query that knows one of its ids: it is the same document, a duplicate, or known to be
   relevant. Without in-batch negatives, neither are the other queries' keys.
3. Several positives of a query are weighted by how well they fit it: ``softmax_v(⟨q̂, k̂_v⟩ / τ_r)`` of vectors without a
   gradient, the momentum encoder's if there is one (ReContriever; Lei et al. 2023, arXiv 2306.03166, normalised by a
   softmax because a dot product may be negative).
4. The opposite direction, if asked for, contrasts each first positive with all queries of the batch but those that
   know it; without in-batch negatives there is none.
5. Several views of a text may instead be a term each, ``Σ_v InfoNCE(query, view v)`` with the keys of that view alone
   (WhitenedCSE; Zhuo et al. 2023, arXiv 2305.17746), or anchors each, over all pairs of views.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retriever.training import objectives, parallel
from retriever.training.examples import Batch
from retriever.training.memory import Queue
from retriever.training.recipe import Negatives, Objective


@dataclass(frozen=True)
class Keys:
    """Candidates of all queries: vectors (M, D), and the ids of their documents and texts (M, 2)."""

    vectors: Tensor
    ids: Tensor


def gather_keys(documents: Tensor, batch: Batch) -> Keys:
    """The keys of this batch over all processes."""
    ids = torch.from_numpy(batch.ids).to(documents.device)
    return Keys(parallel.gather(documents), parallel.gather(ids))


def batch_loss(
    queries: Tensor,
    documents: Tensor,
    keys: Keys,
    batch: Batch,
    queue: Queue | None,
    teacher: tuple[Tensor, Tensor] | None,
    objective: Objective,
    negatives: Negatives,
) -> Tensor:
    """Mean loss over the queries of all processes, this process' part of it: the parts add up to the whole.

    With ``objective.terms`` ``sum`` it is the sum of such means, with ``all_pairs`` the mean over all views.

    Args:
        queries: Of this process, (B, D).
        documents: Of this process, views-major, (V · B, D).
        keys: Of all processes.
        batch: What was encoded.
        queue: Earlier keys.
        teacher: Queries and documents as the momentum encoder sees them, to weigh several positives.
        objective: Temperature, link, direction, terms.
        negatives: Where they come from.
    """
    if objective.terms == "all_pairs":
        return _all_pairs(queries, documents, batch, objective)
    if objective.terms == "joint":
        return _one_term(queries, documents, keys, batch, queue, teacher, objective, negatives)
    terms = []
    for view in range(batch.positives):
        own, candidates, part = _of_view(view, documents, keys, batch)
        terms.append(_one_term(queries, own, candidates, part, None, None, objective, negatives))
    return torch.stack(terms).sum()


def _one_term(
    queries: Tensor,
    documents: Tensor,
    keys: Keys,
    batch: Batch,
    queue: Queue | None,
    teacher: tuple[Tensor, Tensor] | None,
    objective: Objective,
    negatives: Negatives,
) -> Tensor:
    """All positives of a query in one term; see :func:`batch_loss`."""
    first, size = parallel.rank() * len(documents), len(queries)
    candidates, ids = keys.vectors, keys.ids
    if queue is not None and len(queue):
        candidates, ids = torch.cat([candidates, queue.vectors]), torch.cat([ids, queue.ids])
    known = torch.from_numpy(batch.known).to(ids.device)
    live = admitted(known, ids, size * batch.positives)
    if not negatives.in_batch:
        others = torch.ones(size, len(candidates), dtype=torch.bool, device=ids.device)
        others[:, len(keys.vectors) :] = False
        own = torch.arange(len(documents), device=ids.device)
        others[own % size, first + own] = False  # documents are views-major
        live = ~others if live is None else live & ~others
    symmetric, alone = objective.symmetric and negatives.in_batch, parallel.world() == 1
    loss = objectives.in_batch(
        queries,
        candidates,
        objective.temperature,
        symmetric and alone,
        objective.link,
        first=first,
        shares=relevance(teacher or (queries, documents), batch.positives, objective.relevance),
        live=live,
        margin=objective.false_negatives,
    )
    if symmetric and not alone:
        own = torch.from_numpy(batch.ids[:size]).to(ids.device)
        among = admitted(parallel.gather(known), own, size)  # (W · B, B)
        back = objectives.in_batch(
            documents[:size],
            parallel.gather(queries),
            objective.temperature,
            False,
            objective.link,
            first=parallel.rank() * size,
            live=None if among is None else among.T,
            margin=objective.false_negatives,
        )
        loss = (loss + back) / 2
    return loss.sum() / (size * parallel.world())


def _of_view(view: int, documents: Tensor, keys: Keys, batch: Batch) -> tuple[Tensor, Keys, Batch]:
    """Documents, keys and batch with one of the positives, and all explicit negatives."""
    size = len(batch.queries)
    lots = [view, *range(batch.positives, len(documents) // size)]
    rows = np.concatenate([np.arange(lot * size, (lot + 1) * size) for lot in lots])
    here = torch.from_numpy(rows).to(documents.device)
    everywhere = torch.cat([here + rank * len(documents) for rank in range(parallel.world())])
    part = Batch(batch.queries, batch.documents.take(rows), 1, batch.known, batch.ids[rows])
    return documents[here], Keys(keys.vectors[everywhere], keys.ids[everywhere]), part


def _all_pairs(queries: Tensor, documents: Tensor, batch: Batch, objective: Objective) -> Tensor:
    """Mean over the views of all texts; this process' part of it."""
    world, size = parallel.world(), len(queries)
    anchors = torch.cat([queries, documents]).view(-1, *queries.shape)  # (V, b, D)
    views = len(anchors)
    ids = torch.from_numpy(np.concatenate([batch.known[:, :2], batch.ids])).to(queries.device)  # document and text

    def everybody(own: Tensor) -> Tensor:
        """(V, b, …) of this process → (V, B, …) of all."""
        return parallel.gather(own.transpose(0, 1).contiguous()).transpose(0, 1)

    known = torch.from_numpy(batch.known).to(ids.device).repeat(views, 1)  # (V · b, R)
    live = admitted(known, everybody(ids.view(views, size, 2)).reshape(-1, 2), len(known) * views)
    first = parallel.rank() * size
    loss = objectives.all_pairs(
        anchors, everybody(anchors), objective.temperature, objective.link, first=first, live=live
    )
    return loss.sum() / (len(loss) * world)


def admitted(known: Tensor, ids: Tensor, own: int) -> Tensor | None:
    """Which keys are no positive, duplicate or relevant document of a query.

    Args:
        known: Ids each query knows, (B, R).
        ids: Ids of each key, (M, I).
        own: Pairs of a query and a key of its own, all of which the queries know.

    Returns:
        Booleans (B, M); None where nothing but the queries' own keys would be left out.
    """
    known = known.contiguous()
    values, order = ids.flatten().sort()  # (M · I,)
    low = torch.searchsorted(values, known)
    counts = (torch.searchsorted(values, known, right=True) - low).flatten()  # (B · R,) keys with this id
    rows = torch.arange(len(known), device=ids.device).repeat_interleave(known.shape[1]).repeat_interleave(counts)
    within = torch.arange(len(rows), device=ids.device) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    columns = order[low.flatten().repeat_interleave(counts) + within] // ids.shape[1]
    live = torch.ones(len(known), len(ids), dtype=torch.bool, device=ids.device)
    live[rows, columns] = False
    return None if int(live.sum()) == live.numel() - own else live


def relevance(vectors: tuple[Tensor, Tensor], positives: int, temperature: float | None) -> Tensor | None:
    """Weights of each query's K positives, (B, K); None for one positive."""
    if positives == 1:
        return None
    queries, documents = (part.detach() for part in vectors)
    if temperature is None:
        return torch.ones(len(queries), positives, device=queries.device)
    keys = documents[: positives * len(queries)].view(positives, *queries.shape)  # (K, B, D)
    scores = torch.einsum("bd,kbd->bk", queries, keys)
    return torch.softmax(scores / temperature, 1).clamp_min(1e-6)  # 0 would make a positive a negative
