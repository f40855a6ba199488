"""Changes of an index in Milvus that are stopped, and collections that are left or dropped."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from retriever import files
from retriever.data.document import Document
from retriever.errors import IndexFolderError, OutputError
from retriever.indexing import milvus_changes
from retriever.indexing.index import Index
from retriever.indexing.milvus import Collection, connect

pytest.importorskip("milvus_lite", reason="the extra dense-retriever[milvus] is not installed")

ZEBRAS = [Document("x", text="zebra", metadata={"striped": True}), Document("y", text="zebra zebra")]
GONE = [f"doc-{number}" for number in range(5)]


@pytest.fixture
def remote(encoder, documents, tmp_path):
    how = {"backend": "milvus", "uri": str(tmp_path / "own.db"), "factory": "Flat"}
    with Index.build(encoder, documents[:60], tmp_path / "remote", **how) as index:
        yield index


def stop(*_, **__):
    raise KeyboardInterrupt


def stop_after(monkeypatch, name, count):
    """Let a change stop when ``count`` documents have been put or deleted in Milvus."""
    real = getattr(Collection, name)

    def some(self, documents, *rest):
        real(self, documents[:count], *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(Collection, name, some)


def stopped(monkeypatch, change, *arguments):
    with pytest.raises(KeyboardInterrupt):
        change(*arguments)
    monkeypatch.undo()


def is_right(index, documents):
    """See that an index holds these documents, and counts their words as one that is counted anew does."""
    index.verify()
    assert len(index) == len(index._current().collection) == len(documents)
    assert {one.id for one in index._current().collection} == {one.id for one in documents}
    rows = index.rows([one.id for one in documents]).tolist()
    assert len(set(rows)) == len(rows) and max(rows) < index.info()["milvus"]["rows"]
    words = [index.folder / index.info()["milvus"]["words"]]
    content = words[0].read_bytes()
    assert [path.name for path in words[0].parent.iterdir()] == ["words.npy"]  # nothing tells of a change any more
    index.compact()
    assert (index.folder / index.info()["milvus"]["words"]).read_bytes() == content


@pytest.mark.parametrize("count", [0, 1])
def test_an_addition_that_was_stopped_is_completed_by_the_same_once_more(remote, documents, monkeypatch, count):
    stop_after(monkeypatch, "put", count)
    stopped(monkeypatch, remote.add, ZEBRAS)
    with pytest.raises(IndexFolderError, match=r"A change of the index .* was stopped, and .*: make it again, or run"):
        remote.verify()
    assert remote.add(ZEBRAS) == (2, count)
    assert {hit.id for hit in remote.search("zebra", mode="bm25")} == {"x", "y"}
    assert [hit.id for hit in remote.search("zebra", filters=["striped=true"])] == ["x"]
    is_right(remote, [*documents[:60], *ZEBRAS])


def test_an_addition_that_was_stopped_before_its_end_is_counted_once(remote, documents, monkeypatch):
    more = [*ZEBRAS, Document("doc-3", text="zebra heron")]
    monkeypatch.setattr(milvus_changes, "_publish", stop)
    stopped(monkeypatch, remote.add, more)
    assert remote.add(more) == (3, 3)
    assert {hit.id for hit in remote.search("zebra", mode="bm25")} == {"x", "y", "doc-3"}
    is_right(remote, [*(one for one in documents[:60] if one.id != "doc-3"), *more])


@pytest.mark.parametrize("count", [0, 3])
def test_a_deletion_that_was_stopped_is_completed_by_the_same_once_more(remote, documents, monkeypatch, count):
    stop_after(monkeypatch, "delete", count)
    stopped(monkeypatch, remote.delete, GONE)
    assert len(remote.delete(GONE)) == count  # those that were deleted are not there
    is_right(remote, documents[5:60])


def test_whatever_change_comes_next_counts_anew(encoder, remote, documents, monkeypatch):
    stop_after(monkeypatch, "put", 2)
    stopped(monkeypatch, remote.add, ZEBRAS)
    remote.set_fusion("zscore", 0.25)  # changes no documents, and must not hide that others were changed
    stop_after(monkeypatch, "delete", 1)
    stopped(monkeypatch, remote.delete, ["doc-0", "doc-1"])
    assert Index.open(remote.folder, encoder).delete(["doc-2"]) == []
    assert {hit.id for hit in remote.search("zebra", mode="bm25")} == {"x", "y"}
    is_right(remote, [documents[1], *documents[3:60], *ZEBRAS])
    assert remote.manifest.fusion.method == "zscore"


def test_changes_that_end_are_not_counted_anew(remote, monkeypatch):
    monkeypatch.setattr(milvus_changes, "_count_anew", lambda _: pytest.fail("counted anew"))
    assert remote.add(ZEBRAS) == (2, 0)
    assert remote.delete(["x", "nowhere"]) == ["nowhere"]
    assert (len(remote), [hit.id for hit in remote.search("zebra", mode="bm25")]) == (61, ["y"])


def test_what_others_delete_in_milvus_is_noticed(remote, documents):
    remote._current().collection.delete(["doc-0"])
    with pytest.raises(IndexFolderError, match=r"Milvus holds 59 documents and the index .* counts 60: run `retriever"):
        remote.verify()
    remote.compact()
    is_right(remote, documents[1:60])


def test_documents_compare_whenever_they_were_stored(remote):
    """The mean length stays that of the build: with another one, the same text would have another score."""
    mean = remote.manifest.milvus.mean_length
    remote.add([Document("old", text="zebra heron ember")])
    remote.delete([f"doc-{number}" for number in range(58)])
    remote.compact()
    assert remote.manifest.milvus.mean_length == mean
    remote.add([Document("new", text="zebra heron ember")])
    scores = {hit.id: hit.score for hit in remote.search("zebra", mode="bm25")}
    assert scores.keys() == {"old", "new"} and scores["old"] == scores["new"] > 0


@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError(errno.EIO, os.strerror(errno.EIO)), OutputError), (KeyboardInterrupt(), KeyboardInterrupt)],
    ids=["EIO", "^C"],
)
@pytest.mark.parametrize("is_first", [True, False], ids=["first", "overwrite"])
def test_a_build_that_fails_once_it_is_published_stays(
    encoder, documents, remote, tmp_path, monkeypatch, caplog, error, told, is_first
):
    folder, uri, old = tmp_path / ("first" if is_first else "remote"), remote.manifest.milvus.uri, remote.manifest
    manifest, sync = folder / "manifest.json", files.sync

    def failing(path):
        sync(path)
        if path == folder and manifest.exists() and old.milvus.collection not in manifest.read_text():
            raise error

    monkeypatch.setattr(files, "sync", failing)
    with pytest.raises(told):
        Index.build(encoder, documents[:7], folder, backend="milvus", uri=uri, overwrite=not is_first)
    monkeypatch.undo()
    with Index.open(folder, encoder) as index:
        index.verify()
        assert len(index) == 7 and len(index.search("heron", mode="dense")) == 7
        needed = {index.manifest.milvus.collection, *([old.milvus.collection] if is_first else [])}
        assert set(connect(uri).list_collections()) == needed and not caplog.records


def test_a_build_that_fails_before_that_leaves_the_old_index(encoder, documents, remote, tmp_path, monkeypatch):
    uri, old = remote.manifest.milvus.uri, remote.manifest.milvus.collection
    monkeypatch.setattr(milvus_changes, "publish", stop)
    how = {"backend": "milvus", "uri": uri, "overwrite": True}
    stopped(monkeypatch, lambda: Index.build(encoder, documents[:7], tmp_path / "remote", **how))
    assert connect(uri).list_collections() == [old] and len(remote.search("heron", 60, mode="dense")) == 60


def test_an_unfinished_local_build_makes_no_way_for_one_in_milvus(encoder, documents, tmp_path):
    def reading():
        yield from documents[:20]
        raise KeyboardInterrupt

    folder, how = tmp_path / "index", {"backend": "milvus", "uri": str(tmp_path / "own.db")}
    with pytest.raises(KeyboardInterrupt):
        Index.build(encoder, reading(), folder, segment=10)
    with pytest.raises(OutputError, match=r"An unfinished build with 20 documents is in .* --overwrite to start anew"):
        Index.build(encoder, documents[:7], folder, **how)
    with Index.build(encoder, documents[:7], folder, overwrite=True, **how) as index:
        assert len(index) == 7
        assert len(list(folder.iterdir())) == 2


def build_local(encoder, documents, folder):
    Index.build(encoder, documents, folder, overwrite=True).close()


def build_remote(encoder, documents, folder):
    uri = str(folder.with_name("new.db"))
    Index.build(encoder, documents, folder, backend="milvus", uri=uri, overwrite=True).close()


def move_there(encoder, documents, folder):
    with Index.build(encoder, documents, folder.with_name("local")) as local:
        local.move(folder, str(folder.with_name("new.db")), overwrite=True)


OVERWRITES = pytest.mark.parametrize("overwrite", [build_local, build_remote, move_there])


@OVERWRITES
def test_what_replaces_an_index_in_milvus_drops_its_collection(encoder, documents, remote, caplog, overwrite):
    uri = remote.manifest.milvus.uri
    overwrite(encoder, documents[:7], remote.folder)
    assert connect(uri).list_collections() == [] and not caplog.records
    assert len(remote) == 7 and len(remote.search("heron", mode="dense")) == 7  # a reader follows
    remote.verify()


@OVERWRITES
def test_an_old_collection_that_cannot_be_dropped_fails_no_build(
    encoder, documents, remote, tmp_path, caplog, overwrite
):
    manifest, old = remote.folder / "manifest.json", remote.manifest.milvus
    manifest.write_text(manifest.read_text().replace(old.uri, str(tmp_path / "gone.db")))
    overwrite(encoder, documents[:7], remote.folder)
    with Index.open(remote.folder, encoder) as index:
        assert len(index) == 7 and len(index.search("heron", mode="dense")) == 7
        index.verify()
    (record,) = (record for record in caplog.records if record.name == "retriever.indexing")
    assert record.levelname == "WARNING" and f"drop {old.collection} of Milvus at" in record.getMessage()
    assert "gone.db of Milvus is not there: put it back" in record.getMessage()
    assert not (tmp_path / "gone.db").exists()


def test_what_a_killed_build_leaves_goes_with_the_next_change(encoder, tmp_path):
    encoder.save(tmp_path / "model")
    killed = """
