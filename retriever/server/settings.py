"""What a request may ask for, and what an operator can set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from retriever.server.keys import Key

MAX_K = 1_000  # hits or labels of one answer, those skipped by an offset included
MAX_QUERY = 10_000  # characters of a query
MAX_TEXT = 1_000_000  # characters of a text to embed or to index
MAX_QUERIES = 256  # queries of a batch search
MAX_HITS = 10_000  # hits of all queries of a batch search, those skipped by an offset included
MAX_TEXTS = 2_048  # texts to embed at once
MAX_DOCUMENTS = 1_000  # documents to index at once
MAX_FILTERS = 16
MAX_FILTER = 1_000  # characters of a filter
MAX_ID = 512  # characters of an id
MAX_DEPTH = 32  # objects and lists inside each other in the metadata of a document


@dataclass(frozen=True)
class Settings:
    """How a server behaves.

    Attributes:
        keys: Who may ask; anybody if there are none.
        read_only: Refuse to change the index.
        origins: Web pages of other origins that may ask, such as ``https://example.org``.
        max_body: Bytes of a request's body.
        queue: Inputs that may wait for a worker before requests are refused with 429.
        batch: Inputs that a worker takes at once; 1 turns batching off.
        timeout: Seconds until a request is given up.
        rate: Requests a second that each key, or each address without keys, may make on average; None for no limit.
        log_queries: Write the texts of queries into the log.
    """

    keys: tuple[Key, ...] = field(default=(), repr=False)
    read_only: bool = False
    origins: tuple[str, ...] = ()
    max_body: int = 8 << 20
    queue: int = 512
    batch: int = 64
    timeout: float = 30.0
    rate: float | None = None
    log_queries: bool = False
