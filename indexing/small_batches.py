"""Settings of FAISS that make searches for few queries fast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from retriever.kernels import faiss, faiss_threads

# Since 1.15, FAISS compares this threshold with queries × dimension, and its default sends batches of up to hundreds
# of queries down the path meant for one. Before, it compared with the number of queries, and the default was 20.
TUNE_BATCHES = faiss.cvar.distance_compute_blas_threshold > 1000


@contextmanager
def small_batches(queries: int, dimension: int) -> Iterator[None]:
    """Search for Q queries (Q, D) in the block as fast as FAISS can.

    With fewer queries than threads, FAISS packs the whole matrix for a product with almost nothing: use no more threads
    than queries. From four queries on, a matrix product pays.
    """
    if TUNE_BATCHES:
        faiss.cvar.distance_compute_blas_threshold = 4 * dimension
    with faiss_threads(min(faiss.omp_get_max_threads(), queries)):
        yield