import os, signal
from retriever import Document, Encoder, Index
from retriever.indexing import milvus_changes
encoder, how = Encoder.load("model"), {"backend": "milvus", "uri": "own.db", "overwrite": True}
Index.build(encoder, [Document("a", text="amber"), Document("b", text="ember")], "remote", **how)
milvus_changes._put = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
Index.build(encoder, [Document("c", text="heron")], "remote", **how)
"""  # its process alone opens the file
    assert subprocess.run([sys.executable, "-c", killed], cwd=tmp_path, check=False).returncode == -signal.SIGKILL
    uri, noted = str(tmp_path / "own.db"), tmp_path / "remote" / "collections.json"
    assert len(connect(uri).list_collections()) == 2 and noted.exists()
    with Index.open(tmp_path / "remote", encoder) as index:
        assert index.search("amber", mode="bm25")[0].id == "a"
        index.delete(["b"])
        assert connect(uri).list_collections() == [index.manifest.milvus.collection] and not noted.exists()
        index.verify()


def test_what_could_not_be_dropped_is_dropped_by_the_next_change(encoder, documents, remote, monkeypatch, caplog):
    uri = remote.manifest.milvus.uri
    with monkeypatch.context() as patch:
        patch.setattr(Collection, "discard", lambda *_: (_ for _ in ()).throw(IndexFolderError("No answer.")))
        build_local(encoder, documents[:7], remote.folder)
    assert "The reason: No answer." in caplog.text and len(connect(uri).list_collections()) == 1
    with Index.open(remote.folder, encoder) as index:
        index.add(ZEBRAS)
    assert connect(uri).list_collections() == [] and not (remote.folder / "collections.json").exists()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '[["x"]]'])
def test_a_damaged_note_of_collections_is_nothing(encoder, documents, remote, content):
    (remote.folder / "collections.json").write_text(content)
    remote.delete(["doc-1"])
    assert len(remote) == 59 and not (remote.folder / "collections.json").exists()


@OVERWRITES
def test_an_old_collection_that_is_gone_is_nothing_to_tell(encoder, documents, remote, caplog, overwrite):
    connect(remote.manifest.milvus.uri).drop_collection(remote.manifest.milvus.collection)
    overwrite(encoder, documents[:7], remote.folder)
    assert len(remote) == 7 and not caplog.records


def test_a_local_build_replaces_an_index_whose_manifest_is_damaged(encoder, documents, remote):
    uri, old = remote.manifest.milvus.uri, remote.manifest.milvus.collection
    (remote.folder / "manifest.json").write_text("{")
    build_local(encoder, documents[:7], remote.folder)
    assert len(remote) == 7 and connect(uri).list_collections() == [old]  # nothing tells that it belonged here
