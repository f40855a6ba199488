"""What surrounds every request: an id, headers that keep browsers safe, a time, a line of the log.

1. The id is the caller's ``X-Request-ID`` if it is short and plain, otherwise a random one; the answer bears it.
2. Each answer tells browsers to load nothing but the server's own files, and to guess no types.
3. A request that breaks is answered with 500, and its traceback is logged.
4. A client that hangs up before its body is whole is answered nothing; log and metrics say 499.
5. The log is one JSON object a line. Texts of queries are not in it unless asked for.
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retriever.server.errors import RefusedError, unexpected
from retriever.server.metrics import GONE, Metrics

logger = logging.getLogger("retriever.server")

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_PLAIN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_RECORD = logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime", "taskName"}


class Observe:
    """The middleware.

    Args:
        app: What it surrounds.
        metrics: Told of each request.
        log_queries: Whether texts of queries are logged.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, log_queries: bool = False) -> None:
        self._app, self._metrics, self._log_queries = app, metrics, log_queries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and tell of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, is_gone = time.perf_counter(), 0, False
        scope["request_id"] = name = _request_id(scope)
        headers = [(b"x-request-id", name.encode()), *_HEADERS]

        async def receive_more() -> Message:
            nonlocal is_gone
            message = await receive()
            is_gone = is_gone or (not status and message["type"] == "http.disconnect")
            return message

        async def send_more(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        try:
            await self._app(scope, receive_more, send_more)
        except ClientDisconnect:
            pass
        except Exception as error:
            if status:
                raise
            response = error.response(scope) if isinstance(error, RefusedError) else unexpected(scope, error)
            await response(scope, receive, send_more)
        finally:
            self._tell(scope, GONE if is_gone else status, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if route != "other" else "ANY"
        self._metrics.request(method, route, status, seconds)
        if not logger.isEnabledFor(logging.INFO):
            return
        facts = {
            "request_id": scope["request_id"],
            "method": method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "caller": scope.get("key", ""),
        }
        if self._log_queries:
            facts["queries"] = scope.get("queries") or parse_qs(scope["query_string"].decode("latin-1")).get("q", [])
        logger.info("request", extra=facts)


class JsonLines(logging.Formatter):
    """A record of the log as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **{name: value for name, value in record.__dict__.items() if name not in _RECORD},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _PLAIN.fullmatch(value):
            return str(value, "ascii")
    return f"{random.getrandbits(64):016x}"
