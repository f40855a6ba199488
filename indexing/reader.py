"""The reading side of an index folder: three ways to search it, and what it holds.

1. A search looks by vectors, by words, or by both: :mod:`retriever.indexing.searching`.
2. The model is loaded when it is first needed: :mod:`retriever.indexing.model`.
3. Sizes of all files are checked when an index is opened.
4. Every search looks whether the index has changed, by whatever process, and answers from its newest state.

Threads may share an index. See :mod:`retriever.indexing.manifest` for the layout of the folder.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.errors import DataError, IndexFolderError, refuse_text
from retriever.indexing.backend import State, open_state, stamp
from retriever.indexing.filters import Condition
from retriever.indexing.hybrid import Fusion
from retriever.indexing.kinds import SearchSettings
from retriever.indexing.manifest import Manifest, read_manifest
from retriever.indexing.model import IndexModel, load
from retriever.indexing.ranking import NO_HIT, Ranking
from retriever.indexing.searching import Hit, Mode, hits, join_sides, search_sides

if TYPE_CHECKING:
    from typing_extensions import Self

    from retriever.encoder.encoder import Encoder


def checked_ids(ids: Iterable[str]) -> list[str]:
    """Ids as a list.

    Raises:
        DataError: They are one text, or one of them is no string.
    """
    refuse_text("ids", ids)
    names = list(ids)
    for name in names:
        if not isinstance(name, str):
            raise DataError(f"The id {name!r} is a {type(name).__name__}: give ids as strings.")
    return names


class IndexReader:
    """An open index that is searched; :class:`retriever.indexing.index.Index` changes it too.

    Args:
        folder: The index folder.
        encoder: The model, if it is open already.

    Raises:
        IndexFolderError: A file is missing or damaged, or the encoder is not the one that built the index.
    """

    def __init__(self, folder: Path, encoder: Encoder | None = None) -> None:
        self.folder = folder
        self._looking = threading.Lock()
        self._is_closed = False
        self._stamp = stamp(folder)
        self._view = open_state(folder)
        self._model = IndexModel(self._view.manifest, folder, encoder)

    @classmethod
    def open(cls, path: str | Path, model: str | Path | Encoder | None = None) -> Self:
        """Open an index for searching.

        Args:
            path: The index folder.
            model: The encoder that built it, or its path. If not given, it is loaded from where it was when the index
                was built, at the first search that needs it; and another one, should that build the index anew.

        Raises:
            IndexFolderError: There is no index, it is damaged, or another model built it.
            ModelError: There is no such model.
        """
        place = Path(path).expanduser()
        read_manifest(place)
        folder = place.absolute()  # the working folder may change while it is open
        return cls(folder, load(model) if isinstance(model, (str, Path)) else model)

    @property
    def is_current(self) -> bool:
        """Whether its newest state is open; if not, whatever comes next opens that."""
        return not self._is_closed and stamp(self.folder) == self._stamp

    @property
    def manifest(self) -> Manifest:
        """What the index holds now."""
        return self._current().manifest

    @property
    def encoder(self) -> Encoder:
        """The model, loaded at the first use; where the index cannot be read now, the one it had last.

        Raises:
            IndexFolderError: It is not where it was, or not the one that built the index.
            ModelError: It cannot be read.
        """
        return self._known_model().encoder

    @property
    def model_path(self) -> str | None:
        """Where the model was when the index was built, or the name of a hub model; likewise."""
        return self._known_model().path

    def search(
        self,
        query: str,
        k: int = 10,
        mode: Mode = "hybrid",
        fusion: Fusion | None = None,
        filters: Sequence[str] = (),
        weight: float | None = None,
        settings: SearchSettings | None = None,
        *,
        explain: bool = False,
        offset: int = 0,
    ) -> list[Hit]:
        """The best documents for a query; see :meth:`search_batch`."""
        options = mode, fusion, filters, weight, settings
        return self.search_batch([query], k, *options, explain=explain, offset=offset)[0]

    def search_batch(
        self,
        queries: Sequence[str],
        k: int = 10,
        mode: Mode = "hybrid",
        fusion: Fusion | None = None,
        filters: Sequence[str] = (),
        weight: float | None = None,
        settings: SearchSettings | None = None,
        *,
        explain: bool = False,
        offset: int = 0,
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
            settings: What a search by vectors may spend; what is not given is as the index was tuned to.
            explain: Let each hit tell, in ``parts``, its score and rank among the vectors and among the words.
            offset: Hits to skip before them. Of ``hybrid``, pages of one ``k`` follow each other without a gap within
                the candidates that are fused for the first; see :func:`retriever.indexing.searching.candidates`.

        Returns:
            For each query its hits, best first, with ranks from ``offset`` + 1 on.

        Raises:
            DataError: A text is given instead of a list, a query is blank, ``k`` is below 1 or ``offset`` below 0, the
                mode, the fusion or the field of a filter is unknown, a filter is no condition, the weight is not
                between 0 and 1, or the index has nothing that a setting is for.
            IndexFolderError: The model is not the one that built the index, or a file is damaged.
        """
        refuse_text("filters", filters)
        view, model = self._state()
        allowed = view.matching([Condition.parse(text) for text in filters])
        options = mode, allowed, settings, mode == "hybrid", offset
        found = search_sides(view, model.encode, queries, k, *options)
        return hits(view, join_sides(view, found, offset + k, fusion, weight), found if explain else None, offset)

    def rank(
        self,
        queries: Sequence[str],
        k: int,
        mode: Mode = "hybrid",
        fusion: Fusion | None = None,
        weight: float | None = None,
    ) -> Ranking:
        """Like :meth:`search_batch`, but rows and scores (Q, K) instead of documents."""
        view, model = self._state()
        return join_sides(view, search_sides(view, model.encode, queries, k, mode), k, fusion, weight)

    def parts(self, queries: Sequence[str], k: int = 10) -> tuple[Ranking, Ranking]:
        """What a hybrid search for ``k`` hits fuses: candidates by vectors and by words, in that order."""
        view, model = self._state()
        found = search_sides(view, model.encode, queries, k)
        return found["dense"], found["bm25"]

    def rows(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """The row of each id in rankings, −1 for one that is not there. Rows last until the index is changed."""
        return self._current().find(checked_ids(ids))

    def get(self, name: str) -> Document | None:
        """The document of an id, or None."""
        view = self._current()
        row = view.find(checked_ids([name]))
        return view.documents(row)[0] if row[0] != NO_HIT else None

    def info(self) -> dict[str, Any]:
        """What the index holds, as plain types that `json.dumps` takes."""
        manifest = self.manifest
        record = manifest.model_dump(exclude={"files", "segments"}) | {"segments": len(manifest.segments)}
        record["kinds"] = sorted({segment.factory or manifest.factory for segment in manifest.segments})
        return {"path": str(self.folder), **record, "bytes": sum(file.bytes for file in manifest.files.values())}

    def close(self) -> None:
        """Close the files; the index can be neither searched nor changed any more."""
        with self._looking:
            self._is_closed = True
            self._view.close()

    def __len__(self) -> int:
        return self.manifest.documents

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_folder(self) -> Path:
        """The folder of an index that is not closed."""
        if self._is_closed:
            raise IndexFolderError(f"The index {self.folder} is closed: open it again.")
        return self.folder

    def _known_model(self) -> IndexModel:
        """The model of the index, also while the index cannot be read."""
        try:
            return self._state()[1]
        except IndexFolderError:
            return self._model

    def _current(self) -> State:
        """What the index holds now."""
        return self._state()[0]

    def _state(self) -> tuple[State, IndexModel]:
        """What the index holds now, and the model that made its vectors."""
        with self._looking:
            now = stamp(self._open_folder())
            if now != self._stamp:
                view = open_state(self.folder, self._view)
                self._model = self._model.of(view.manifest)
                self._view, self._stamp = view, now
            return self._view, self._model
