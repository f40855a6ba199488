"""Files as arrays: a small one is read, for a process may have a thousand files open; a large one is mapped.

A map costs nothing before it is looked at, processes share it, and it keeps its file open.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALL = 1 << 20  # bytes
_HEADERS = threading.Lock()  # Python 3.11 parses the header of a .npy file wrongly if two threads do so at once


def read_array(path: Path) -> NDArray[Any]:
    """The array of a ``.npy`` file; threads may ask for it at once.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It holds no array.
    """
    try:
        with _HEADERS:
            array: NDArray[Any] = np.load(path, "r", allow_pickle=False)  # asks for no more than the file holds
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the header is read as Python source, which fails in as many ways
        raise ValueError("not a readable array") from error
    if not isinstance(array, np.ndarray):  # an archive of arrays
        raise ValueError("not a readable array")
    return _kept(array)


def read_bytes(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file.

    Raises:
        OSError: The file cannot be opened.
        ValueError: It is empty.
    """
    return _kept(np.memmap(path, np.uint8, "r"))


def _kept(array: NDArray[Any]) -> NDArray[Any]:
    """What is kept of a mapped file."""
    if array.nbytes <= SMALL:
        return np.array(array)
    return np.asarray(array)  # slices of a plain array of the same memory are made ten times as fast
