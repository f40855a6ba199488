"""What is said about files that cannot be read."""

from __future__ import annotations

import errno
from pathlib import Path


def mend(folder: Path) -> str:
    """What to do about a damaged index, as the end of a sentence."""
    return f"mend the index with `retriever index verify {folder} --repair`"


def too_many_open(error: BaseException) -> bool:
    """Whether a file could not be opened because too many are open: then nothing is wrong with it."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
