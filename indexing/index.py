"""The index: a folder that finds documents by meaning, by words, or by both.

1. ``dense`` encodes the query and looks for the nearest vectors; ``bm25`` looks for its words and needs no model;
   ``hybrid`` takes the best candidates of both and fuses them.
2. The model is loaded when it is first needed, and must be the one that built the index, by fingerprint.
3. Sizes of all files are checked when an index is opened, hashes by :meth:`Index.verify`.

Threads may share an index. See :mod:`retriever.indexing.manifest` for the layout of the folder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from retriever.data.document import Document
from retriever.errors import DataError, IndexFolderError
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.build import BuildOptions, build_folder
from retriever.indexing.dense import DenseIndex
from retriever.indexing.hybrid import Fusion, fuse
from retriever.indexing.manifest import (
    BM25,
    DOCUMENTS,
    VECTORS,
    Manifest,
    find_model,
    generation_name,
    read_manifest,
)
from retriever.indexing.ranking import NO_HIT, Ranking, depth
from retriever.indexing.store import DocumentStore

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder

Mode: TypeAlias = Literal["hybrid", "dense", "bm25"]

CANDIDATES = 1000  # hits of each search that a fusion looks at, as deep as the evaluation does
GRAPH_CANDIDATES = 200  # likewise, where deeper walks through a graph would take longer than an exact search


@dataclass(frozen=True, slots=True)
class Hit:
    """One found document: its rank from 1, id, score and content."""

    rank: int
    id: str
    score: float
    title: str
    text: str
    metadata: Mapping[str, Any]


class Index:
    """An open index; make one with :meth:`build` or :meth:`open`.

    Args:
        folder: The index folder.
        manifest: What it holds.
        encoder: The model, if it is open already.

    Raises:
        IndexFolderError: A file is missing or damaged, or the encoder is not the one that built the index.
    """

    def __init__(self, folder: Path, manifest: Manifest, encoder: Encoder | None = None) -> None:
        self.folder = folder
        self.manifest = manifest
        self._encoding = threading.Lock()
        self._encoder = None if encoder is None else self._checked(encoder)
        manifest.check_sizes(folder)
        generation = folder / generation_name(manifest.generation)
        self._dense = DenseIndex.open(generation / VECTORS, manifest.similarity)
        self._bm25 = Bm25Index.open(generation / BM25)
        self._store = DocumentStore(generation / DOCUMENTS)
        counts = {len(self._dense), len(self._bm25), len(self._store), manifest.documents}
        if len(counts) != 1 or self._dense.dimension != manifest.dimension:
            self.close()
            raise IndexFolderError(f"The files of the index {folder} do not fit together: build the index again.")

    @classmethod
    def build(
        cls,
        encoder: Encoder,
        corpus: Iterable[Document],
        path: str | Path,
        *,
        factory: str = "Flat",
        k1: float = 1.5,
        b: float = 0.75,
        stemmer: str = "porter",
        dtype: str = "auto",
        model: str | Path | None = None,
        overwrite: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Index:
        """Build an index of a corpus and open it.

        Args:
            encoder: Makes the vectors; save it first, so that the index knows where to find it.
            corpus: Documents, read once.
            path: The index folder.
            factory: ``Flat``, ``HNSW32`` or ``HNSW32_SQfp16``; see :mod:`retriever.indexing.dense`.
            k1: Of BM25, see :meth:`retriever.indexing.bm25.Bm25Index.build`.
            b: Of BM25.
            stemmer: Of BM25.
            dtype: Precision of encoding, see :meth:`retriever.encoder.Encoder.encode`.
            model: Where to load the encoder from again, if that is not its own path: the name of a hub model.
            overwrite: Replace an index that is there already; it answers until the new one is complete.
            progress: Called with the number of documents just encoded.

        Returns:
            The index, open.

        Raises:
            DataError: The corpus is empty, an id occurs twice, a vector is not finite, or k1 or b is out of range.
            IndexFolderError: The factory is unknown.
            OutputError: The folder exists already or cannot be written.
        """
        options = BuildOptions(factory, k1, b, stemmer, dtype)
        build_folder(encoder, corpus, Path(path), options, model=model, overwrite=overwrite, progress=progress)
        return cls.open(path, encoder)

    @classmethod
    def open(cls, path: str | Path, model: str | Path | Encoder | None = None) -> Index:
        """Open an index for searching.

        Args:
            path: The index folder.
            model: The encoder that built it, or its path. If not given, it is loaded from where it was when the index
                was built, at the first search that needs it.

        Raises:
            IndexFolderError: There is no index, it is damaged, or another model built it.
            ModelError: There is no such model.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        encoder = _load(model) if isinstance(model, (str, Path)) else model
        while True:
            try:
                return cls(folder, manifest, encoder)
            except IndexFolderError:
                generation = manifest.generation
                manifest = read_manifest(folder)
                if manifest.generation == generation:  # otherwise it was overwritten between two looks
                    raise

    @property
    def encoder(self) -> Encoder:
        """The model, loaded at the first use.

        Raises:
            IndexFolderError: It is not where it was, or not the one that built the index.
            ModelError: It cannot be read.
        """
        with self._encoding:
            return self._open_encoder()

    def search(self, query: str, k: int = 10, mode: Mode = "hybrid", fusion: Fusion = "fisher") -> list[Hit]:
        """The best documents for a query; see :meth:`search_many`."""
        return self.search_many([query], k, mode, fusion)[0]

    def search_many(
        self, queries: Sequence[str], k: int = 10, mode: Mode = "hybrid", fusion: Fusion = "fisher"
    ) -> list[list[Hit]]:
        """The best documents for each of several queries, cheaper than one search after the other.

        Args:
            queries: The queries.
            k: Hits wanted; a query can have fewer.
            mode: ``hybrid``, ``dense`` or ``bm25``.
            fusion: How ``hybrid`` fuses, ``fisher``, ``zscore`` or ``rrf``; see :mod:`retriever.indexing.hybrid`.

        Returns:
            For each query its hits, best first.

        Raises:
            DataError: A query is blank, ``k`` is below 1, or the mode or fusion is unknown.
            IndexFolderError: The model is not the one that built the index, or a file is damaged.
        """
        ranking = self.rank(queries, k, mode, fusion)
        rows = np.unique(ranking.rows[ranking.rows != NO_HIT])
        documents = dict(zip(rows.tolist(), self._store.get(rows), strict=True))
        return [_hits(ranking, query, documents) for query in range(len(queries))]

    def rank(self, queries: Sequence[str], k: int, mode: Mode = "hybrid", fusion: Fusion = "fisher") -> Ranking:
        """Like :meth:`search_many`, but rows and scores (Q, K) instead of documents."""
        for query in queries:
            if not query.strip():
                raise DataError("The query is empty: give at least one word to search for.")
        if mode == "bm25":
            return self._bm25.search(queries, k)
        if mode == "dense":
            return self._dense.search(self._encode(queries), k)
        if mode == "hybrid":
            candidates = max(k, CANDIDATES if self._dense.is_exact else GRAPH_CANDIDATES)
            dense = self._dense.search(self._encode(queries), candidates)
            return fuse([dense, self._bm25.search(queries, candidates)], depth(k, len(self)), method=fusion)
        raise DataError(f"The search mode {mode!r} is unknown: choose hybrid, dense or bm25.")

    def info(self) -> dict[str, Any]:
        """What the index holds, as plain types that `json.dumps` takes."""
        record = self.manifest.model_dump(exclude={"files"})
        return {"path": str(self.folder), **record, "bytes": sum(f.bytes for f in self.manifest.files.values())}

    def verify(self) -> None:
        """Read every file and compare its hash with the manifest's.

        Raises:
            IndexFolderError: A file is missing or damaged.
        """
        self.manifest.verify(self.folder)

    def close(self) -> None:
        """Close the files; the index cannot be searched any more."""
        self._store.close()

    def __len__(self) -> int:
        return self.manifest.documents

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _encode(self, queries: Sequence[str]) -> np.typing.NDArray[np.float32]:
        """Query vectors (Q, D), one call at a time: models and tokenizers are not made for threads."""
        with self._encoding:
            return self._open_encoder().encode(queries, "query")

    def _open_encoder(self) -> Encoder:
        if self._encoder is None:
            self._encoder = self._checked(_load(find_model(self.manifest.model, self.folder)))
        return self._encoder

    def _checked(self, encoder: Encoder) -> Encoder:
        if encoder.fingerprint != self.manifest.model.fingerprint:
            built_by = self.manifest.model.path or "one that was not saved"
            raise IndexFolderError(
                f"The index {self.folder} was built by another model ({built_by}) than {encoder.path or 'this one'}: "
                "open it with that model, or build it again."
            )
        return encoder


def _load(model: str | Path) -> Encoder:
    """Load an encoder; importing it takes seconds, which a search for words need not spend."""
    from retriever.encoder.encoder import Encoder

    return Encoder.load(model)


def _hits(ranking: Ranking, query: int, documents: Mapping[int, Document]) -> list[Hit]:
    found = zip(*(values.tolist() for values in ranking.hits(query)), strict=True)
    return [
        Hit(rank, document.id, score, document.title, document.text, document.metadata)
        for rank, (row, score) in enumerate(found, start=1)
        for document in [documents[row]]
    ]
