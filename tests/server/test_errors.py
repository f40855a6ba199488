"""Refusals tell what to do, and nothing of the inside."""

from __future__ import annotations

import logging

import pytest
from server_app import refusal, serving

from retriever.errors import DataError, IndexFolderError
from retriever.indexing.index import Index
from retriever.server.errors import without_folders


@pytest.fixture
def client(shared):
    return shared


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("The index /home/ann/secret/index is damaged.", "The index index is damaged."),
        ("Cannot read '/a/b/c.txt' (no).", "Cannot read 'c.txt' (no)."),
        ("/a/b: no", "b: no"),
        ("write year>=2020 and/or lang=en", "write year>=2020 and/or lang=en"),
        ("a field 'x/y'", "a field 'x/y'"),
    ],
)
def test_folders_are_left_out_of_sentences(sentence, told):
    assert without_folders(sentence) == told


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ValueError("secret /etc/passwd"), 500, "internal"),
        (RecursionError("secret"), 500, "internal"),
        (IndexFolderError("The index /srv/secret/index is damaged."), 503, "unavailable"),
        (OSError(24, "Too many open files", "/srv/secret/index"), 503, "unavailable"),
        (DataError("The field /srv/secret/x is wrong."), 422, "invalid"),
    ],
)
def test_what_breaks_is_logged_and_not_told(client, monkeypatch, caplog, error, status, kind):
    def broken(*arguments, **options):
        raise error

    monkeypatch.setattr(Index, "search_batch", broken)
    with caplog.at_level(logging.INFO, "retriever.server"):
        told = refusal(client.get("/search", params={"q": "a"}), status, kind)
    assert "secret" not in told and "Traceback" not in told
    assert client.get("/health").status_code == 200
    if status != 422:
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert "secret" in str(record.exc_info or record.getMessage()) and record.request_id


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/../../etc/passwd", 404, "not_found"),
        ("DELETE", "/search", 405, "method_not_allowed"),
        ("PUT", "/documents/a", 405, "method_not_allowed"),
        ("TRACE", "/health", 405, "method_not_allowed"),
    ],
)
def test_addresses_and_methods_that_are_not_there_are_told(client, method, path, status, kind):
    refusal(client.request(method, path), status, kind)


@pytest.mark.parametrize("path", ["/search", "/search/batch", "/documents", "/v1/embeddings", "/embed", "/predict"])
@pytest.mark.parametrize("body", ["[]", "3", "null", '"a"'])
def test_a_body_that_is_no_object_is_told_alike_everywhere(client, path, body):
    response = client.post(path, content=body, headers={"content-type": "application/json"})
    assert refusal(response, 422, "invalid").startswith("The body is no JSON object: send one")


def test_an_answer_that_takes_too_long_is_given_up(service, monkeypatch):
    import threading

    gate = threading.Event()
    with serving(service, timeout=0.2) as client:
        monkeypatch.setattr(Index, "get", lambda index, name: gate.wait(10) and None)
        response = client.get("/documents/a")
        gate.set()
        refusal(response, 503, "timeout")
        assert response.headers["retry-after"] == "5"
