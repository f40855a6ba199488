"""What does a filter cost, the first time and later?

    python benchmarks/filter_speed.py CORPUS [--documents 100000]

1. The first documents of the corpus, each with a year, a language and a number of its own, and a static encoder with
   random weights, make an index.
2. A query is searched for ten hits without a filter, and with filters that a half, a quarter, and ten of the documents
   meet: in an index just opened, and then again.
3. Printed: milliseconds of a hybrid search, one thread; the median of 20, and the single first one.

A CPU minute for 100,000 documents.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from retriever import Document, Encoder, Index, open_corpus
from retriever.data.tokenizers import WordTokenizer
from retriever.kernels import faiss

DIMENSION, ROUNDS, QUERY = 256, 20, "window manager"
FILTERS: list[list[str]] = [[], ["lang=en,de"], ["year>=2010"], ["number<10"], ["year>=2010", "lang=en,de"]]


def main() -> None:
    """Build, search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--documents", type=int, default=100_000)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    texts = itertools.islice(itertools.cycle(open_corpus(options.corpus)), options.documents)
    documents = [
        Document(
            str(n), one.title, one.text, {"year": 2000 + n % 13, "lang": ("en", "de", "fr", "it")[n % 4], "number": n}
        )
        for n, one in enumerate(texts)
    ]
    encoder = Encoder.static(WordTokenizer.train(one.content for one in documents), dimension=DIMENSION)
    with tempfile.TemporaryDirectory() as place:
        encoder.save(Path(place) / "model")
        Index.build(encoder, documents, Path(place) / "index").close()
        with Index.open(Path(place) / "index", encoder) as index:
            index.search(QUERY)
            print(f"{len(index):,} documents, {', '.join(index.info()['kinds'])}: milliseconds of a search")
            print(f"{'':<26} {'first':>7} {'later':>7}")
            for filters in FILTERS:
                first, *later = (milliseconds(index, filters) for _ in range(ROUNDS + 1))
                print(f"{' and '.join(filters) or 'no filter':<26} {first:>7.1f} {np.median(later):>7.1f}")


def milliseconds(index: Index, filters: list[str]) -> float:
    """The time of one search."""
    start = time.perf_counter()
    index.search(QUERY, filters=filters)
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
