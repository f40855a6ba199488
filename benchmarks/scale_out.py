"""What 10⁶, 10⁸ and 10¹⁰ vectors take: costs a vector, measured here on one thread, and the arithmetic they lead to.

    python benchmarks/scale_out.py INDEX [--vectors 50000] [--dimension 384] [--nprobe 64] [--memory 64] [--price 0.05]

1. Bytes a document of texts and words are those of a local index that you give.
2. Bytes and CPU time a vector are measured on random unit vectors: exact search in fp32 and in fp16, and the codes that
   ``--factory auto`` chooses, all of them compared.
3. Lists (IVF) compare a query with their L centroids and with the codes in ``--nprobe`` of them, N · nprobe / L, where
   ``auto`` chooses L. What recall that gives depends on the data, and is not what this benchmark measures.
4. Machines are those that hold codes and words in memory; full vectors and texts lie on disk.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np

from retriever.indexing.factory import NUMBER, choose
from retriever.indexing.index import Index
from retriever.kernels import faiss

SIZES = (10**6, 10**8, 10**10)
QUERIES = 64


def measured(kind: str, vectors: np.ndarray, queries: np.ndarray) -> tuple[float, float]:
    """Bytes and CPU seconds a vector of one query, in batches of 64 on one thread."""
    index = faiss.index_factory(vectors.shape[1], kind, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:10_000])
    empty = len(faiss.serialize_index(index))
    index.add(vectors)
    size = (len(faiss.serialize_index(index)) - empty) / len(vectors)
    index.search(queries, 10)
    best = math.inf
    for _ in range(3):
        start = time.process_time()
        index.search(queries, 10)
        best = min(best, time.process_time() - start)
    return size, best / len(queries) / len(vectors)


def stored(index: Index) -> dict[str, float]:
    """Bytes a document of texts and of words."""
    files = index.manifest.files
    kinds = {"texts": "documents.sqlite", "words": "/postings/"}
    return {
        name: sum(file.bytes for path, file in files.items() if part in path) / len(index)
        for name, part in kinds.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path, help="a local index")
    parser.add_argument("--vectors", type=int, default=50_000, help="vectors measured on")
    parser.add_argument("--dimension", type=int, help="of the vectors; the index's if not given")
    parser.add_argument("--nprobe", type=int, default=64, help="lists visited by a query")
    parser.add_argument("--memory", type=float, default=64, help="GiB of a machine that the index may take")
    parser.add_argument("--price", type=float, default=0.05, help="price of a core for an hour")
    settings = parser.parse_args()
    faiss.omp_set_num_threads(1)
    faiss.cvar.distance_compute_blas_threshold = 1  # a product of matrices, as our own searches ask for
    with Index.open(settings.index) as index:
        dimension, document = settings.dimension or index.manifest.dimension, stored(index)
    rng = np.random.default_rng(0)
    vectors, queries = (rng.normal(size=(n, dimension)).astype(np.float32) for n in (settings.vectors, QUERIES))
    faiss.normalize_L2(vectors)
    turn, _, codes = choose(SIZES[0], dimension).split(",")
    kinds = {"Flat": "Flat", "fp16": "SQfp16", "4-bit codes": f"{turn},{codes}"}
    found = {name: measured(kind, vectors, queries) for name, kind in kinds.items()}
    print(f"{settings.vectors:,} vectors of {dimension} dimensions; a document of {settings.index.name} takes")
    print(f"  {document['texts']:.0f} bytes of text and {document['words']:.0f} of words\n")
    print(f"{'kind':<12} {'bytes a vector':>15} {'ns a vector and query':>22}")
    for name, (size, seconds) in found.items():
        print(f"{name:<12} {size:>15.1f} {seconds * 1e9:>22.2f}")
    print("\n| vectors | kind | memory GiB | disk GiB | machines | CPU s a query | price of 10⁶ queries |")
    print("|--:|---|--:|--:|--:|--:|--:|")
    full, scan, (coded, look) = found["fp16"][0], found["Flat"][1], found["4-bit codes"]
    for count in SIZES:
        lists = int(choose(count, dimension).split(",")[1].removeprefix("IVF"))
        visited = count * min(settings.nprobe / lists, 1)
        rows = {
            "exact fp32": (found["Flat"][0], 0.0, count * scan),
            "4-bit codes": (coded, full, count * look),
            "lists of codes": (coded + NUMBER, full, lists * scan + visited * look),
        }
        for name, (resident, kept, seconds) in rows.items():
            memory = count * (resident + document["words"]) / 2**30
            disk = count * (kept + resident + document["texts"] + document["words"]) / 2**30
            machines = math.ceil(memory / settings.memory)
            price = seconds / 3600 * settings.price * 1e6
            size = f"{memory:,.1f} | {disk:,.1f} | {machines:,}"
            print(f"| {count:,} | {name} | {size} | {seconds:.5f} | {price:,.2f} |")


if __name__ == "__main__":
    main()
