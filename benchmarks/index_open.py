"""How long does an index take to open and answer for the first time, and how much does an addition write?

    python benchmarks/index_open.py INDEX [--add]

1. The files of the index are dropped from the page cache, as far as the system lets them be.
2. The index is opened and searched once for ten hits by vectors (a random one, so that no model is needed), once by
   words, and once as a hybrid search looks by vectors, which reads a sample for its background. Seconds by the clock,
   without the time that Python takes to import.
3. With ``--add``, a document is added and deleted again. Printed is what both wrote, as Linux counts it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from retriever import Document, Index
from retriever.indexing.searching import candidates
from retriever.indexing.view import View
from retriever.kernels import faiss

NAME, TEXT = "benchmark-index-open", "a document that is there for a moment"


def forget(folder: Path) -> None:
    """Drop the files of a folder from the page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def told(name: str, work: Callable[[], object]) -> None:
    """Do it and print its seconds."""
    began = time.perf_counter()
    work()
    print(f"{name:<28} {time.perf_counter() - began:7.3f} s")


def written(work: Callable[[], object]) -> int:
    """Bytes that this process writes in doing it."""

    def count() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))

    before = count()
    work()
    return count() - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("--add", action="store_true", help="add a document, and delete it again")
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    forget(options.index)
    began = time.perf_counter()
    view = View.open(options.index)
    seconds = time.perf_counter() - began
    query = np.random.default_rng(0).standard_normal((1, view.manifest.dimension)).astype(np.float32)
    print(f"{len(view):,} documents of {view.manifest.dimension} dimensions")
    print(f"{'opening':<28} {seconds:7.3f} s")
    told("first search by vectors", lambda: view.dense(query, 10, background=False))
    told("first search by words", lambda: view.bm25.search([TEXT], 10))
    told("vectors for a first hybrid", lambda: view.dense(query, candidates(10), surely=10))
    view.close()
    if options.add:
        with Index.open(options.index) as index:
            print(
                f"{'adding a document writes':<28} {written(lambda: index.add([Document(NAME, text=TEXT)])):>9,} bytes"
            )
            print(f"{'deleting it writes':<28} {written(lambda: index.delete([NAME])):>9,} bytes")


if __name__ == "__main__":
    main()
