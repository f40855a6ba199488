"""A second writer is told who the first one is; a dead one is in nobody's way."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from datetime import datetime, timezone

import pytest

from retriever.data.document import Document
from retriever.errors import BusyError, DataError, OutputError
from retriever.indexing import lock
from retriever.indexing.index import Index
from retriever.indexing.lock import WRITER, locked

HOLDS = """
import sys
from pathlib import Path
from retriever.indexing.lock import locked

with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock until its input ends."""
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_writer_is_told_who_the_first_one_is(holder, tmp_path):
    expected = rf"^Process {holder.pid} on {socket.gethostname()} has been writing the index {tmp_path} since "
    sentence = rf"{expected}[-0-9]+ [:0-9]+\+00:00: wait until it is done\.$"
    with pytest.raises(OutputError, match=sentence), locked(tmp_path):
        pass
    assert json.loads((tmp_path / WRITER).read_text())["pid"] == holder.pid
    holder.communicate("")
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [WRITER]
    assert list(tmp_path.iterdir()) == []


def test_the_time_is_that_of_the_lock(tmp_path):
    with locked(tmp_path):
        since = json.loads((tmp_path / WRITER).read_text())["since"]
    assert abs((datetime.now(timezone.utc) - datetime.fromisoformat(since)).total_seconds()) < 60


def test_a_dead_writer_blocks_nobody(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / WRITER).exists()  # nobody was left to remove it
    with locked(tmp_path):
        assert json.loads((tmp_path / WRITER).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"pid": 1}', "\xff"])
def test_a_first_writer_that_has_not_told_its_name_keeps_others_out(tmp_path, content):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    if content is not None:
        (tmp_path / WRITER).write_text(content, encoding="latin-1")
    sentence = r"^Another process is writing the index .*: wait until it is done"
    with pytest.raises(OutputError, match=sentence), locked(tmp_path):
        pass
    os.close(descriptor)


@pytest.mark.parametrize("made_again", [False, True])
def test_a_folder_that_was_removed_before_it_was_locked_is_not_locked(tmp_path, monkeypatch, made_again):
    folder, flock = tmp_path / "index", fcntl.flock
    folder.mkdir()

    def late(descriptor, how):
        folder.rmdir()
        if made_again:
            folder.mkdir()
        flock(descriptor, how)

    monkeypatch.setattr(lock.fcntl, "flock", late)
    with pytest.raises(BusyError, match=r"Another process has just removed .*index: run the"), locked(folder):
        pass
    assert folder.exists() == made_again


def test_the_lock_is_free_after_a_failure(tmp_path):
    for _ in range(2):
        with pytest.raises(DataError, match="a mistake"), locked(tmp_path):
            raise DataError("a mistake")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_locked_is_told(tmp_path, monkeypatch):
    with (
        pytest.raises(OutputError, match=r"Cannot write the index .*nowhere: No such file"),
        locked(tmp_path / "nowhere"),
    ):
        pass

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    sentence = r"cannot lock .* \(No locks available\): put the index on a local disk"
    with pytest.raises(OutputError, match=sentence), locked(tmp_path):
        pass


def test_every_change_of_an_index_is_refused_meanwhile_and_searches_go_on(encoder, documents, tmp_path):
    with Index.build(encoder, documents, tmp_path / "index") as index, locked(index.folder):
        changes = [
            lambda: index.add([Document("new", text="quill")]),
            lambda: index.delete(["doc-1"]),
            index.compact,
            lambda: index.set_fusion("rrf", 0.5),
            lambda: Index.build(encoder, documents, index.folder, overwrite=True),
        ]
        for change in changes:
            with pytest.raises(OutputError, match=rf"^Process {os.getpid()} on .* has been writing the index"):
                change()
        assert len(index.search("heron", 5)) == 5
        index.verify()
    assert sorted(path.name for path in index.folder.iterdir()) == ["generation-000001", "manifest.json"]
