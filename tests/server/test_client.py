"""The client against a real server: the same answers as the library, and its errors."""

from __future__ import annotations

import http.server
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest
from server_app import listening

from retriever import Client, ServerError
from retriever.client import Label, Part
from retriever.data.document import Document
from retriever.server.keys import Key


@pytest.fixture
def client(service):
    with listening(service) as url, Client(url + "/") as client:
        yield client


def test_searches_are_those_of_the_index(client, index):
    for mode in ("hybrid", "dense", "bm25"):
        expected = index.search("reset the device", 3, mode)
        found = client.search("reset the device", 3, mode)
        assert [(hit.rank, hit.id, hit.title, hit.text, hit.metadata) for hit in found] == [
            (hit.rank, hit.id, hit.title, hit.text, hit.metadata) for hit in expected
        ]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected])
    filtered = client.search("device", 5, filters=["lang=en"], fusion="rrf", weight=0.3)
    assert [hit.id for hit in filtered] == ["manual"]
    assert [hit.rank for hit in client.search("device", 2, "dense", offset=2)] == [3, 4]


def test_hits_tell_their_parts_and_passages(client):
    (hit,) = client.search("battery", 1, explain=True)
    assert isinstance(hit.parts["dense"], Part) and hit.parts["bm25"].rank == 1
    assert ("battery", True) in hit.passage
    assert "".join(text for text, _ in hit.passage) == hit.text


def test_several_queries_are_answered_in_order(client):
    found = client.search_batch(["battery", "manual"], 1)
    assert [[hit.id for hit in hits] for hits in found] == [["battery"], ["manual"]]


def test_documents_are_added_read_and_deleted(client, index):
    documents = [Document(f"n{n}", f"Title {n}", "zebra", {"n": n}) for n in range(1_100)]
    assert client.add(iter([*documents, Document("reset", text="zebra")])) == (1_100, 1)
    assert client.get("n7") == documents[7] == index.get("n7")
    assert client.get("absent") is None
    assert client.delete(["n7", "absent", "n8"]) == ["absent"]
    assert client.get("n8") is None and len(index) == 5 + 1_098
    assert client.add([]) == (0, 0)


@pytest.mark.parametrize("name", ["a/b?c#d", "..", "../search", "é 🙂", "%2F"])
def test_any_id_reaches_its_document(client, name):
    client.add([Document(name, text="zebra")])
    assert client.get(name).id == name
    assert client.delete([name]) == [] and client.get(name) is None


def test_vectors_are_those_of_the_encoder(client, encoder):
    texts = [f"zebra {'heron ' * (number % 5)}" for number in range(600)]
    for kind in ("query", "document"):
        np.testing.assert_array_equal(client.embed(texts, kind), encoder.encode(texts, kind))
    assert client.embed([]).shape == (0, 32)


def test_labels_are_those_of_the_library(client, service):
    texts = ["charge the battery", "qqqq"]
    expected = [[Label(tag.label, tag.text, tag.score) for tag in tags] for tags in service.labels.predict(texts, 2)]
    found = client.predict(texts, 2)
    assert [[(one.label, one.text) for one in labels] for labels in found] == [
        [(one.label, one.text) for one in labels] for labels in expected
    ]
    assert found[0][0].score == pytest.approx(expected[0][0].score)


def test_refusals_are_errors_with_the_servers_sentence(client, service):
    with pytest.raises(ServerError, match=r"^q is wrong: it is blank") as error:
        client.search(" ")
    assert (error.value.status, error.value.kind) == (422, "invalid") and len(error.value.request_id) == 16
    refused = pytest.raises(ServerError, match="No labels are served")
    with listening(replace(service, labels=None)) as url, Client(url) as bare, refused as error:
        bare.predict(["a"])
    assert error.value.kind == "not_served"


def test_without_an_index_a_document_is_no_answer_but_an_error(service):
    refused = pytest.raises(ServerError, match="No index is served")
    with listening(replace(service, index=None)) as url, Client(url) as bare, refused:
        bare.get("a")


def test_a_key_is_sent(service):
    keys = (Key.of("k" * 16, "read", "x"),)
    with listening(service, keys=keys) as url:
        with Client(url, "k" * 16) as client:
            assert client.search("battery", 1)[0].id == "battery"
        with Client(url) as client, pytest.raises(ServerError, match="needs a key"):
            client.search("battery")


def test_a_server_that_is_not_there_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(ServerError, match="retriever serve"):
        client.search("a")
    with Client("no address") as client, pytest.raises(ServerError, match="Cannot reach no address"):
        client.search("a")


@pytest.mark.parametrize(("body", "told"), [(b"<html>", "no JSON"), (b"[1]", "status 502")])
def test_another_kind_of_server_is_told(body, told):
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(502)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            refused = pytest.raises(ServerError, match=told)
            with Client(f"http://127.0.0.1:{server.server_port}") as client, refused as error:
                _ = client.info
            assert error.value.status == 502
        finally:
            server.shutdown()
            thread.join()


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "httpx2", None)
    with pytest.raises(ServerError, match=r"dense-retriever\[serve\]"):
        Client()
