"""The index: a folder that finds documents by meaning, by words, or by both, and can be changed.

1. Reading it is :class:`retriever.indexing.reader.IndexReader`.
2. A change locks the folder for writers, not for readers; see :mod:`retriever.indexing.changes`.
3. Hashes of all files are compared by :meth:`Index.verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.errors import refuse_text
from retriever.indexing import changes
from retriever.indexing.backend import address, is_milvus, writer
from retriever.indexing.build import RECALL, SEGMENT, BuildOptions, build_folder
from retriever.indexing.factory import AUTO
from retriever.indexing.hybrid import Fusion, check_method, shares
from retriever.indexing.manifest import FusionRecord
from retriever.indexing.model import opener
from retriever.indexing.reader import IndexReader, checked_ids
from retriever.indexing.repair import Repaired, repair
from retriever.indexing.searching import Hit, Mode
from retriever.indexing.tuning import Tuning
from retriever.indexing.verify import Fault, damage, refuse

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder

__all__ = ["Hit", "Index", "Mode"]


class Index(IndexReader):
    """An open index; make one with :meth:`build` or :meth:`open`. Arguments and errors are those of its base."""

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
            OutputError: The folder exists already, holds an unfinished build, or cannot be written; or it is both to be
                gone on with and to be replaced.
        """
        options = BuildOptions(factory, k1, b, stemmer, dtype, segment, memory, recall)
        build = build_folder
        if is_milvus(backend, uri):
            from retriever.indexing import milvus_changes

            build = partial(milvus_changes.build_folder, uri=address(uri or ""))
        build(
            encoder,
            corpus,
            Path(path).expanduser(),
            options,
            model=model,
            vectors=vectors,
            overwrite=overwrite,
            resume=resume,
            progress=progress,
        )
        return cls.open(path, encoder)

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
        changes.configure(self._open_folder(), fusion=FusionRecord(method=method, weight=weight))

    def add(
        self, corpus: Iterable[Document], *, dtype: str = "auto", progress: Callable[[int], None] | None = None
    ) -> tuple[int, int]:
        """Add documents. One whose id is there already replaces the old one.

        Either all documents are in the index afterwards, or it is as it was; in Milvus, an addition that is stopped
        leaves a part of them, and the same once more completes it.

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
        return writer(self.folder).add(self.folder, self._state()[1], corpus, dtype, progress)

    def delete(self, ids: Iterable[str]) -> list[str]:
        """Delete documents.

        Returns:
            The ids that are not there; all others are deleted.

        Raises:
            DataError: A text is given instead of a list, or an id is no string.
            OutputError: Another process is writing the index, or the folder cannot be written.
        """
        return writer(self._open_folder()).delete(self.folder, checked_ids(ids))

    def compact(self) -> None:
        """Join all that changes have left behind, without deleted documents; nothing is encoded again.

        Raises:
            OutputError: Another process is writing the index, or the folder cannot be written.
        """
        writer(self._open_folder()).compact(self.folder)

    def move(self, path: str | Path, uri: str, *, factory: str = "Flat", overwrite: bool = False) -> None:
        """Copy the index into Milvus with the vectors it holds; nothing is encoded again.

        Its ``factory`` is how Milvus searches: ``Flat`` (exact), ``auto`` or ``HNSW32``. See also :meth:`build`.

        Raises:
            DataError: Milvus holds the documents already, or cannot take one of them.
            IndexFolderError: Milvus cannot be reached.
            OutputError: The folder exists already or cannot be written.
        """
        from retriever.indexing import milvus_changes

        milvus_changes.move(
            self._current(), Path(path).expanduser(), address(uri), factory=factory, overwrite=overwrite
        )

    def tune(
        self, recall: float, queries: Sequence[str] = (), factory: str | None = None, memory: int | None = None
    ) -> Tuning | None:
        """Let searches find a share of the ten nearest vectors; see :func:`retriever.indexing.changes.tune`."""
        refuse_text("queries", queries)
        vectors = self._state()[1].encode(queries) if len(queries) else None
        changes.tune(self._open_folder(), recall, vectors, factory, memory)
        return self.manifest.tuning

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
        folder = Path(path).expanduser()
        return damage(folder, opener(folder, model)() if sample else None, sample)

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
        folder = Path(path).expanduser()
        return repair(folder, opener(folder, model), sample)
