"""``/search``: the same hits as the library, their parts and passages, and every way to ask for too much."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from server_app import refusal, serving

from retriever.data.document import Document
from retriever.indexing.index import Index
from retriever.server.routes import search
from retriever.server.service import Service


@pytest.fixture
def client(shared):
    return shared


@pytest.fixture
def index(shared_service):
    return shared_service.index


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_hits_are_those_of_the_library(client, index, mode):
    expected = index.search("reset the device", 3, mode)
    for response in (
        client.get("/search", params={"q": "reset the device", "k": 3, "mode": mode}),
        client.post("/search", json={"q": "reset the device", "k": 3, "mode": mode}),
    ):
        assert response.status_code == 200
        answer = response.json()
        assert (answer["query"], answer["mode"]) == ("reset the device", mode) and answer["took_ms"] > 0
        found = [(hit["rank"], hit["id"], hit["title"], hit["text"], hit["metadata"]) for hit in answer["hits"]]
        assert found == [(hit.rank, hit.id, hit.title, hit.text, hit.metadata) for hit in expected]
        assert [hit["score"] for hit in answer["hits"]] == pytest.approx([hit.score for hit in expected])


def test_parts_tell_the_scores_and_ranks_of_both_sides(client, index):
    sides = {mode: {hit.id: hit for hit in index.search("battery charge", 5, mode)} for mode in ("dense", "bm25")}
    hits = client.get("/search", params={"q": "battery charge", "explain": True}).json()["hits"]
    assert hits[0]["id"] == "battery" and len(hits) > 1
    for hit in hits:
        for mode, side in sides.items():
            own = side.get(hit["id"])
            if own is None:
                assert hit["parts"][mode] is None
            else:
                assert hit["parts"][mode]["rank"] == own.rank
                assert hit["parts"][mode]["score"] == pytest.approx(own.score)
    assert any(hit["parts"]["bm25"] is None for hit in hits)
    (hit,) = client.get("/search", params={"q": "battery", "mode": "bm25", "k": 1}).json()["hits"]
    assert hit["parts"] == {"bm25": {"score": hit["score"], "rank": 1}}
    assert client.get("/search", params={"q": "battery", "k": 1}).json()["hits"][0]["parts"] == {}


def test_fusion_and_weight_are_the_librarys(client, index):
    for fusion, weight in (("rrf", 0.1), ("zscore", 0.9), ("fisher", None)):
        expected = index.search("device manual", 4, "hybrid", fusion, weight=weight)
        asked = {"q": "device manual", "k": 4, "fusion": fusion, "weight": weight}
        hits = client.post("/search", json=asked).json()["hits"]
        assert [hit["id"] for hit in hits] == [hit.id for hit in expected]
        assert [hit["score"] for hit in hits] == pytest.approx([hit.score for hit in expected])


def test_pages_of_hits_follow_each_other(client):
    whole = client.get("/search", params={"q": "device", "k": 4, "mode": "dense"}).json()["hits"]
    pages = [
        client.get("/search", params={"q": "device", "k": 2, "offset": offset, "mode": "dense"}).json()["hits"]
        for offset in (0, 2, 100)
    ]
    assert pages[0] + pages[1] == whole and pages[2] == []
    assert [hit["rank"] for hit in pages[1]] == [3, 4]


def test_pages_of_a_hybrid_search_neither_repeat_nor_miss_a_hit(encoder, tmp_path):
    rng, words = random.Random(0), ["zebra", "heron", "amber", "birch", "cedar", "delta", "ember", "fjord"]
    documents = [
        Document(str(number), text=" ".join(rng.choices(words, k=rng.randint(1, 40)))) for number in range(300)
    ]
    with serving(Service(Index.build(encoder, documents, tmp_path / "index"))) as client:
        for query in ("zebra heron", "amber birch ember", "fjord cedar delta amber"):
            body = {"q": query, "k": 10, "text": False}
            asked = [{**body, "offset": offset} for offset in range(0, 100, 10)]
            hits = [hit for page in asked for hit in client.post("/search", json=page).json()["hits"]]
            assert len({hit["id"] for hit in hits}) == 100
            assert [hit["rank"] for hit in hits] == list(range(1, 101))
            assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_filters_are_the_librarys(client):
    def found(*filters):
        answer = client.get("/search", params={"q": "device battery reset", "k": 9, "filters": filters}).json()
        return {hit["id"] for hit in answer["hits"]}

    assert found("year>=2021") == {"reset", "battery"}
    assert found("year>=2000", "lang=en,de") == {"manual", "battery"}
    for bad, told in (("yeer=1", "lang, note, year"), ("year", "is no condition")):
        assert told in refusal(client.get("/search", params={"q": "x", "filters": bad}), 422, "invalid")


def test_passages_are_plain_text_and_can_be_left_out(client):
    (hit,) = client.get("/search", params={"q": "image script", "k": 1, "mode": "bm25"}).json()["hits"]
    assert hit["passage"] == [
        {"text": "<img src=x onerror=alert(1)> is an ", "match": False},
        {"text": "image", "match": True},
    ]
    assert [piece["text"] for piece in hit["heading"] if piece["match"]] == ["script", "script"]
    (bare,) = client.get("/search", params={"q": "image", "k": 1, "text": False, "highlight": False}).json()["hits"]
    assert bare.keys() == {"rank", "id", "score", "parts", "title", "metadata"}


def test_a_batch_answers_each_query(client):
    queries = ["battery", "manual", "battery"]
    answer = client.post("/search/batch", json={"queries": queries, "k": 2, "mode": "dense"}).json()
    assert [result["query"] for result in answer["results"]] == queries
    for query, result in zip(queries, answer["results"], strict=True):
        alone = client.get("/search", params={"q": query, "k": 2, "mode": "dense"}).json()
        assert [hit["id"] for hit in result["hits"]] == [hit["id"] for hit in alone["hits"]]
    assert answer["results"][0]["hits"] == answer["results"][2]["hits"]


@pytest.mark.parametrize(
    ("count", "asked", "hits"),
    [
        (11, {"k": 1_000}, "11,000"),
        (101, {"k": 100}, "10,100"),
        (101, {"k": 1, "offset": 99}, "10,100"),
        (256, {"k": 40}, "10,240"),
    ],
)
def test_a_batch_whose_answer_would_be_too_long_is_refused(client, count, asked, hits):
    response = client.post("/search/batch", json={"queries": ["battery"] * count, **asked})
    told = refusal(response, 422, "invalid")
    assert told.startswith("body is wrong: ") and f"are {hits}, and at most 10,000" in told and "fewer queries" in told


@pytest.mark.parametrize(("count", "asked"), [(10, {"k": 1_000}), (100, {"k": 1, "offset": 99}), (256, {"k": 39})])
def test_a_batch_may_be_as_large_as_the_description_says(client, count, asked):
    answer = client.post("/search/batch", json={"queries": ["battery"] * count, "text": False, **asked})
    assert answer.status_code == 200 and len(answer.json()["results"]) == count
    assert client.get("/info").json()["limits"]["max_hits"] == 10_000
    schema = client.get("/openapi.json").json()["components"]["schemas"]["BatchRequest"]
    assert "10,000" in schema["properties"]["queries"]["description"]


def test_others_have_their_turn_while_a_long_answer_is_written(monkeypatch):
    async def scenario(turn):
        monkeypatch.setattr(search, "TURN", turn)
        told, others = [], []

        def answers():
            for number in range(5):
                told.append(len(others))
                yield {"number": number}

        async def other():
            while True:
                others.append(1)
                await asyncio.sleep(0)

        running = asyncio.create_task(other())
        written = await search._as_json(answers())
        running.cancel()
        assert json.loads(b"[%b]" % written) == [{"number": number} for number in range(5)]
        return told

    assert asyncio.run(scenario(1)) == [0, 1, 2, 3, 4]
    assert asyncio.run(scenario(1_000)) == [0] * 5


@pytest.mark.parametrize(
    "query", ["\x00", "🙂", "a\u202eb", "'; DROP TABLE documents; --", "%s%n", "ﷺ", "a" * 10_000, "é\u0301" * 50]
)
def test_any_text_can_be_a_query(client, query):
    response = client.post("/search", json={"q": query})
    assert response.status_code == 200 and response.json()["query"] == query


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "q is wrong: field required"),
        ({"q": ""}, "q is wrong"),
        ({"q": " \n\t"}, "q is wrong: it is blank"),
        ({"q": "a" * 10_001}, "at most 10000 characters"),
        ({"q": 5}, "q is wrong: input should be a valid string"),
        ({"q": None}, "q is wrong"),
        ({"q": "a", "k": 0}, "k is wrong"),
        ({"q": "a", "k": 1_001}, "k is wrong"),
        ({"q": "a", "k": "many"}, "k is wrong"),
        ({"q": "a", "k": 600, "offset": 600}, "1200 together"),
        ({"q": "a", "offset": -1}, "offset is wrong"),
        ({"q": "a", "mode": "magic"}, "mode is wrong"),
        ({"q": "a", "fusion": "cold"}, "fusion is wrong"),
        ({"q": "a", "weight": 1.5}, "weight is wrong"),
        ({"q": "a", "filters": "year>2"}, "filters is wrong"),
        ({"q": "a", "filters": ["year>2"] * 17}, "filters is wrong"),
        ({"q": "a", "filters": ["x" * 1_001]}, "filters.0 is wrong"),
        ({"q": "a", "depth": 5}, "depth is wrong"),
        ([], "The body is no JSON object"),
        ("a", "The body is no JSON object"),
    ],
)
def test_a_wrong_value_is_told_in_one_sentence(client, body, told):
    assert told in refusal(client.post("/search", json=body), 422, "invalid")


@pytest.mark.parametrize("parameters", [{}, {"q": " "}, {"q": "a", "k": "x"}, {"q": "a", "unknown": "1"}])
def test_wrong_parameters_are_told_likewise(client, parameters):
    refusal(client.get("/search", params=parameters), 422, "invalid")


@pytest.mark.parametrize("queries", [[], ["a"] * 257, ["a", " "], "a"])
def test_a_wrong_batch_is_refused(client, queries):
    assert "queries" in refusal(client.post("/search/batch", json={"queries": queries}), 422, "invalid")


@pytest.mark.parametrize(
    "body",
    [b'{"q": ', b"\xff\xfe", b'{"q": "\xff"}', b"", b"[" * 100_000, b'{"q":' * 50_000, b'{"q": 1' + b"0" * 5_000],
)
def test_a_body_that_is_no_json_is_refused(client, body):
    response = client.post("/search", content=body, headers={"content-type": "application/json"})
    assert refusal(response, response.status_code, response.json()["error_type"])
    assert response.status_code in (400, 422)


def test_half_a_character_is_refused(client):
    response = client.post("/search", content=b'{"q": "\\ud800"}', headers={"content-type": "application/json"})
    assert "UTF-8" in refusal(response, 400, "bad_request")


def test_without_an_index_there_is_nothing_to_search(encoder, service):
    from dataclasses import replace

    with serving(replace(service, index=None)) as client:
        assert "/predict" in refusal(client.get("/search", params={"q": "a"}), 404, "not_served")
        refusal(client.get("/documents/a"), 404, "not_served")
        refusal(client.post("/documents", json={"documents": [{"id": "a"}]}), 404, "not_served")
        assert client.get("/health").status_code == 200
        assert client.get("/info").json()["index"] is None
