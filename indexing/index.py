"""The index: a folder that finds documents by meaning, by words, or by both.

1. A search looks by vectors, by words, or by both: :mod:`retriever.indexing.searching`.
2. The model is loaded when it is first needed, and must be the one that built the index, by fingerprint.
3. Sizes of all files are checked when an index is opened, hashes by :meth:`Index.verify`.
4. Every search looks whether the index has changed, by whatever process, and answers from its newest state.
5. A change locks the folder for writers, not for readers; see :mod:`retriever.indexing.changes`.

Threads may share an index. See :mod:`retriever.indexing.manifest` for the layout of the folder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.indexing import changes
from retriever.indexing.backend import State, address, is_milvus, open_state, stamp, writer
from retriever.indexing.build import RECALL, SEGMENT, BuildOptions, build_folder
from retriever.indexing.factory import AUTO
from retriever.indexing.filters import Condition
from retriever.indexing.hybrid import Fusion, check_method, shares
from retriever.indexing.kinds import SearchSettings
from retriever.indexing.manifest import FusionRecord, Manifest, find_model, read_manifest
from retriever.indexing.model import checked, load, opener
from retriever.indexing.ranking import NO_HIT, Ranking
from retriever.indexing.repair import Repaired, repair
from retriever.indexing.searching import Hit, Mode, hits, parts, rank
from retriever.indexing.tuning import Tuning
from retriever.indexing.verify import Fault, damage, refuse

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder

__all__ = ["Hit", "Index", "Mode"]


class Index:
    """An open index; make one with :meth:`build` or :meth:`open`.

    Args:
        folder: The index folder.
        encoder: The model, if it is open already.

    Raises:
        IndexFolderError: A file is missing or damaged, or the encoder is not the one that built the index.
    """

    def __init__(self, folder: Path, encoder: Encoder | None = None) -> None:
        self.folder = folder
        self._encoding, self._looking = threading.Lock(), threading.Lock()
        self._stamp = stamp(folder)
        self._view = open_state(folder)
        self._encoder = None if encoder is None else checked(encoder, self._view.manifest, folder)

    @classmethod
    def build(
        cls,
        encoder: Encoder,
        corpus: Iterable[Document],
        path: str | Path,
        *,
        factory: str = AUTO,
        recall: float | None = RECALL,
        memory: int | None = None,
        k1: float = 1.5,
        b: float = 0.75,
        stemmer: str = "porter",
        dtype: str = "auto",
        model: str | Path | None = None,
        vectors: NDArray[np.float32] | None = None,
        segment: int = SEGMENT,
        backend: str = "local",
        uri: str | None = None,
        overwrite: bool = False,
        resume: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Index:
        """Build an index of a corpus and open it.

        Args:
            encoder: Makes the vectors; save it first, so that the index knows where to find it.
            corpus: Documents, read once.
            path: The index folder.
            factory: ``auto`` chooses by size, see :mod:`retriever.indexing.factory`; ``Flat``, ``HNSW32_SQfp16`` or any
                other factory string of FAISS, see :mod:`retriever.indexing.dense`.
            recall: Share of the ten nearest vectors that searches are tuned to find, if they are tuned and not exact.
            memory: Bytes that searches of a segment may hold in memory, where ``auto`` chooses.
            k1: Of BM25, see :meth:`retriever.indexing.bm25.Bm25Index.build`.
            b: Of BM25.
            stemmer: Of BM25.
            dtype: Precision of encoding, see :meth:`retriever.encoder.Encoder.encode`.
            model: Where to load the encoder from again, if that is not its own path: the name of a hub model.
            vectors: Vectors (N, D) of the documents, in their order, if they are encoded already: see
                :func:`retriever.encoder.export.open_vectors`.
            segment: Documents written at a time: memory must hold the vectors and words of so many, and what an
                interrupted build has written can be gone on with. Segments are joined by :meth:`compact`.
            backend: ``local``, or ``milvus`` to let Milvus hold the documents; the folder tells where they are.
            uri: The address of Milvus: a file that ends in ``.db``, or ``http://host:19530``.
            overwrite: Replace an index that is there already; it answers until the new one is complete.
            resume: Go on with an interrupted build of the same corpus, model and options, if there is one.
            progress: Called with the number of documents just encoded.

        Raises:
            DataError: The corpus is empty, an id occurs twice, a vector is not finite, the number of vectors is not
                that of the documents, or k1, b or the recall is out of range.
            IndexFolderError: The factory is unknown, or the documents are too few for it.
            OutputError: The folder exists already, holds an unfinished build, or cannot be written.
        """
        options = BuildOptions(factory, k1, b, stemmer, dtype, segment, memory, recall)
        build = build_folder
        if is_milvus(backend, uri):
            from retriever.indexing import milvus_changes

            build = partial(milvus_changes.build_folder, uri=address(uri or ""))
        build(
            encoder,
            corpus,
            Path(path),
            options,
            model=model,
            vectors=vectors,
            overwrite=overwrite,
            resume=resume,
            progress=progress,
        )
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
        read_manifest(folder)
        return cls(folder, load(model) if isinstance(model, (str, Path)) else model)

    @property
    def manifest(self) -> Manifest:
        """What the index holds now."""
        return self._current().manifest

    @property
    def encoder(self) -> Encoder:
        """The model, loaded at the first use.

        Raises:
            IndexFolderError: It is not where it was, or not the one that built the index.
            ModelError: It cannot be read.
        """
        with self._encoding:
            return self._open_encoder()

    def search(
        self,
        query: str,
        k: int = 10,
        mode: Mode = "hybrid",
        fusion: Fusion | None = None,
        filters: Sequence[str] = (),
        weight: float | None = None,
        settings: SearchSettings | None = None,
    ) -> list[Hit]:
        """The best documents for a query; see :meth:`search_batch`."""
        return self.search_batch([query], k, mode, fusion, filters, weight, settings)[0]

    def search_batch(
        self,
        queries: Sequence[str],
        k: int = 10,
        mode: Mode = "hybrid",
        fusion: Fusion | None = None,
        filters: Sequence[str] = (),
        weight: float | None = None,
        settings: SearchSettings | None = None,
    ) -> list[list[Hit]]:
        """The best documents for each of several queries, cheaper than one search after the other.

        Args:
            queries: The queries.
            k: Hits wanted; a query can have fewer.
            mode: ``hybrid``, ``dense`` or ``bm25``.
            fusion: How ``hybrid`` fuses, such as ``fisher``; see :mod:`retriever.indexing.hybrid`. If not given, as the
                index was tuned to, or ``fisher``.
            filters: Conditions such as ``year>=2020`` that the metadata of a hit must meet; see
                :mod:`retriever.indexing.filters`.
            weight: Share of the vectors in ``hybrid``, from 0 (words alone) to 1 (vectors alone). If not given, as the
                index was tuned to, or half; where another fusion than the tuned one is asked for, half.
            settings: What a search by vectors may spend; what the index was tuned to if not given.

        Returns:
            For each query its hits, best first.

        Raises:
            DataError: A query is blank, ``k`` is below 1, the mode, the fusion or the field of a filter is unknown, a
                filter is no condition, or the weight is not between 0 and 1.
            IndexFolderError: The model is not the one that built the index, or a file is damaged.
        """
        view = self._current()
        allowed = view.matching([Condition.parse(text) for text in filters])
        return hits(view, rank(view, self._encode, queries, k, mode, fusion, weight, allowed, settings))

    def rank(
        self,
        queries: Sequence[str],
        k: int,
        mode: Mode = "hybrid",
        fusion: Fusion | None = None,
        weight: float | None = None,
    ) -> Ranking:
        """Like :meth:`search_batch`, but rows and scores (Q, K) instead of documents."""
        return rank(self._current(), self._encode, queries, k, mode, fusion, weight)

    def parts(self, queries: Sequence[str], k: int = 10) -> tuple[Ranking, Ranking]:
        """What a hybrid search for ``k`` hits fuses: candidates by vectors and by words, in that order."""
        return parts(self._current(), self._encode, queries, k)

    def rows(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each id in rankings, −1 for one that is not there. Rows last until the index is changed."""
        return self._current().find(ids)

    def set_fusion(self, method: Fusion, weight: float) -> None:
        """Let hybrid searches that are not told otherwise fuse like this from now on.

        Args:
            method: See :mod:`retriever.indexing.hybrid`.
            weight: Share of the vectors, from 0 to 1.

        Raises:
            DataError: The method is unknown, or the weight is not between 0 and 1.
            OutputError: Another process is writing the index, or the folder cannot be written.
        """
        check_method(method)
        shares(weight)
        changes.configure(self.folder, fusion=FusionRecord(method=method, weight=weight))

    def get(self, name: str) -> Document | None:
        """The document of an id, or None."""
        view = self._current()
        row = view.find([name])
        return view.documents(row)[0] if row[0] != NO_HIT else None

    def add(
        self, corpus: Iterable[Document], *, dtype: str = "auto", progress: Callable[[int], None] | None = None
    ) -> tuple[int, int]:
        """Add documents. One whose id is there already replaces the old one.

        Either all documents are in the index afterwards, or it is as it was.

        Args:
            corpus: Documents, read once.
            dtype: Precision of encoding, see :meth:`retriever.encoder.Encoder.encode`.
            progress: Called with the number of documents just encoded.

        Returns:
            How many documents were added, and how many of them replaced another.

        Raises:
            DataError: The corpus is empty, an id occurs twice in it, or a vector is not finite.
            OutputError: Another process is writing the index, or the folder cannot be written.
            IndexFolderError: The model is not the one that built the index, or a file is damaged.
        """
        return writer(self.folder).add(self.folder, self.encoder, corpus, dtype, progress)

    def delete(self, ids: Sequence[str]) -> list[str]:
        """Delete documents.

        Returns:
            The ids that are not there; all others are deleted.

        Raises:
            OutputError: Another process is writing the index, or the folder cannot be written.
        """
        return writer(self.folder).delete(self.folder, ids)

    def compact(self) -> None:
        """Join all that changes have left behind, without deleted documents; nothing is encoded again.

        Raises:
            OutputError: Another process is writing the index, or the folder cannot be written.
        """
        writer(self.folder).compact(self.folder)

    def move(self, path: str | Path, uri: str, *, factory: str = "Flat", overwrite: bool = False) -> None:
        """Copy the index into Milvus with the vectors it holds; nothing is encoded again.

        Its ``factory`` is how Milvus searches: ``Flat`` (exact), ``auto`` or ``HNSW32``. See also :meth:`build`.

        Raises:
            DataError: Milvus holds the documents already, or cannot take one of them.
            IndexFolderError: Milvus cannot be reached.
            OutputError: The folder exists already or cannot be written.
        """
        from retriever.indexing import milvus_changes

        milvus_changes.move(self._current(), Path(path), address(uri), factory=factory, overwrite=overwrite)

    def tune(
        self, recall: float, queries: Sequence[str] = (), factory: str | None = None, memory: int | None = None
    ) -> Tuning | None:
        """Let searches find a share of the ten nearest vectors; see :func:`retriever.indexing.changes.tune`."""
        changes.tune(self.folder, recall, self._encode(queries) if queries else None, factory, memory)
        return self.manifest.tuning

    def info(self) -> dict[str, Any]:
        """What the index holds, as plain types that `json.dumps` takes."""
        manifest = self.manifest
        record = manifest.model_dump(exclude={"files", "segments"}) | {"segments": len(manifest.segments)}
        record["kinds"] = sorted({segment.factory or manifest.factory for segment in manifest.segments})
        return {"path": str(self.folder), **record, "bytes": sum(file.bytes for file in manifest.files.values())}

    def verify(self, sample: int = 0) -> None:
        """Look for damage: every file is read, and what is in them must fit together.

        Args:
            sample: Documents of each segment to encode again, whose vectors must be those stored.

        Raises:
            IndexFolderError: Something is damaged; all of it is named.
        """
        refuse(self.folder, damage(self.folder, self.encoder if sample else None, sample))

    @staticmethod
    def damage(path: str | Path, model: str | Path | Encoder | None = None, sample: int = 0) -> list[Fault]:
        """What :meth:`verify` finds, also of an index that does not open any more; arguments as in :meth:`repair`."""
        return damage(Path(path), opener(Path(path), model)() if sample else None, sample)

    @staticmethod
    def repair(path: str | Path, model: str | Path | Encoder | None = None, sample: int = 0) -> Repaired:
        """Mend a damaged index, also one that does not open any more; see :mod:`retriever.indexing.repair`.

        Args:
            path: The index folder.
            model: The encoder that built it, or its path, for vectors that must be encoded again. If not given, it is
                loaded from where it was when the index was built, if it is needed.
            sample: As in :meth:`verify`.

        Returns:
            The damages that are mended, and those that cannot be.

        Raises:
            IndexFolderError: There is no index, its manifest is damaged, or another model built it.
            ModelError: There is no such model, and it is needed.
            OutputError: Another process is writing the index, or the folder cannot be written.
        """
        return repair(Path(path), opener(Path(path), model), sample)

    def close(self) -> None:
        """Close the files; the index cannot be searched any more."""
        self._view.close()

    def __len__(self) -> int:
        return self.manifest.documents

    def __enter__(self) -> Index:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _current(self) -> State:
        """The state of the index now."""
        with self._looking:
            now = stamp(self.folder)
            if now != self._stamp:
                view = open_state(self.folder, self._view)
                if self._encoder is not None:
                    checked(self._encoder, view.manifest, self.folder)
                self._view, self._stamp = view, now
            return self._view

    def _encode(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Query vectors (Q, D), one call at a time: models and tokenizers are not made for threads."""
        with self._encoding:
            return self._open_encoder().encode(queries, "query")

    def _open_encoder(self) -> Encoder:
        if self._encoder is None:
            manifest = self.manifest
            self._encoder = checked(load(find_model(manifest.model, self.folder)), manifest, self.folder)
        return self._encoder
