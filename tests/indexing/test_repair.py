"""Every file of an index is damaged in turn: the damage is named, and mended or said to be beyond it."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3

import numpy as np
import pytest

from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.errors import BusyError, IndexFolderError
from retriever.indexing.dense import DenseIndex
from retriever.indexing.index import Index
from retriever.indexing.lock import locked
from retriever.indexing.manifest import read_manifest, records
from retriever.indexing.verify import Fault
from retriever.indexing.view import read_alive

QUERIES = ["heron and quill", "amber", "ridge ridge birch", "zeppelin"]
DAMAGES = {
    "flip": "has another content than was written",
    "truncate": "instead of",
    "remove": "is missing",
}


@pytest.fixture(scope="module", params=["Flat", "HNSW8", "SQ8"])
def built(request, encoder, documents, tmp_path_factory):
    """Two segments, of which the first has documents that the second replaced."""
    path = tmp_path_factory.mktemp("built") / "index"
    with Index.build(encoder, documents, path, factory=request.param) as index:
        index.add([Document("doc-3", text="zeppelin"), Document("doc-7", text="quill"), Document("new", text="heron")])
        assert index.info()["segments"] == 2
    return path


@pytest.fixture
def folder(built, tmp_path):
    return shutil.copytree(built, tmp_path / "index")


def answers(folder, encoder):
    with Index.open(folder, encoder) as index:
        return {mode: index.search_batch(QUERIES, 30, mode) for mode in ("hybrid", "dense", "bm25")}


def hurt(path, how):
    content = bytearray(path.read_bytes())
    path.unlink()  # a copy may share the content
    if how == "flip":
        content[len(content) // 2] ^= 1
    if how != "remove":
        path.write_bytes(content[:-1] if how == "truncate" else content)


def same(found, expected):
    assert found["bm25"] == expected["bm25"]
    for mode in ("dense", "hybrid"):
        for hits, others in zip(found[mode], expected[mode], strict=True):
            assert [hit.id for hit in hits] == [hit.id for hit in others]
            np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in others], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("how", DAMAGES)
def test_every_damaged_file_is_named_and_mended_or_lost(folder, built, encoder, how):
    expected = answers(folder, encoder)
    for name in read_manifest(built).files:
        hurt(folder / name, how)
        way_out = (
            "Build it again|mend the index with" if name.endswith("documents.sqlite") else "[Mm]end (it|the index) with"
        )
        with (
            pytest.raises(IndexFolderError, match=f"{way_out}|missing or damaged"),
            Index.open(folder, encoder) as index,
        ):
            index.verify()
        assert [(fault.path, DAMAGES[how] in fault.what) for fault in Index.damage(folder)] == [(name, True)]
        repaired = Index.repair(folder, encoder)
        if name.endswith("documents.sqlite"):
            assert ([fault.path for fault in repaired.lost], repaired.mended) == ([name], [])
        else:
            assert ([fault.path for fault in repaired.mended], repaired.lost) == ([name], [])
            assert Index.damage(folder, encoder, 10) == []
            same(answers(folder, encoder), expected)
        shutil.rmtree(folder)
        shutil.copytree(built, folder)


def test_a_whole_index_is_left_as_it_is(folder, encoder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    repaired = Index.repair(folder, encoder, sample=5)
    assert (repaired.mended, repaired.lost) == ([], [])
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    del before[folder / "manifest.json"], after[folder / "manifest.json"]
    assert before == after


def test_much_damage_at_once_is_mended_and_what_is_lost_stays(folder, encoder):
    manifest = read_manifest(folder)
    first, second = (segment.name for segment in manifest.segments)
    for name in (f"{first}/postings/rows.npy", f"{first}/vectors.faiss", f"{first}/postings/words.npy"):
        hurt(folder / name, "remove")
    hurt(folder / f"{second}/documents.sqlite", "flip")
    repaired = Index.repair(folder, encoder)
    assert {fault.path for fault in repaired.mended} == {
        f"{first}/postings/rows.npy",
        f"{first}/vectors.faiss",
        f"{first}/postings/words.npy",
    }
    assert [fault.path for fault in repaired.lost] == [f"{second}/documents.sqlite"]
    assert [fault.path for fault in Index.damage(folder)] == [f"{second}/documents.sqlite"]
    assert not (folder / first).exists()
    (name, _) = (segment.name for segment in read_manifest(folder).segments)
    assert name == "generation-000003"


def test_words_and_kept_vectors_need_no_model(encoder, documents, tmp_path):
    """Codes are made again from the full vectors, words from the documents."""
    folder = tmp_path / "index"
    unsaved = Encoder.static(encoder.text_tokenizer, dimension=32)
    Index.build(unsaved, documents, folder, factory="SQ8").close()
    expected = answers(folder, unsaved)
    for name in ("postings/counts.npy", "vectors.faiss"):
        hurt(folder / "generation-000001" / name, "truncate")
    Index.repair(folder)
    assert answers(folder, unsaved) == expected
    hurt(folder / "generation-000002/vectors.fp16.faiss", "truncate")
    with pytest.raises(IndexFolderError, match="built by a model that was not saved: give the model"):
        Index.repair(folder)
    other = Encoder.static(encoder.text_tokenizer, dimension=32, seed=1)
    with pytest.raises(IndexFolderError, match="built by another model"):
        Index.repair(folder, other)
    Index.repair(folder, unsaved)
    same(answers(folder, unsaved), expected)


def test_which_documents_were_deleted_by_name_is_lost(built, folder, encoder):
    with Index.open(folder, encoder) as index:
        index.delete(["doc-9"])
        marks = index.manifest.segments[0].deleted
    hurt(folder / marks, "remove")
    repaired = Index.repair(folder, encoder)
    assert ([fault.path for fault in repaired.lost], repaired.mended) == ([marks], [])


def test_lost_deletions_do_not_keep_the_rest_from_being_mended(folder, encoder):
    with Index.open(folder, encoder) as index:
        index.delete(["doc-9"])
        expected = {mode: index.search_batch(QUERIES, 30, mode) for mode in ("hybrid", "dense", "bm25")}
        record = index.manifest.segments[0]
    marks = (folder / record.deleted).read_bytes()
    names = [f"{record.name}/postings/rows.npy", f"{record.name}/vectors.faiss"]
    for name in (record.deleted, *names):
        hurt(folder / name, "flip")
    repaired = Index.repair(folder, encoder)
    assert [fault.path for fault in repaired.lost] == [record.deleted]
    assert sorted(fault.path for fault in repaired.mended) == names
    assert [fault.path for fault in Index.damage(folder)] == [record.deleted]
    (folder / record.deleted).write_bytes(marks)
    assert Index.damage(folder, encoder, 10) == []
    same(answers(folder, encoder), expected)


def test_a_damaged_header_of_the_deletions_is_told(folder):
    record = read_manifest(folder).segments[0]
    path = folder / record.deleted
    content = path.read_bytes()
    path.unlink()
    told = 0
    for place in range(len(content) - 15):
        for bit in range(8):
            flipped = content[place] ^ (1 << bit)
            path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
            try:
                assert read_alive(folder, record).shape == (120,)
            except IndexFolderError as error:
                assert str(error) == (
                    f"The index file {path} is damaged: mend the index with `retriever index verify {folder} --repair`."
                )
                told += 1
    assert told > 300


def test_vectors_of_another_model_are_found_by_the_sample(folder, encoder):
    """A vector file that is in order by its hash and wrong all the same."""
    expected = answers(folder, encoder)
    manifest = read_manifest(folder)
    second = manifest.segments[1].name
    other = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    path = folder / second / "vectors.faiss"
    path.unlink()
    DenseIndex.build(other).save(path)
    files = manifest.files | records(folder / second, second)
    (folder / "manifest.json").write_text(manifest.model_copy(update={"files": files}).model_dump_json())
    assert Index.damage(folder) == []
    told = "holds other vectors than the model gives for 3 of 3 documents"
    assert Index.damage(folder, encoder, 50) == [Fault(second, "vectors", f"{second}/vectors.faiss", told)]
    with Index.open(folder, encoder) as index, pytest.raises(IndexFolderError, match=told):
        index.verify(sample=50)
    Index.repair(folder, encoder, sample=50)
    same(answers(folder, encoder), expected)


def test_a_database_that_is_wrong_inside_is_found(folder):
    manifest = read_manifest(folder)
    name = manifest.segments[0].name
    with sqlite3.connect(folder / name / "documents.sqlite") as connection:
        connection.execute("DELETE FROM documents WHERE row = 5")
    connection.close()
    files = manifest.files | {path: record for path, record in records(folder / name, name).items() if "sqlite" in path}
    (folder / "manifest.json").write_text(manifest.model_copy(update={"files": files}).model_dump_json())
    (fault,) = Index.damage(folder)
    assert str(fault) == f"{name}/documents.sqlite is no sound SQLite file (119 documents in 120 rows)"


def test_a_byte_of_a_name_in_the_manifest_is_found_and_costs_no_file(folder, encoder):
    path = folder / "manifest.json"
    whole = path.read_text()
    there = sorted(folder.rglob("*"))
    places = [match.end(1) for match in re.finditer(r"(generation-00000|deleted-00000)\d", whole)]
    assert len(places) >= 2 * 7 + 2 + 4
    for place in places:
        path.write_text(f"{whole[:place]}d{whole[place + 1 :]}")
        for look in (Index.open, Index.damage, Index.repair):
            with pytest.raises(IndexFolderError, match=r"manifest.json is damaged \(it .*\): build the index again"):
                look(folder, encoder)
        assert sorted(folder.rglob("*")) == there
    path.write_text(whole.replace('"deleted":', '"delfted":', 1))
    with pytest.raises(IndexFolderError, match=r"tells of generation-000002/deleted-000001.npy, which belongs to no"):
        Index.damage(folder)
    path.write_text(whole)
    assert Index.damage(folder) == []


def test_counts_that_do_not_add_up_are_found(folder, encoder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"documents": 120}))
    (fault,) = Index.damage(folder)
    assert str(fault).endswith("tells of 120 documents where 121 with 121 ids are alive")
    assert Index.repair(folder, encoder).lost == [fault]
    del manifest["files"][manifest["segments"][0].pop("deleted")]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(IndexFolderError, match="tells of 121 documents where 123 with 121 ids are alive: build"):
        Index.damage(folder)


def test_mistakes_are_told(folder, encoder, tmp_path):
    with pytest.raises(IndexFolderError, match="holds no index"):
        Index.repair(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    with locked(folder), pytest.raises(BusyError, match="has been writing the index"):
        Index.repair(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(IndexFolderError, match=r"The manifest .* is damaged: build the index again"):
        Index.repair(folder)
