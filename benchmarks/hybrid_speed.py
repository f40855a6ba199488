"""What does hybrid search cost beyond the slower of its two parts?

    python benchmarks/hybrid_speed.py CORPUS [--documents 100000] [--factory Flat] [--queries 200]

1. The first documents of the corpus, a sample of their own words as queries of three to eight words, and random unit
   vectors of dimension 384 in the place of a model's, so that nothing but the index is measured.
2. An index with BM25 and the FAISS type asked for. Each query is searched alone, ten hits: by vectors, by words, and by
   both with the default fusion; a search for ten hits fuses the best candidates of each part.
3. Printed: milliseconds a query (the median over the queries, of the best of three rounds, in CPU time of one thread),
   and hybrid over the slower part.

Two CPU minutes for 100,000 documents.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial

import faiss
import numpy as np
from numpy.typing import NDArray

from retriever.data.corpus import open_corpus
from retriever.data.document import Document
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.dense import DenseIndex
from retriever.indexing.hybrid import fuse
from retriever.indexing.ranking import Ranking
from retriever.indexing.searching import CANDIDATES, GRAPH_CANDIDATES

DIMENSION, ROUNDS, HITS = 384, 3, 10

Search = Callable[[int], Ranking]
"""The number of a query → its hits."""


def unit(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Random vectors (N, D) of length 1."""
    vectors = rng.normal(size=(count, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def questions(documents: Sequence[Document], count: int, rng: np.random.Generator) -> list[str]:
    """Queries of three to eight words of a document."""
    asked: list[str] = []
    while len(asked) < count:
        words = documents[int(rng.integers(len(documents)))].content.split()
        if len(words) >= 8:
            asked.append(" ".join(rng.choice(words, int(rng.integers(3, 9)), replace=False)))
    return asked


def milliseconds(search: Search, queries: int) -> float:
    """Median CPU time of a query, of the best round."""
    rounds = []
    for _ in range(ROUNDS):
        times = []
        for query in range(queries):
            start = time.process_time()
            search(query)
            times.append(time.process_time() - start)
        rounds.append(1000 * float(np.median(times)))
    return min(rounds)


def main() -> None:
    """Build, search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--factory", default="Flat")
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    documents = list(itertools.islice(open_corpus(options.corpus), options.documents))
    dense = DenseIndex.build(unit(rng, len(documents)), "cosine", options.factory)
    words = Bm25Index.build(document.content for document in documents)
    vectors, texts = unit(rng, options.queries), questions(documents, options.queries, rng)
    depth = CANDIDATES if dense.is_exact else GRAPH_CANDIDATES

    def by_vectors(k: int, query: int) -> Ranking:
        return dense.search(vectors[query : query + 1], k)

    def by_words(k: int, query: int) -> Ranking:
        return words.search(texts[query : query + 1], k)

    def by_both(query: int) -> Ranking:
        return fuse([by_vectors(depth, query), by_words(depth, query)], HITS)

    parts = {"vectors": partial(by_vectors, HITS), "words": partial(by_words, HITS)}
    cost = {name: milliseconds(search, options.queries) for name, search in {**parts, "hybrid": by_both}.items()}
    slower = max(cost["vectors"], cost["words"])
    print(f"{len(documents):,} documents, {options.factory}, one thread, milliseconds a query")
    for name, value in cost.items():
        print(f"{name:<10} {value:7.2f}")
    print(f"hybrid over the slower part: {cost['hybrid'] / slower - 1:+.0%}")


if __name__ == "__main__":
    main()
