"""The socket: who may be listened to, and clients that are slow, large or no HTTP at all."""

from __future__ import annotations

import json
import logging
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx2
import pytest
from server_app import listening

from retriever.errors import ModelError, ServerError
from retriever.server import listen
from retriever.server.app import WARM_UP, create_app
from retriever.server.listen import FULL, NO_HTTP, TOO_LARGE, listener, take_port, url_of
from retriever.server.settings import Settings
from retriever.server.tasks import Embed


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


def refused(received, status=400, kind="bad_request"):
    """The sentence of a refusal, whose id stands in its head as well."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    told = json.loads(body)
    assert told["error_type"] == kind and told["error"].endswith(".")
    assert f"\r\nx-request-id: {told['request_id']}" in head.decode() and len(told["request_id"]) == 16
    return told["error"]


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\n\r\n",
        "GET /search?q=zurück HTTP/1.1\r\n\r\n".encode(),
    ],
)
def test_what_is_no_http_is_refused_and_the_server_stays(url, sent):
    with connect(url) as connection:
        connection.sendall(sent)
        told = refused(everything(connection))
        assert told == NO_HTTP and "what is not ASCII in an address as %C3%BC" in told
    assert httpx2.get(f"{url}/health").status_code == 200


def test_the_log_tells_of_a_request_that_was_no_http(url, caplog):
    caplog.set_level(logging.INFO, "retriever.server")
    with connect(url) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        received = everything(connection)
    (record,) = [record for record in caplog.records if record.message == "refused"]
    assert f"x-request-id: {record.request_id}".encode() in received
    assert (record.status, record.reason) == (400, NO_HTTP)


def test_one_connection_too_many_is_refused_and_the_others_are_answered(url, monkeypatch):
    monkeypatch.setattr(listen, "CONNECTIONS", 2)
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(url) as first, connect(url) as second, connect(url) as third:
        third.sendall(request)
        received = everything(third)
        assert refused(received, 503, "overloaded") == FULL and b"\r\nretry-after: 1\r\n" in received
        for connection in (first, second):
            connection.sendall(request)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


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


@pytest.mark.parametrize("size", [66_000, 100_000])
@pytest.mark.parametrize("form", ["X-Long: {}", "X-Long: a\r\n" * 5 + "X-Longer: {}\r\nX-Last: a"])
def test_a_head_above_the_limit_is_refused_also_if_it_comes_at_once(url, size, form):
    with connect(url) as connection:
        head = f"GET /health HTTP/1.1\r\nHost: localhost\r\n{form.format('a' * size)}\r\n\r\n"
        connection.sendall(head.encode())
        assert refused(everything(connection)) == TOO_LARGE
    assert httpx2.get(f"{url}/health").status_code == 200


def test_a_head_of_many_short_headers_or_of_a_long_address_is_too_large_as_well(url):
    many = "".join(f"X-{number}: {'a' * 90}\r\n" for number in range(690))
    for head in (
        f"GET /health HTTP/1.1\r\nHost: localhost\r\n{many}\r\n",
        f"GET /search?q={'a' * 66_500} HTTP/1.1\r\n",
    ):
        with connect(url) as connection:
            connection.sendall(head.encode())
            assert refused(everything(connection)) == TOO_LARGE


def test_the_second_head_of_a_connection_is_measured_alone(url):
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 40_000 + b"\r\n\r\n"
    with connect(url) as connection:
        for _ in range(3):
            connection.sendall(request)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")


def test_two_hosts_are_refused(url):
    with connect(url) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert "one Host header" in refused(everything(connection))


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


def test_a_resting_connection_is_kept_longer_than_clients_and_proxies_keep_it(service):
    assert listener(create_app(service), 10).config.timeout_keep_alive > 60


def test_a_client_that_hangs_up_early_does_no_harm(url):
    for _ in range(20):
        with connect(url) as connection:
            connection.sendall(b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            connection.sendall(b'Content-Length: 100\r\n\r\n{"q": ')
    assert httpx2.get(f"{url}/search", params={"q": "battery"}).status_code == 200


def test_what_the_beginning_raises_is_raised_and_nothing_is_said_to_be_ready(service, monkeypatch, caplog, capfd):
    def broken(self, inputs):
        raise ModelError("The model is broken.")

    monkeypatch.setattr(Embed, "run", broken)
    said = []
    with take_port("127.0.0.1", 0, has_keys=False) as taken:
        server = listener(create_app(service), 10, lambda: said.append("ready"))
        with pytest.raises(ModelError, match="is broken"):
            server.run(sockets=[taken])
    assert not said and not server.started and not caplog.records
    assert capfd.readouterr().err == ""


def test_a_beginning_that_takes_too_long_is_told(service, monkeypatch):
    monkeypatch.setattr(Embed, "run", lambda self, inputs: time.sleep(0.5))
    with take_port("127.0.0.1", 0, has_keys=False) as taken:
        server = listener(create_app(service, Settings(timeout=0.1)), 10)
        with pytest.raises(ServerError, match=r"within 0\.1 seconds: give more time with --timeout"):
            server.run(sockets=[taken])


def test_the_second_ctrl_c_leaves_out_what_waits(service, monkeypatch):
    runs, began, gate = [], threading.Event(), threading.Event()

    def slow(self, inputs):
        runs.append(inputs)
        if inputs != WARM_UP:
            began.set()
            gate.wait(10)
        return embed(self, inputs)

    embed = Embed.run
    monkeypatch.setattr(Embed, "run", slow)
    with take_port("127.0.0.1", 0, has_keys=False) as taken, ThreadPoolExecutor(4) as pool:
        server = listener(create_app(service, Settings(batch=1)), 10)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        asked = [pool.submit(httpx2.post, f"{url_of(taken)}/embed", json={"inputs": "a"}) for _ in range(4)]
        assert began.wait(10)
        while len(server.server_state.tasks) < 4:
            time.sleep(0.005)
        server.handle_exit(signal.SIGINT, None)
        server.handle_exit(signal.SIGINT, None)
        time.sleep(0.5)
        gate.set()
        thread.join(10)
        assert not thread.is_alive() and runs == [WARM_UP, ["a"]]
        assert all(one.exception() or one.result().status_code >= 500 for one in asked)


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
