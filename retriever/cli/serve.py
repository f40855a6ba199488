"""``retriever serve``: answer over HTTP."""

from __future__ import annotations

import gc
import logging
import math
import os
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from retriever.cli import options
from retriever.cli.show import RichReporter
from retriever.errors import ServerError

NEEDED = ("fastapi", "httptools", "prometheus_client", "uvicorn")


def serve(
    folder: Annotated[Path, typer.Argument(metavar="INDEX|LABELS", help="An index folder; or labels, with --model.")],
    host: Annotated[str, typer.Option(help="Address to listen on; another than this machine's own needs keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8080,
    model: Annotated[str | None, typer.Option(help="The model, if it is not where it was, or of labels.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Labels to serve beside an index, as predict takes them.")] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Labels also learn from their training points.")] = False,
    titles_only: Annotated[bool, typer.Option("--titles-only", help="Read labels without contents.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the model for clients; its folder's if omitted.")] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="`read KEY` or `write KEY` a line; also $RETRIEVER_READ_KEY and $RETRIEVER_WRITE_KEY."),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Do not change the index.")] = False,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="A web origin whose pages may ask, as https://example.org. Repeatable.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Requests a second of each key; any if omitted.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Queries computed together; 1 turns batching off.")] = 64,
    queue: Annotated[int, typer.Option(min=1, help="Queries that may wait; more are refused with 429.")] = 512,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a request is given up.")] = 30.0,
    max_body: Annotated[int, typer.Option(min=1_024, help="Bytes of a request's body.")] = 8 << 20,
    log_queries: Annotated[bool, typer.Option("--log-queries", help="Write queries into the log.")] = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each of the two workers.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No log but errors.")] = False,
) -> None:
    """Serve an index over HTTP, with a page to search it: documents, embeddings, labels.

    retriever serve index --port 8080
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ServerError(f"Serving needs {', '.join(missing)}: pip install 'dense-retriever[serve]'.")
    _check_finite(rate=rate, timeout=timeout)
    _check_origins(allow_origin or ())
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    from retriever.server.keys import read_keys
    from retriever.server.listen import listener, take_port, url_of

    keys = read_keys(api_key_file, os.environ)
    taken = take_port(host, port, bool(keys))
    with taken:
        from retriever.server.app import create_app
        from retriever.server.service import open_service
        from retriever.server.settings import Settings

        options.use_threads(threads)
        reporter = RichReporter(quiet)
        service = open_service(
            folder,
            model=model,
            labels=labels,
            memory=memory,
            titles_only=titles_only,
            name=name,
            device=device,
            dtype=dtype,
            reporter=reporter,
        )
        settings = Settings(
            keys=keys,
            read_only=read_only,
            origins=tuple(allow_origin or ()),
            max_body=max_body,
            queue=queue,
            batch=batch,
            timeout=timeout,
            rate=rate,
            log_queries=log_queries,
        )
        _log(quiet)
        told = f"Serving {folder} at {url_of(taken)} (Ctrl-C ends it)."
        application = listener(create_app(service, settings, threads), timeout, lambda: RichReporter().note(told))
        gc.freeze()  # what is there stays: looking through it for garbage would stop the server for a third of a second
        application.run(sockets=[taken])


def _check_finite(**given: float | None) -> None:
    for name, value in given.items():
        if value is not None and not math.isfinite(value):
            raise ServerError(f"--{name} is {value}: give a finite number.")


def _check_origins(origins: Sequence[str]) -> None:
    """Refuse what no browser calls an origin: it would be compared with, and never be equal."""
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#@A-Z]+", origin):
            raise ServerError(
                f"--allow-origin {origin} is no origin: write scheme and host in small letters and nothing after them, "
                "as https://example.org."
            )


def _log(quiet: bool) -> None:
    """Send the server's log to stderr, and the errors of what it listens with."""
    from retriever.server.observe import JsonLines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (("retriever.server", logging.INFO), ("uvicorn", logging.ERROR), ("asyncio", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.ERROR if quiet else level)
        logger.propagate = False
