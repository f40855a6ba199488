"""``/documents``: what is acknowledged is on disk, and what is refused changes nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx2
import pytest
from server_app import listening, refusal, serving

from retriever.indexing.backend import open_state
from retriever.indexing.index import Index
from retriever.server.tasks import Delete


def post(client, *documents):
    return client.post("/documents", json={"documents": list(documents)})


def test_documents_are_added_replaced_read_and_deleted(client, index):
    new = {"id": "zoo", "title": "Zebra", "text": "A zebra.", "metadata": {"year": 2030, "tags": ["a", {"b": None}]}}
    assert post(client, new).json() == {"added": 1, "replaced": 0, "documents": 6}
    assert client.get("/documents/zoo").json() == new
    assert client.get("/search", params={"q": "zebra", "filters": "year>2025"}).json()["hits"][0]["id"] == "zoo"
    with Index.open(index.folder) as other:
        assert other.get("zoo").metadata == new["metadata"]
    changed = {"id": "zoo", "text": "A heron."}
    assert post(client, changed, {"id": "y"}).json() == {"added": 1, "replaced": 1, "documents": 7}
    assert client.get("/documents/zoo").json() == {**changed, "title": "", "metadata": {}}
    assert client.delete("/documents/zoo").json() == {"deleted": "zoo", "documents": 6}
    refusal(client.get("/documents/zoo"), 404, "not_found")
    refusal(client.delete("/documents/zoo"), 404, "not_found")
    with Index.open(index.folder) as other:
        assert other.get("zoo") is None and other.get("y") is not None
        other.verify()


def test_of_documents_with_one_id_the_last_counts(client):
    answer = post(client, {"id": "zoo", "text": "first"}, {"id": "zoo", "text": "second"}).json()
    assert answer == {"added": 1, "replaced": 1, "documents": 6}
    assert client.get("/documents/zoo").json()["text"] == "second"


LINES = ["a\nb", "a\n", "\n", "\r\n", "a b", ".", "a//b", "/a", "a/", "//", "a/../b"]


@pytest.mark.parametrize("name", ["a/b c?", "é/🙂", "..", "%2e", "a#b", "+", "a%2Fb", *LINES])
def test_any_id_can_be_in_an_address(service, name):
    address = f"/documents/{quote(name, safe='').replace('.', '%2E')}"
    with listening(service) as url, httpx2.Client(base_url=url) as client:
        assert post(client, {"id": name, "text": "zebra"}).status_code == 200
        assert client.get(address).json()["id"] == name
        assert client.delete(address).json()["deleted"] == name


def test_the_description_tells_the_address_of_a_document(client):
    operations = client.get("/openapi.json").json()["paths"]["/documents/{name}"]
    assert operations.keys() == {"get", "delete"}
    for operation in operations.values():
        (parameter,) = operation["parameters"]
        assert (parameter["name"], parameter["in"], parameter["schema"]["type"]) == ("name", "path", "string")


def test_of_equal_ids_deleted_together_the_first_deletes(index):
    names = ["reset", "absent", "reset", "manual", "absent", "manual"]
    assert Delete(index).run(names) == [True, False, False, True, False, False]
    assert Delete(index).run(["reset"]) == [False] and len(index) == 3


def test_only_one_of_several_that_delete_a_document_at_once_is_told_so(client, index, monkeypatch):
    gate, began, delete, batches = threading.Event(), threading.Event(), Index.delete, []

    def slow(self, ids):
        began.set()
        gate.wait(10)
        batches.append(list(ids))
        return delete(self, ids)

    monkeypatch.setattr(Index, "delete", slow)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(client.delete, "/documents/manual")
        assert began.wait(10)
        others = [pool.submit(client.delete, "/documents/reset") for _ in range(3)]
        deadline = time.monotonic() + 10
        while client.app.state.retriever.writes.waiting < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        gate.set()
        assert first.result().status_code == 200
        assert sorted(one.result().status_code for one in others) == [200, 404, 404]
    assert max(map(len, batches)) >= 3 and len(index) == 3


def test_documents_are_counted_beside_the_event_loop_where_the_index_is_opened_for_it(client, monkeypatch):
    in_loop = []

    def noted(*given):
        try:
            asyncio.get_running_loop()
            in_loop.append(True)
        except RuntimeError:
            in_loop.append(False)
        return open_state(*given)

    monkeypatch.setattr("retriever.indexing.reader.open_state", noted)
    assert post(client, {"id": "zoo"}).json()["documents"] == 6
    assert client.delete("/documents/zoo").json()["documents"] == 5
    assert len(in_loop) >= 2 and not any(in_loop)


def test_concurrent_changes_are_all_made(client, index):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: post(client, {"id": f"n{n}", "text": "zebra"}).status_code, range(40)))
        assert answers == [200] * 40
        gone = list(pool.map(lambda n: client.delete(f"/documents/n{n}").status_code, range(0, 40, 2)))
    assert gone == [200] * 20
    with Index.open(index.folder) as other:
        assert len(other) == 5 + 20
        assert all((other.get(f"n{n}") is not None) == bool(n % 2) for n in range(40))


DEEP: list = []
for _ in range(40):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"text": "a"}, "documents.0.id is wrong: field required"),
        ({"id": ""}, "documents.0.id"),
        ({"id": "a" * 513}, "documents.0.id"),
        ({"id": 7}, "documents.0.id"),
        ({"id": "a", "text": 7}, "documents.0.text"),
        ({"id": "a", "text": "a" * 1_000_001}, "documents.0.text"),
        ({"id": "a", "metadata": []}, "documents.0.metadata"),
        ({"id": "a", "metadata": {"x": DEEP}}, "nests deeper than 32"),
        ({"id": "a", "year": 1}, "documents.0.year"),
        ("a", "documents.0 is wrong"),
    ],
)
def test_a_wrong_document_changes_nothing(client, index, document, told):
    assert told in refusal(
        post(client, {"id": "good"}, document) if told.startswith("x") else post(client, document), 422, "invalid"
    )
    refusal(post(client, {"id": "good"}, document), 422, "invalid")
    assert len(index) == 5


@pytest.mark.parametrize("documents", [[], [{"id": str(n)} for n in range(1_001)], {}, None])
def test_a_wrong_list_of_documents_is_refused(client, documents):
    refusal(client.post("/documents", json={"documents": documents}), 422, "invalid")


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"\\ud800"', "1e999"])
def test_metadata_that_are_no_json_are_refused(client, index, value):
    body = f'{{"documents": [{{"id": "a", "metadata": {{"x": {value}}}}}]}}'
    response = client.post("/documents", content=body, headers={"content-type": "application/json"})
    refusal(response, 422, "invalid")
    assert len(index) == 5


def test_a_number_of_any_size_comes_back(client):
    assert post(client, {"id": "big", "text": "zebra", "metadata": {"x": 10**40}}).status_code == 200
    assert client.get("/documents/big").json()["metadata"] == {"x": 10**40}
    assert client.get("/search", params={"q": "zebra", "k": 1}).json()["hits"][0]["metadata"] == {"x": 10**40}


def test_read_only_refuses_changes_and_answers_searches(service, index):
    with serving(service, read_only=True) as client:
        assert "read-only" in refusal(post(client, {"id": "a"}), 403, "read_only")
        refusal(client.delete("/documents/reset"), 403, "read_only")
        assert client.get("/documents/reset").status_code == 200
        assert client.get("/info").json()["read_only"] is True
    assert len(Index.open(index.folder)) == 5


def test_a_lock_of_another_process_is_told_without_its_folder(client, index):
    import fcntl
    import os

    lock = os.open(index.folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        response = post(client, {"id": "a"})
        assert "Another process" in refusal(response, 409, "busy")
        assert response.headers["retry-after"]
        assert client.get("/search", params={"q": "battery"}).status_code == 200
    finally:
        os.close(lock)
    assert post(client, {"id": "a"}).status_code == 200
