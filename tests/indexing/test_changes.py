"""A changed index answers as one that is built anew of the same documents, to every reader, and writes little."""

from __future__ import annotations

import gc
import json
import random
import shutil
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from retriever.data.document import Document
from retriever.encoder import Encoder
from retriever.errors import DataError, IndexFolderError, OutputError
from retriever.indexing import build, changes
from retriever.indexing.index import Index
from retriever.indexing.manifest import generation_name, read_manifest

MODES = ["hybrid", "dense", "bm25"]
QUERIES = ["heron and quill", "amber", "ridge ridge birch", "unheard of"]


@pytest.fixture(scope="module")
def built(encoder, documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("built") / "index"
    Index.build(encoder, documents, path).close()
    return path


@pytest.fixture
def index(built, encoder, tmp_path):
    with Index.open(shutil.copytree(built, tmp_path / "index"), encoder) as index:
        yield index


def same(index, fresh, modes=("dense", "bm25")):
    """All hits are the same, scores of vectors and fusions up to rounding."""
    assert len(index) == len(fresh)
    for mode in modes:
        for found, expected in zip(*(one.search_batch(QUERIES, 30, mode) for one in (index, fresh)), strict=True):
            scores = [hit.score for hit in expected]
            if mode == "bm25":
                assert found == expected
                continue
            np.testing.assert_allclose([hit.score for hit in found], scores, rtol=1e-4, atol=1e-5)
            bar = min(scores, default=0) + 1e-4  # equal vectors can stand in any order
            sets = [{(hit.id, hit.text) for hit in hits if hit.score > bar} for hits in (found, expected)]
            assert sets[0] == sets[1]


def test_a_manifest_of_thousands_of_segments_is_read_and_changed_at_once(built):
    few = read_manifest(built)
    names = [generation_name(number) for number in range(1, 4_001)]
    segments = [few.segments[0].model_copy(update={"name": name}) for name in names]
    files = {path.replace(names[0], name): record for name in names for path, record in few.files.items()}
    many = few.model_copy(update={"segments": segments, "files": files})
    began = time.process_time()
    assert many.misnamed() is None
    kept = many.changed(4_001, segments[::2], 1, {}).files
    assert time.process_time() - began < 3
    assert {path.partition("/")[0] for path in kept} == set(names[::2]) and len(kept) == len(files) / 2


@pytest.mark.parametrize("seed", range(6))
def test_any_changes_end_as_an_index_built_anew(index, encoder, tmp_path, seed, texts, monkeypatch):
    monkeypatch.setattr(changes, "RATIO", (0, 1, 4)[seed % 3])
    rng = random.Random(seed)
    expected = {document.id: document for document in index._current().live()}
    for step in range(12):
        names = [f"doc-{rng.randrange(160)}" for _ in range(rng.choice([1, 1, 5, 40]))]
        change = rng.choice(["add", "add", "delete", "compact"])
        if change == "add":
            new = [Document(name, text=f"{rng.choice(texts)} {step}", metadata={"step": step}) for name in set(names)]
            replaced = sum(document.id in expected for document in new)
            assert index.add(new) == (len(new), replaced)
            for document in new:
                expected.pop(document.id, None)
                expected[document.id] = document
        elif change == "delete":
            assert index.delete(names) == [name for name in dict.fromkeys(names) if name not in expected]
            for name in names:
                expected.pop(name, None)
        else:
            index.compact()
        assert len(index) == len(expected)
    for name in ("doc-0", "doc-17", "doc-150", "nobody"):
        assert index.get(name) == expected.get(name)
    index.verify()
    with Index.build(encoder, expected.values(), tmp_path / "fresh") as fresh:
        same(index, fresh)
        with Index.open(index.folder, encoder) as opened:
            same(opened, fresh)
        index.compact()
        same(index, fresh, MODES)
        assert index.info()["segments"] == 1
        for name, record in fresh.manifest.files.items():
            if "postings" in name:
                own = next(other for path, other in index.manifest.files.items() if path.endswith(name[18:]))
                assert own.sha256 == record.sha256


def test_a_hybrid_search_of_several_segments_is_that_of_one(built, encoder, documents, tmp_path):
    with Index.build(encoder, documents[:100], tmp_path / "index") as index, Index.open(built, encoder) as fresh:
        index.add(documents[100:])
        assert index.info()["segments"] == 2
        same(index, fresh, MODES)


def test_a_document_that_is_replaced_is_found_by_its_new_words_alone(index):
    assert index.add([Document("doc-3", text="zeppelin")]) == (1, 1)
    assert [hit.id for hit in index.search("zeppelin", 5, "bm25")] == ["doc-3"]
    assert [hit.id for hit in index.search("amber", 200, "bm25")].count("doc-3") == 0
    assert [hit.id for hit in index.search("amber", 200, "dense")].count("doc-3") <= 1
    assert len(index) == 120


def test_one_more_document_writes_little(index, encoder, tmp_path):
    large = [Document(f"n{number}", text=f"amber heron w{number} " * 20) for number in range(5_000)]
    with Index.build(encoder, large, tmp_path / "large") as big:
        before, size = set(big.manifest.files), big.info()["bytes"]
        big.add([Document("one", text="quill")])
        written = sum(record.bytes for name, record in big.manifest.files.items() if name not in before)
        assert written < 50_000 < size / 20


def test_segments_stay_few(index):
    for number in range(60):
        index.add([Document(f"new-{number}", text="amber heron")])
    assert len(index) == 180
    assert index.info()["segments"] <= 5


def test_nothing_is_encoded_again_when_segments_are_joined(index, encoder, monkeypatch):
    index.add([Document("new", text="amber")])
    index.delete(["doc-1"])
    monkeypatch.setattr(Encoder, "encode", None)
    index.compact()
    assert index.search("amber", 3, "bm25")
    assert (index.info()["segments"], len(index)) == (1, 120)


def test_an_index_can_be_emptied_and_filled_again(index):
    index.delete([f"doc-{number}" for number in range(120)])
    for _ in range(2):
        assert len(index) == 0
        for mode in MODES:
            assert index.search_batch(["amber", "heron"], 3, mode) == [[], []]
        index.verify()
        index.compact()
    assert sorted(path.name for path in index.folder.iterdir()) == ["manifest.json"]
    assert index.add([Document("first", text="amber")]) == (1, 0)
    for mode in MODES:
        assert [hit.id for hit in index.search("amber", 3, mode)] == ["first"]


def test_a_large_addition_to_nothing_is_of_the_kind_of_the_index(encoder, documents, tmp_path, monkeypatch):
    monkeypatch.setattr("retriever.indexing.build.FEW", 100)
    with Index.build(encoder, documents, tmp_path / "index", factory="HNSW8") as index:
        index.delete([document.id for document in documents])
        index.compact()
        index.add(documents)
        assert index.info()["kinds"] == ["HNSW8"] and index.manifest.tuning is not None


def test_a_text_is_no_list_of_ids(index):
    with pytest.raises(DataError, match="The ids are the text 'doc-3': give a list of ids"):
        index.delete("doc-3")
    assert len(index) == 120


def test_ids_may_come_one_by_one(index):
    assert index.delete(f"doc-{number}" for number in (3, 4, 200)) == ["doc-200"]
    assert index.rows(iter(["doc-3", "doc-5"])).tolist() == [-1, 5]
    assert len(index) == 118


def test_deleting_what_is_not_there_changes_nothing(index):
    before = index.info()
    assert index.delete(["nobody", "nobody", ""]) == ["nobody", ""]
    assert index.delete([]) == []
    assert index.info() == before


def test_graphs_take_changes(encoder, documents, tmp_path):
    with Index.build(encoder, documents, tmp_path / "index", factory="HNSW32") as index:
        index.add([Document("new", text="zeppelin amber")])
        index.delete(["doc-5"])
        found = {hit.id for hit in index.search("amber", 120, "dense")}
        assert "new" in found and "doc-5" not in found
        index.compact()
        assert index.info()["factory"] == "HNSW32"
        assert {hit.id for hit in index.search("amber", 120, "dense")} == found


def test_a_reader_sees_every_change(index, encoder):
    with Index.open(index.folder, encoder) as reader:
        index.add([Document("new", text="zeppelin")])
        assert reader.search("zeppelin", 1, "bm25")[0].id == "new"
        assert reader.get("new").text == "zeppelin"
        index.delete(["new"])
        assert reader.search("zeppelin", 1, "bm25") == []
        index.compact()
        assert len(reader.search("amber", 200, "dense")) == len(reader) == 120


def test_readers_search_while_a_writer_writes(index, encoder):
    with Index.open(index.folder, encoder) as reader, ThreadPoolExecutor(4) as pool:
        writing = pool.submit(lambda: [index.add([Document(f"n{n}", text="amber heron")]) for n in range(25)])
        while not writing.done():
            for mode in MODES:
                hits = reader.search("amber heron", 300, mode)
                assert len({hit.id for hit in hits}) == len(hits) >= 30
                assert {hit.id for hit in hits if hit.id.startswith("n")} <= {f"n{n}" for n in range(25)}
        assert len(reader) == 145


def test_an_index_of_another_model_in_the_same_place_is_refused(index, encoder, documents):
    other = Encoder.static(encoder.text_tokenizer, dimension=32, seed=1)
    Index.build(other, documents, index.folder, overwrite=True).close()
    with pytest.raises(IndexFolderError, match="was built by another model"):
        index.search("amber")


def test_a_change_does_not_read_the_model_again(index, encoder, monkeypatch):
    read = []
    fingerprint = Encoder.fingerprint.fget
    monkeypatch.setattr(Encoder, "fingerprint", property(lambda self: read.append(1) or fingerprint(self)))
    for number in range(3):
        index.add([Document(f"n{number}", text="amber")])
        assert len(index) == 121 + number and index.search("amber")
    assert not read
    Index.build(encoder, [Document("new", text="amber")], index.folder, overwrite=True).close()
    assert [hit.id for hit in index.search("amber")] == ["new"]


# Mistakes


def test_a_failed_addition_leaves_the_index(index, documents):
    before = sorted(path.relative_to(index.folder) for path in index.folder.rglob("*"))

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(DataError, match="'x' occurs twice"):
        index.add([Document("x"), Document("x")])
    with pytest.raises(DataError, match="no document to index"):
        index.add([])
    with pytest.raises(DataError, match="are not JSON"):
        index.add([Document("x", metadata={"day": {1}})])
    with pytest.raises(KeyboardInterrupt):
        index.add([Document("x", text="amber")], progress=interrupt)
    assert sorted(path.relative_to(index.folder) for path in index.folder.rglob("*")) == before
    assert len(index) == 120


def test_documents_are_in_where_joining_fails(index, monkeypatch, caplog):
    def fail(*_):
        raise error

    monkeypatch.setattr(changes, "_join", fail)
    for error in (OutputError("the disk is full"), RuntimeError("FAISS is lost")):
        name = type(error).__name__
        assert index.add([Document(f"{name}-{number}", text="heron") for number in range(60)]) == (60, 0)
        assert f"segments could not be joined yet: {error}" in caplog.text
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt, match="the documents are in the index"):
        index.add([Document(f"more-{number}", text="heron") for number in range(60)])
    assert (len(index), index.info()["segments"]) == (300, 4)
    monkeypatch.undo()
    index.add([Document(f"last-{number}", text="heron") for number in range(30)])
    assert (len(index), index.info()["segments"]) == (330, 1)


