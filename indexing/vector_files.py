"""Files of FAISS: an index, and the full vectors beside it where it holds codes.

They are mapped here, not by FAISS, which tells the system to expect no order in what it reads of a map: files that are
not in the page cache then come a page at a time, in twenty times the time.
"""

from __future__ import annotations

from mmap import mmap
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from retriever.errors import IndexFolderError, OutputError
from retriever.indexing.arrays import read_bytes
from retriever.indexing.damage import is_lack, mend
from retriever.kernels import faiss


def store_path(path: str | Path) -> Path:
    """Where the full vectors of an index file lie."""
    return Path(path).with_suffix(".fp16.faiss")


def read_vectors(path: Path) -> faiss.Index:
    """Open a file, which must not change while it is open.

    Raises:
        IndexFolderError: It is missing or damaged.
        OSError: Too many files are open, or memory is lacking.
    """
    try:
        return _index(read_bytes(path))
    except (OSError, ValueError, RuntimeError) as error:
        if is_lack(error):
            raise
        raise IndexFolderError(f"The vectors {path} are missing or damaged: {mend(path.parent.parent)}.") from error


def _index(content: NDArray[np.uint8]) -> faiss.Index:
    """The index that the content of a file holds; it keeps the content."""
    kind: Any = faiss  # whose hints do not know all it has
    try:
        index = kind.read_index(kind.ZeroCopyIOReader(kind.swig_ptr(content), len(content)))
    except MemoryError as error:
        mmap(-1, 2 * len(content)).close()  # or the system says that memory is lacking
        raise ValueError("it asks for more than it holds") from error
    index.referenced_objects = [content]
    return cast("faiss.Index", index)


def write_vectors(index: faiss.Index, path: Path) -> None:
    """Write a file.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        raise OutputError(f"Cannot write {path}: choose a place with room and write access.") from error
