"""The client against a real server: the same answers as the library, and its errors."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from server_app import listening

from retriever import Client, DataError, ServerError
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


@pytest.mark.parametrize(
    "name", ["a/b?c#d", ".", "..", "../search", "é 🙂", "%2F", "a\nb", "a\n", "\n", "a//b", "/", "a/"]
)
def test_any_id_reaches_its_document(client, name):
    client.add([Document(name, text="zebra")])
    assert client.get(name).id == name
    assert client.delete([name]) == [] and client.get(name) is None


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda client: client.delete("reset"), "ids are the text 'reset'"),
        (lambda client: client.embed("a text"), "texts are the text 'a text'"),
        (lambda client: client.predict("a text"), "texts are"),
        (lambda client: client.search_batch("battery"), "queries are"),
        (lambda client: client.search_batch(["battery"], filters="year>2"), "filters are"),
        (lambda client: client.search("battery", filters="year>2"), "filters are"),
    ],
)
def test_a_text_is_no_list(client, index, ask, told):
    client.add([Document(letter, text="zebra") for letter in "reset"])
    with pytest.raises(DataError, match=f"The {told}.*: give a list of"):
        ask(client)
    assert all(index.get(letter) is not None for letter in "reset")


@pytest.mark.parametrize("ask", [lambda client: client.get(5), lambda client: client.delete(["reset", 5])])
def test_an_id_that_is_no_text_is_told_and_nothing_is_deleted(client, index, ask):
    with pytest.raises(DataError, match=r"^The id 5 is a int: give ids as strings"):
        ask(client)
    assert index.get("reset") is not None


@pytest.fixture
def tight(service):
    """A client of a server that takes 4,000 bytes, and the requests it has sent: paths and bodies."""
    with listening(service, max_body=4_000) as url, Client(url) as client:
        send, sent = client._http.request, []

        def noted(method, path, **options):
            sent.append((path, options["content"]))
            return send(method, path, **options)

        client._http.request = noted
        yield client, sent


def bodies(sent, path, field):
    """What was sent: each as large as it may be, and never larger."""
    found = [body for asked, body in sent if asked == path]
    assert all(len(body) <= 4_000 for body in found)
    values = [json.loads(body)[field] for body in found]
    for body, following in zip(found, values[1:], strict=False):
        first = json.dumps(following[0], ensure_ascii=False, separators=(",", ":")).encode()
        assert len(body) + 1 + len(first) > 4_000
    return values


def test_documents_are_sent_in_bodies_that_the_server_takes(tight, index):
    client, sent = tight
    documents = [Document(f"n{n}", "é🙂", "zebra " * (n * 7 % 90), {"n": n}) for n in range(60)]
    assert client.add(iter(documents)) == (60, 0)
    rows = [row for some in bodies(sent, "/documents", "documents") for row in some]
    assert [row["id"] for row in rows] == [document.id for document in documents]
    assert all(index.get(document.id) == document for document in documents)
    client.add(documents)
    assert [path for path, _ in sent].count("/info") == 1 and len(sent) > 10


def test_texts_are_sent_in_bodies_that_the_server_takes(tight, encoder, service):
    client, sent = tight
    texts = [f"battery {'zebra héron ' * (number * 7 % 90)}" for number in range(60)]
    np.testing.assert_array_equal(client.embed(texts), encoder.encode(texts, "document"))
    assert [text for some in bodies(sent, "/v1/embeddings", "input") for text in some] == texts
    found = client.predict(texts, 1)
    assert [text for some in bodies(sent, "/predict", "inputs") for text in some] == texts
    assert [labels[0].label for labels in found] == [tags[0].label for tags in service.labels.predict(texts, 1)]
    assert [path for path, _ in sent].count("/info") == 1


def test_a_body_may_be_exactly_as_large_as_the_server_takes(tight):
    client, sent = tight
    client.add([Document("a"), Document("b")])
    room = 4_000 - len(sent[-1][1])
    client.add([Document("a"), Document("b", text="x" * room)])
    client.add([Document("a"), Document("b", text="x" * (room + 1))])
    posted = [body for path, body in sent if path == "/documents"]
    assert [len(json.loads(body)["documents"]) for body in posted] == [2, 2, 1, 1] and len(posted[1]) == 4_000


def test_a_document_that_the_server_does_not_take_is_sent_alone(tight, index):
    client, sent = tight
    documents = [Document("a"), Document("b"), Document("large", text="x" * 4_000), Document("c")]
    with pytest.raises(ServerError, match="larger than 4,000 bytes") as error:
        client.add(documents)
    assert (error.value.status, error.value.kind) == (413, "too_large")
    assert [len(json.loads(body)["documents"]) for path, body in sent if path == "/documents"] == [2, 1]
    assert index.get("b") is not None and index.get("large") is None and index.get("c") is None


def test_one_document_needs_no_other_question(tight):
    client, sent = tight
    assert client.add([Document("a")]) == (1, 0) and client.add([]) == (0, 0)
    assert [path for path, _ in sent] == ["/documents"]


NESTED: list = []
NESTED.append(NESTED)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (Document("odd", metadata={"x": float("nan")}), "Out of range float"),
        (Document("odd", metadata={"x": {1, 2}}), "type set"),
        (Document("odd", metadata={"x": np.float32(1)}), "float32"),
        (Document("odd", metadata={("x",): 1}), "keys must be"),
        (Document("odd", metadata={"x": NESTED}), "Circular"),
        (Document("odd", metadata={"x": "\udce9"}), "surrogates"),
        (Document("odd", text="\udce9"), "surrogates"),
    ],
)
def test_a_document_that_is_no_json_is_told(client, index, document, told):
    with pytest.raises(DataError, match=rf"^The document 'odd' cannot be sent as JSON \(.*{told}.*\): use .*\.$"):
        client.add([Document("zoo"), document])
    assert index.get("odd") is None


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda client: client.get("\udce9"), r"The id '\\udce9' holds half a character"),
        (lambda client: client.delete(["reset", "\udce9"]), r"The id '\\udce9' holds half a character"),
        (lambda client: client.search("\udce9"), "The search cannot be sent"),
        (lambda client: client.search("a", weight=float("nan")), "The search cannot be sent"),
        (lambda client: client.search_batch(["a", "\udce9"]), "The search cannot be sent"),
        (lambda client: client.embed(["\udce9" * 99]), r"The text '(\\udce9){60}' cannot be sent"),
        (lambda client: client.predict(["a", "\udce9"]), r"The text '\\udce9' cannot be sent"),
    ],
)
def test_half_a_character_is_told(client, index, ask, told):
    with pytest.raises(DataError, match=told):
        ask(client)
    assert index.get("reset") is not None


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


@pytest.mark.parametrize("key", ["", "k" * 16 + "\n", " " + "k" * 16, "schlüssel" * 2])
def test_a_key_that_no_header_can_hold_is_told_and_not_shown(key):
    with pytest.raises(ServerError, match=r"^The api_key is empty, or holds a line end") as error:
        Client("http://127.0.0.1:1", key)
    assert "kkkk" not in str(error.value) and "schl" not in str(error.value)


def test_a_server_that_is_not_there_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(ServerError, match="retriever serve"):
        client.search("a")
    with Client("no address") as client, pytest.raises(ServerError, match="Cannot reach no address"):
        client.search("a")


@pytest.mark.parametrize("url", ["http://localhost:abc", "http://[::1"])
def test_what_is_no_address_is_told(url):
    with pytest.raises(ServerError, match=r"is no address \(.*\): give one such as http://127\.0\.0\.1:8080\.$"):
        Client(url)


@contextmanager
def answering(body, status=200, seconds=0.0, **headers):
    """The address of a server that answers everything with one body."""

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            gone.wait(seconds)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    Other.do_POST = Other.do_GET
    gone = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            gone.set()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("body", [b'{"name": "other"}', b"[1]", b"null"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.search("a"),
        lambda client: client.search_batch(["a"]),
        lambda client: client.get("a"),
        lambda client: client.add([Document("a")]),
        lambda client: client.embed(["a"]),
        lambda client: client.predict(["a"]),
    ],
)
def test_an_answer_to_something_else_is_told(body, ask):
    refused = pytest.raises(ServerError, match=r"answered with status 200 and no \w+: is it `retriever serve`\?$")
    with answering(body) as url, Client(url) as client, refused:
        ask(client)


@pytest.mark.parametrize(
    ("body", "told"), [(b"<html>", "no JSON"), (b"[1]", "status 502"), (b'{"error": {"type": "x"}}', "status 502")]
)
def test_another_kind_of_server_is_told(body, told):
    refused = pytest.raises(ServerError, match=told)
    with answering(body, 502) as url, Client(url) as client, refused as error:
        _ = client.info
    assert error.value.status == 502


def test_a_server_that_takes_too_long_is_told():
    refused = pytest.raises(ServerError, match=r"did not answer in time \(.+\): ask for less at once, or")
    with answering(b"{}", seconds=10) as url, Client(url, timeout=0.1) as client, refused:
        client.search("a")


def test_an_answer_that_cannot_be_read_is_told():
    refused = pytest.raises(ServerError, match="Cannot reach http")
    with answering(b"hello", Content_Encoding="gzip") as url, Client(url) as client, refused:
        client.search("a")


def test_a_closed_client_is_told():
    client = Client("http://127.0.0.1:9")
    client.close()
    client.close()
    with pytest.raises(ServerError, match=r"The client of http://127\.0\.0\.1:9 is closed: make another one\."):
        client.search("amber")


def test_a_missing_library_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "httpx2", None)
    with pytest.raises(ServerError, match=r"dense-retriever\[serve\]"):
        Client()
