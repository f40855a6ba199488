"""Requests read by their model: what FastAPI would read, and refusals in the form of all others."""

from __future__ import annotations

import pytest
from server_app import refusal

from retriever.server.routing import _fields


def test_fields_of_an_address_are_decoded_and_lists_kept():
    query = b"q=a+b%20c&q=caf%C3%A9&filters=x%3D1&filters=y%3E2&blank="
    assert _fields(query, frozenset({"filters"})) == {"q": "café", "filters": ["x=1", "y>2"], "blank": ""}


def test_an_address_and_a_body_are_read_alike(shared):
    asked = {"q": "reset the device", "k": 2, "mode": "dense", "filters": ["year>=2020"], "text": False}
    by_address = shared.get("/search", params=asked).json()
    by_body = shared.post("/search", json=asked).json()
    assert by_address["hits"] == by_body["hits"] and len(by_body["hits"]) == 2
    assert "text" not in by_body["hits"][0]


@pytest.mark.parametrize(
    ("body", "status", "kind", "words"),
    [
        (b"", 400, "bad_request", "JSON"),
        (b"{", 400, "bad_request", "JSON"),
        (b'{"q": "\xff"}', 400, "bad_request", "JSON"),
        (b'{"q": "\\ud800"}', 400, "bad_request", "JSON"),
        (b"[" * 100_000, 400, "bad_request", "JSON"),
        (b"null", 422, "invalid", "JSON object"),
        (b'["q"]', 422, "invalid", "JSON object"),
        (b"{}", 422, "invalid", "q is wrong"),
        (b'{"q": 1}', 422, "invalid", "q is wrong"),
        (b'{"q": "a", "weight": NaN}', 422, "invalid", "weight is wrong"),
        (b'{"q": "a", "filters": ["x=1", 2]}', 422, "invalid", "filters.1 is wrong"),
        (b'{"q": "a", "size": 3}', 422, "invalid", "size is wrong"),
        (b'{"q": "a", "k": 999, "offset": 999}', 422, "invalid", "together"),
    ],
)
def test_a_wrong_body_is_told(shared, body, status, kind, words):
    response = shared.post("/search", content=body, headers={"Content-Type": "application/json"})
    assert words in refusal(response, status, kind)


@pytest.mark.parametrize(
    ("query", "words"),
    [("", "q is wrong"), ("q=%20", "blank"), ("q=a&k=x", "k is wrong"), ("q=a&explain=2", "explain is wrong")],
)
def test_a_wrong_address_is_told(shared, query, words):
    assert words in refusal(shared.get(f"/search?{query}"), 422, "invalid")


def test_the_description_still_tells_how_to_ask(shared):
    paths = shared.get("/openapi.json").json()["paths"]
    names = {one["name"] for one in paths["/search"]["get"]["parameters"]}
    assert {"q", "k", "mode", "filters"} <= names
    schema = paths["/search"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/SearchRequest"}
