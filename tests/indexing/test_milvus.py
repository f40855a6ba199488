"""An index in Milvus answers as a local one: against milvus-lite, the same client as for a server."""

from __future__ import annotations

import math
import socket
import sys

import numpy as np
import pytest

from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.errors import DataError, IndexFolderError, OutputError
from retriever.indexing import milvus_changes
from retriever.indexing.hybrid import METHODS
from retriever.indexing.index import Index
from retriever.indexing.milvus import Collection

pytest.importorskip("milvus_lite", reason="the extra dense-retriever[milvus] is not installed")

MODES = ("dense", "bm25", "hybrid")
QUERIES = ["heron ember", "amber amber quill", "ridge zzz", "larch"]
MORE = [
    Document("doc-3", text="heron heron quill", metadata={"number": 3.5}),
    Document('a "new" \\ one\n', "Títle", "amber zebra", {"lang": "no", "flag": True, "deep": {"a": [1, None]}}),
]


MEMBERS = ["heron", "5", 7, 2.0, True, None, -1.5, {"a": 1}, ["deep"], 'a "b"\\', 2**53 + 1]


@pytest.fixture(scope="module")
def described(documents):
    """The documents of the corpus, with fields of every kind, here and there none."""
    extra = [{"lang": "en"}, {"lang": "de", "flag": True}, {"flag": False, "lang": 5}, {"tags": MEMBERS}]
    return [
        Document(one.id, one.title, one.text, {**one.metadata, **extra[number % 4]})
        for number, one in enumerate(documents)
    ]


@pytest.fixture(scope="module")
def pair(encoder, described, tmp_path_factory):
    """A local index and one in Milvus of the same documents."""
    folder = tmp_path_factory.mktemp("pair")
    local = Index.build(encoder, described, folder / "local")
    remote = Index.build(
        encoder, described, folder / "remote", backend="milvus", uri=str(folder / "milvus.db"), factory="Flat"
    )
    with local, remote:
        yield local, remote


@pytest.fixture
def remote(encoder, documents, tmp_path):
    how = {"backend": "milvus", "uri": str(tmp_path / "own.db"), "factory": "Flat"}
    with Index.build(encoder, documents, tmp_path / "remote", **how) as index:
        yield index


def same(local, remote, mode, filters=(), tolerance=1e-5, **how):
    for ours, theirs in zip(
        local.search_batch(QUERIES, 12, mode, filters=filters, **how),
        remote.search_batch(QUERIES, 12, mode, filters=filters, **how),
        strict=True,
    ):
        assert [hit.id for hit in ours] == [hit.id for hit in theirs]
        assert [(h.rank, h.title, h.text, h.metadata) for h in ours] == [
            (h.rank, h.title, h.text, h.metadata) for h in theirs
        ]
        np.testing.assert_allclose([h.score for h in ours], [h.score for h in theirs], rtol=tolerance, atol=tolerance)


def close(local, remote):
    """The same scores up to the mean length of documents, which is that of the first ones."""
    for ours, theirs in zip(*(one.search_batch(QUERIES, 200, "bm25") for one in (local, remote)), strict=True):
        scores = {hit.id: hit.score for hit in ours}
        assert scores == pytest.approx({hit.id: hit.score for hit in theirs}, rel=0.03)


@pytest.mark.parametrize("mode", MODES)
def test_answers_are_those_of_a_local_index(pair, mode):
    same(*pair, mode)


@pytest.mark.parametrize("fusion", METHODS)
def test_every_fusion_is_ours(pair, fusion):
    same(*pair, "hybrid", fusion=fusion, weight=0.3)


@pytest.mark.parametrize(
    "filters",
    [
        ["number>=50"],
        ["number!=7", "lang=de,en"],
        ["lang=en"],
        ["lang!=en"],
        ["lang=5"],
        ["flag=true"],
        ["flag!=true"],
        ["flag<1"],
        ["number<2"],
        ["lang>a"],
        ["number>1000"],
        *[
            [f"tags={value}"]
            for value in ("heron", "no,5", "7.0", "2", "1", "-1.5", "deep", "a", "0", '"a ""b""\\"', 2**53, 2**53 + 1)
        ],
        ["tags!=no"],
        ["tags>1"],
        ["number=3,50"],
    ],
    ids=" ".join,
)
def test_filters_mean_what_they_mean_locally(pair, filters):
    for mode in MODES:
        same(*pair, mode, filters)


