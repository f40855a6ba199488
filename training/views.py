"""Views: two random crops of one document form a positive pair (Contriever, arXiv 2112.09118, section 3.1).

1. Take a random window of the document (or all of it); documents are never glued together.
2. Draw two independent crops of it: a length, then a start, both uniform. A share of the crops may be drawn from the
   beginning only, the part of a text that reads most like a query for it.
3. Delete each token of both crops with a small probability, never the whole crop.

All functions work on whole batches of ragged rows and take their randomness from the generator they are given.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retriever.data.ragged import Ragged, offsets_of, slices
from retriever.data.tokens import TokenStore
from retriever.training.view_settings import Crop, Views

LEAD = 48  # tokens that count as the beginning

Random = np.random.Generator


def pairs(store: TokenStore, rows: NDArray[np.int64], views: Views, random: Random) -> tuple[Ragged, Ragged]:
    """The query view and the document view of each document.

    Args:
        store: Token ids of the corpus.
        rows: B documents of at least one token each.
        views: Crop lengths, window and deletion.
        random: Source of all draws.

    Returns:
        Two ragged arrays of B rows.
    """
    windows = window(store, rows, views.window, random)
    query, document = (crop(windows, spec, random) for spec in (views.query, views.document))
    return delete(query, views.delete, random), delete(document, views.delete, random)


def window(store: TokenStore, rows: NDArray[np.int64], width: int | None, random: Random) -> Ragged:
    """A random stretch of ``width`` tokens of each document; shorter documents, and all if it is None, are whole."""
    lengths = store.offsets[rows + 1] - store.offsets[rows]  # (B,)
    kept = lengths if width is None else np.minimum(lengths, width)
    return store.spans(rows, random.integers(0, lengths - kept + 1), kept)


def crop(texts: Ragged, spec: Crop, random: Random) -> Ragged:
    """A random contiguous piece of each row.

    The length is uniform over ``spec.tokens``, or ``int(n · r)`` with r uniform over ``spec.ratio`` for a row of n
    tokens; it is at least 1 and at most n. With ``spec.lead``, that share of the rows is first cut to its beginning.
    """
    lengths = texts.lengths  # (B,)
    if spec.lead:
        lengths = np.where(random.random(len(texts)) < spec.lead, np.minimum(lengths, LEAD), lengths)
    if spec.tokens is not None:
        wanted = random.integers(spec.tokens[0], spec.tokens[1] + 1, len(texts))
    else:
        low, high = spec.ratio or (1.0, 1.0)
        wanted = (lengths * random.uniform(low, high, len(texts))).astype(np.int64)
    kept = np.clip(wanted, 1, lengths)
    return slices(texts.ids, texts.offsets[:-1] + random.integers(0, lengths - kept + 1), kept)


def delete(texts: Ragged, share: float, random: Random) -> Ragged:
    """Drop each token with probability ``share``; a row that would be empty keeps its first token."""
    if share == 0:
        return texts
    kept = random.random(len(texts.ids)) >= share  # (T,)
    left = np.add.reduceat(kept, texts.offsets[:-1])
    kept[texts.offsets[:-1][left == 0]] = True
    return texts.keep(kept)


def prepend(prefix: NDArray[np.int32], texts: Ragged) -> Ragged:
    """Put the tokens of a prompt before each row."""
    if not len(prefix):
        return texts
    offsets = offsets_of(texts.lengths + len(prefix))
    ids = np.empty(offsets[-1], np.int32)
    head = offsets[:-1, None] + np.arange(len(prefix))  # (B, P)
    body = np.ones(len(ids), bool)
    body[head] = False
    ids[head], ids[body] = prefix, texts.ids
    return Ragged(ids, offsets)
