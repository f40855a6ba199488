"""Speed of BM25 over a collection that changes, against bm25s, on one thread.

    python benchmarks/bm25_speed.py texts.jsonl.gz
    python benchmarks/bm25_speed.py texts.jsonl.gz --documents 20000

Documents are the texts of the file, over and over until there are enough, each time without another tenth of its words;
queries are the titles. All answer the same queries in turns; the best of several rounds counts. ``its scores`` are
those of bm25s without a choice of the best, ``changed`` is the same collection in eight postings with a tenth of the
documents deleted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import time
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import bm25s
import numpy as np
from numpy.typing import NDArray

from retriever.data.words import WordAnalyzer
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.postings import Postings

K1, B, K, ROUNDS = 1.5, 0.75, 10, 5
Search: TypeAlias = Callable[[list[str], int], object]


def collection(path: str, documents: int, queries: int) -> tuple[list[str], list[str]]:
    """Texts and queries."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    generator = random.Random(0)
    texts: list[str] = []
    while len(texts) < documents:
        source = records[len(texts) % len(records)]["text"].split()
        keep = 1.0 if len(texts) < len(records) else 0.9
        texts.append(" ".join(word for word in source if generator.random() < keep))
    return texts, [record["title"] for record in generator.sample(records, queries)]


class Peer:
    """bm25s on the same words, as its users search."""

    def __init__(self, texts: list[str], analyzer: WordAnalyzer) -> None:
        self.analyzer, self.scorer = analyzer, bm25s.BM25(k1=K1, b=B, method="lucene")
        self.scorer.index(list(map(analyzer, texts)), show_progress=False)

    def search(self, queries: list[str], k: int) -> NDArray[np.float32]:
        """The ``k`` best scores of each query (Q, k)."""
        words = list(map(self.analyzer, queries))
        found: NDArray[np.float32] = self.scorer.retrieve(words, k=k, show_progress=False).scores
        return found

    def score(self, queries: list[str], k: int) -> None:
        """The scores of all documents for each query, of which none is chosen."""
        for query in queries:
            self.scorer.get_scores(self.analyzer(query))


def ask(search: Search, batches: list[list[str]]) -> None:
    """Search for all queries."""
    for batch in batches:
        search(batch, K)


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
    changed = Bm25Index(parts, alive, analyzer, K1, B)
    ways: dict[str, Search] = {
        "bm25s": theirs.search,
        "its scores": theirs.score,
        "postings": whole.search,
        "changed": changed.search,
    }

    close = np.isclose(whole.search(queries, K).scores, theirs.search(queries, K), rtol=1e-5)
    print(f"best {K} scores of {len(queries)} queries that agree: {close.mean():.4%}")
    for name, size in (("one by one", 1), ("all at once", len(queries))):
        batches = [queries[start : start + size] for start in range(0, len(queries), size)]
        best = dict.fromkeys(ways, np.inf)
        for _ in range(ROUNDS):
            for way, search in ways.items():
                best[way] = min(best[way], timed(partial(ask, search, batches)))
        for way, seconds in best.items():
            each = 1e3 * seconds / len(queries)
            print(f"{name}: {way:<10} {each:.3f} ms a query, {best['bm25s'] / seconds:.2f} x bm25s")
    starts = (alive[: len(part)] for part in parts)
    print(f"joining the eight postings: {timed(lambda: Postings.merge(parts, list(starts))):.2f} s")


if __name__ == "__main__":
    main()
