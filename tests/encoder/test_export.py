"""Vectors of a corpus on disk: the same as in memory, whole or not there, whatever the chunks and the shards."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import encoders
import numpy as np
import pytest

from retriever.data.corpus import Corpus, open_corpus
from retriever.data.document import Document
from retriever.encoder import export, shards
from retriever.encoder.export import export_vectors, open_vectors
from retriever.encoder.shards import Shard
from retriever.errors import DataError, OutputError


def corpus(texts=encoders.TEXTS):
    return Corpus.of([Document(f"é\n{i}", f"title {i}", text) for i, text in enumerate(texts)], name="texts")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def few(monkeypatch):
    """Chunks of two documents: the eight texts are four chunks."""
    monkeypatch.setattr(shards, "CHUNK", 2)


class Broken:
    """An encoder whose ``stop``-th call of encode is the last."""

    def __init__(self, encoder, stop, error):
        self.encoder, self.stop, self.error, self.calls = encoder, stop, error, 0

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def encode(self, *arguments, **settings):
        self.calls += 1
        if self.calls > self.stop:
            raise self.error
        return self.encoder.encode(*arguments, **settings)


@pytest.mark.parametrize("chunk", [3, 8_192])
def test_rows_are_the_vectors_of_their_documents(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(shards, "CHUNK", chunk)
    encoder, done = encoders.static(), []
    encoder.prompts = {"query": "dog "}
    for kind in ("document", "query"):
        found = export_vectors(encoder, corpus(), tmp_path / kind, kind=kind, progress=done.append)
        assert (found.documents, found.total, found.resumed, found.missing) == (8, 8, 0, [])
        vectors = np.load(tmp_path / kind / "vectors.npy", mmap_mode="r")
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, encoder.encode([d.content for d in corpus()], kind))
        lines = (tmp_path / kind / "ids.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == [d.id for d in corpus()]
    assert sum(done) == 16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["document", "query"]


def test_an_empty_corpus_and_an_early_failure_leave_nothing(tmp_path):
    encoder = encoders.static()
    with pytest.raises(DataError, match="texts holds no document"):
        export_vectors(encoder, corpus([]), tmp_path / "v")
    with pytest.raises(OutputError, match=r"Cannot write .* \(No space left\): make room, then run the same command"):
        export_vectors(Broken(encoder, 0, OSError(28, "No space left")), corpus(), tmp_path / "v")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_ids_that_a_full_disk_does_not_take_are_one_error(tmp_path, monkeypatch):
    """What a thrown-away generator cannot write would be a traceback beside the error."""
    monkeypatch.setattr(export, "IDS", "/dev/full")
    with pytest.raises(OutputError, match="No space left on device"):
        export_vectors(Broken(encoders.static(), 0, OSError(28, "another")), corpus(), tmp_path / "v")
    gc.collect()


def test_vectors_are_replaced_only_on_demand(tmp_path):
    encoder = encoders.static()
    export_vectors(encoder, corpus(), tmp_path / "v")
    with pytest.raises(OutputError, match="already holds vectors; choose another folder, or pass --overwrite"):
        export_vectors(encoder, corpus(), tmp_path / "v")
    export_vectors(encoder, corpus(encoders.TEXTS[:2]), tmp_path / "v", overwrite=True)
    assert np.load(tmp_path / "v" / "vectors.npy").shape == (2, 24)
    (tmp_path / "v" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something else than vectors"):
        export_vectors(encoder, corpus(), tmp_path / "v", overwrite=True)
    with pytest.raises(OutputError, match="holds something else than vectors"):
        export_vectors(encoder, corpus(), tmp_path / "v" / "notes.txt")


def test_the_folder_one_is_in_is_no_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=r"The output \. has no name to put others beside it: name a folder"):
        export_vectors(encoders.static(), corpus(), ".")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something else than vectors"):
        export_vectors(encoders.static(), corpus(), ".", overwrite=True)


@pytest.mark.parametrize("encoder", [encoders.static(), encoders.small()], ids=["static", "small"])
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_shards_in_any_order_give_the_bytes_of_one_process(tmp_path, few, encoder, order):
    export_vectors(encoder, corpus(), tmp_path / "whole")
    left = [1, 2, 3]
    for number in order:
        assert not (tmp_path / "shared").exists()
        found = export_vectors(encoder, corpus(), tmp_path / "shared", shard=Shard(number, 3))
        left.remove(number)
        assert (found.documents, found.total, found.missing) == ({1: 4, 2: 2, 3: 2}[number], 8, left)
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shared", "whole"]


def test_more_shards_than_chunks_and_a_last_chunk_that_is_not_full(tmp_path, few):
    encoder = encoders.static()
    documents = corpus(encoders.TEXTS[:5])  # three chunks, the last of one document
    export_vectors(encoder, documents, tmp_path / "whole")
    counts = [
        export_vectors(encoder, documents, tmp_path / "shared", shard=Shard(number, 5)).documents
        for number in range(1, 6)
    ]
    assert counts == [2, 2, 1, 0, 0]
    assert contents(tmp_path / "shared") == contents(tmp_path / "whole")


def test_the_rows_of_shards_are_those_dealt_out_one_by_one(few):
    for documents in range(12):
        for count in (1, 2, 3, 5):
            dealt = [0] * count
            for row in range(documents):
                dealt[row // 2 % count] += 1
            assert [Shard(number, count).rows(documents) for number in range(1, count + 1)] == dealt


@pytest.mark.parametrize("torn", [b"", b"half a vector"])
def test_a_stopped_shard_goes_on_after_its_last_whole_chunk(tmp_path, few, torn):
    encoder = encoders.small()
    export_vectors(encoder, corpus(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        export_vectors(Broken(encoder, 3, KeyboardInterrupt()), corpus(), tmp_path / "v")
    with (tmp_path / "v.part" / "shard-1-of-1" / "vectors.bin").open("ab") as file:
        file.write(torn)
    again = Broken(encoder, 1, AssertionError("encoded what was there"))
    assert export_vectors(again, corpus(), tmp_path / "v").resumed == 6
    assert contents(tmp_path / "v") == contents(tmp_path / "whole")


def test_a_complete_shard_is_not_encoded_again(tmp_path, few):
    encoder = encoders.static()
    export_vectors(encoder, corpus(), tmp_path / "v", shard=Shard(2, 2))
    again = export_vectors(Broken(encoder, 0, AssertionError()), corpus(), tmp_path / "v", shard=Shard(2, 2))
    assert (again.documents, again.resumed, again.missing) == (4, 4, [1])


def other_model():
    return encoders.static(seed=1)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"encoder": other_model()}, "model"),
        ({"corpus": corpus(encoders.TEXTS[::-1])}, "corpus"),
        ({"kind": "query"}, "--kind"),
        ({"dtype": "bfloat16"}, "--dtype"),
        ({"encoder": other_model(), "dtype": "bfloat16"}, "model and another --dtype"),
    ],
    ids=["model", "corpus", "kind", "dtype", "two"],
)
def test_shards_of_another_run_are_refused(tmp_path, few, change, what):
    asked = {"encoder": encoders.static(), "corpus": corpus(), "folder": tmp_path / "v"}
    export_vectors(**asked, shard=Shard(1, 2))
    before = contents(tmp_path / "v.part" / "shard-1-of-2")
    for number in (1, 2):
        with pytest.raises(OutputError, match=f"The vectors in .*shard-1-of-2 are of another {what}: encode"):
            export_vectors(**asked | change, shard=Shard(number, 2))
    export_vectors(**asked | change, shard=Shard(1, 2), overwrite=True)
    assert contents(tmp_path / "v.part" / "shard-1-of-2") != before
    with pytest.raises(OutputError, match=f"are of another {what}"):  # begun at the same time, seen at the end
        export_vectors(**asked, shard=Shard(2, 2), overwrite=True)
    assert not (tmp_path / "v").exists()


def test_another_number_of_shards_is_refused(tmp_path, few):
    encoder = encoders.static()
    export_vectors(encoder, corpus(), tmp_path / "v", shard=Shard(1, 2))
    with pytest.raises(OutputError, match=r"v\.part was begun in 2 shards, not in 3: go on with 2, or start anew"):
        export_vectors(encoder, corpus(), tmp_path / "v", shard=Shard(1, 3))
    export_vectors(encoder, corpus(), tmp_path / "v", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["v"]
    for number, count in ((0, 2), (3, 2), (1, 0)):
        with pytest.raises(DataError, match=f"There is no shard {number}/{count}"):
            Shard(number, count)


def test_a_damaged_shard_is_named(tmp_path, few):
    encoder, first = encoders.static(), tmp_path / "v.part" / "shard-1-of-2"
    export_vectors(encoder, corpus(), tmp_path / "v", shard=Shard(1, 2))
    os.truncate(first / "vectors.bin", 100)
    with pytest.raises(
        OutputError, match=r"vectors.bin is damaged \(100 bytes instead of 384\): remove .*shard-1-of-2"
    ):
        export_vectors(encoder, corpus(), tmp_path / "v", shard=Shard(2, 2))
    (first / "shard.json").write_text("{")
    with pytest.raises(OutputError, match=r"shard.json cannot be read: encode again with --overwrite"):
        export_vectors(encoder, corpus(), tmp_path / "v", shard=Shard(1, 2))
    assert export_vectors(encoder, corpus(), tmp_path / "v", shard=Shard(1, 2), overwrite=True).missing == []


def test_two_processes_do_not_share_a_shard(tmp_path, few):
    encoder = encoders.static()

    class Nosy(Broken):
        def encode(self, *arguments, **settings):
            with pytest.raises(OutputError, match=r"Another process is encoding shard 1 of 2 of .*v: wait"):
                export_vectors(encoder, corpus(), tmp_path / "v", shard=Shard(1, 2))
            return self.encoder.encode(*arguments, **settings)

    assert export_vectors(Nosy(encoder, 0, None), corpus(), tmp_path / "v", shard=Shard(1, 2)).missing == [2]


def test_vectors_are_opened_for_their_model_and_corpus_only(tmp_path, few):
    encoder, folder = encoders.static(), tmp_path / "v"
    with pytest.raises(DataError, match="holds no vectors: make them with `retriever encode"):
        open_vectors(folder, encoder, corpus())
    export_vectors(encoder, corpus(), folder, shard=Shard(2, 3))
    with pytest.raises(DataError, match="v are not complete: encode what is missing, shards 1, 3 of 3"):
        open_vectors(folder, encoder, corpus())
    for number in (1, 3):
        export_vectors(encoder, corpus(), folder, shard=Shard(number, 3))
    np.testing.assert_array_equal(
        open_vectors(folder, encoder, corpus()), encoder.encode([d.content for d in corpus()])
    )
    with pytest.raises(DataError, match="are of another model: encode the corpus again"):
        open_vectors(folder, other_model(), corpus())
    with pytest.raises(DataError, match="are of another corpus: encode the corpus again"):
        open_vectors(folder, encoder, corpus(encoders.TEXTS[::-1]))
    os.truncate(folder / "vectors.npy", 500)
    with pytest.raises(DataError, match=r"vectors\.npy are missing or damaged"):
        open_vectors(folder, encoder, corpus())
    export_vectors(encoder, corpus(), folder, kind="query", overwrite=True)
    with pytest.raises(DataError, match="are of another kind"):
        open_vectors(folder, encoder, corpus())


FORKS = """
import os, sys, time
from retriever.data.corpus import open_corpus
from retriever.encoder import Encoder, shards
from retriever.encoder.export import export_vectors

