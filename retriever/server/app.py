"""The application: middlewares around routes, and workers that live as long as it.

A request passes, from outside in: :mod:`retriever.server.observe`, CORS where origins are allowed,
:mod:`retriever.server.guard`, :mod:`retriever.server.methods`, and its route. All routes are asynchronous; what
computes runs in two worker threads, one that reads and one that writes. It is ready when each kind of work has been
done once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

import retriever
from retriever.errors import ServerError
from retriever.kernels import use_threads
from retriever.server import errors, settings
from retriever.server.batcher import Batcher
from retriever.server.description import tell_keys
from retriever.server.guard import Guard
from retriever.server.methods import Head
from retriever.server.metrics import Metrics
from retriever.server.observe import Observe
from retriever.server.routes import about, documents, embeddings, page, predict, search
from retriever.server.service import Service
from retriever.server.settings import Settings
from retriever.server.state import State
from retriever.server.tasks import Embed, Predict, Search

WARM_UP = ["warm up"]
GROUPS = (search, documents, embeddings, predict, about, page)


def create_app(service: Service, options: Settings | None = None, threads: int = 1) -> FastAPI:
    """The application that answers from a service.

    Args:
        service: What is served; it is closed with the application.
        options: How to behave.
        threads: CPU threads of each worker.

    Returns:
        An ASGI application. Its beginning raises a :class:`retriever.errors.RetrieverError` where the first requests
        cannot be answered.
    """
    options = options or Settings()
    metrics = Metrics()

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        reading = _worker("reads", options.batch, options, metrics, threads)
        writing = _worker("writes", settings.MAX_DOCUMENTS, options, metrics, threads)
        async with reading as reads, writing as writes:
            app.state.retriever = State(service, options, metrics, reads, writes)
            metrics.gauge("waiting_reads", "Inputs that wait to be read.", lambda: reads.waiting)
            metrics.gauge("waiting_writes", "Inputs that wait to be written.", lambda: writes.waiting)
            try:
                await _warm_up(service, reads)
            except TimeoutError as error:
                sentence = f"Nothing was answered within {options.timeout:g} seconds: give more time with --timeout."
                raise ServerError(sentence) from error
            yield
        service.close()

    app = FastAPI(
        title="retriever",
        summary="Search, documents, embeddings and labels.",
        version=retriever.__version__,
        routes=[route for group in GROUPS for route in group.router.routes],
        lifespan=living,
        docs_url=None,  # both pages load scripts from elsewhere
        redoc_url=None,
        middleware=_middleware(options, metrics),
    )
    errors.install(app)
    if options.keys:
        tell_keys(app)
    return app


async def _warm_up(service: Service, reads: Batcher) -> None:
    """Do in the worker what the first request of each kind would wait for."""
    await reads.submit(Embed(service, "query"), WARM_UP)
    if service.index is not None:
        await reads.submit(Search(service.index, k=1), WARM_UP)
    if service.labels is not None:
        await reads.submit(Predict(service.labels, 1, service.dtype), WARM_UP)


def _middleware(options: Settings, metrics: Metrics) -> list[Middleware]:
    cors = Middleware(
        CORSMiddleware,
        allow_origins=options.origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
        expose_headers=["X-Request-ID", "Retry-After"],
    )
    return [
        Middleware(Observe, metrics=metrics, log_queries=options.log_queries),
        *([cors] if options.origins else []),
        Middleware(Guard, settings=options),
        Middleware(Head),
    ]


def _worker(name: str, size: int, options: Settings, metrics: Metrics, threads: int) -> Batcher:
    return Batcher(
        name,
        size=size,
        room=max(options.queue, size),
        timeout=options.timeout,
        prepare=partial(use_threads, threads),
        observe=metrics.batch_observer(name),
    )
