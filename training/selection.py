"""Which step was best, judged without labels: known-item search on documents held out of the corpus.

1. Some documents are set aside: their title, or failing that their first sentence, is the query; the rest is the
   document to find. Training never sees them.
2. They compete with a random pool of the other documents.
3. A query's rank is one more than the number of documents that score higher than its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retriever.data.corpus import Corpus
from retriever.data.knownitem import known_items
from retriever.data.ragged import Ragged, concatenate
from retriever.data.tokens import TokenStore
from retriever.encoder import Encoder
from retriever.training.recipe import Selection
from retriever.training.sampler import ORDER, generator

BLOCK = 256  # queries scored at a time
Metrics = dict[str, float]


@dataclass(frozen=True)
class HeldOut:
    """Q known-item queries and N documents; query i belongs to document i."""

    queries: Ragged
    documents: Ragged
    rows: NDArray[np.int64]  # of the Q documents in the corpus

    def score(self, encoder: Encoder, dtype: str) -> Metrics:
        """Recall@10, Recall@100 and MRR@10 of the encoder as it is now."""
        queries = encoder.embed(self.queries, dtype=dtype)
        documents = encoder.embed(self.documents, dtype=dtype)
        return metrics(ranks(queries, documents))


def hold_out(corpus: Corpus, store: TokenStore, encoder: Encoder, settings: Selection, seed: int) -> HeldOut | None:
    """Set known items aside; None if the recipe wants none or the corpus has none."""
    items = known_items(corpus, settings.queries, seed) if settings.queries else None
    if items is None or not items.queries:
        return None
    prompts = encoder.prompts
    own = [prompts.get("document", "") + text for text in items.documents]
    queries = [prompts.get("query", "") + text for text in items.queries]
    others = np.setdiff1d(np.arange(len(store)), items.rows)
    pool = np.sort(generator(ORDER, seed).permutation(others)[: settings.pool])
    competitors = store.spans(pool, np.zeros(len(pool), np.int64), store.lengths[pool])
    tokenizer = encoder.text_tokenizer
    return HeldOut(tokenizer.encode(queries), concatenate([tokenizer.encode(own), competitors]), items.rows)


def ranks(queries: NDArray[np.float32], documents: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rank of document i for query i, from 1 on, (Q,).

    Ties count against the document, so that a collapsed encoder scores 0.
    """
    found = []
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        scores = block @ documents.T  # (block, N)
        own = np.take_along_axis(scores, np.arange(start, start + len(block))[:, None], axis=1)
        found.append((scores >= own).sum(1))
    return np.concatenate(found)


def metrics(found: NDArray[np.int64]) -> Metrics:
    """The metrics of known-item search from the ranks, (Q,)."""
    return {
        "recall@10": float((found <= 10).mean()),
        "recall@100": float((found <= 100).mean()),
        "mrr@10": float(np.where(found <= 10, 1 / found, 0.0).mean()),
    }
