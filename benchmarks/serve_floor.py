"""The least that can answer a request, for serve_speed.py: bare ASGI, and Starlette with one route."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

ANSWER = b'{"status":"ready"}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer without looking at the request."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": ANSWER})


async def _health(request: Request) -> Response:
    return Response(ANSWER, media_type="application/json")


starlette = Starlette(routes=[Route("/health", _health)])
