"""kill -9 at any moment of a build leaves the old index, or the new one, and never something between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from retriever.data.document import Document
from retriever.indexing.index import Index

FORKS = """
import os
import sys
from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.indexing.index import Index

encoder = Encoder.load(sys.argv[1])
documents = [Document(f"new-{n}", text=f"amber heron {n}") for n in range(4000)]
for line in sys.stdin:
    child = os.fork()
    if not child:
        Index.build(encoder, documents, line.strip(), overwrite=True)
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Builder:
    """A process that forks a child for every build, so that importing is paid for once."""

    def __init__(self, model):
        command = [sys.executable, "-c", FORKS, str(model)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, folder):
        """Start a build and return the process id of the child."""
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self):
        """Wait for the child and return its status."""
        return int(self.process.stdout.readline())

    def kill(self, child):
        """Kill the child and return whether it was still at work."""
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        return self.wait() == signal.SIGKILL


@pytest.fixture(scope="module")
def builder(encoder):
    builder = Builder(encoder.path)
    with builder.process:
        yield builder
        builder.process.stdin.close()


def test_a_killed_overwrite_leaves_an_index(builder, encoder, documents, tmp_path):
    builder.start(tmp_path / "timing")
    start = time.perf_counter()
    assert builder.wait() == 0
    duration = time.perf_counter() - start
    killed = []
    for moment in range(10):
        folder = tmp_path / f"index-{moment}"
        Index.build(encoder, documents, folder).close()
        child = builder.start(folder)
        time.sleep(duration * moment / 8)
        killed.append(builder.kill(child))
        with Index.open(folder) as index:
            index.verify()
            assert len(index) in (120, 4000)
            for mode in ("hybrid", "dense", "bm25"):
                assert len(index.search("heron", 5, mode)) == 5
        with Index.build(encoder, documents[:50], folder, overwrite=True) as index:
            assert len(index) == 50
        assert len(list(folder.iterdir())) == 2  # what the killed build left is gone
    assert sum(killed) >= 3


def test_a_killed_first_build_can_be_repeated(builder, encoder, tmp_path):
    folder = tmp_path / "index"
    child = builder.start(folder)
    while not list(folder.rglob("documents.sqlite")):
        time.sleep(0.0005)
    assert builder.kill(child)
    assert list(folder.glob(".generation-*"))
    with Index.build(encoder, [Document("a", text="heron")], folder) as index:
        assert [hit.id for hit in index.search("heron")] == ["a"]
    assert sorted(path.name for path in folder.iterdir()) == ["generation-000001", "manifest.json"]