def test_an_unknown_field_lists_those_there_are(pair):
    for index in pair:
        with pytest.raises(DataError, match="has a field 'year' to filter by: there are flag, lang, number, tags"):
            index.search("heron", filters=["year>3"])


def test_single_documents_counts_and_depth(pair, documents):
    local, remote = pair
    assert remote.get("doc-5") == local.get("doc-5") and remote.get("nowhere") is None
    assert remote.rows(["doc-7", "nowhere"]).tolist() == [7, -1]
    assert len(remote) == len(local) == 120
    assert len(remote.search("heron", 500, "dense")) == 120
    with pytest.raises(DataError, match="k is 0"):
        remote.search("heron", 0)
    with pytest.raises(DataError, match="The query is empty"):
        remote.search("  ")
    assert remote.search("zzz", mode="bm25") == remote.search("zzz", mode="dense") == []
    assert remote.info()["milvus"]["rows"] == 120


def test_changes_are_those_of_a_local_index(encoder, documents, tmp_path, remote):
    with Index.build(encoder, documents, tmp_path / "local") as local:
        for index in (local, remote):
            assert index.add(MORE) == (2, 1)
            assert index.delete(["doc-5", "nowhere", "doc-5"]) == ["nowhere"]
            assert (len(index), index.get("doc-5")) == (120, None)
            assert index.get(MORE[1].id) == MORE[1]
        same(local, remote, "dense")
        close(local, remote)
        assert [hit.id for hit in remote.search("zebra", filters=["lang=no"])] == [MORE[1].id]
        remote.compact()
        remote.verify()
        close(local, remote)
        with Index.open(tmp_path / "remote", encoder) as again:
            assert again.search("heron") == remote.search("heron")
        remote.delete([document.id for document in (*documents, *MORE)])
        assert len(remote) == 0 and remote.search("heron") == []


def test_a_failed_build_leaves_nothing_and_an_overwrite_drops_the_old(
    encoder, documents, remote, tmp_path, monkeypatch
):
    uri = remote.info()["milvus"]["uri"]
    old = remote.info()["milvus"]["collection"]
    client = remote._view.collection._client
    monkeypatch.setattr(milvus_changes, "_put", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        Index.build(encoder, documents, tmp_path / "other", backend="milvus", uri=uri)
    monkeypatch.undo()
    assert not (tmp_path / "other").exists() and client.list_collections() == [old]
    with pytest.raises(OutputError, match="exists already"):
        Index.build(encoder, documents, tmp_path / "remote", backend="milvus", uri=uri)
    Index.build(encoder, documents[:7], tmp_path / "remote", backend="milvus", uri=uri, overwrite=True)
    assert len(client.list_collections()) == 1 and client.list_collections() != [old]
    assert len(remote) == 7 and len(remote.search("heron", mode="dense")) == 7  # a reader follows


def test_moving_takes_the_vectors_along(encoder, documents, tmp_path, monkeypatch):
    with Index.build(encoder, documents, tmp_path / "local") as local:
        local.add(MORE)
        local.delete(["doc-9"])
        monkeypatch.setattr(Encoder, "encode", lambda *_, **__: pytest.fail("encoded again"))
        local.move(tmp_path / "moved", str(tmp_path / "m.db"))
        monkeypatch.undo()
        with Index.open(tmp_path / "moved", encoder) as moved:
            for mode in MODES[:2]:
                same(local, moved, mode)
            assert len(moved) == len(local)
            with pytest.raises(DataError, match="Milvus holds the documents of this index already"):
                moved.move(tmp_path / "again", str(tmp_path / "m.db"))


def test_tuning_is_for_local_indexes(remote):
    with pytest.raises(DataError, match="is searched by Milvus, which tunes itself"):
        remote.tune(0.9)
    remote.set_fusion("zscore", 0.25)
    assert (remote.manifest.fusion.method, remote.manifest.fusion.weight) == ("zscore", 0.25)
    assert len(remote.search("heron ember", 5)) == 5


def test_vectors_that_are_there_are_not_made_again(encoder, documents, tmp_path, monkeypatch):
    vectors = encoder.encode([document.content for document in documents])
    how = {"backend": "milvus", "uri": str(tmp_path / "v.db")}
    with pytest.raises(DataError, match="There are 119 vectors for 120 documents"):
        Index.build(encoder, documents, tmp_path / "index", vectors=vectors[1:], **how)
    monkeypatch.setattr(Encoder, "encode", lambda *_, **__: pytest.fail("encoded again"))
    with Index.build(encoder, documents, tmp_path / "index", vectors=vectors, **how) as index:
        monkeypatch.undo()
        assert len(index.search("heron", 5, "dense")) == 5


def test_other_kinds_of_search(encoder, documents, tmp_path):
    for factory in ("auto", "HNSW16"):
        where = tmp_path / factory
        with Index.build(
            encoder, documents, where, backend="milvus", uri=str(tmp_path / "k.db"), factory=factory
        ) as index:
            assert len(index.search("heron ember", 10)) == 10
    with pytest.raises(IndexFolderError, match="Milvus has no index type 'IVF9': choose Flat, auto or HNSW32"):
        Index.build(encoder, documents, tmp_path / "i", backend="milvus", uri=str(tmp_path / "k.db"), factory="IVF9")


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (
            Document("x" * 600, text="a"),
            "The id of document 'x+' has 600 bytes and Milvus takes 512: give it a shorter",
        ),
        (Document("a\x01b", text="a"), r"The id 'a\\x01b' has a control character, which Milvus cannot look for"),
        (Document("x", text="é" * 40_000), "The text of document 'x' has 80,000 bytes and Milvus takes 65,535: split"),
        (Document("x", text="a", metadata={"a": math.inf}), "The metadata of document 'x' are not JSON"),
    ],
)
def test_what_milvus_cannot_hold_is_refused(remote, document, sentence):
    with pytest.raises(DataError, match=sentence):
        remote.add([Document("fine", text="heron"), document])
    assert len(remote) == 120


