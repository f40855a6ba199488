"""Many requests at once: none is lost, too many are refused, and the end waits for the accepted ones."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
import pytest
from server_app import listening, refusal, serving

from retriever.data.document import Document
from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder
from retriever.indexing.index import Index
from retriever.server.service import Service


def test_concurrent_searches_get_their_own_answers_in_shared_batches(service, index):
    queries = ["battery", "manual", "reset", "slash", "image"] * 20
    expected = {query: [hit.id for hit in index.search(query, 3)] for query in queries}

    def ask(query):
        answer = client.get("/search", params={"q": query, "k": 3}).json()
        return [hit["id"] for hit in answer["hits"]]

    with listening(service) as url, httpx2.Client(base_url=url) as client, ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, queries)) == [expected[query] for query in queries]
        text = client.get("/metrics").text
    batches = float(text.split('retriever_batch_size_count{queue="reads"} ')[1].split("\n")[0])
    assert batches < len(queries) + 2


def test_more_than_fit_into_the_queue_are_refused_and_the_others_are_answered(service, monkeypatch):
    gate, search = threading.Event(), Index.search_batch

    def slow(self, *arguments, **options):
        gate.wait(10)
        return search(self, *arguments, **options)

    with serving(service, batch=1, queue=3) as client, ThreadPoolExecutor(8) as pool:
        monkeypatch.setattr(Index, "search_batch", slow)
        asked = [pool.submit(client.get, "/search", params={"q": "battery"}) for _ in range(8)]
        while sum(one.done() for one in asked) < 4:
            time.sleep(0.005)
        refused = [one.result() for one in asked if one.done()]
        gate.set()
        answers = [one.result() for one in asked]
    for response in refused:
        refusal(response, 429, "overloaded")
        assert response.headers["retry-after"] == "1"
    assert sorted(one.status_code for one in answers) == [200] * 4 + [429] * 4


def test_the_end_waits_for_what_was_accepted(service, monkeypatch):
    gate, search = threading.Event(), Index.search_batch

    def slow(self, *arguments, **options):
        gate.wait(10)
        return search(self, *arguments, **options)

    with ThreadPoolExecutor(1) as pool:
        with listening(service) as url:
            monkeypatch.setattr(Index, "search_batch", slow)
            asked = pool.submit(httpx2.get, f"{url}/search", params={"q": "battery"})
            time.sleep(0.3)
            threading.Timer(0.3, gate.set).start()
        assert asked.result().status_code == 200
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/health")


def test_a_change_by_another_process_is_seen_and_no_request_is_dropped(service, index, encoder):
    stop, statuses, found = threading.Event(), [], []

    def ask(client):
        while not stop.is_set():
            response = client.get("/search", params={"q": "zebra", "mode": "bm25"})
            statuses.append(response.status_code)
            found.append(tuple(hit["id"] for hit in response.json()["hits"]))

    with listening(service) as url, httpx2.Client(base_url=url) as client:
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        other = Index.open(index.folder, encoder)
        for number in range(5):
            other.add([Document(f"z{number}", text="zebra")])
            time.sleep(0.05)
        other.delete(["z0"])
        Index.build(encoder, [Document("new", text="zebra")], index.folder, overwrite=True)
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join()
        assert client.get("/info").json()["index"]["documents"] == 1
    assert set(statuses) == {200}
    assert found[-1] == ("new",) and len(set(found)) > 3


def test_an_index_that_another_model_has_built_anew_goes_on_with_that_model(service, index, tmp_path):
    other = Encoder.static(WordTokenizer.train(["zebra heron"], min_documents=1), dimension=16)
    other.save(tmp_path / "other")
    service = Service(Index.open(index.folder))
    stop, statuses, found = threading.Event(), [], []

    def ask(client):
        while not stop.is_set():
            response = client.get("/search", params={"q": "zebra"})
            statuses.append(response.status_code)
            found.append(tuple(hit["id"] for hit in response.json()["hits"]))

    with listening(service) as url, httpx2.Client(base_url=url) as client, ThreadPoolExecutor(3) as pool:
        assert client.get("/info").json()["model"] == "tiny"
        asking = [pool.submit(ask, client) for _ in range(3)]
        time.sleep(0.2)
        Index.build(other, [Document("new", text="zebra")], index.folder, overwrite=True).close()
        time.sleep(0.5)
        stop.set()
        for one in asking:
            one.result()
        assert set(statuses) == {200} and found[-1] == ("new",) and len(set(found)) == 2
        info = client.get("/info").json()
        assert (info["model"], info["dimension"], info["fingerprint"]) == ("other", 16, other.fingerprint)
        assert client.get("/v1/models").json()["data"][0]["id"] == "other"
        vectors = client.post("/embed", json={"inputs": "zebra heron", "prompt_name": "query"}).json()
        np.testing.assert_allclose(vectors, other.encode(["zebra heron"], "query"), atol=1e-6)
        assert client.post("/documents", json={"documents": [{"id": "b", "text": "heron"}]}).status_code == 200


def test_an_index_that_another_model_than_the_one_given_has_built_anew_is_refused(service, index, caplog):
    other = Encoder.static(WordTokenizer.train(["zebra heron"], min_documents=1), dimension=16)
    with serving(service) as client:
        assert client.get("/search", params={"q": "battery"}).status_code == 200
        Index.build(other, [Document("new", text="zebra")], index.folder, overwrite=True).close()
        response = client.get("/search", params={"q": "zebra"})
        assert "start the server again" in refusal(response, 503, "other_model")
        assert response.headers["retry-after"] and "built by another model" in caplog.text
        refusal(client.get("/health"), 503, "not_ready")
        assert client.post("/embed", json={"inputs": "battery"}).status_code == 200


def test_searches_go_on_while_documents_are_added(service):
    with listening(service) as url, httpx2.Client(base_url=url) as client, ThreadPoolExecutor(4) as pool:

        def write(number):
            documents = [{"id": f"n{number}-{row}", "text": "zebra"} for row in range(10)]
            return client.post("/documents", json={"documents": documents}).status_code

        def read(number):
            return client.get("/search", params={"q": "battery", "k": 1}).json()["hits"][0]["id"]

        writes = [pool.submit(write, number) for number in range(10)]
        reads = [pool.submit(read, number) for number in range(50)]
        assert {one.result() for one in writes} == {200} and {one.result() for one in reads} == {"battery"}
        assert client.get("/info").json()["index"]["documents"] == 105
