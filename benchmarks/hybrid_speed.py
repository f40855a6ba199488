"""What does hybrid search cost beyond the slower of its two parts?

    python benchmarks/hybrid_speed.py CORPUS [--documents 100000] [--factory auto] [--queries 300] [--model MODEL]

1. The first documents of the corpus, and a sample of their own words as queries of three to eight words. The vectors of
   the documents are the mixture of index_speed.py, so that no hour is spent on encoding; queries are encoded by the
   model, or by a static encoder with random weights.
2. An index of the kind asked for, tuned to a recall of 0.99. Each query is searched alone, for ten hits with their
   texts: by vectors, by words, and by both, in turns.
3. Printed: milliseconds a query (the median over the queries, of the best of three rounds, one thread), and hybrid over
   the slower part.

Three CPU minutes for 100,000 documents.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from index_speed import mixture

from retriever import Document, Encoder, Index, open_corpus
from retriever.data.tokenizers import WordTokenizer
from retriever.indexing.searching import Mode
from retriever.kernels import faiss

DIMENSION, ROUNDS = 384, 3


def questions(documents: Sequence[Document], count: int) -> list[str]:
    """Queries of three to eight words of a document."""
    rng = np.random.default_rng(0)
    asked: list[str] = []
    while len(asked) < count:
        words = documents[int(rng.integers(len(documents)))].content.split()
        if len(words) >= 8:
            asked.append(" ".join(rng.choice(words, int(rng.integers(3, 9)), replace=False)))
    return asked


def measure(index: Index, queries: Sequence[str]) -> dict[Mode, float]:
    """Milliseconds of a query in each mode."""
    modes: tuple[Mode, ...] = get_args(Mode)
    rounds: dict[Mode, list[float]] = {mode: [] for mode in modes}
    for _, mode in itertools.product(range(ROUNDS), modes):
        times = []
        for query in queries:
            start = time.perf_counter()
            index.search(query, mode=mode)
            times.append(time.perf_counter() - start)
        rounds[mode].append(1000 * float(np.median(times)))
    return {mode: min(medians) for mode, medians in rounds.items()}


def main() -> None:
    """Build, search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--factory", default="auto")
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--model")
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    documents = list(itertools.islice(open_corpus(options.corpus), options.documents))
    if options.model:
        encoder = Encoder.load(options.model)
    else:
        tokenizer = WordTokenizer.train(document.content for document in documents)
        encoder = Encoder.static(tokenizer, dimension=DIMENSION)
    vectors = mixture(len(documents), 1, encoder.dimension)[0]
    with tempfile.TemporaryDirectory() as place:
        encoder.save(Path(place) / "model")
        with Index.build(encoder, documents, Path(place) / "index", factory=options.factory, vectors=vectors) as index:
            cost = measure(index, questions(documents, options.queries))
            print(f"{len(index):,} documents, {', '.join(index.info()['kinds'])}, milliseconds a query")
    for mode, value in cost.items():
        print(f"{mode:<10} {value:7.2f}")
    print(f"hybrid over the slower part: {cost['hybrid'] / max(cost['dense'], cost['bm25']) - 1:+.0%}")


if __name__ == "__main__":
    main()
