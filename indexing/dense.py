"""Dense search: the nearest vectors, on FAISS.

1. Under cosine similarity all vectors, documents and queries, are scaled to length 1; then both similarities are inner
   products. Documents are kept in fp32 (``Flat``, ``HNSW32``) or fp16 (all other kinds).
2. ``Flat`` compares with every document and is exact. Other kinds look at a part of the documents or at codes of them,
   miss a few hits, and score what they found by the full vectors: :mod:`retriever.indexing.kinds`.
3. Vectors are added in chunks, so that building holds the index and one chunk. Codes are learnt when they are first
   needed: at the first search, or on saving.
4. ``alive`` tells which rows may be found. Few of them are compared one by one, which is exact; else lists and graphs
   skip the others, and the remaining kinds find more than is wanted, of which the others are dropped. A query that ends
   up with fewer hits than there are is compared with all rows that are alive.
5. Searches pass their parameters along and change nothing, so that threads can share an index. Files are opened as
   memory maps, which processes share.
6. The background of a query's scores is that of 4,096 documents spread evenly over the rows, or of all if there are
   fewer: :mod:`retriever.indexing.vectors`.

A query whose vector is zero (no known word) has no direction and no hits. Flat indexes are the same at every build;
others only if built by one thread (``OMP_NUM_THREADS=1``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retriever.errors import DataError, IndexFolderError
from retriever.indexing.alive import compare
from retriever.indexing.damage import mend
from retriever.indexing.factory import AUTO, choose
from retriever.indexing.kinds import (
    RERANK,
    SHALLOWEST,
    SearchSettings,
    create,
    evenly,
    learn,
    one_by_one,
    search_parameters,
    selector,
    selects,
    store_inside,
    told,
)
from retriever.indexing.ranking import NO_HIT, NOTHING, Background, Ranking, depth
from retriever.indexing.remembered import remembered
from retriever.indexing.small_batches import small_batches
from retriever.indexing.vector_files import read_vectors, store_path, write_vectors
from retriever.indexing.vectors import Spread, check_similarity, spectrum, unit
from retriever.kernels import faiss

if TYPE_CHECKING:
    from retriever.encoder.encoder import Similarity

Array = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

CHUNK = 16_384  # vectors added at a time
SAMPLE = 4096  # documents that stand for all in the background of scores: mean and deviation to about 1 %
FEW = 20_000  # rows alive that are compared one by one
SURPLUS = 2  # candidates of codes for each hit that need not be sure
REMEMBERED = 64  # parameters of searches that are kept, as making them takes longer than a search of few lists
SPARE = 3.0  # where rows are dropped afterwards, so many deviations more than wanted are found
HALF_MAX = float(np.finfo(np.float16).max)


class DenseIndex:
    """A FAISS index; make one with :meth:`build`, :meth:`empty` or :meth:`open`.

    Args:
        index: What is searched, by inner product.
        similarity: ``cosine`` or ``dot``.
        store: The full vectors, row for row, where ``index`` holds codes.
        factory: What FAISS made it of, if that is known.
    """

    def __init__(
        self, index: faiss.Index, similarity: Similarity, store: faiss.Index | None = None, factory: str | None = None
    ) -> None:
        inside = store_inside(index)
        self._index = index
        self._coded = inside is None
        self._store: Any = store if inside is None else inside
        self._refined: faiss.IndexRefine | None = None
        self._spread: Spread | None = None
        self._spending = remembered(self._spend, REMEMBERED)
        self._chooses: Callable[[NDArray[np.float64]], str] | None = None
        check_similarity(similarity)
        self.similarity, self.factory = similarity, factory

    @classmethod
    def empty(
        cls,
        dimension: int,
        similarity: Similarity = "cosine",
        factory: str = "Flat",
        count: int = 0,
        memory: float | None = None,
    ) -> DenseIndex:
        """An index without documents, for :meth:`add`.

        Args:
            dimension: D.
            similarity: ``cosine`` or ``dot``.
            factory: ``Flat``, ``HNSW32_SQfp16``, ``PQ192x4fs``, ``IVF1024,PQ192x4fs`` or any other factory string of
                FAISS; ``auto`` chooses by size and, once there are vectors, by how they lie.
            count: N, vectors that it will hold, for ``auto``.
            memory: Bytes that searches may hold in memory, likewise.

        Raises:
            IndexFolderError: The factory is unknown or does not fit the dimension, or the memory is too little.
        """
        chosen = choose(count, dimension, memory) if factory == AUTO else factory
        index = cls(create(chosen, dimension), similarity, create("SQfp16", dimension), chosen)
        if factory == AUTO:
            index._chooses = partial(choose, count, dimension, memory)
        return index

    @classmethod
    def build(cls, vectors: Array, similarity: Similarity = "cosine", factory: str = "Flat") -> DenseIndex:
        """Index vectors (N, D); their positions are the rows that a search returns.

        Args:
            vectors: An array, also a memory-mapped one or one in fp16, of which a chunk at a time is read.
            similarity: ``cosine`` or ``dot``.
            factory: See :meth:`empty`.

        Raises:
            DataError: A vector is not finite.
            IndexFolderError: The factory is unknown or does not fit the dimension, or the vectors are too few for it.
        """
        index = cls.empty(vectors.shape[1], similarity, factory, len(vectors))
        index.add(vectors)
        index.finish()
        return index

    @classmethod
    def open(cls, path: str | Path, similarity: Similarity = "cosine") -> DenseIndex:
        """Open a saved index as a memory map; the files must not change while they are open.

        Args:
            path: What :meth:`save` wrote.
            similarity: The similarity it was built for, which the file does not tell.

        Raises:
            IndexFolderError: A file is missing or damaged.
        """
        index = read_vectors(Path(path))
        store = None if store_inside(index) is not None else read_vectors(store_path(path))
        if store is not None and (store.ntotal, store.d) != (index.ntotal, index.d):
            raise IndexFolderError(
                f"{path} and {store_path(path)} do not fit together: {mend(Path(path).parent.parent)}."
            )
        return cls(index, similarity, store)

    @classmethod
    def of_store(cls, path: str | Path, similarity: Similarity, factory: str) -> DenseIndex:
        """An index of full vectors that :meth:`save` wrote beside codes, without encoding them again.

        Args:
            path: The file of the full vectors, see :func:`store_path`.
            similarity: ``cosine`` or ``dot``.
            factory: See :meth:`empty`; a kind that holds codes.

        Raises:
            IndexFolderError: The file is missing or damaged, or the factory is unknown.
        """
        store = read_vectors(Path(path))
        index = cls(create(factory, store.d), similarity, store, factory)
        index.finish()
        return index

    def add(self, vectors: Array) -> None:
        """Append vectors (N, D) to the index.

        Raises:
            DataError: A vector is not finite or beyond fp16, or the dimension differs from the index's.
        """
        for start in range(0, len(vectors), CHUNK):
            chunk = self._prepared(vectors[start : start + CHUNK])
            if isinstance(self._store, faiss.IndexScalarQuantizer) and np.abs(chunk).max(initial=0) > HALF_MAX:
                raise DataError("A vector holds a value beyond fp16 (65,504): use the factory Flat or HNSW32.")
            (self._store if self._coded else self._index).add(chunk)
        self._spread = self._refined = None
        self._spending = remembered(self._spend, REMEMBERED)

    def finish(self) -> None:
        """Learn codes, if the kind needs them and they are not learnt yet, and encode what has been added.

        Raises:
            IndexFolderError: The vectors are too few for this kind, or it takes no vectors after its first ones.
        """
        if not self._index.is_trained:
            if self._chooses is not None:
                self.factory = self._chooses(spectrum(self.vectors(evenly(len(self), SAMPLE))))
                self._index = create(self.factory, self.dimension)
            learn(self._index, self._store)
        for start in range(self._index.ntotal, len(self), CHUNK):
            chunk = self._store.reconstruct_n(start, min(CHUNK, len(self) - start))
            try:
                self._index.add(chunk)
            except RuntimeError as error:
                raise IndexFolderError(
                    f"This kind of index takes no more vectors after the first {start:,}: choose another factory."
                ) from error
        if self._coded and self._refined is None:
            self._refined = faiss.IndexRefine(one_by_one(self._index), self._store)

    def save(self, path: str | Path) -> None:
        """Write the index to a file, and the full vectors beside it where the index holds codes.

        Raises:
            OutputError: A file cannot be written.
            IndexFolderError: The vectors are too few for this kind.
        """
        self.finish()
        write_vectors(self._index, Path(path))
        if self._coded:
            write_vectors(self._store, store_path(path))

    def search(
        self,
        vectors: Array,
        k: int,
        *,
        alive: Mask | None = None,
        parameters: SearchSettings | None = None,
        background: bool = True,
        surely: int | None = None,
    ) -> Ranking:
        """The ``k`` nearest documents of each query.

        Args:
            vectors: Query vectors (Q, D).
            k: Hits wanted.
            alive: Which rows may be found, (N,); all if not given. The background is that of all rows.
            parameters: What an approximate search may spend; see :class:`retriever.indexing.kinds.SearchSettings`.
            background: Whether to tell how the queries score all documents, which fusions want to know.
            surely: How many of the hits the search may spend that for, the others being what codes alone find next;
                ``k`` if not given.

        Returns:
            Rows and similarities (Q, min(k, rows alive)).

        Raises:
            DataError: A vector is not finite, its dimension differs from the index's, ``k`` is below 1, or ``alive``
                has another length than the index.
        """
        self.finish()
        if alive is not None and alive.shape != (len(self),):
            raise DataError(f"The rows alive have shape {alive.shape} and the index has {len(self):,} rows.")
        if alive is not None and alive.all():
            alive = None
        width = depth(k, len(self) if alive is None else int(np.count_nonzero(alive)))
        queries = self._prepared(vectors)
        if not len(queries) or not width:
            return Ranking.stack([NOTHING] * len(queries), width, self._background(queries) if background else None)
        with small_batches(*queries.shape):
            rows, scores = self._find(queries, width, alive, parameters or SearchSettings(), min(surely or k, width))
            spread = self._background(queries) if background else None
        rows[~queries.any(axis=1)] = NO_HIT
        return Ranking.sorted(rows, scores, spread)

    def exact(self, vectors: Array, k: int) -> Ranking:
        """Like :meth:`search`, comparing with every stored vector, whatever the kind; without a background.

        Raises:
            DataError: As :meth:`search`.
        """
        queries = self._prepared(vectors)
        width = depth(k, len(self))
        with small_batches(*queries.shape):
            return Ranking.sorted(*compare(self._store, queries, width))

    def candidates(self, vectors: Array, count: int, parameters: SearchSettings) -> Rows:
        """The rows that the kind itself finds, in its own order, before full vectors score them.

        Args:
            vectors: Query vectors (Q, D).
            count: C, rows wanted.
            parameters: Lists visited or breadth of the walk.

        Returns:
            Rows (Q, min(C, N)); −1 where too few are found.
        """
        self.finish()
        queries = self._prepared(vectors)
        with small_batches(*queries.shape):
            spending = search_parameters(self._index, parameters, SHALLOWEST)
            found: Rows = self._index.search(queries, min(count, len(self)), params=spending)[1]
        return found

    def vectors(self, rows: Rows) -> Array:
        """The stored vectors of rows (R,), as (R, D) fp32; of length 1 under cosine similarity.

        Raises:
            IndexError: There is no such row.
        """
        rows = np.ascontiguousarray(rows, np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows from {rows.min()} to {rows.max()} of an index with {len(self):,} rows")
        found: Array = self._store.reconstruct_batch(rows)
        return found

    @property
    def is_exact(self) -> bool:
        """Whether a search compares with every full vector."""
        return self._index is self._store

    @property
    def is_coded(self) -> bool:
        """Whether what is searched are codes, whose candidates full vectors score."""
        return self._coded

    @property
    def dimension(self) -> int:
        """D, the width of a vector."""
        return int(self._index.d)

    @property
    def kind(self) -> faiss.Index:
        """What FAISS searches, for looking at."""
        return self._index

    def __len__(self) -> int:
        return int(self._store.ntotal)

    def _find(
        self, queries: Array, k: int, alive: Mask | None, settings: SearchSettings, surely: int
    ) -> tuple[Rows, Array]:
        """Rows and scores (Q, k) in any order, for k up to the number of rows alive."""
        if alive is not None and np.count_nonzero(alive) <= FEW:
            return compare(self._store, queries, k, alive)
        candidates = k
        if self._coded:
            each = settings.rerank or RERANK
            candidates = max(each * max(surely, SHALLOWEST), min(each, SURPLUS) * k)
        rows, scores = self._look(queries, k, alive, settings, candidates)
        short = np.flatnonzero((rows == NO_HIT).any(axis=1))
        if len(short):
            rows[short], scores[short] = compare(self._store, queries[short], k, alive)
        return rows, scores

    def _look(
        self, queries: Array, k: int, alive: Mask | None, settings: SearchSettings, candidates: int
    ) -> tuple[Rows, Array]:
        """What the kind itself finds; row −1 where it finds too little."""
        searched = self._index if self._refined is None else self._refined
        if alive is None:
            candidates = min(candidates, len(self))
            scores, rows = searched.search(queries, k, params=self._spending(settings, candidates, k))
            return rows, scores
        share = np.count_nonzero(alive) / len(alive)
        if selects(self._index):
            candidates = min(candidates, len(self))
            spending = self._spend(settings, candidates, k, selector(alive), share)
            scores, rows = searched.search(queries, k, params=spending)
            return rows, scores
        candidates = math.ceil(max(candidates, k + SPARE * math.sqrt(k)) / share)
        width = min(candidates, len(self))
        scores, rows = searched.search(queries, width, params=self._spending(settings, width, width))
        found = Ranking(rows, scores).without((rows == NO_HIT) | ~alive[rows], k)
        return found.rows, found.scores

    def _spend(
        self,
        settings: SearchSettings,
        candidates: int,
        width: int,
        chosen: faiss.IDSelector | None = None,
        share: float = 1.0,
    ) -> faiss.SearchParameters | None:
        """The same in FAISS's words: ``candidates`` of the kind for ``width`` hits."""
        spending = search_parameters(self._index, settings, candidates, chosen, share)
        if self._refined is None:
            return spending
        return told("IndexRefineSearchParameters", k_factor=candidates / width, base_index_params=spending)

    def _background(self, queries: Array) -> Background:
        """How the queries (Q, D) score a sample of the documents, which is read once."""
        if self._spread is None:
            self._spread = Spread.of(self.vectors(evenly(len(self), SAMPLE)))
        return self._spread.background(queries, self.similarity)

    def _prepared(self, vectors: Array) -> Array:
        """Checked vectors, of length 1 under cosine similarity."""
        vectors = np.asarray(vectors)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise DataError(
                f"The index holds vectors of dimension {self.dimension} and cannot take an array of shape "
                f"{vectors.shape}: use the encoder it was built with."
            )
        return unit(vectors, self.similarity)