def test_wrong_addresses_and_missing_parts(encoder, documents, remote, tmp_path, monkeypatch):
    def build(uri):
        Index.build(encoder, documents, tmp_path / "index", backend="milvus", uri=uri)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for uri in (f"http://127.0.0.1:{port}", "ftp://x", str(tmp_path / "no" / "x.db"), str(tmp_path / "x.txt")):
        with pytest.raises(IndexFolderError, match=r"There is no Milvus at .*: give a file that ends in \.db, or http"):
            build(uri)
    for how in ({"backend": "milvus"}, {"uri": "x.db"}):
        with pytest.raises(DataError, match="pass --backend milvus --uri ADDRESS"):
            Index.build(encoder, documents, tmp_path / "index", **how)
    with pytest.raises(DataError, match="The backend 'lucene' is unknown: choose local or milvus"):
        Index.build(encoder, documents, tmp_path / "index", backend="lucene", uri="x.db")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pymilvus", None)
        with pytest.raises(IndexFolderError, match="pip install 'dense-retriever"):
            build(str(tmp_path / "x.db"))
    assert not (tmp_path / "index").exists()


def test_collections_of_others_are_refused(encoder, remote, tmp_path):
    folder, uri = tmp_path / "remote", remote.info()["milvus"]["uri"]
    record, manifest = remote.manifest.milvus, (folder / "manifest.json").read_text()
    other = Collection.new(uri, "1 other")
    other.create(32, "Flat", "another fingerprint")
    (folder / "manifest.json").write_text(manifest.replace(record.collection, other.name))
    with pytest.raises(IndexFolderError, match=f"The collection {other.name} of .* holds vectors of another model"):
        Index.open(folder)
    (folder / "manifest.json").write_text(manifest.replace(record.collection, "gone"))
    with pytest.raises(IndexFolderError, match="has no collection gone: build the index again"):
        Index.open(folder)
    (folder / "manifest.json").write_text(manifest.replace(uri, str(tmp_path / "gone.db")))
    with pytest.raises(IndexFolderError, match=r"The file .*gone\.db of Milvus is not there"):
        Index.open(folder)
    assert not (tmp_path / "gone.db").exists()
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(IndexFolderError, match="was built by another model"):
        Index.open(folder, Encoder.static(encoder.text_tokenizer, dimension=32, seed=1))
