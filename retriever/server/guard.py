"""What every request meets before anything reads it: the host it asks for, its key, and its rate.

1. A request names one host. Without keys the server is bound to this machine, and answers only under a name of this
   machine: a page in a browser cannot reach it through a name of its own that points here.
2. With keys, a request needs one, in ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``, and to write a writing one.
   Open to all are the page, which asks for the key, and the question whether the server is ready.
3. Each key, or each address where there are no keys, has a bucket that holds ``BURST`` seconds of requests and is
   filled at the rate; a request takes one, and is refused where there is none.
4. A body is JSON and says so, which no page of another origin can send without asking first; it is no larger than the
   limit, and comes in before the time of the request is over.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from anyio import fail_after
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retriever.server.errors import RefusedError
from retriever.server.keys import find_key
from retriever.server.listen import is_loopback
from retriever.server.settings import Settings

OPEN = frozenset({"/", "/page.js", "/page.css", "/health"})
BURST = 2.0  # seconds
CLIENTS = 10_000  # buckets that are kept
BEARER = "bearer "

Headers = Mapping[bytes, bytes]


class Guard:
    """The middleware.

    Args:
        app: What it guards.
        settings: Keys, rate and time.
        clock: Seconds, for tests.
    """

    def __init__(self, app: ASGIApp, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._app, self._settings, self._clock = app, settings, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when they were counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            self._check_caller(scope, headers)
            self._check_body(headers)
        except RefusedError as error:
            await error.response(scope)(scope, receive, send)
            return
        await self._app(scope, receive if scope["method"] == "GET" else _limited(receive, self._settings), send)

    def _check_caller(self, scope: Scope, headers: Headers) -> None:
        client = scope.get("client")
        scope["key"] = client[0] if client else ""
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            raise RefusedError(400, "bad_request", "The request names several hosts: send one Host header.")
        if not self._settings.keys and not is_loopback(_host(headers)):
            raise RefusedError(
                403, "forbidden", "Without keys this server answers to names of its own machine only, as localhost."
            )
        if self._settings.keys and scope["path"] not in OPEN:
            self._check_key(scope, headers)
        if self._settings.rate is not None and scope["path"] != "/health":
            self._spend(scope["key"], self._settings.rate)

    def _check_body(self, headers: Headers) -> None:
        length = _value(headers, b"content-length")
        has_body = length not in ("", "0") or _value(headers, b"transfer-encoding")
        if has_body and _media_type(headers) != "application/json":
            sentence = "The body must be JSON: send it with Content-Type: application/json."
            raise RefusedError(415, "unsupported_media_type", sentence)
        if length.isdecimal() and int(length[:20]) > self._settings.max_body:
            raise _too_large(self._settings)

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        secret = _secret(headers)
        key = find_key(self._settings.keys, secret)
        if key is None:
            reason = "This key is unknown here: send another one" if secret else "This needs a key: send it"
            sentence = f"{reason} as Authorization: Bearer KEY."
            raise RefusedError(401, "unauthorized", sentence, {"WWW-Authenticate": "Bearer"})
        scope["key"] = key.name
        if _writes(scope) and not key.may_write:
            raise RefusedError(403, "forbidden", "This key may read and not write: use one that may.")

    def _spend(self, caller: str, rate: float) -> None:
        now, most = self._clock(), max(1.0, rate * BURST)
        tokens, since = self._buckets.pop(caller, (most, now))
        tokens = min(most, tokens + (now - since) * rate)
        self._buckets[caller] = (max(tokens - 1, 0) if tokens >= 1 else tokens, now)
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        if tokens < 1:
            wait = math.ceil((1 - tokens) / rate)
            sentence = f"More than {rate:g} requests a second: come back in {wait} s."
            raise RefusedError(429, "rate_limited", sentence, {"Retry-After": str(wait)})


def _writes(scope: Scope) -> bool:
    """Whether a request would change the index."""
    return scope["path"].startswith("/documents") and scope["method"] not in ("GET", "HEAD", "OPTIONS")


def _value(headers: Headers, name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")


def _media_type(headers: Headers) -> str:
    return _value(headers, b"content-type").partition(";")[0].strip().lower()


def _secret(headers: Headers) -> str:
    bearer = _value(headers, b"authorization")
    return bearer[len(BEARER) :].strip() if bearer.lower().startswith(BEARER) else _value(headers, b"x-api-key")


def _host(headers: Headers) -> str:
    host = _value(headers, b"host")
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0].lower()


def _too_large(settings: Settings) -> RefusedError:
    return RefusedError(413, "too_large", f"The body is larger than {settings.max_body:,} bytes: send less at once.")


def _limited(receive: Receive, settings: Settings) -> Receive:
    """Receiving that gives up on a body that does not come, or does not end."""
    end, size, whole = time.monotonic() + settings.timeout, 0, False

    async def receive_within() -> Message:
        nonlocal size, whole
        if whole:
            return await receive()  # waits for the client to hang up
        try:
            with fail_after(max(0.0, end - time.monotonic())):
                message = await receive()
        except TimeoutError as error:
            raise RefusedError(408, "slow_body", "The body did not come in time: send it again.") from error
        size += len(message.get("body", b""))
        if size > settings.max_body:
            raise _too_large(settings)
        whole = not message.get("more_body", False)
        return message

    return receive_within
