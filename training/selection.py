"""Which step was best: search on queries held out of training.

1. Without labels some documents are set aside: their title, or failing that their first sentence, is the query; the
   rest is the document to find (known-item search). Training never sees them. With labels some queries are set aside.
2. The documents to find compete with a random pool of the others.
3. A document's rank for a query is one more than the number of documents that score higher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from retriever.data.corpus import Corpus
from retriever.data.knownitem import known_items
from retriever.data.labelled import Labelled
from retriever.data.ragged import Ragged, concatenate, prepend
from retriever.data.tokens import TokenStore
from retriever.encoder import Encoder
from retriever.training.sampler import ORDER, generator
from retriever.training.selection_settings import Selection

BLOCK = 256  # queries scored at a time
Metrics = dict[str, float]
Ids = NDArray[np.int64]


class Judge(Protocol):
    """What scores the encoder of a step; :mod:`retriever.training.sentence_selection` has others than queries."""

    what: ClassVar[str]
    """What the score is measured on, in words."""

    @property
    def rows(self) -> Ids:
        """Documents of the corpus that training must not see."""
        ...

    def score(self, encoder: Encoder, dtype: str) -> Metrics:
        """Metrics of the encoder as it is now, the higher the better."""
        ...


@dataclass(frozen=True)
class HeldOut:
    """Q queries, N documents, and which documents answer which query.

    Attributes:
        queries: Tokens of the queries.
        documents: Tokens of the documents.
        answers: Documents that answer each query, at least one; Q rows.
        rows: Documents of the corpus that training must not see.
    """

    queries: Ragged
    documents: Ragged
    answers: Ragged
    rows: Ids
    what: ClassVar[str] = "held-out queries"

    def score(self, encoder: Encoder, dtype: str) -> Metrics:
        """Recall@10, Recall@100, MRR@10 and nDCG@10 of the encoder as it is now."""
        return metrics(self.ranks(encoder, dtype), self.answers.lengths)

    def ranks(self, encoder: Encoder, dtype: str) -> Ids:
        """Rank of each answer for its query with the encoder as it is now, (A,)."""
        queries = encoder.embed(self.queries, "query", dtype=dtype)
        documents = encoder.embed(self.documents, dtype=dtype)
        return ranks(queries, documents, self.answers)


def hold_out(corpus: Corpus, store: TokenStore, encoder: Encoder, settings: Selection, seed: int) -> HeldOut | None:
    """Set known items aside; None if the recipe wants none or the corpus has none."""
    items = known_items(corpus, settings.queries, seed) if settings.queries else None
    if items is None or not items.queries:
        return None
    prompts = encoder.prompts
    own = [prompts.get("document", "") + text for text in items.documents]
    queries = [prompts.get("query", "") + text for text in items.queries]
    competitors = _texts(store, _pool(len(store), items.rows, settings.pool, seed), encoder)
    tokenizer = encoder.text_tokenizer
    documents = concatenate([tokenizer.encode(own), competitors])
    answers = Ragged.from_rows([[column] for column in range(len(queries))])
    return HeldOut(tokenizer.encode(queries), documents, answers, items.rows)


def hold_out_queries(
    dev: Labelled, store: TokenStore, encoder: Encoder, settings: Selection, seed: int, limit: int
) -> HeldOut:
    """The queries of ``dev`` with their documents, among others of the pool, cut to ``limit`` tokens."""
    relevant = np.unique(dev.positives.ids).astype(np.int64)
    rows = np.concatenate([relevant, _pool(len(store), relevant, settings.pool, seed)])
    answers = Ragged(np.searchsorted(relevant, dev.positives.ids).astype(np.int32), dev.positives.offsets)
    prompt = encoder.prompts.get("query", "")
    queries = encoder.text_tokenizer.encode([prompt + query for query in dev.queries])
    return HeldOut(queries, _texts(store, rows, encoder, limit), answers, np.empty(0, np.int64))


def ranks(queries: NDArray[np.float32], documents: NDArray[np.float32], answers: Ragged) -> Ids:
    """Rank of each answer for its query, from 1 on, (A,) for A answers in all.

    Ties count against the answer, and so do scores that are no numbers: a collapsed encoder scores 0.
    """
    found = []
    for start in range(0, len(queries), BLOCK):
        scores = queries[start : start + BLOCK] @ documents.T  # (block, N)
        for row, all_scores in enumerate(scores, start):
            found.append((~(all_scores < all_scores[answers[row]][:, None])).sum(1))
    return np.concatenate(found)


def metrics(found: Ids, answers: Ids) -> Metrics:
    """Means over the queries of :func:`query_metrics`."""
    return {name: float(values.mean()) for name, values in query_metrics(found, answers).items()}


def query_metrics(found: Ids, answers: Ids) -> dict[str, NDArray[np.float64]]:
    """Metrics of each query, (Q,), from the ranks of all answers, (A,), and how many answers each query has, (Q,)."""
    starts = np.cumsum(answers) - answers
    best = np.minimum.reduceat(found, starts)
    gains = np.where(found <= 10, 1 / np.log2(found + 1.0), 0.0)
    ideal = np.cumsum(1 / np.log2(np.arange(2, 12)))[np.minimum(answers, 10) - 1]
    return {
        "recall@10": np.add.reduceat(found <= 10, starts, dtype=float) / answers,
        "recall@100": np.add.reduceat(found <= 100, starts, dtype=float) / answers,
        "mrr@10": np.where(best <= 10, 1 / best, 0.0),
        "ndcg@10": np.add.reduceat(gains, starts) / ideal,
    }


def _pool(documents: int, taken: Ids, count: int, seed: int) -> Ids:
    """Some of the other documents, in order."""
    others = np.setdiff1d(np.arange(documents), taken)
    return np.sort(generator(ORDER, seed).permutation(others)[:count])


def _texts(store: TokenStore, rows: Ids, encoder: Encoder, limit: int | None = None) -> Ragged:
    """Documents of the store with the encoder's prompt."""
    lengths = store.lengths[rows] if limit is None else np.minimum(store.lengths[rows], limit)
    return prepend(encoder.prompt_tokens("document"), store.spans(rows, np.zeros(len(rows), np.int64), lengths))
