"""How long work tells the outside about itself: stages with progress, and sentences.

Library code calls a :class:`Reporter` and never prints. This one keeps silent; the command line brings one that draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

Advance = Callable[..., None]
"""``advance(count, **fields)``: that many more units are done; the fields are shown beside the bar."""


class Reporter:
    """Listens and says nothing; the base of those that show."""

    def note(self, sentence: str) -> None:
        """Something the user should know."""

    def stage(self, name: str, total: int | None = None, start: int = 0) -> AbstractContextManager[Advance]:
        """A piece of work of ``total`` units (unknown if None), of which ``start`` are done already."""
        return _silent()


@contextmanager
def _silent() -> Iterator[Advance]:
    def advance(count: int = 1, **fields: Any) -> None:
        pass

    yield advance
