"""HEAD wherever GET is, and what an address says that it takes."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import pytest
from server_app import listening, refusal, serving

from retriever.server.keys import Key

PATHS = ["/", "/page.js", "/health", "/search?q=battery", "/documents/reset", "/v1/models", "/openapi.json"]


def ask(url, method, path):
    """The status of a request to a real server, its headers and its body."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", PATHS)
def test_head_is_answered_as_get_without_a_body(shared, path):
    got, head = shared.get(path), shared.head(path)
    assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize(
    ("path", "status"), [("/documents/nowhere", 404), ("/search", 422), ("/nowhere", 404), ("/embed", 405)]
)
def test_head_is_refused_as_get(shared, path, status):
    assert shared.head(path).status_code == shared.get(path).status_code == status
    assert shared.head(path).content == b""


def test_no_body_goes_over_the_wire_and_its_length_is_told(service):
    with listening(service) as url:
        for path in ("/", "/health", "/documents/reset", "/nowhere"):
            status, headers, body = ask(url, "HEAD", path)
            got = ask(url, "GET", path)
            assert body == b"" and (status, headers["content-length"]) == (got[0], str(len(got[2])))


def test_head_needs_a_key_where_get_needs_one(service):
    with serving(service, keys=(Key.of("r" * 16, "read", "x"),)) as client:
        paths = ("/", "/health", "/documents/reset")
        assert [client.head(path).status_code for path in paths] == [200, 200, 401]
        assert client.head("/documents/reset", headers={"X-API-Key": "r" * 16}).status_code == 200


@pytest.mark.parametrize(
    ("path", "takes"),
    [
        ("/search", "GET, HEAD, POST"),
        ("/documents/reset", "DELETE, GET, HEAD"),
        ("/documents", "POST"),
        ("/search/batch", "POST"),
        ("/", "GET, HEAD"),
        ("/health", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE"])
def test_a_method_that_an_address_does_not_take_is_told_all_that_it_takes(shared, method, path, takes):
    response = shared.request(method, path)
    refusal(response, 405, "method_not_allowed")
    assert response.headers["allow"] == takes