shards.CHUNK = 20
encoder = Encoder.load(sys.argv[1])
encode = encoder.encode
encoder.encode = lambda *arguments, **settings: (time.sleep(0.02), encode(*arguments, **settings))[1]
for line in sys.stdin:
    child = os.fork()
    if not child:
        export_vectors(encoder, open_corpus(sys.argv[2]), sys.argv[3], shard=shards.Shard(int(line), 3))
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def test_a_shard_killed_at_any_moment_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "CHUNK", 20)
    encoder = encoders.static()
    encoder.save(tmp_path / "model")
    notes, vectors = tmp_path / "notes.jsonl", tmp_path / "shared.part" / "shard-2-of-3" / "vectors.bin"
    notes.write_text("".join(json.dumps({"text": f"dog {'fox ' * (n % 7)}{n}"}) + "\n" for n in range(1_190)))
    command = [sys.executable, "-c", FORKS, *map(str, (tmp_path / "model", notes, tmp_path / "shared"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def run(number, kill_at=None):
            """Encode a shard, or kill it when its vectors have so many bytes; returns its status."""
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            while kill_at is not None and not (vectors.exists() and vectors.stat().st_size >= kill_at):
                time.sleep(0.001)
            if kill_at is not None:
                os.kill(child, signal.SIGKILL)
            return int(process.stdout.readline())

        chunk = 20 * 24 * 4  # bytes
        assert [run(2, kill_at) for kill_at in (0, chunk, 9 * chunk, 9 * chunk)] == [signal.SIGKILL] * 4
        assert 9 * chunk <= vectors.stat().st_size < 20 * chunk
        assert [run(number) for number in (1, 3, 2)] == [0, 0, 0]
        process.stdin.close()
    export_vectors(encoder, open_corpus(notes), tmp_path / "whole", overwrite=True)
    shared, whole = contents(tmp_path / "shared"), contents(tmp_path / "whole")
    assert shared["ids.jsonl"] == whole["ids.jsonl"] and shared["vectors.npy"] == whole["vectors.npy"]


@pytest.mark.parametrize("left", [b"", b'"one"\n', None], ids=["empty", "torn", "gone"])
def test_ids_that_are_not_as_many_as_the_vectors_are_named(tmp_path, few, left):
    encoder, first = encoders.static(), tmp_path / "v.part" / "shard-1-of-2"
    export_vectors(encoder, corpus(), tmp_path / "whole")
    export_vectors(encoder, corpus(), tmp_path / "v", shard=Shard(1, 2))
    if left is None:
        (first / "ids.jsonl").unlink()
    else:
        (first / "ids.jsonl").write_bytes(left)
    told = (
        rf"ids.jsonl is damaged \({int(bool(left))} ids instead of 8\): remove .*shard-1-of-2 and encode shard 1 of 2"
    )
    with pytest.raises(OutputError, match=told):
        export_vectors(encoder, corpus(), tmp_path / "v", shard=Shard(2, 2))
    assert not (tmp_path / "v").exists()
    shutil.rmtree(first)
    assert export_vectors(encoder, corpus(), tmp_path / "v", shard=Shard(1, 2)).missing == []
    assert contents(tmp_path / "v") == contents(tmp_path / "whole")


def test_ids_are_on_the_disk_before_the_first_shard_is_said_to_be_whole(tmp_path, few, monkeypatch):
    synced, sync = [], os.fsync

    def noting(descriptor):
        sync(descriptor)
        synced.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noting)
    export_vectors(encoders.static(), corpus(), tmp_path / "v", shard=Shard(1, 2))
    folder = tmp_path / "v.part" / "shard-1-of-2"
    assert synced[-3:] == [path.stat().st_ino for path in (folder / "ids.jsonl", folder / "shard.json", folder)]
