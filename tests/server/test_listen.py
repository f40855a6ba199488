"""The socket: who may be listened to, and clients that are slow, large or no HTTP at all."""

from __future__ import annotations

import json
import socket
import time
from urllib.parse import urlsplit

import httpx2
import pytest
from server_app import listening

from retriever.errors import ServerError
from retriever.server import listen
from retriever.server.listen import take_port, url_of


@pytest.fixture
def url(service):
    with listening(service) as url:
        yield url


def connect(url):
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def everything(connection):
    """All that comes until the server hangs up."""
    received = b""
    while piece := connection.recv(65_536):
        received += piece
    return received


def refused(received):
    """The head and the JSON body of an answer."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    told = json.loads(body)
    assert told["error_type"] == "bad_request" and told["error"].endswith(".") and told["request_id"]
    return told["error"]


@pytest.mark.parametrize(
    "sent",
    [b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"GET /\x00 HTTP/1.1\r\n\r\n"],
)
def test_what_is_no_http_is_refused_and_the_server_stays(url, sent):
    with connect(url) as connection:
        connection.sendall(sent)
        assert refused(everything(connection)) == "The request is no HTTP: mend the client."
    assert httpx2.get(f"{url}/health").status_code == 200


@pytest.mark.parametrize("line", [b"X-Flood: " + b"a" * 1_000 + b"\r\n", b"a" * 1_000])
def test_a_flood_of_headers_is_cut_off(url, line):
    with connect(url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + (b"X: " if line[:1] == b"a" else b""))
        sent = 0
        try:
            while sent < 10_000_000:
                connection.sendall(line)
                sent += len(line)
                time.sleep(0)
        except OSError:  # the server has hung up
            pass
    assert sent < 10_000_000
    assert httpx2.get(f"{url}/health").status_code == 200


def test_a_head_just_below_the_limit_is_read(url):
    headers = {"x-long": "a" * 60_000}
    with httpx2.Client(base_url=url) as client:
        assert [client.get("/health", headers=headers).status_code for _ in range(3)] == [200] * 3


def test_a_large_body_on_a_kept_connection_is_no_large_head(url):
    with httpx2.Client(base_url=url) as client:
        for _ in range(3):
            response = client.post("/embed", json={"inputs": ["zebra " * 30_000]})
            assert response.status_code == 200 and len(response.json()) == 1
            assert client.get("/search", params={"q": "zebra"}).status_code == 200


@pytest.mark.parametrize("sent", [b"", b"GET /health HTT", b"GET /health HTTP/1.1\r\nHost: loc"])
def test_a_connection_that_sends_no_whole_head_is_closed(url, sent, monkeypatch):
    monkeypatch.setattr(listen, "HEAD_SECONDS", 0.2)
    with connect(url) as connection:
        connection.sendall(sent)
        assert everything(connection) == b""


@pytest.mark.parametrize("sent", [b"\r\n", b"GET /health HTT", b"GET /health HTTP/1.1\r\nHost: loc"])
def test_a_kept_connection_that_sends_no_whole_second_head_is_closed(url, sent, monkeypatch):
    monkeypatch.setattr(listen, "HEAD_SECONDS", 0.5)
    with connect(url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(sent)
        assert b"HTTP/1.1" not in everything(connection)


def test_a_head_that_trickles_in_has_no_more_time(url, monkeypatch):
    monkeypatch.setattr(listen, "HEAD_SECONDS", 0.5)
    with connect(url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        with pytest.raises(OSError, match=r"reset|pipe"):
            while True:
                connection.sendall(b"X: y\r\n")
                time.sleep(0.02)


def test_requests_after_each_other_and_at_once_on_one_connection_are_answered(url):
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with connect(url) as connection:
        connection.sendall(request * 5 + last)
        assert everything(connection).count(b'{"status":"ready"}') == 6


def test_a_client_that_hangs_up_early_does_no_harm(url):
    for _ in range(20):
        with connect(url) as connection:
            connection.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            connection.sendall(b'Content-Length: 100\r\n\r\n{"q": ')
    assert httpx2.get(f"{url}/search", params={"q": "battery"}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "10.0.0.1"])
def test_without_keys_other_machines_are_not_listened_to(host):
    with pytest.raises(ServerError, match="--api-key-file"):
        take_port(host, 0, has_keys=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_addresses_of_this_machine_need_no_keys(host):
    with take_port(host, 0, has_keys=False) as taken:
        assert url_of(taken).startswith("http://127.0.0.")


def test_a_taken_port_and_an_impossible_one_are_told():
    with take_port("127.0.0.1", 0, has_keys=False) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=rf"port {port} \(Address already in use\): choose another"):
            take_port("127.0.0.1", port, has_keys=False)
    with pytest.raises(ServerError, match="no port 70000"):
        take_port("127.0.0.1", 70_000, has_keys=False)
    with pytest.raises(ServerError, match=r"Cannot listen on 192\.0\.2\.1"):
        take_port("192.0.2.1", 0, has_keys=True)
    with pytest.raises(ServerError, match=r"port 0 \([A-Z][a-z ]+\): choose another"):
        take_port("nowhere.invalid", 0, has_keys=True)


def test_an_address_of_version_six_is_written_in_brackets():
    try:
        taken = take_port("::1", 0, has_keys=False)
    except ServerError:
        pytest.skip("this machine has no IPv6")
    with taken:
        assert url_of(taken) == f"http://[::1]:{taken.getsockname()[1]}"
