"""What serving costs: over the Python API, under load, and with and without micro-batching.

    OMP_NUM_THREADS=1 python benchmarks/serve_speed.py texts.jsonl.gz --minilm MODEL

1. A static encoder, trained for 300 steps on the documents, and these, over and over, make an index; titles are the
   queries.
2. One client: the median time of a search over HTTP, less that of the same searches by the Python API, in turns.
3. 64 clients: answers for each second of CPU time that the server's process takes, all threads together. Beside them
   the floors: what the Python API answers in batches of 64, what serve_floor.py answers under the same uvicorn, and
   what the server answers without a search.
4. 32 clients and a transformer: answers a second with micro-batching, over those without.

The server is a process of its own, started as users start it, with one thread a worker; the load comes from this
process over loopback and kept connections.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import itertools
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil

from retriever import Corpus, Document, Encoder, Index, open_corpus, train

DIMENSION, STEPS = 256, 300
SECONDS = 8.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", help="documents with titles")
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--factory", default="auto", help="of FAISS")
    parser.add_argument("--minilm", help="a transformer, for the last step")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement under load")
    options = parser.parse_args()
    documents = read(options.texts, options.documents)
    queries = [document.title for document in documents[:: max(1, len(documents) // 2_000)] if document.title.strip()]
    with tempfile.TemporaryDirectory() as place:
        folder = build(Path(place), documents, options.factory)
        print(f"{len(documents):,} documents, {options.factory}, {len(queries):,} queries")
        for mode in ("dense", "hybrid"):
            with serving(folder) as (url, process):
                report_overhead(Index.open(folder), url, queries, mode)
                report_load(url, process, queries, mode, options.seconds)
                report_api(Index.open(folder), queries, mode)
        with serving(folder) as (url, process):
            told = {"no search": (url, process)}
            with bare("bare") as told["bare uvicorn"], bare("starlette") as told["bare Starlette"]:
                for name, (address, server) in told.items():
                    report_rate("floor", name, address, server, ["/health"], options.seconds)
        if options.minilm:
            report_batching(Path(place), documents[:2_000], queries, options.minilm, options.seconds)


def read(file: str, count: int) -> list[Document]:
    """The documents of a file, over and over until there are enough."""
    found = itertools.islice(itertools.cycle(open_corpus(file)), count)
    return [Document(str(number), one.title, one.text) for number, one in enumerate(found)]


def build(place: Path, documents: list[Document], factory: str) -> Path:
    """An index folder."""
    settings = {"steps": STEPS, "encoder.dimension": DIMENSION}
    encoder = train("contriever-cpu", Corpus.of(documents), place / "model", **settings)
    Index.build(encoder, documents, place / "index", factory=factory).close()
    return place / "index"


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[str, psutil.Process]]:
    """A server of its own: its address and its process."""
    command = [sys.executable, "-m", "retriever", "serve", str(folder), "--port", "0", "--quiet", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stderr is not None
        url = next(found[0] for line in server.stderr if (found := re.search(r"http://\S+", line)))
        ask(http.client.HTTPConnection(urlsplit(url).netloc), "/health")
        yield url, psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()


@contextmanager
def bare(app: str) -> Iterator[tuple[str, psutil.Process]]:
    """An application of serve_floor.py: its address and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", f"serve_floor:{app}", "--app-dir", str(Path(__file__).parent)]
    server = subprocess.Popen([*command, "--port", str(port), "--lifespan", "off", "--log-level", "critical"])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", psutil.Process(server.pid)
    finally:
        server.terminate()
        server.wait()


def path_of(query: str, mode: str, extra: str = "") -> str:
    """The address of a search."""
    return f"/search?q={quote(query)}&mode={mode}{extra}"


