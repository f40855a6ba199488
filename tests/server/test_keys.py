"""Keys: where they come from, and who they let in."""

from __future__ import annotations

import logging

import pytest
from server_app import refusal, serving

from retriever.errors import ServerError
from retriever.server.keys import Key, find_key, read_keys

READER, WRITER = "r" * 16, "w" * 20
KEYS = (Key.of(READER, "read", "test"), Key.of(WRITER, "write", "test"))


def test_keys_of_a_file_and_the_environment_are_read(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# for the page\nread {READER}  # a comment\n\n  write\t{WRITER}\n")
    environment = {"RETRIEVER_READ_KEY": "e" * 16, "RETRIEVER_WRITE_KEY": "f" * 16, "OTHER": "x"}
    assert read_keys(path, {}) == KEYS
    assert [key.may_write for key in read_keys(path, environment)] == [False, True, False, True]
    assert read_keys(None, {}) == read_keys(None, {"RETRIEVER_READ_KEY": "\n"}) == ()


def test_a_key_is_read_without_what_editors_and_secrets_put_around_it(tmp_path):
    path = tmp_path / "keys"
    path.write_bytes(f"\ufeffread {READER}\r\n".encode())
    assert read_keys(path, {}) == KEYS[:1]
    assert read_keys(None, {"RETRIEVER_WRITE_KEY": f"{WRITER}\n"}) == KEYS[1:]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no key"),
        ("# nothing\n", "holds no key"),
        ("read short", "line 1 holds no key of 16"),
        (f"\nadmin {READER}", "line 2 grants neither"),
        (READER, "line 1 is no key"),
        (f"read {READER} extra", "line 1 is no key"),
        ("read " + "é" * 16, "16 ASCII characters"),
    ],
)
def test_a_mistake_in_a_key_file_is_told_with_its_line_and_without_the_key(tmp_path, text, told):
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ServerError, match=told) as error:
        read_keys(path, {})
    assert READER not in str(error.value) and "keys" in str(error.value)


def test_a_missing_file_and_a_short_variable_are_told(tmp_path):
    with pytest.raises(ServerError, match="Cannot read the keys"):
        read_keys(tmp_path / "absent", {})
    (tmp_path / "binary").write_bytes(b"\xff\xff")
    with pytest.raises(ServerError, match="Cannot read the keys"):
        read_keys(tmp_path / "binary", {})
    with pytest.raises(ServerError, match="RETRIEVER_READ_KEY holds no key of 16"):
        read_keys(None, {"RETRIEVER_READ_KEY": "x"})


def test_only_the_whole_key_is_found_and_no_text_of_it_is_kept():
    assert find_key(KEYS, READER) is KEYS[0] and find_key(KEYS, WRITER) is KEYS[1]
    for wrong in ("", READER[:-1], READER + "r", READER.upper(), "é", "\ud800"):
        assert find_key(KEYS, wrong) is None
    assert READER not in repr(KEYS) and KEYS[0].digest.hex() not in repr(KEYS)
    assert len(KEYS[0].name) == 8 and KEYS[0].name != KEYS[1].name


def test_all_keys_are_compared_even_after_one_fits(monkeypatch):
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda one, other: compared.append(one) or one == other)
    find_key(KEYS, READER)
    assert len(compared) == 2


@pytest.fixture
def client(service):
    with serving(service, keys=KEYS) as client:
        yield client


BEARER = {"Authorization": f"Bearer {READER}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": READER},
        {"Authorization": "Bearer x"},
        {"X-API-Key": "x"},
        {"Authorization": f"Basic {READER}"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/search?q=a"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("POST", "/embed"), ("GET", "/nowhere")],
)
def test_without_a_key_nothing_is_told(client, method, path, headers):
    response = client.request(method, path, headers=headers)
    refusal(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


def test_the_log_tells_whose_request_was_refused(client, caplog):
    caplog.set_level(logging.INFO, "retriever.server")
    client.get("/info", headers={"X-API-Key": "x"})
    client.delete("/documents/reset", headers=BEARER)
    assert [record.caller for record in caplog.records] == ["testclient", KEYS[0].name]


def test_a_key_that_is_missing_is_told_from_a_wrong_one(client):
    assert "needs a key" in refusal(client.get("/info"), 401, "unauthorized")
    for headers in ({"Authorization": f"Bearer {READER}x"}, {"X-API-Key": READER[1:]}):
        sentence = refusal(client.get("/info", headers=headers), 401, "unauthorized")
        assert "key is unknown here" in sentence and READER[1:] not in sentence


@pytest.mark.parametrize("headers", [BEARER, {"authorization": f"bearer  {READER}"}, {"X-API-Key": READER}])
def test_a_reading_key_reads_and_does_not_write(client, index, headers):
    assert client.get("/search", params={"q": "a"}, headers=headers).status_code == 200
    assert client.post("/embed", json={"inputs": "a"}, headers=headers).status_code == 200
    refusal(client.post("/documents", json={"documents": [{"id": "x"}]}, headers=headers), 403, "forbidden")
    refusal(client.delete("/documents/reset", headers=headers), 403, "forbidden")
    assert len(index) == 5


def test_a_writing_key_does_both(client):
    headers = {"Authorization": f"Bearer {WRITER}"}
    assert client.post("/documents", json={"documents": [{"id": "x"}]}, headers=headers).status_code == 200
    assert client.get("/documents/x", headers=headers).status_code == 200


def test_whether_the_server_is_ready_needs_no_key(client):
    assert client.get("/health").json() == {"status": "ready"}


def test_a_key_is_asked_for_before_the_body_is_read(client):
    response = client.post("/documents", content=b"{", headers={"content-type": "application/json"})
    refusal(response, 401, "unauthorized")
