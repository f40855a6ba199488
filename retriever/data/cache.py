"""Where derived data is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """``$RETRIEVER_CACHE``, else ``retriever`` under ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if own := os.environ.get("RETRIEVER_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retriever"
