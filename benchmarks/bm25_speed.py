"""Speed of BM25 over a collection that changes, against bm25s, on one thread.

    python benchmarks/bm25_speed.py texts.jsonl.gz
    python benchmarks/bm25_speed.py texts.jsonl.gz --documents 20000

Documents are the texts of the file, over and over until there are enough, each time without another tenth of its words;
queries are the titles. Both indexes answer the same queries in turns; the best of several rounds counts. ``changed``
is the same collection in eight postings with a tenth of the documents deleted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections.abc import Callable
from functools import partial

import bm25s
import numpy as np
from numpy.typing import NDArray

from retriever.data.words import WordAnalyzer
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.postings import Postings

K1, B, K, ROUNDS = 1.5, 0.75, 10, 5


def collection(path: str, documents: int, queries: int) -> tuple[list[str], list[str]]:
    """Texts and queries."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    generator = random.Random(0)
    texts = []
    while len(texts) < documents:
        source = records[len(texts) % len(records)]["text"].split()
        keep = 1.0 if len(texts) < len(records) else 0.9
        texts.append(" ".join(word for word in source if generator.random() < keep))
    return texts, [record["title"] for record in generator.sample(records, queries)]


class Peer:
    """bm25s with our words, asked for what a search here is asked for: hits only, and their scores."""

    def __init__(self, texts: list[str], analyzer: WordAnalyzer) -> None:
        self.analyzer, self.scorer = analyzer, bm25s.BM25(k1=K1, b=B, method="lucene")
        self.scorer.index(list(map(analyzer, texts)), show_progress=False)

    def search(self, queries: list[str], k: int) -> list[NDArray[np.float32]]:
        """The ``k`` best scores of each query; the retrieval of bm25s one by one, which is its fastest here."""
        words = map(self.analyzer, queries)
        scores = (self.scorer.get_scores(found) for found in words)
        return [np.sort(each[np.argpartition(-each, k)[:k]])[::-1] for each in scores]


def ask(index: Bm25Index | Peer, batches: list[list[str]]) -> None:
    """Search for all queries."""
    for batch in batches:
        index.search(batch, K)


def timed(work: Callable[[], object]) -> float:
    """CPU seconds."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", help="a .jsonl.gz file of objects with title and text")
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)
    options = parser.parse_args()
    texts, queries = collection(options.texts, options.documents, options.queries)
    analyzer = WordAnalyzer()
    words = list(map(analyzer, texts))

    began = time.process_time()
    theirs = Peer(texts, analyzer)
    print(f"build, bm25s     {time.process_time() - began:6.2f} s")
    began = time.process_time()
    postings = Postings.build(map(analyzer, texts))
    print(f"build, postings  {time.process_time() - began:6.2f} s")
    whole = Bm25Index([postings], np.ones(len(texts), bool), analyzer, K1, B)
    parts = [Postings.build(words[start::8]) for start in range(8)]
    alive = np.random.default_rng(0).random(len(texts)) >= 0.1
    ways = {"bm25s": theirs, "postings": whole, "changed": Bm25Index(parts, alive, analyzer, K1, B)}

    close = np.isclose(whole.search(queries, K).scores, np.stack(theirs.search(queries, K)), rtol=1e-5)
    print(f"best {K} scores of {len(queries)} queries that agree: {close.mean():.4%}")
    for name, size in (("one by one", 1), ("all at once", len(queries))):
        batches = [queries[start : start + size] for start in range(0, len(queries), size)]
        best = dict.fromkeys(ways, np.inf)
        for _ in range(ROUNDS):
            for way, index in ways.items():
                best[way] = min(best[way], timed(partial(ask, index, batches)))
        for way, seconds in best.items():
            print(
                f"{name}: {way:<9} {1e3 * seconds / len(queries):.3f} ms a query, {best['bm25s'] / seconds:.2f} x bm25s"
            )
    starts = (alive[: len(part)] for part in parts)
    print(f"joining the eight postings: {timed(lambda: Postings.merge(parts, list(starts))):.2f} s")


if __name__ == "__main__":
    main()