def test_segments_too_small_for_the_factory_are_joined_all_the_same(encoder, documents, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "FEW", 20)
    with Index.build(encoder, documents[:100], tmp_path / "index", factory="IVF64,Flat", segment=70) as index:
        assert index.info()["kinds"] == ["Flat", "IVF64,Flat"]
        for number in range(6):
            index.add([Document(f"new-{number}-{one}", text="heron") for one in range(8)])
        assert (len(index), index.info()["segments"]) == (148, 2)
        index.compact()
        assert (len(index), index.info()["kinds"]) == (148, ["IVF64,Flat"])


def test_the_states_before_are_closed_with_their_last_reference(index):
    gc.disable()
    try:
        for number in range(3):
            index.search("heron and quill", filters=["number>=0"])
            before = weakref.ref(index._current())
            parts = [weakref.ref(part) for part in (before().bm25, before().segments[-1].store)]
            index.add([Document(f"doc-{number}", text="heron")])
            index.search("heron")
            assert before() is None
            assert parts[0]() is None
    finally:
        gc.enable()


def test_a_second_writer_is_refused(index, encoder):
    def second(_):
        with Index.open(index.folder, encoder) as other:
            for change in (lambda: other.add([Document("b")]), lambda: other.delete(["doc-1"]), other.compact):
                with pytest.raises(OutputError, match="has been writing the index"):
                    change()
            assert len(other.search("amber", 5)) == 5

    index.add([Document("a", text="amber")], progress=second)
    assert len(index) == 121


