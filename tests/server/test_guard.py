"""Hosts, rates and bodies, before anything is read."""

from __future__ import annotations

import asyncio

import pytest
from server_app import refusal, serving

from retriever.server.errors import RefusedError
from retriever.server.guard import Guard
from retriever.server.keys import Key
from retriever.server.settings import Settings

JSON = {"content-type": "application/json"}


@pytest.fixture
def client(shared):
    return shared


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[::2]", "0.0.0.0", "testserver"]
)
def test_without_keys_only_names_of_this_machine_are_answered(client, host):
    assert "localhost" in refusal(client.get("/health", headers={"host": host}), 403, "forbidden")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:9000", "[::1]:8080", "[::1]", "127.0.0.2:80"])
def test_names_of_this_machine_are_answered(client, host):
    assert client.get("/health", headers={"host": host}).status_code == 200


def test_with_keys_any_host_is_answered(service):
    with serving(service, keys=(Key.of("r" * 16, "read", "x"),)) as client:
        headers = {"host": "search.example", "x-api-key": "r" * 16}
        assert client.get("/search", params={"q": "a"}, headers=headers).status_code == 200


@pytest.mark.parametrize("keys", [(), (Key.of("r" * 16, "read", "x"),)])
@pytest.mark.parametrize("second", [b"localhost", b"evil.example"])
def test_a_request_that_names_two_hosts_is_refused(keys, second):
    headers = [(b"host", second), (b"x-api-key", b"r" * 16)]  # call() adds another
    assert call(Guard(reader, Settings(keys=keys)), headers=headers)[0] == 400
    assert call(Guard(reader, Settings(keys=keys)), headers=headers[1:])[0] == 200


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
        "application/jsonfoo",
        "application/json-patch+json",
        "text/plain; application/json",
    ],
)
def test_a_body_that_a_form_of_another_page_could_send_is_refused(client, kind):
    response = client.post("/documents", content=b'{"documents": [{"id": "x"}]}', headers={"content-type": kind})
    refusal(response, 415, "unsupported_media_type")


def test_without_a_body_the_route_answers(client):
    refusal(client.post("/health"), 405, "method_not_allowed")
    refusal(client.post("/search"), 400, "bad_request")


@pytest.mark.parametrize(
    "kind",
    ["application/json; charset=utf-8", "application/json;charset=utf-8", "Application/JSON", "APPLICATION/json ;"],
)
def test_a_body_of_json_is_read_whatever_the_case_and_the_charset(client, kind):
    headers = {"content-type": kind}
    assert client.post("/search", content=b'{"q": "a"}', headers=headers).status_code == 200
    assert client.post("/embed", content=b'{"inputs": "a"}', headers=headers).status_code == 200


def test_a_body_above_the_limit_is_refused_whatever_it_says_of_its_length(service):
    with serving(service, max_body=2_000) as client:
        big = b'{"q": "' + b"a" * 3_000 + b'"}'
        assert "2,000 bytes" in refusal(client.post("/search", content=big, headers=JSON), 413, "too_large")
        pieces = (big[start : start + 100] for start in range(0, len(big), 100))
        refusal(client.post("/search", content=pieces, headers=JSON), 413, "too_large")
        fits = b'{"q": "a"' + b" " * 1_900 + b"}"
        assert client.post("/search", content=fits, headers=JSON).status_code == 200


def test_the_usual_limit_refuses_ten_megabytes(client):
    refusal(client.post("/search", content=b'{"q": "' + b"a" * 10_000_000 + b'"}', headers=JSON), 413, "too_large")


def call(guard, path="/search", client="1.2.3.4", headers=(), method="GET", receive=None):
    """The status of a request, and its headers."""
    sent = []

    async def send(message):
        sent.append(message)

    async def empty():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "path": path, "method": method, "client": (client, 1), "headers": list(headers)}
    scope["headers"].append((b"host", b"localhost"))
    asyncio.run(guard(scope, receive or empty, send))
    return sent[0]["status"], dict(sent[0]["headers"])


async def reader(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_the_rate_is_of_each_address_and_fills_again():
    now = [100.0]
    guard = Guard(reader, Settings(rate=2.0), lambda: now[0])
    assert [call(guard)[0] for _ in range(6)] == [200] * 4 + [429] * 2
    assert call(guard, client="5.6.7.8")[0] == 200
    status, headers = call(guard)
    assert (status, headers[b"retry-after"]) == (429, b"1")
    now[0] += 0.5
    assert [call(guard)[0] for _ in range(2)] == [200, 429]
    now[0] += 1_000
    assert [call(guard)[0] for _ in range(5)] == [200] * 4 + [429]
    assert call(guard, path="/health")[0] == 200


def test_the_rate_is_of_each_key_whatever_its_address():
    keys = tuple(Key.of(letter * 16, "read", "x") for letter in "ab")
    guard = Guard(reader, Settings(rate=1.0, keys=keys), lambda: 0.0)
    a, b = ([(b"x-api-key", letter * 16)] for letter in (b"a", b"b"))
    assert [call(guard, headers=a, client=f"1.1.1.{n}")[0] for n in range(3)] == [200, 200, 429]
    assert call(guard, headers=b)[0] == 200


def test_a_slow_rate_lets_one_through_and_tells_how_long_to_wait():
    guard = Guard(reader, Settings(rate=0.1), lambda: 0.0)
    assert call(guard)[0] == 200
    assert call(guard)[1][b"retry-after"] == b"10"


def test_the_number_of_addresses_that_are_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("retriever.server.guard.CLIENTS", 3)
    guard = Guard(reader, Settings(rate=0.5), lambda: 0.0)
    for number in range(10):
        assert call(guard, client=f"1.1.1.{number}")[0] == 200
    assert len(guard._buckets) == 3


def test_a_body_that_does_not_come_is_given_up():
    async def never():
        await asyncio.sleep(60)

    guard = Guard(reader, Settings(timeout=0.05))
    headers = [(b"content-type", b"application/json")]
    with pytest.raises(RefusedError) as error:
        call(guard, method="POST", headers=headers, receive=never)
    assert (error.value.status_code, error.value.kind) == (408, "slow_body")


def test_a_body_that_drips_is_given_up():
    async def drip():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    guard = Guard(reader, Settings(timeout=0.1))
    with pytest.raises(RefusedError, match="did not come in time"):
        call(guard, method="POST", headers=[(b"content-type", b"application/json")], receive=drip)
