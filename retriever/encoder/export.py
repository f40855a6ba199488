"""Vectors of a whole corpus on disk, for other programs.

The folder holds ``vectors.npy``, float32 (N, D), row by row in the corpus' order, and ``ids.jsonl``, the id of each row
as a JSON string a line. Vectors are written as they come: the corpus may be larger than memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from retriever.data.corpus import Corpus
from retriever.encoder.encoder import Encoder, Kind
from retriever.errors import OutputError
from retriever.files import replacing

VECTORS, IDS = "vectors.npy", "ids.jsonl"
CHUNK = 8_192  # documents encoded at a time


def export_vectors(
    encoder: Encoder,
    corpus: Corpus,
    folder: str | Path,
    *,
    kind: Kind = "document",
    dtype: str = "auto",
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Encode a corpus into a folder that appears whole or not at all.

    Args:
        encoder: Of dimension D.
        corpus: N documents, read twice: to count them, and to encode them.
        folder: Where to write.
        kind: Whose prompt is put before each text.
        dtype: ``float32``, ``bfloat16`` or ``auto``, of the arithmetic; vectors are float32.
        overwrite: Replace vectors that are there already.
        progress: Called with the number of documents just encoded.

    Returns:
        N.

    Raises:
        DataError: The corpus is mangled or empty.
        OutputError: The folder holds something already, or cannot be written.
    """
    folder = Path(folder)
    _claim(folder, overwrite)
    with replacing(folder) as temporary:
        with (temporary / IDS).open("w", encoding="utf-8") as file:
            count = sum(1 for document in corpus if file.write(json.dumps(document.id, ensure_ascii=False) + "\n"))
        vectors = np.lib.format.open_memmap(
            temporary / VECTORS, mode="w+", dtype=np.float32, shape=(count, encoder.dimension)
        )
        texts, start = (document.content for document in corpus), 0
        while chunk := list(islice(texts, CHUNK)):
            vectors[start : start + len(chunk)] = encoder.encode(chunk, kind, dtype=dtype, progress=progress)
            start += len(chunk)
        vectors.flush()
    return count


def _claim(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something else, or vectors that are not to be replaced."""
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if folder.is_file() or held - {VECTORS, IDS}:
        raise OutputError(f"{folder} holds something else than vectors; choose another folder.")
    if held and not overwrite:
        raise OutputError(f"{folder} already holds vectors; choose another folder, or pass --overwrite.")
