"""kill -9 at any moment of a change leaves the state before it or after it, and no acknowledged document is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.indexing.index import Index
from retriever.indexing.manifest import UNFINISHED
from retriever.indexing.unfinished import read_unfinished

FORKS = """
import os
import random
import sys
from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.indexing.index import Index

encoder = Encoder.load(sys.argv[1])


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # whole lines, whoever else writes into the pipe


def texts(index):
    return {document.id: document.text for document in index._current().live()}


def mark(state):
    return hash(tuple(sorted(state.items())))


def change(folder, rng, name):
    with Index.open(folder, encoder) as index:
        before, new, gone = texts(index), {}, []
        kind = rng.choice(["add", "add", "update", "delete", "compact", "build"])
        if kind == "add":
            new = {f"{name}-{n}": f"amber heron {n}" for n in range(rng.choice([1, 3, 200]))}
        elif kind == "update":
            new = {"kept": f"quill {name}"}
        elif kind == "delete":
            gone = rng.sample(sorted(before.keys() - {"kept"}), k=min(5, len(before) - 1))
        elif kind == "build":
            new, gone = {"kept": before["kept"], "other": "amber"}, list(before)
        after = {name: text for name, text in before.items() if name not in gone} | new
        documents = [Document(name, text=text) for name, text in new.items()]
        say("try", mark(before), mark(after))
        if kind == "build":
            Index.build(encoder, documents, folder, overwrite=True).close()
        elif documents:
            index.add(documents)
        elif gone:
            index.delete(gone)
        else:
            index.compact()
        say("done")


for line in sys.stdin:
    folder, seed = line.split()
    child = os.fork()
    if not child:
        rng = random.Random(int(seed))
        for step in range(10_000):
            change(folder, rng, f"{seed}-{step}")
    say("child", child)
    os.waitpid(child, 0)
    with Index.open(folder, encoder) as index:
        index.verify()
        say("left", mark(texts(index)), len(texts(index)) == len(index))
"""


class Writer:
    """A process that forks a child for every round of changes, so that importing is paid for once."""

    def __init__(self, model):
        self.model = model
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKS, str(model)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a group of its own, which is killed whole
        )

    def start(self, folder, seed):
        """Let a child change the index; returns its process id and what it has printed meanwhile."""
        self.process.stdin.write(f"{folder} {seed}\n")
        self.process.stdin.flush()
        lines = self._until("child")
        return int(lines.pop()[1]), lines

    def kill(self, child):
        """Kill the child; returns what it printed, and what was left."""
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        return self._until("left")

    def _until(self, word):
        lines = []
        while not lines or lines[-1][0] != word:
            line = self.process.stdout.readline()
            assert line, "the writer ended"
            lines.append(line.split())
        return lines


@pytest.fixture
def writer(encoder):
    writer = Writer(encoder.path)
    yield writer
    os.killpg(writer.process.pid, signal.SIGKILL)
    writer.process.communicate()


@pytest.mark.parametrize("wanted", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_a_killed_change_leaves_the_old_state_or_the_new_one(writer, tmp_path, wanted):
    folder, rng = tmp_path / "index", random.Random(wanted)
    start = [Document("kept", text="quill"), Document("other", text="amber heron")]
    Index.build(Encoder.load(writer.model), start, folder).close()
    interrupted = seed = 0
    with Index.open(folder) as reader:
        while interrupted < wanted:
            seed += 1
            end = time.monotonic() + rng.uniform(0.03, 0.25)
            child, lines = writer.start(folder, seed)
            while time.monotonic() < end:
                for mode in ("hybrid", "dense", "bm25"):
                    assert "kept" in {hit.id for hit in reader.search("quill", 10_000, mode)}
            *lines, (_, left, is_consistent) = lines + writer.kill(child)
            assert is_consistent == "True"
            tries = [line for line in lines if line[0] == "try"]
            if tries:
                _, before, after = tries[-1]
                is_done = lines[-1][0] == "done"
                interrupted += not is_done
                assert left == after if is_done else left in (before, after)
        reader.compact()
        reader.verify()
        build = read_unfinished(folder)  # a killed build leaves what another one may go on with
        kept = {UNFINISHED, *(piece.segment.name for piece in build.pieces)} if build else set()
        assert len({path.name for path in folder.iterdir()} - kept) == 2  # what killed changes left is gone
