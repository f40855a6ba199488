"""Views: two texts made from one document form a positive pair (Contriever, arXiv 2112.09118, section 3.1).

1. Draw the kind of each pair by the weights of ``views.mix``. A document that lacks the structure a kind needs is
   cropped instead.
2. Take a random window of the document (or all of it); documents are never glued together. By kind,
   - crop: the query and the document are two independent random crops of the window,
   - cloze: the query is a crop, the document the window without it, save for a share that keeps it (inverse cloze task,
     Lee et al. 2019, arXiv 1906.00300),
   - title, heading, sentence: the query names a part of the document, a crop of which is the document
     (:mod:`retriever.training.structure`),
   - span: both are crops around two occurrences of one phrase (:mod:`retriever.training.view_spans`),
   - same: both are the whole text, or its first tokens; dropout tells them apart (SimCSE, Gao et al. 2021, arXiv
     2104.08821).
3. With several positives, draw that many documents (ReContriever, arXiv 2306.03166).
4. Disturb the tokens (:mod:`retriever.training.view_noise`).

All functions work on whole batches of ragged rows and take their randomness from the generator they are given.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retriever.data.ragged import Ragged, concatenate, slices
from retriever.data.tokens import TokenStore
from retriever.training.structure import FINDERS
from retriever.training.view_crops import crop, crop_places, stretch, window, without
from retriever.training.view_noise import disturb
from retriever.training.view_settings import Views
from retriever.training.view_spans import spans

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Random = np.random.Generator


class Drawn(NamedTuple):
    """Pairs of B documents, before noise.

    Attributes:
        kinds: The kind of each pair, (B,) of str.
        queries: B rows.
        documents: ``views.positives`` lots of B rows.
    """

    kinds: NDArray[np.str_]
    queries: Ragged
    documents: list[Ragged]


def pairs(
    store: TokenStore, rows: Ints, views: Views, random: Random, mask: int | None = None
) -> tuple[Ragged, Ragged]:
    """The query view and the document views of each document.

    Args:
        store: Token ids of the corpus.
        rows: B documents of at least one token each.
        views: Kinds of pairs, lengths and noise.
        random: Source of all draws.
        mask: The mask token's id, from :func:`retriever.training.view_noise.mask_token`.

    Returns:
        B queries, and K · B documents, views-major: view v of row i is row v · B + i.
    """
    return disturbed(draw(store, rows, views, random), views, random, mask)


def disturbed(drawn: Drawn, views: Views, random: Random, mask: int | None) -> tuple[Ragged, Ragged]:
    """Put the documents end to end, and noise on the sides the recipe names; see :func:`pairs`."""
    queries, lots = drawn.queries, drawn.documents
    documents = concatenate(lots) if len(lots) > 1 else lots[0]
    if views.noise != "document":
        queries = disturb(queries, views, random, mask)
    if views.noise != "query":
        documents = disturb(documents, views, random, mask)
    return queries, documents


def draw(store: TokenStore, rows: Ints, views: Views, random: Random) -> Drawn:
    """Pairs of the kinds the recipe wants, before noise; see :func:`pairs`."""
    kinds = _kinds(views.mix.weights, len(rows), random)
    lots: list[tuple[Ints, Ragged, list[Ragged]]] = []
    for kind in views.mix.weights:
        places = np.flatnonzero(kinds == kind)
        if kind != "crop" and len(places):
            found, queries, documents = _draw(kind, store, rows[places], views, random)
            kinds[places[~found]] = "crop"
            lots.append((places[found], queries, documents))
    if len(places := np.flatnonzero(kinds == "crop")):
        lots.append((places, *_crops(store, rows[places], views, random)))
    if len(lots) == 1:
        return Drawn(kinds, *lots[0][1:])
    order = np.argsort(np.concatenate([places for places, _, _ in lots]))
    queries, *documents = (
        concatenate(texts).take(order) for texts in zip(*([q, *lot] for _, q, lot in lots), strict=True)
    )
    return Drawn(kinds, queries, documents)


def _kinds(shares: dict[str, float], count: int, random: Random) -> NDArray[np.str_]:
    names = np.array(list(shares))
    if len(names) == 1:
        return np.repeat(names, count)
    drawn: NDArray[np.str_] = random.choice(names, count, p=list(shares.values()))
    return drawn


def _draw(kind: str, store: TokenStore, rows: Ints, views: Views, random: Random) -> tuple[Flags, Ragged, list[Ragged]]:
    """Which documents have a pair of this kind, and the pairs of those."""
    if kind == "span":
        return spans(store, rows, views, random)
    if kind == "cloze":
        return np.ones(len(rows), bool), *_clozes(store, rows, views, random)
    if kind == "same":
        lengths = store.lengths[rows]
        texts = store.spans(rows, np.zeros(len(rows), np.int64), np.minimum(lengths, views.window or lengths))
        return np.ones(len(rows), bool), texts, [texts] * views.positives
    named = FINDERS[kind](store, rows, random)
    found = named.found
    lengths = named.name_lengths[found]
    queries = slices(store.ids, named.name_starts[found], np.minimum(lengths, views.window or lengths))
    texts = stretch(store.ids, named.text_starts[found], named.text_lengths[found], views.window, random)
    return found, queries, [crop(texts, views.document, random) for _ in range(views.positives)]


def _crops(store: TokenStore, rows: Ints, views: Views, random: Random) -> tuple[Ragged, list[Ragged]]:
    windows = window(store, rows, views.window, random)
    return crop(windows, views.query, random), [crop(windows, views.document, random) for _ in range(views.positives)]


def _clozes(store: TokenStore, rows: Ints, views: Views, random: Random) -> tuple[Ragged, list[Ragged]]:
    """Crops, and the windows without them; at least a token of the window is left where it has two."""
    windows = window(store, rows, views.window, random)
    starts, lengths = crop_places(windows, views.query, random)
    lengths = np.minimum(lengths, np.maximum(windows.lengths - 1, 1))
    documents = []
    for _ in range(views.positives):
        stays = (random.random(len(rows)) < views.cloze_keep) | (lengths == windows.lengths)
        documents.append(without(windows, starts, np.where(stays, 0, lengths)))
    return slices(windows.ids, starts, lengths), documents
