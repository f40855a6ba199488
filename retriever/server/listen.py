"""Listening: a socket that is free, connections that do not drag, and an end that keeps its word.

1. The port is taken before anything is loaded, so that a taken one is told at once.
2. A connection must send the head of a request within ``HEAD_SECONDS`` of its beginning, for the first one of the
   connection's, and no head above ``HEAD_BYTES``. Between requests it may rest for ``IDLE_SECONDS``: longer than
   clients and proxies keep one, so that none sends into a connection that is being closed.
3. Beyond ``CONNECTIONS`` connections, requests are refused until some have ended.
4. The application begins before a connection is read; what it raises at its beginning is raised to the caller.
5. At the end of the process nothing new is accepted, and what was accepted is answered.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import signal
import socket
from collections.abc import Callable
from ipaddress import ip_address
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from retriever.errors import ServerError

HEAD_SECONDS = 10.0
HEAD_BYTES = 64 << 10
IDLE_SECONDS = 75  # httpx keeps a connection for 5 seconds, nginx and load balancers for 60
CONNECTIONS = 4_096
BACKLOG = 2_048
LAST_PORT = 65_535
TOO_LARGE = "The head of the request is too large: send fewer or shorter headers, and a long query in a POST's body."
NO_HTTP = "The request is no HTTP: mend the client, and write what is not ASCII in an address as %C3%BC."
FULL = "Too many connections are open: come back in a second."

logger = logging.getLogger("retriever.server")


class PatientProtocol(HttpToolsProtocol):
    """HTTP/1.1 with limits on the head of a request."""

    _in_head = False
    _read = 0  # bytes of a head that has begun and not ended, without the first ones
    _parsed = 0  # bytes of the address and the headers of a request that are whole
    _is_refused = False  # as one connection too many
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time of the first head."""
        super().connection_made(transport)
        self._start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless a head grows beyond its limit."""
        began_before = self._in_head
        super().data_received(data)
        self._read = self._read + len(data) if began_before and self._in_head else 0
        if self._in_head or self._is_idle:  # also by a line end, after which nobody else minds the time
            self._start()
        if self._read > HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(TOO_LARGE)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head, self._parsed = True, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a line of the same form after a body that comes in chunks."""
        self._count(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._stop()
        if len(self.connections) > CONNECTIONS:
            self._is_refused = True
            raise ValueError(FULL)  # ends the parsing, and is answered by send_400_response
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse in the form of all refusals, and hang up."""
        if self._is_refused:
            self._refuse("503 Service Unavailable", "overloaded", FULL, "retry-after: 1\r\n")
        elif self._parsed > HEAD_BYTES or msg == TOO_LARGE:
            self._refuse("400 Bad Request", "bad_request", TOO_LARGE)
        else:
            self._refuse("400 Bad Request", "bad_request", NO_HTTP)

    def _refuse(self, status: str, kind: str, sentence: str, more: str = "") -> None:
        name = secrets.token_hex(8)
        logger.info("refused", extra={"request_id": name, "status": int(status[:3]), "reason": sentence})
        body = json.dumps({"error": sentence, "error_type": kind, "request_id": name}).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}x-request-id: {name}\r\n{more}connection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def _count(self, size: int) -> None:
        self._parsed += size
        if self._parsed > HEAD_BYTES:
            raise ValueError(TOO_LARGE)  # ends the parsing, and is answered by send_400_response

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._expire)

    def _expire(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def take_port(host: str, port: int, has_keys: bool) -> socket.socket:
    """A socket bound to an address; port 0 is any free one.

    Raises:
        ServerError: The port is taken or may not be used, there is no such address, or it is open to other machines
            and there are no keys.
    """
    if not has_keys and not is_loopback(host):
        raise ServerError(
            f"--host {host} is open to other machines: give keys with --api-key-file, or listen on 127.0.0.1."
        )
    if not 0 <= port <= LAST_PORT:
        raise ServerError(f"There is no port {port}: choose one from 0 to {LAST_PORT}.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # the rest names the address again
        raise ServerError(f"Cannot listen on {host}, port {port} ({reason}): choose another.") from error


def url_of(taken: socket.socket) -> str:
    """The address of a bound socket as a browser takes it."""
    host, port = taken.getsockname()[:2]
    return f"http://[{host}]:{port}" if taken.family == socket.AF_INET6 else f"http://{host}:{port}"


def listener(app: FastAPI, grace: float, ready: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """What answers requests until the process is told to end (SIGINT or SIGTERM); run it with bound sockets.

    Args:
        app: The application.
        grace: Seconds that accepted requests have at the end.
        ready: Called when the application has begun.
    """
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="off",  # see _Server
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=max(1, round(grace)),
    )
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    return _Server(config, app, ready)


class _Server(uvicorn.Server):
    """A server that a signal ends without an error; a second Ctrl-C does not wait.

    It lets the application begin and end itself: uvicorn would print a traceback of what that raises, and exit.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._app, self._ready = app, ready

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer until told to end."""
        with self.capture_signals():
            async with self._app.router.lifespan_context(self._app):
                self._ready()
                await super().serve(sockets)
                if self.force_exit:  # the workers leave out what nobody waits for
                    for task in self.server_state.tasks:
                        task.cancel()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        logger.info("ending")
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def is_loopback(host: str) -> bool:
    """Whether an address or a name is one by which only this machine reaches itself."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
