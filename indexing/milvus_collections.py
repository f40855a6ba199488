"""Which collections in Milvus an index folder has made and does not need: a build that was killed leaves one.

1. Before a build makes a collection, ``collections.json`` takes up its name, and that of the one that it replaces.
2. Whoever has locked the folder to write it drops, before and after, the noted collections that the manifest does not
   name, and with the last of them the file goes. So the old index answers until the new one is published.
3. One that cannot be dropped is told in the log. It stays noted for the next time, unless its file is gone.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from pathlib import Path

from retriever.errors import IndexFolderError, OutputError, RetrieverError
from retriever.files import write_atomically
from retriever.indexing.manifest import COLLECTIONS, MilvusRecord, read_manifest
from retriever.indexing.milvus import Collection, is_missing

logger = logging.getLogger("retriever.indexing")


def note(folder: Path, uri: str, collection: str) -> None:
    """Note a collection that goes once the manifest does not name it.

    Raises:
        OutputError: The folder cannot be written.
    """
    _write(folder, [*_noted(folder), (uri, collection)])


def note_replaced(folder: Path) -> None:
    """Note the collection that the index of a folder is of, if the manifest can tell, so that it goes with the index.

    Raises:
        OutputError: The folder cannot be written.
    """
    with suppress(IndexFolderError):
        if old := read_manifest(folder).milvus:
            note(folder, old.uri, old.collection)


def drop_unneeded(folder: Path, needed: MilvusRecord | None) -> None:
    """Drop the noted collections but the one that the manifest names; see the module's header."""
    left = []
    for uri, collection in _noted(folder):
        if needed is not None and needed.collection == collection:
            continue
        try:
            Collection.discard(uri, collection)
        except RetrieverError as error:
            logger.warning(
                "The index %s has left a collection behind: drop %s of Milvus at %s with Milvus' own tools. The "
                "reason: %s",
                folder,
                collection,
                uri,
                error,
            )
            if not is_missing(uri):
                left.append((uri, collection))
    with suppress(OutputError):  # they are tried again
        _write(folder, left)


def _noted(folder: Path) -> list[tuple[str, str]]:
    """Address and name of each noted collection; none where the file is damaged, as nothing can be told from it."""
    try:
        return [(str(uri), str(collection)) for uri, collection in json.loads((folder / COLLECTIONS).read_text())]
    except (OSError, ValueError, TypeError):
        return []


def _write(folder: Path, noted: list[tuple[str, str]]) -> None:
    if noted:
        write_atomically(folder / COLLECTIONS, json.dumps(noted, indent=2) + "\n")
    else:
        (folder / COLLECTIONS).unlink(missing_ok=True)
