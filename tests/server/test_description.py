"""The description says how keys are brought, where there are keys."""

from __future__ import annotations

from dataclasses import replace

from server_app import serving

from retriever.indexing.index import Index
from retriever.server.keys import Key

SECRET = "k" * 16


def described(service, **settings):
    with serving(replace(service, index=Index.open(service.index.folder)), **settings) as client:
        headers = {"X-API-Key": SECRET}
        first, again = (client.get("/openapi.json", headers=headers).json() for _ in range(2))
    assert first == again
    return first


def test_with_keys_either_way_to_bring_one_is_told_for_all_but_the_open_routes(service):
    told = described(service, keys=(Key.of(SECRET, "read", "x"),))
    ways = told["components"]["securitySchemes"]
    assert ways["bearer"]["scheme"] == "bearer" and ways["header"]["name"] == "X-API-Key"
    assert told["security"] == [{"bearer": []}, {"header": []}]
    open_routes = [
        path for path, one in told["paths"].items() if any(how.get("security") == [] for how in one.values())
    ]
    assert open_routes == ["/health"]


def test_what_is_described_is_what_happens(service):
    told = described(service, keys=(Key.of(SECRET, "read", "x"),))
    name = told["components"]["securitySchemes"]["header"]["name"]
    ways = [{}, {"Authorization": f"Bearer {SECRET}"}, {name: SECRET}]
    with serving(service, keys=(Key.of(SECRET, "read", "x"),)) as client:
        assert [client.get("/info", headers=way).status_code for way in ways] == [401, 200, 200]
        assert client.get("/health").status_code == 200


def test_without_keys_none_is_told_of(service):
    told = described(service)
    assert "securitySchemes" not in told["components"] and "security" not in told