def request(path: str) -> bytes:
    """What asks for it."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def ask(connection: http.client.HTTPConnection, path: str) -> dict[str, object]:
    """The answer to one request."""
    connection.request("GET", path)
    response = connection.getresponse()
    answer: dict[str, object] = json.loads(response.read())
    assert response.status == 200, answer
    return answer


def report_overhead(index: Index, url: str, queries: list[str], mode: str) -> None:
    """Median times of one client, in turns with the Python API."""
    direct, served = [], []
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname or "", parts.port or 0))
    stream = connection.makefile("rb")
    for number, query in enumerate(queries[:600]):
        began = time.perf_counter()
        index.search(query, 10, mode)
        between = time.perf_counter()
        connection.sendall(request(path_of(query, mode)))
        length = 0
        while (line := stream.readline()) != b"\r\n":
            if line.startswith(b"content-length: "):
                length = int(line.removeprefix(b"content-length: "))
        json.loads(stream.read(length))
        if number >= 100:
            direct.append(between - began)
            served.append(time.perf_counter() - between)
    api, over_http = (1000 * statistics.median(times) for times in (direct, served))
    print(f"{mode:<7} 1 client    API {api:6.2f} ms, HTTP {over_http:6.2f} ms: {over_http - api:+.2f} ms (medians)")


def report_load(url: str, process: psutil.Process, queries: list[str], mode: str, seconds: float) -> None:
    """Whole answers, and answers without passages and texts."""
    for told, extra in (("whole answers", ""), ("bare answers", "&text=false&highlight=false")):
        report_rate(mode, told, url, process, [path_of(query, mode, extra) for query in queries], seconds)


def report_rate(what: str, told: str, url: str, process: psutil.Process, paths: list[str], seconds: float) -> None:
    """Answers for each second of a server's CPU time."""
    asyncio.run(load(url, paths, 64, seconds / 4))
    before, cpu = time.perf_counter(), cpu_seconds(process)
    times = asyncio.run(load(url, paths, 64, seconds))
    wall, cpu = time.perf_counter() - before, cpu_seconds(process) - cpu
    p50, p99 = (1000 * times[int(len(times) * share)] for share in (0.5, 0.99))
    print(
        f"{what:<7} 64 clients  {told:<14} {len(times) / cpu:7,.0f} answers/CPU s, {len(times) / wall:7,.0f}/s, "
        f"p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    )


def report_api(index: Index, queries: list[str], mode: str) -> None:
    """Searches by the Python API for each second of its CPU time."""
    index.search_batch(queries[:64], 10, mode)
    cpu = time.process_time()
    for start in range(0, len(queries), 64):
        index.search_batch(queries[start : start + 64], 10, mode)
    print(f"{mode:<7} Python API  batches of 64  {len(queries) / (time.process_time() - cpu):7,.0f} answers/CPU s")


def report_batching(place: Path, documents: list[Document], queries: list[str], model: str, seconds: float) -> None:
    """Answers a second of a transformer, with and without batches."""
    Index.build(Encoder.load(model), documents, place / "transformer").close()
    rates = {}
    for told, batch in (("batches", "64"), ("one by one", "1")):
        with serving(place / "transformer", "--batch", batch) as (url, _):
            paths = [path_of(query, "dense") for query in queries]
            asyncio.run(load(url, paths, 32, seconds / 4))
            rates[told] = len(asyncio.run(load(url, paths, 32, seconds))) / seconds
    ratio = rates["batches"] / rates["one by one"]
    print(f"transformer, 32 clients: {rates['batches']:.0f}/s, one by one {rates['one by one']:.0f}/s: {ratio:.2f} x")


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time that a process has taken."""
    times = process.cpu_times()
    return times.user + times.system


async def load(url: str, paths: list[str], clients: int, seconds: float) -> list[float]:
    """The times of all answers that clients got one after the other, rising."""
    end, turn, times = time.perf_counter() + seconds, itertools.cycle(paths), list[float]()

    async def client() -> None:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while time.perf_counter() < end:
            began = time.perf_counter()
            writer.write(request(next(turn)))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # type: ignore[index]
            times.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return sorted(times)


if __name__ == "__main__":
    main()
