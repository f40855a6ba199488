"""Pools: the documents that labelled data speaks of, found by their text or by their id.

Both give every document a row, the position in which the pool's corpus streams it.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from itertools import chain

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.labelled_records import text_id
from retriever.data.readers import Reject
from retriever.errors import DataError


class TextPool:
    """Distinct texts: those of a corpus, then each new one that is added. In memory are the new ones, and hashes.

    Args:
        base: The corpus whose documents come first, if any.
    """

    def __init__(self, base: Corpus | None) -> None:
        self._base = base
        self._rows: dict[bytes, int] = {}
        self._ids: set[str] = set()
        self._added: list[Document] = []
        self._size = 0
        for document in base or ():
            self._append(document)

    def add(self, document: Document, place: str) -> int:
        """The row of the document's text, new or known; title and text joined decide.

        Raises:
            DataError: A new text comes with an id that another text has.
        """
        row = self._rows.get(_digest(document))
        if row is not None:
            return row
        named = Document(document.id or text_id(document.content), document.title, document.text)
        if named.id in self._ids:
            raise DataError(f"The id {named.id!r} at {place.rstrip(',')} is taken by another text: ids must be unique.")
        self._added.append(named)
        return self._append(named)

    def same(self, row: int) -> int:
        """What two rows of equal text have in common: here the row, for no two have equal texts."""
        return row

    def corpus(self, name: str) -> Corpus:
        """The pool as a corpus; row r is the r-th document it streams."""
        added, base = self._added, self._base
        if base is None:
            return Corpus.of(added, name=name)

        def read(_: Reject) -> Iterator[tuple[str, Document]]:
            return ((f"{name}:{number}", document) for number, document in enumerate(chain(base, added), 1))

        def content_hash() -> str:
            return f"{base.fingerprint()} {Corpus.of(added).fingerprint()}"

        return Corpus(name, name, read, content_hash, deduplicate=False)

    def _append(self, document: Document) -> int:
        self._ids.add(document.id)
        row = self._rows.setdefault(_digest(document), self._size)
        self._size += 1
        return row


class IdPool:
    """A corpus whose documents are asked for by id. In memory are the ids and a hash a document.

    Args:
        corpus: The documents; it must give each of them out, copies too.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._rows: dict[str, int] = {}
        self._hashes = array("Q")
        for row, document in enumerate(corpus):
            self._rows[document.id] = row
            self._hashes.append(int.from_bytes(_digest(document)[:8], "little"))

    def find(self, id_: str) -> int | None:
        """The row of a document, None if there is no such id."""
        return self._rows.get(id_)

    def same(self, row: int) -> int:
        """What two rows of equal text have in common: a hash of the text."""
        return self._hashes[row]


def _digest(document: Document) -> bytes:
    return hashlib.blake2b(document.content.encode(), digest_size=16).digest()
