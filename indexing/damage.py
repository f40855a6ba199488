"""What is said about files that cannot be read."""

from __future__ import annotations

import errno
from pathlib import Path


def mend(folder: Path) -> str:
    """What to do about a damaged index, as the end of a sentence."""
    return f"mend the index with `retriever index verify {folder} --repair`"


def is_lack(error: BaseException) -> bool:
    """Whether a file could not be read for want of descriptors or of memory: then nothing is wrong with it."""
    lacks = errno.EMFILE, errno.ENFILE, errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in lacks)
