"""Whether a server that is asked, changed and killed fails, loses anything, or grows.

    python benchmarks/serve_soak.py texts.jsonl.gz --seconds 600

1. A static encoder with random weights and the documents, over and over, make an index; the server is a process of its
   own, started as users start it.
2. Clients search without a pause: by meaning, by words, and by both.
3. Writers, each with ids of its own, add, replace and delete documents meanwhile, and keep book of what was
   acknowledged. What was acknowledged is read back at once.
4. In the middle the server is killed with SIGKILL, while a change is under way, and started again. A change that was
   not acknowledged may have happened or not; all other documents must be as the book says, then and at the end.
5. The memory of a life is what its process holds for itself alone, without mapped files: the median of its last quarter
   over that of its second, the first one being for warming up.

The exit code is 1 if there was a 5xx, or an acknowledged change is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from serve_speed import build, path_of, read, serving

MODES = ("dense", "bm25", "hybrid")
IDS = 200  # of each writer
MOST = 10  # documents of a change
DELETE_SHARE = 0.3
SAMPLES = 100  # of the memory of a life
TEXT = "The version {} of a document that is changed while others search for it."


@dataclass
class Book:
    """What writers know: the text of each id, None for a deleted one, and the ids of which nothing is known."""

    known: dict[str, str | None] = field(default_factory=dict)
    in_doubt: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)
    changes: int = 0


@dataclass
class Life:
    """What was seen between a start of the server and its end."""

    statuses: Counter[int] = field(default_factory=Counter)
    reads: list[float] = field(default_factory=list)  # seconds
    writes: list[float] = field(default_factory=list)  # seconds
    memory: list[float] = field(default_factory=list)  # bytes, at equal distances

    def told(self) -> str:
        """All of it in two lines."""
        quarter = len(self.memory) // 4
        early, late = (statistics.median(part) for part in (self.memory[quarter : 2 * quarter], self.memory[-quarter:]))
        counts = ", ".join(f"{status}: {count:,}" for status, count in sorted(self.statuses.items()))
        reads, writes = (f"{_share(times, 0.5)} / {_share(times, 0.99)} ms" for times in (self.reads, self.writes))
        return (
            f"answers {counts}; searches p50 / p99 {reads}, changes {writes}\n"
            f"memory {early / 2**20:.0f} MB after warming up, {late / 2**20:.0f} MB at the end: "
            f"{100 * (late / early - 1):+.1f} %"
        )


class Connection:
    """A kept connection that sends one request after the other."""

    def __init__(self, url: str, life: Life) -> None:
        self._url, self._life = urlsplit(url), life

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and body of the answer."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        told = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", told)
        answer = await self._reader.readexactly(int(length[1]) if length else 0)
        status = int(told[9:12])
        self._life.statuses[status] += 1
        return status, answer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", help="documents with titles")
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--factory", default="Flat", help="of FAISS")
    parser.add_argument("--clients", type=int, default=32, help="that search")
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=600, help="of both lives together")
    options = parser.parse_args()
    documents = read(options.texts, options.documents)
    queries = [document.title for document in documents[:2_000] if document.title.strip()]
    paths = [path_of(query, mode) for query, mode in zip(queries, itertools.cycle(MODES))]
    book, failures = Book(), 0
    with tempfile.TemporaryDirectory() as place:
        folder = build(Path(place), documents, options.factory)
        for end in ("killed", "ended"):
            with serving(folder) as (url, process):
                asyncio.run(check(url, book, "after the start"))
                life = asyncio.run(live(url, process, paths, book, options, is_killed=end == "killed"))
                if end == "ended":
                    asyncio.run(check(url, book, "at the end"))
            failures += sum(count for status, count in life.statuses.items() if status >= 500)
            print(f"{end} after {options.seconds / 2:g} s: {life.told()}", flush=True)
    print(f"{book.changes:,} changes acknowledged, {len(book.lost)} lost {book.lost[:5]}; 5xx: {failures}")
    sys.exit(1 if failures or book.lost else 0)


async def live(
    url: str, process: psutil.Process, paths: list[str], book: Book, options: argparse.Namespace, is_killed: bool
) -> Life:
    """Half of the time: load, changes, and at its end SIGKILL while a change is under way, or nothing."""
    life, over = Life(), asyncio.Event()
    turn = itertools.cycle(paths)
    tasks = [asyncio.create_task(search(url, turn, life, over)) for _ in range(options.clients)]
    tasks += [asyncio.create_task(write(url, one, book, life, over)) for one in range(options.writers)]
    began = time.perf_counter()
    while time.perf_counter() - began < options.seconds / 2:
        await asyncio.sleep(options.seconds / 2 / SAMPLES)
        memory = process.memory_info()
        life.memory.append(memory.rss - memory.shared)
        for task in tasks:
            if task.done():
                task.result()  # a client that broke ends the measurement
    while is_killed and not book.in_doubt:
        await asyncio.sleep(0)
    if is_killed:
        process.kill()
    over.set()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, BaseException) and not (is_killed and isinstance(ended, (OSError, EOFError))):
            raise ended
    return life


async def search(url: str, paths: itertools.cycle[str], life: Life, over: asyncio.Event) -> None:
    """Searches, one after the other."""
    async with Connection(url, life) as connection:
        while not over.is_set():
            began = time.perf_counter()
            await connection.ask("GET", next(paths))
            life.reads.append(time.perf_counter() - began)


async def write(url: str, writer: int, book: Book, life: Life, over: asyncio.Event) -> None:
    """Changes, one after the other, each read back."""
    choose = random.Random(writer + 1_000 * book.changes)
    async with Connection(url, life) as connection:
        while not over.is_set():
            names = [f"soak-{writer}-{number}" for number in choose.sample(range(IDS), choose.randint(1, MOST))]
            if book.known.get(names[0]) and choose.random() < DELETE_SHARE:
                names = names[:1]
                change: dict[str, str | None] = {names[0]: None}
            else:
                change = {name: TEXT.format(f"{book.changes} {name}") for name in names}
            book.in_doubt.update(names)
            began = time.perf_counter()
            if await _send(connection, change):
                life.writes.append(time.perf_counter() - began)
                book.known.update(change)
                book.changes += 1
                book.in_doubt.difference_update(names)
                await _compare(connection, names[0], book, "right after the change")


async def _send(connection: Connection, change: dict[str, str | None]) -> bool:
    """Whether a change was acknowledged."""
    documents = [{"id": name, "text": text} for name, text in change.items()]
    if documents[0]["text"] is None:
        status, _ = await connection.ask("DELETE", f"/documents/{documents[0]['id']}")
    else:
        status, _ = await connection.ask("POST", "/documents", {"documents": documents})
    return status == 200


async def _compare(connection: Connection, name: str, book: Book, moment: str) -> None:
    status, answer = await connection.ask("GET", f"/documents/{name}")
    text = json.loads(answer)["text"] if status == 200 else None
    if status not in (200, 404) or text != book.known[name]:
        book.lost.append(f"{name} {moment}: {status}, {text!r} and not {book.known[name]!r}")


async def check(url: str, book: Book, moment: str) -> None:
    """Compare all documents with the book."""
    certain = sorted(book.known.keys() - book.in_doubt)
    async with Connection(url, Life()) as connection:
        for name in certain:
            await _compare(connection, name, book, moment)
    print(f"{moment}: {len(certain):,} ids compared, {len(book.in_doubt)} in doubt, {len(book.lost)} lost")


def _share(times: list[float], share: float) -> str:
    return f"{1000 * sorted(times)[int(share * len(times))]:.0f}" if times else "-"


if __name__ == "__main__":
    main()
