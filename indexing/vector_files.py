"""Files of FAISS: an index, and the full vectors beside it where it holds codes."""

from __future__ import annotations

import errno
import os
from mmap import mmap
from pathlib import Path

from retriever.errors import IndexFolderError, OutputError
from retriever.indexing.damage import is_lack, mend
from retriever.kernels import faiss


def store_path(path: str | Path) -> Path:
    """Where the full vectors of an index file lie."""
    return Path(path).with_suffix(".fp16.faiss")


def read_vectors(path: Path) -> faiss.Index:
    """Open a file as a memory map; it must not change while it is open.

    Raises:
        IndexFolderError: It is missing or damaged.
        OSError: Too many files are open, or memory is lacking.
    """
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError) as error:
        if os.strerror(errno.ENOMEM) in str(error):
            raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), str(path)) from error
        try:
            with path.open("rb") as file:  # FAISS does not tell why it cannot open a file
                if isinstance(error, MemoryError):  # nor whether it asked for more than the file holds
                    mmap(-1, 2 * os.fstat(file.fileno()).st_size + 1).close()
        except OSError as reason:
            if is_lack(reason):
                raise
        raise IndexFolderError(f"The vectors {path} are missing or damaged: {mend(path.parent.parent)}.") from error


def write_vectors(index: faiss.Index, path: Path) -> None:
    """Write a file.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        raise OutputError(f"Cannot write {path}: choose a place with room and write access.") from error
