"""What a step contrasts: queries, their documents, and which keys must not count as negatives.

Unlabelled (:class:`CorpusExamples`): the two views of a document. Labelled (:class:`LabelledExamples`): a query, one of
its documents drawn at random, and explicit negatives, each a hard one with some probability and else a random document.

Every key carries two ids: its document's, and a hash of its very tokens. A query *knows* ids: those of all its
documents, of its positive texts and of itself. A key whose id a query knows is the same document or a duplicate, and no
negative of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retriever.data.ragged import Ragged, prepend
from retriever.data.tokens import TokenStore
from retriever.training import views
from retriever.training.recipe import Labels
from retriever.training.view_settings import Views

Ids = NDArray[np.int64]
Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class Batch:
    """B queries and V documents of each.

    Attributes:
        queries: B rows of tokens.
        documents: V · B rows, views-major: document v of query i is row v · B + i; positives before negatives.
        positives: How many of the V documents are positives.
        known: Ids that are no negatives of a query, (B, R).
        ids: Document and text of each key, (V · B, 2).
    """

    queries: Ragged
    documents: Ragged
    positives: int
    known: Ids
    ids: Ids

    def share(self, rank: int, world: int) -> Batch:
        """The part of one of ``world`` processes: a contiguous stretch of the queries, with all their documents."""
        if world == 1:
            return self
        own = np.arange(len(self.queries)).reshape(world, -1)[rank]
        keys = np.arange(len(self.documents)).reshape(-1, len(self.queries))[:, own].ravel()
        documents = self.documents.take(keys)
        return Batch(self.queries.take(own), documents, self.positives, self.known[own], self.ids[keys])


class Examples(Protocol):
    """A supply of examples, numbered from 0 on."""

    @property
    def fingerprint(self) -> str:
        """Of everything the examples are drawn from."""
        ...

    def draw(self, rows: Ids, random: Random) -> Batch:
        """The batch of these examples; all its randomness comes from ``random``."""
        ...


@dataclass(frozen=True)
class CorpusExamples:
    """Documents and their views.

    Args:
        store: Token ids of the corpus.
        settings: How views are drawn.
        prompts: Tokens put before queries and before documents.
        mask: Id of the mask token, where the views hide tokens.
    """

    store: TokenStore
    settings: Views
    prompts: tuple[NDArray[np.int32], NDArray[np.int32]]
    mask: int | None = None

    @property
    def fingerprint(self) -> str:
        """Of the tokens."""
        return self.store.fingerprint

    def draw(self, rows: Ids, random: Random) -> Batch:
        """Two views of each document, or more."""
        queries, documents = views.pairs(self.store, rows, self.settings, random, self.mask)
        count = len(documents) // len(rows)
        own, texts = queries.fingerprints(), documents.fingerprints()
        known = np.column_stack([rows, own, texts.reshape(count, -1).T])  # (B, 2 + K)
        ids = np.column_stack([np.tile(rows, count), texts])
        return Batch(*_prompted(queries, documents, self.prompts), count, known, ids)


@dataclass(frozen=True)
class LabelledExamples:
    """Queries with documents known to be relevant.

    Args:
        queries: Tokens of Q queries.
        store: Token ids of N documents.
        positives: Relevant documents of each query, at least one; Q rows.
        negatives: Hard negatives of each query; Q rows.
        settings: Explicit negatives, and how long texts may be.
        prompts: Tokens put before queries and before documents.
        fingerprint: Of all this.
    """

    queries: Ragged
    store: TokenStore
    positives: Ragged
    negatives: Ragged
    settings: Labels
    prompts: tuple[NDArray[np.int32], NDArray[np.int32]]
    fingerprint: str

    def draw(self, rows: Ids, random: Random) -> Batch:
        """Each query, one of its documents, and its explicit negatives."""
        queries = self.queries.take(rows).cut(self.settings.query_tokens)
        documents = [_choose(self.positives, rows, random)]
        documents += [self._negative(rows, random) for _ in range(self.settings.explicit)]
        keys = np.concatenate(documents)  # (V · B,)
        lengths = np.minimum(self.store.lengths[keys], self.settings.document_tokens)
        texts = self.store.spans(keys, np.zeros(len(keys), np.int64), lengths)
        own = texts.fingerprints()
        relevant = _padded(self.positives.take(rows))  # (B, R)
        known = np.column_stack([relevant, queries.fingerprints(), own[: len(rows)]])
        return Batch(*_prompted(queries, texts, self.prompts), 1, known, np.column_stack([keys, own]))

    def _negative(self, rows: Ids, random: Random) -> Ids:
        """A hard negative with probability ``hard`` where the query has one, else any document, (B,)."""
        drawn = random.integers(0, len(self.store), len(rows))
        wanted = (random.random(len(rows)) < self.settings.hard) & (self.negatives.lengths[rows] > 0)
        drawn[wanted] = _choose(self.negatives, rows[wanted], random)
        return drawn


def _choose(choices: Ragged, rows: Ids, random: Random) -> Ids:
    """One entry of each of the rows."""
    return _gathered(choices.ids, choices.offsets[rows] + random.integers(0, choices.lengths[rows]))


def _padded(ragged: Ragged) -> Ids:
    """A rectangle whose short rows repeat their first entry."""
    columns = np.arange(ragged.lengths.max())
    inside = np.where(columns < ragged.lengths[:, None], columns, 0)
    return _gathered(ragged.ids, ragged.offsets[:-1, None] + inside)


def _gathered(ids: NDArray[np.int32], places: Ids) -> Ids:
    return np.take(ids, places).astype(np.int64)


def _prompted(
    queries: Ragged, documents: Ragged, prompts: tuple[NDArray[np.int32], NDArray[np.int32]]
) -> tuple[Ragged, Ragged]:
    return prepend(prompts[0], queries), prepend(prompts[1], documents)
