"""The unit everything else is made of: one document of a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
