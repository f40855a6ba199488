"""Ids, headers, the log, the metrics, and what the server says of itself."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from server_app import listening, refusal, serving

from retriever.indexing import changes
from retriever.indexing.backend import open_state
from retriever.indexing.index import Index
from retriever.indexing.manifest import FusionRecord
from retriever.server import settings
from retriever.server.observe import JsonLines
from retriever.server.service import Service


def test_every_answer_bears_an_id_and_the_callers_if_it_is_plain(client):
    first, second = (client.get("/health").headers["x-request-id"] for _ in range(2))
    assert len(first) == 16 and first != second
    assert client.get("/health", headers={"X-Request-ID": "My-1.a_b"}).headers["x-request-id"] == "My-1.a_b"
    for strange in ("a b", "a" * 65, "<x>", '"'):
        assert client.get("/health", headers={"X-Request-ID": strange}).headers["x-request-id"] != strange


@pytest.mark.parametrize("path", ["/health", "/search?q=a", "/nowhere", "/search"])
def test_every_answer_tells_browsers_to_be_careful(client, path):
    headers = client.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer" and "server" not in headers


def test_other_origins_are_not_let_in_unless_they_are_allowed(service):
    origin = {"Origin": "https://page.example"}
    with serving(service) as client:
        assert "access-control-allow-origin" not in client.get("/search?q=a", headers=origin).headers
        asking = {**origin, "Access-Control-Request-Method": "POST"}
        refusal(client.options("/search", headers=asking), 405, "method_not_allowed")
    again = replace(service, index=Index.open(service.index.folder))
    with serving(again, origins=("https://page.example",)) as client:
        allowed = client.get("/search?q=a", headers=origin).headers
        assert allowed["access-control-allow-origin"] == "https://page.example"
        other = client.get("/search?q=a", headers={"Origin": "https://other.example"}).headers
        assert "access-control-allow-origin" not in other
        asking["Access-Control-Request-Headers"] = "authorization"
        assert client.options("/search", headers=asking).status_code == 200


@pytest.mark.parametrize("log_queries", [False, True])
def test_the_log_tells_of_each_request_and_of_queries_only_if_asked(service, caplog, log_queries):
    with serving(service, log_queries=log_queries) as client, caplog.at_level(logging.INFO, "retriever.server"):
        client.get("/search", params={"q": "secret battery"})
        client.post("/search", json={"q": "secret manual"})
        client.get("/search", params={"q": "secret", "k": 0})
        client.get("/documents/secret-name")
        client.get("/nowhere/secret-path")
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records if record.name == "retriever.server"]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("GET", "/search", 200),
        ("POST", "/search", 200),
        ("GET", "/search", 422),
        ("GET", "/documents/{name:id}", 404),
        ("ANY", "other", 404),
    ]
    assert all(line["event"] == "request" and line["ms"] > 0 and line["request_id"] for line in lines)
    if log_queries:
        assert [line["queries"] for line in lines[:3]] == [["secret battery"], ["secret manual"], ["secret"]]
    else:
        assert "secret" not in json.dumps(lines)


def test_a_traceback_is_one_line_of_the_log():
    try:
        raise ValueError("broken\nhere")
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "failed", "levelname": "ERROR", "exc_info": (ValueError, error, None)})
    line = JsonLines().format(record)
    assert "\n" not in line and "broken" in json.loads(line)["traceback"]


def samples(client):
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}


def test_metrics_count_requests_batches_and_refusals(client):
    for _ in range(3):
        client.get("/search", params={"q": "battery"})
    client.get("/search")
    client.get("/random/scan/1")
    client.post("/documents", json={"documents": [{"id": str(n)} for n in range(7)]})
    found = samples(client)

    def count(method, route, status):
        return found["retriever_request_seconds_count", ("method", method), ("route", route), ("status", status)]

    assert count("GET", "/search", "200") == 3 and count("GET", "/search", "422") == 1
    assert count("ANY", "other", "404") == 1
    assert found["retriever_batch_size_sum", ("queue", "writes")] == 7
    assert found["retriever_wait_seconds_count", ("queue", "reads")] >= 3
    assert found[("retriever_waiting_reads",)] == found[("retriever_waiting_writes",)] == 0
    assert found["retriever_refused_total", ("status", "422")] == 1
    assert found[("process_resident_memory_bytes",)] > 1e6


@pytest.mark.parametrize("path", ["/search", "/embed", "/documents"])
def test_a_client_that_hangs_up_inside_its_body_is_no_fault_of_the_server(service, caplog, path):
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    with caplog.at_level(logging.INFO), listening(service) as url, httpx2.Client(base_url=url) as client:
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10) as connection:
            connection.sendall(head.encode() + b'{"q": ')
            time.sleep(0.1)
        while not (told := [record for record in caplog.records if getattr(record, "route", "") == path]):
            time.sleep(0.01)
        found = samples(client)
    assert [(record.levelname, record.status, record.exc_info) for record in told] == [("INFO", 499, None)]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    name = "retriever_request_seconds_count"
    assert found[name, ("method", "POST"), ("route", path), ("status", "499")] == 1
    assert not [key for key in found if any(value[1][:1] == "5" for value in key[1:] if value[0] == "status")]
    assert ("retriever_refused_total", ("status", "499")) not in found


def test_a_head_is_told_as_one_with_its_route(client, caplog):
    with caplog.at_level(logging.INFO, "retriever.server"):
        client.head("/documents/reset")
    (record,) = caplog.records
    assert (record.method, record.route, record.status) == ("HEAD", "/documents/{name:id}", 200)


@pytest.mark.parametrize("path", ["/health", "/v1/models"])
def test_others_are_answered_while_an_index_is_opened_anew(service, monkeypatch, path):
    opening, answered = threading.Event(), threading.Event()

    def slow(*given):
        opening.set()
        assert answered.wait(10), "the event loop waits too"
        return open_state(*given)

    with serving(Service(service.index)) as client, ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr("retriever.indexing.reader.open_state", slow)
        changes.configure(service.index.folder, fusion=FusionRecord())  # as another process would
        asked = pool.submit(client.get, path)
        assert opening.wait(10)
        assert client.get("/metrics").status_code == 200
        answered.set()
        assert asked.result().status_code == 200


def test_health_tells_when_the_index_is_gone(client, index):
    assert client.get("/health").json() == {"status": "ready"}
    (index.folder / "manifest.json").unlink()
    refusal(client.get("/health"), 503, "not_ready")
    refusal(client.get("/search", params={"q": "a"}), 503, "unavailable")
    assert client.post("/embed", json={"inputs": "a"}).status_code == 200


def test_health_tells_when_too_many_files_are_open(client, monkeypatch, caplog):
    def refused(self):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Index, "_state", refused)
    response = client.get("/health")
    refusal(response, 503, "not_ready")
    (told,) = [record for record in caplog.records if record.message == "not ready: [Errno 24] Too many open files"]
    assert told.request_id == response.headers["x-request-id"]
    refusal(client.get("/search", params={"q": "a"}), 503, "unavailable")


@pytest.mark.parametrize("called", [None, "mine"])
def test_texts_are_embedded_while_the_index_is_gone(index, encoder, called):
    name = called or encoder.path.name
    with serving(Service(Index.open(index.folder), called=called)) as client:
        (index.folder / "manifest.json").unlink()
        assert client.get("/v1/models").json()["data"][0]["id"] == name
        asked = {"model": name, "input": "battery", "input_type": "query"}
        answer = client.post("/v1/embeddings", json=asked).json()
        np.testing.assert_allclose(answer["data"][0]["embedding"], encoder.encode(["battery"], "query")[0], atol=1e-6)


def test_info_tells_what_is_served_and_no_folder(client, encoder):
    facts = client.get("/info").json()
    assert facts["model"] == "tiny" and facts["fingerprint"] == encoder.fingerprint and facts["dimension"] == 32
    assert facts["index"]["documents"] == 5 and facts["labels"] == {"labels": 2, "memory": False}
    known = {name.lower(): value for name, value in vars(settings).items() if name.startswith("MAX_")}
    assert facts["limits"] == known | {"max_body": 8 << 20} and "/tmp" not in json.dumps(facts)


def test_the_description_has_examples_schemas_and_every_route(client):
    described = client.get("/openapi.json").json()
    assert described["openapi"].startswith("3.")
    routes = {"/search", "/search/batch", "/documents", "/documents/{name}", "/v1/embeddings", "/embed", "/predict"}
    assert routes | {"/v1/models", "/info", "/health", "/metrics"} == described["paths"].keys()
    schemas = described["components"]["schemas"]
    assert all(schemas[name]["examples"] for name in ("SearchRequest", "UpsertRequest", "EmbeddingsRequest"))
    for path in described["paths"].values():
        for operation in path.values():
            assert operation["description"] and operation["responses"].keys() >= {"200", "415", "422", "429"}
            refused = operation["responses"]["422"]["content"]["application/json"]["schema"]["$ref"]
            assert refused.endswith("/Refusal")
