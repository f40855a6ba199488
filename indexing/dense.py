"""Dense search: the nearest vectors, on FAISS.

1. Under cosine similarity all vectors, documents and queries, are scaled to length 1; then both similarities are inner
   products, in fp32 (fp16 for the documents of ``HNSW32_SQfp16``).
2. ``Flat`` compares with every document and is exact. ``HNSW32`` walks a graph of 32 links a document: it looks at a
   small part of the documents and misses a few hits. It suits cosine; under dot product long vectors draw the walk.
3. Vectors are added in chunks, so that building holds the index and one chunk.
4. Searches pass their parameters along and change nothing, so that threads can share an index. A file is opened as a
   memory map, which processes share.
5. The background of a query's scores is taken from 4,096 documents spread evenly over the rows, or from all if there
   are fewer.

A query whose vector is zero (no known word) has no direction and no hits. Flat indexes are the same at every build;
HNSW graphs only if built by one thread (``OMP_NUM_THREADS=1``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import faiss
import numpy as np
from numpy.typing import NDArray

from retriever.errors import DataError, IndexFolderError, OutputError
from retriever.indexing.ranking import NO_HIT, Background, Ranking, depth

if TYPE_CHECKING:
    from retriever.encoder.encoder import Similarity

Array = NDArray[np.float32]

CHUNK = 16_384  # vectors added at a time
EF_CONSTRUCTION = 100  # breadth of the walk that places a new document in a graph
EF_SEARCH = 128  # breadth of the walk of a search, unless told otherwise
SAMPLE = 4096  # documents that stand for all in the background of scores: mean and deviation to about 1 %
FACTORY = re.compile(r"Flat|HNSW\d+(_SQfp16)?")

# Since 1.15, FAISS compares this threshold with queries × dimension, and its default sends batches of up to hundreds
# of queries down the path meant for one. Before, it compared with the number of queries, and the default was 20.
TUNE_BATCHES = faiss.cvar.distance_compute_blas_threshold > 1000


class DenseIndex:
    """A FAISS index; make one with :meth:`build`, :meth:`empty` or :meth:`open`.

    Args:
        index: The FAISS index, by inner product.
        similarity: ``cosine`` or ``dot``.
    """

    def __init__(self, index: faiss.Index, similarity: Similarity) -> None:
        self._index = index
        self._sample: Array | None = None
        self.similarity = similarity

    @classmethod
    def empty(cls, dimension: int, similarity: Similarity = "cosine", factory: str = "Flat") -> DenseIndex:
        """An index without documents, for :meth:`add`.

        Args:
            dimension: D.
            similarity: ``cosine`` or ``dot``.
            factory: ``Flat``, ``HNSW32`` (or another number of links) or ``HNSW32_SQfp16``.

        Raises:
            IndexFolderError: The factory is unknown.
        """
        if not FACTORY.fullmatch(factory):
            raise IndexFolderError(f"The factory {factory!r} is unknown: choose Flat, HNSW32 or HNSW32_SQfp16.")
        index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
        if isinstance(index, faiss.IndexHNSW):
            index.hnsw.efConstruction = EF_CONSTRUCTION
        return cls(index, similarity)

    @classmethod
    def build(cls, vectors: Array, similarity: Similarity = "cosine", factory: str = "Flat") -> DenseIndex:
        """Index vectors (N, D); their positions are the rows that a search returns.

        Raises:
            DataError: A vector is not finite.
            IndexFolderError: The factory is unknown.
        """
        index = cls.empty(vectors.shape[1], similarity, factory)
        index.add(vectors)
        return index

    @classmethod
    def open(cls, path: str | Path, similarity: Similarity = "cosine") -> DenseIndex:
        """Open a saved index as a memory map; the file must not change while it is open.

        Args:
            path: What :meth:`save` wrote.
            similarity: The similarity it was built for, which the file does not tell.

        Raises:
            IndexFolderError: The file is missing or damaged.
        """
        try:
            return cls(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC), similarity)
        except (RuntimeError, MemoryError) as error:
            raise IndexFolderError(f"The vectors {path} are missing or damaged: build the index again.") from error

    def add(self, vectors: Array) -> None:
        """Append vectors (N, D) to the index.

        Raises:
            DataError: A vector is not finite, or the dimension differs from the index's.
        """
        for start in range(0, len(vectors), CHUNK):
            self._index.add(self._prepared(vectors[start : start + CHUNK]))
        self._sample = None

    def save(self, path: str | Path) -> None:
        """Write the index to a file.

        Raises:
            OutputError: The file cannot be written.
        """
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            raise OutputError(f"Cannot write {path}: choose a place with room and write access.") from error

    def search(self, vectors: Array, k: int, ef_search: int | None = None) -> Ranking:
        """The ``k`` nearest documents of each query.

        Args:
            vectors: Query vectors (Q, D).
            k: Hits wanted.
            ef_search: Breadth of the walk through a graph: higher finds more and takes longer. At least ``k``; 128 if
                not given. A flat index does not need it.

        Returns:
            Rows and similarities (Q, min(k, N)).

        Raises:
            DataError: A vector is not finite, its dimension differs from the index's, or ``k`` is below 1.
        """
        width = depth(k, len(self))
        queries = self._prepared(vectors)
        parameters = None
        if not self.is_exact:
            parameters = faiss.SearchParametersHNSW(efSearch=max(ef_search or EF_SEARCH, width))  # type: ignore[attr-defined]
        if not len(queries):
            return Ranking.stack([], width, self._background(queries))
        with _tuned(*queries.shape):
            scores, rows = self._index.search(queries, width, params=parameters)
        rows[~queries.any(axis=1)] = NO_HIT
        return Ranking.sorted(rows, scores, self._background(queries))

    @property
    def is_exact(self) -> bool:
        """Whether a search compares with every document."""
        return not isinstance(self._index, faiss.IndexHNSW)

    @property
    def dimension(self) -> int:
        """D, the width of a vector."""
        return int(self._index.d)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def _background(self, queries: Array) -> Background:
        """How the queries (Q, D) score a sample of the documents, which is read once."""
        sample = self._sample
        if sample is None:
            rows = np.linspace(0, len(self) - 1, min(SAMPLE, len(self))).round().astype(np.int64)
            sample = self._sample = self._index.reconstruct_batch(rows)
        scores = queries @ sample.T
        return Background(
            scores.mean(axis=1, dtype=np.float64), scores.std(axis=1, dtype=np.float64), np.ones(len(queries))
        )

    def _prepared(self, vectors: Array) -> Array:
        """Checked vectors, of length 1 under cosine similarity."""
        vectors = np.ascontiguousarray(vectors, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise DataError(
                f"The index holds vectors of dimension {self.dimension} and cannot take an array of shape "
                f"{vectors.shape}: use the encoder it was built with."
            )
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise DataError(
                f"Vector {int(np.argmin(finite))} holds NaN or infinity: the encoder is broken, train or load it again."
            )
        if self.similarity == "dot":
            return vectors
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))  # (N,)
        return (vectors / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)


@contextmanager
def _tuned(queries: int, dimension: int) -> Iterator[None]:
    """Settings of FAISS that make small batches fast.

    With fewer queries than threads, FAISS packs the whole matrix for a product with almost nothing: use no more threads
    than queries (the number counts for the calling thread only). From four queries on, a matrix product pays.
    """
    if TUNE_BATCHES:
        faiss.cvar.distance_compute_blas_threshold = 4 * dimension
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(min(threads, queries))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