def test_another_model_adds_nothing(index, encoder, tmp_path):
    other = Encoder.static(encoder.text_tokenizer, dimension=32, seed=1)
    other.save(tmp_path / "model")
    with pytest.raises(IndexFolderError, match="was built by another model"):
        Index.open(index.folder, tmp_path / "model")


def test_documents_are_encoded_by_the_model_that_the_index_has_when_it_is_their_turn(index, encoder, tmp_path):
    other = Encoder.static(encoder.text_tokenizer, dimension=32, seed=1)
    other.save(tmp_path / "model")
    with Index.open(index.folder) as opened:
        given, found = index._state()[1], opened._state()[1]  # before another model builds the index
        Index.build(other, [Document("b", text="heron")], index.folder, overwrite=True).close()
        with pytest.raises(IndexFolderError, match="was built by another model"):
            changes.add(index.folder, given, [Document("a", text="amber")])
        assert changes.add(index.folder, found, [Document("a", text="amber")]) == (1, 0)
        (best,) = opened.search("amber", 1, "dense")
        assert best.id == "a" and best.score == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("damage", [b"", b"x" * 10])
def test_a_damaged_mark_of_deletion_is_told(index, damage):
    index.delete(["doc-1"])
    (name,) = (name for name in index.manifest.files if "deleted-" in name)
    (index.folder / name).write_bytes(damage)
    with pytest.raises(IndexFolderError, match=r"deleted-000001\.npy is damaged"):
        Index.open(index.folder)
    values = json.loads((index.folder / "manifest.json").read_text())
    values["files"][name]["bytes"] = len(damage)
    (index.folder / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(IndexFolderError, match=r"deleted-000001\.npy is damaged"):
        Index.open(index.folder)


def test_no_index_is_changed_and_no_folder_made(tmp_path):
    for change in (lambda: changes.delete(tmp_path / "no", ["a"]), lambda: changes.compact(tmp_path / "no")):
        with pytest.raises(IndexFolderError, match="holds no index"):
            change()
    assert not (tmp_path / "no").exists()
