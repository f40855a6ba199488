"""The unit everything else is made of: one document of a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retriever.errors import DataError

LEVELS = 100  # objects and lists inside each other in metadata: Python, SQLite and Milvus all read so many


@dataclass(frozen=True, slots=True)
class Document:
    """One document: a string id, an optional title, a text and free metadata."""

    id: str
    title: str = ""
    text: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """Title and text as one string, joined by a blank as BEIR does."""
        return f"{self.title} {self.text}" if self.title else self.text


def strings(document: object) -> tuple[str, str, str]:
    """Id, title and text, or a :class:`DataError` where they are no strings."""
    if not isinstance(document, Document):
        kind = type(document).__name__
        raise DataError(f"The corpus holds a {kind} where a Document belongs: give documents, or open_corpus(PATH).")
    for name in ("id", "title", "text"):
        value = getattr(document, name)
        if not isinstance(value, str):
            raise DataError(f"The {name} of document {document.id!r} must be a string and is {type(value).__name__}.")
    return document.id, document.title, document.text


def nests_within(levels: int, value: object) -> bool:
    """Whether objects and lists lie inside each other in ``levels`` levels at most, the outermost counted."""
    inner: list[Any] = [value]
    for _ in range(levels + 1):
        inner = [one for one in inner if isinstance(one, (Mapping, list, tuple))]
        if not inner:
            return True
        inner = [each for one in inner for each in (one.values() if isinstance(one, Mapping) else one)]
    return False
