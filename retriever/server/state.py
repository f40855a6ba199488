"""What the routes share: the service, the workers before it, and the settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from retriever.indexing.index import Index
from retriever.indexing.labels import LabelIndex
from retriever.server import schemas
from retriever.server.batcher import Batcher
from retriever.server.errors import RefusedError
from retriever.server.metrics import Metrics
from retriever.server.service import Service
from retriever.server.settings import Settings

T = TypeVar("T")


@dataclass(frozen=True)
class State:
    """Everything that lives as long as the server.

    Attributes:
        service: What is served.
        settings: How the server behaves.
        metrics: Numbers for Prometheus.
        reads: Worker for searching, embedding and labelling.
        writes: Worker for changing the index, one change after the other.
    """

    service: Service
    settings: Settings
    metrics: Metrics
    reads: Batcher
    writes: Batcher

    @property
    def index(self) -> Index:
        """The index.

        Raises:
            RefusedError: None is served.
        """
        if self.service.index is None:
            raise RefusedError(404, "not_served", "No index is served here: ask /predict for labels.")
        return self.service.index

    @property
    def writable_index(self) -> Index:
        """The index, to be changed.

        Raises:
            RefusedError: None is served, or it may not be changed.
        """
        if self.settings.read_only:
            raise RefusedError(403, "read_only", "This server does not change its index: it was started as read-only.")
        return self.index

    @property
    def labels(self) -> LabelIndex:
        """The labels.

        Raises:
            RefusedError: None are served.
        """
        if self.service.labels is None:
            raise RefusedError(404, "not_served", "No labels are served here: start the server with labels.")
        return self.service.labels

    async def ask(self, question: Callable[[], T]) -> T:
        """The answer to a question about the index; in a thread, where what another process wrote must be opened."""
        index = self.service.index
        if index is None or index.is_current:
            return question()
        return await run_in_threadpool(question)


async def _state(request: Request) -> State:  # not in a thread, where FastAPI would run a plain function
    state: State = request.app.state.retriever
    return state


Served = Annotated[State, Depends(_state)]

STATUSES = {
    400: "The body cannot be read.",
    401: "A key is missing or unknown.",
    403: "The key does not allow this.",
    404: "This is not here.",
    408: "The body did not come in time.",
    409: "Another process is writing the index.",
    413: "The body is too large.",
    415: "The body does not say that it is JSON.",
    422: "A value is wrong.",
    429: "Too many requests wait, or come from this caller; Retry-After tells when to come back.",
    503: "The answer took too long, or what is served cannot be read.",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Refusal, "description": told} for status, told in STATUSES.items()
}
