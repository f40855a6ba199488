"""Where the documents of an index are: in its folder, or in Milvus. The manifest tells; everything else asks here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.errors import DataError
from retriever.indexing import changes
from retriever.indexing.filters import Condition
from retriever.indexing.kinds import SearchSettings
from retriever.indexing.manifest import MANIFEST, Manifest, read_manifest
from retriever.indexing.model import IndexModel
from retriever.indexing.ranking import Ranking
from retriever.indexing.view import View

Allowed: TypeAlias = Any
"""Which documents may be hits, as :meth:`State.matching` tells it: a mask (N,) or an expression of Milvus."""


class Words(Protocol):
    """Search by words."""

    def search(self, queries: Sequence[str], k: int, allowed: Allowed = None) -> Ranking:
        """See :meth:`retriever.indexing.bm25.Bm25Index.search`."""


class State(Protocol):
    """The documents of an index at one moment: :class:`retriever.indexing.view.View`, or the same in Milvus."""

    manifest: Manifest

    @property
    def bm25(self) -> Words:
        """Search by words."""

    def matching(self, conditions: Sequence[Condition]) -> Allowed:
        """What the searches take for ``allowed``."""

    def dense(
        self,
        vectors: NDArray[np.float32],
        k: int,
        allowed: Allowed = None,
        settings: SearchSettings | None = None,
        *,
        background: bool = True,
        surely: int | None = None,
    ) -> Ranking:
        """Search by vectors; how much is spent on more than ``surely`` hits is up to the state."""

    def documents(self, rows: NDArray[np.int64]) -> list[Document]:
        """The documents of rows, in their order."""

    def find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """The row of each id, −1 for one that is not there."""

    def close(self) -> None:
        """Close files and connections."""

    def __len__(self) -> int: ...


class Writer(Protocol):
    """Changes of an index; see :mod:`retriever.indexing.changes`."""

    def add(
        self,
        folder: Path,
        model: IndexModel,
        documents: Iterable[Document],
        dtype: str = "auto",
        progress: Callable[[int], None] | None = None,
    ) -> tuple[int, int]:
        """Add or replace documents."""

    def delete(self, folder: Path, ids: Sequence[str]) -> list[str]:
        """Delete documents."""

    def compact(self, folder: Path) -> None:
        """Free what changes have left."""


def open_state(folder: Path, known: State | None = None) -> State:
    """The state of an index that counts now; what an older one has open is taken over."""
    if read_manifest(folder).milvus is None:
        return View.open(folder, known if isinstance(known, View) else None)
    from retriever.indexing.milvus_view import MilvusView

    return MilvusView.open(folder, known if isinstance(known, MilvusView) else None)


def stamp(folder: Path) -> tuple[int, int, int] | None:
    """What differs after every change of the manifest; None if it is not there."""
    try:
        status = (folder / MANIFEST).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def writer(folder: Path) -> Writer:
    """What changes an index."""
    if read_manifest(folder).milvus is None:
        return changes
    from retriever.indexing import milvus_changes

    return milvus_changes


def is_milvus(backend: str, uri: str | None) -> bool:
    """Whether Milvus is asked for.

    Raises:
        DataError: The backend is unknown, or it does not go with the address.
    """
    if backend not in ("local", "milvus"):
        raise DataError(f"The backend {backend!r} is unknown: choose local or milvus.")
    if (backend == "milvus") != (uri is not None):
        raise DataError("Milvus needs an address and a local index has none: pass --backend milvus --uri ADDRESS.")
    return backend == "milvus"


def address(uri: str) -> str:
    """An address of Milvus that means the same in every folder."""
    return uri if "://" in uri else str(Path(uri).expanduser().resolve())
