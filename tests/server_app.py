"""The application over a service: in this process, or a real server in a thread of it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

from starlette.testclient import TestClient

from retriever.server.app import create_app
from retriever.server.listen import listener, take_port, url_of
from retriever.server.settings import Settings


@contextmanager
def serving(service, **settings):
    """A client of the application, in this process."""
    app = create_app(service, Settings(**settings))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@contextmanager
def listening(service, **settings):
    """The address of a real server, in a thread of this process."""
    options = Settings(**settings)
    server = listener(create_app(service, options), 10)
    with take_port("127.0.0.1", 0, False) as taken:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.005)
            yield url_of(taken)
        finally:
            server.should_exit = True
            thread.join()


def refusal(response, status, kind):
    """The sentence of a refusal, which must be whole and of this kind."""
    body = response.json()
    assert (response.status_code, body["error_type"]) == (status, kind), body
    assert body.keys() == {"error", "error_type", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["error"].endswith(".") and "\n" not in body["error"] and "/tmp" not in body["error"]
    return body["error"]
