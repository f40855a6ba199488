"""One state of an index whose documents Milvus holds: what :mod:`retriever.indexing.view` is to a local index.

1. Vectors and words are searched by Milvus; rankings are of rows as everywhere, so that fusions are the same.
2. The background of a query's vector scores is that of a sample of 4,096 vectors spread evenly over the rows, fetched
   once. That of its word scores is that of its best 1,000 documents, which is the depth that hybrid search asks for.
3. Conditions are met by Milvus while it searches.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.data.words import WordAnalyzer
from retriever.errors import DataError, IndexFolderError
from retriever.indexing.bm25 import BACKGROUND, spread
from retriever.indexing.dense import SAMPLE
from retriever.indexing.filters import Condition, unknown_field
from retriever.indexing.kinds import SearchSettings, evenly
from retriever.indexing.manifest import Manifest, MilvusRecord, read_manifest
from retriever.indexing.milvus import Collection
from retriever.indexing.milvus_filters import expression
from retriever.indexing.milvus_words import WordCounts
from retriever.indexing.ranking import NO_HIT, NOTHING, Background, Hits, Ranking, best, depth
from retriever.indexing.vectors import Spread, unit


class MilvusView:
    """The documents of an index at one moment; threads may share it.

    Args:
        folder: The index folder.
        manifest: What it holds.
        collection: The documents.

    Raises:
        IndexFolderError: A file is missing or damaged, or Milvus cannot be reached.
    """

    def __init__(self, folder: Path, manifest: Manifest, collection: Collection) -> None:
        manifest.check_sizes(folder)
        self.folder, self.manifest, self.collection = folder, manifest, collection
        self.counts = WordCounts.open(folder / self.record.words, WordAnalyzer(manifest.bm25.stemmer))

    @classmethod
    def open(cls, folder: Path, known: MilvusView | None = None) -> MilvusView:
        """The state that counts now; the connection of an older one is taken over."""
        manifest = read_manifest(folder)
        record = manifest.milvus
        if record is None:
            raise IndexFolderError(f"The documents of the index {folder} have moved: open it again.")
        if known is not None and (record.uri, record.collection) == (known.record.uri, known.record.collection):
            return cls(folder, manifest, known.collection)
        return cls(folder, manifest, Collection.open(record.uri, record.collection, manifest.model.fingerprint))

    @property
    def record(self) -> MilvusRecord:
        """Where the documents are."""
        if self.manifest.milvus is None:
            raise TypeError("the manifest is of a local index")
        return self.manifest.milvus

    @property
    def is_exact(self) -> bool:
        """Whether the vectors are compared one by one."""
        return self.manifest.factory == "Flat"

    @property
    def bm25(self) -> MilvusWords:
        """Search by words."""
        return MilvusWords(self)

    def matching(self, conditions: Sequence[Condition]) -> str | None:
        """What documents that meet all conditions meet, in the language of Milvus; None without any condition.

        Raises:
            DataError: No document has a field.
        """
        known = self.record.fields
        for condition in conditions:
            if condition.field not in known:
                raise unknown_field(self.folder, condition.field, known)
        return expression(conditions)

    def dense(
        self,
        vectors: NDArray[np.float32],
        k: int,
        allowed: str | None = None,
        settings: SearchSettings | None = None,
        *,
        background: bool = True,
        surely: int | None = None,
    ) -> Ranking:
        """The ``k`` documents nearest to each query vector (Q, D), among those that are allowed.

        Raises:
            DataError: There are settings, which are for FAISS.
        """
        if settings is not None:
            raise DataError(f"The index {self.folder} is searched by Milvus: leave out the settings of FAISS.")
        width = depth(k, len(self))
        vectors = unit(vectors, self.manifest.similarity)
        directed = (vectors != 0).any(axis=1).tolist()
        found = iter(self._search("vector", list(vectors[directed]), width, allowed))
        hits = [best(*next(found), width) if one else NOTHING for one in directed]
        told = self._spread.background(vectors, self.manifest.similarity) if background else None
        return Ranking.stack(hits, width, told)

    def documents(self, rows: NDArray[np.int64]) -> list[Document]:
        """The documents of rows, in their order.

        Raises:
            IndexFolderError: One was deleted since it was found.
        """
        found = self.collection.documents(rows.tolist())
        if len(found) < len(set(rows.tolist())):
            raise IndexFolderError(f"The index {self.folder} was changed during a search: search again.")
        return [found[row] for row in rows.tolist()]

    def find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each id, −1 for one that no document has."""
        found = self.collection.find(list(dict.fromkeys(ids)))
        return np.array([found[name][0] if name in found else NO_HIT for name in ids], np.int64)

    def close(self) -> None:
        """End the connection."""
        self.collection.close()

    def __len__(self) -> int:
        return self.manifest.documents

    @cached_property
    def _spread(self) -> Spread:
        rows = evenly(self.record.rows, SAMPLE)
        vectors = self.collection.vectors(rows.tolist()).reshape(-1, self.manifest.dimension)
        return Spread.of(unit(vectors, self.manifest.similarity))

    def _search(self, field: str, queries: Sequence[object], k: int, allowed: str | None) -> list[Hits]:
        """Rows, rising, and scores of each query; no hits where there is nothing to ask."""
        if not k or not queries:
            return [NOTHING] * len(queries)
        return self.collection.search(field, queries, k, allowed, None if self.is_exact else max(k, 64))


class MilvusWords:
    """BM25 over the documents of a view."""

    def __init__(self, view: MilvusView) -> None:
        self._view = view

    def search(self, queries: Sequence[str], k: int, allowed: str | None = None) -> Ranking:
        """The ``k`` best documents of each query; see :meth:`retriever.indexing.bm25.Bm25Index.search`."""
        documents = len(self._view)
        width, size = depth(k, documents), max(1, min(BACKGROUND, documents))
        asked = [self._view.counts.of_query(query, documents) for query in queries]
        weights = [weight for weight, _ in asked]
        leading = self._search(weights, max(width, size) if allowed is None else size, None)
        own = leading if allowed is None else self._search(weights, width, allowed)
        backgrounds = [(*spread(scores, size), known) for (_, scores), (_, known) in zip(leading, asked, strict=True)]
        mean, deviation, share = np.array(backgrounds, np.float64).reshape(-1, 3).T
        background = Background(mean, deviation, share, least=0.0)
        return Ranking.stack([best(*hits, width) for hits in own], width, background)

    def _search(self, weights: Sequence[dict[int, float]], k: int, allowed: str | None) -> list[Hits]:
        found = iter(self._view._search("words", [weight for weight in weights if weight], k, allowed))
        return [next(found) if weight else NOTHING for weight in weights]
