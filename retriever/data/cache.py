"""Where derived data is kept between runs."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

UNUSED = 90 * 86_400  # seconds after which a folder that nobody used is dropped


def cache_dir() -> Path:
    """``$RETRIEVER_CACHE``, else ``retriever`` under ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("RETRIEVER_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retriever"


def mark_used(folder: Path) -> None:
    """Note that a folder of the cache is in use."""
    with suppress(OSError):  # a cache that only others may write
        os.utime(folder)


def drop_unused(place: Path) -> None:
    """Remove the folders that were not used for long, and what killed processes left among them."""
    for folder in place.iterdir():
        with suppress(OSError):
            if folder.stat().st_mtime < time.time() - UNUSED:
                shutil.rmtree(folder)
