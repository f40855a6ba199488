"""An index of format 1 becomes one of the present format that answers the same, or stays as it is."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from retriever.data.document import Document
from retriever.errors import IndexFolderError, OutputError
from retriever.indexing import migrate as module
from retriever.indexing.index import Index
from retriever.indexing.lock import locked
from retriever.indexing.manifest import read_manifest, records
from retriever.indexing.migrate import migrate

QUERIES = ["heron and quill", "amber", "ridge ridge birch"]


def write_format_1(folder, source):
    """The files of a fresh index in the layout of format 1."""
    new = json.loads((source / "manifest.json").read_text())
    generation = folder / "generation-000001"
    shutil.copytree(source / "generation-000001", generation)
    shutil.rmtree(generation / "postings")
    (generation / "bm25").mkdir()
    np.save(generation / "bm25" / "data.csc.index.npy", np.zeros(3, np.float32))
    (generation / "bm25" / "settings.json").write_text('{"stemmer": "porter"}')
    kept = ("package", "generation", "model", "dimension", "similarity", "factory", "documents", "bm25")
    files = {path: record.model_dump() for path, record in records(generation, generation.name).items()}
    manifest = {"format": 1, **{name: new[name] for name in kept}, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
    return folder


@pytest.fixture(scope="module", params=["Flat", "HNSW8", "SQ8"])
def fresh(request, encoder, documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("fresh") / "index"
    Index.build(encoder, documents, path, factory=request.param).close()
    return path


@pytest.fixture
def folder(fresh, tmp_path):
    (tmp_path / "index").mkdir()
    return write_format_1(tmp_path / "index", fresh)


def answers(folder, encoder):
    with Index.open(folder, encoder) as index:
        return {mode: index.search_batch(QUERIES, 30, mode) for mode in ("hybrid", "dense", "bm25")}


def state(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_migrated_index_is_the_one_that_is_built_today(folder, fresh, encoder):
    with pytest.raises(IndexFolderError, match="has format 1 of an earlier release: run `retriever index migrate"):
        Index.open(folder)
    assert migrate(folder)
    assert answers(folder, encoder) == answers(fresh, encoder)
    assert Index.damage(folder, encoder, 20) == []
    old, new = read_manifest(fresh), read_manifest(folder)
    assert [record.sha256 for record in old.files.values()] == [record.sha256 for record in new.files.values()]
    assert (new.format, new.generation, new.documents, new.model) == (2, 2, 120, old.model)
    assert sorted(path.name for path in folder.iterdir()) == ["generation-000002", "manifest.json"]


def test_a_migrated_index_can_be_changed(folder, encoder):
    migrate(folder)
    with Index.open(folder, encoder) as index:
        assert index.add([Document("doc-1", text="zeppelin")]) == (1, 1)
        assert index.delete(["doc-2"]) == []
        index.compact()
        assert len(index) == 119 and index.search("zeppelin", 1, "bm25")[0].id == "doc-1"


def test_a_present_index_is_left_as_it_is(fresh):
    before = state(fresh)
    assert not migrate(fresh)
    assert state(fresh) == before


@pytest.mark.parametrize("how", ["remove", "truncate", "flip"])
def test_damage_is_told_and_nothing_is_changed(folder, how):
    """Of documents and vectors; the words are made anew in any case."""
    kept = state(folder)
    for name in [path for path in kept if path.suffix in (".faiss", ".sqlite")]:
        content = bytearray(kept[name])
        content[len(content) // 2] ^= 1
        (folder / name).unlink()
        if how != "remove":
            (folder / name).write_bytes(content if how == "flip" else content[:-1])
        damaged = state(folder)
        with pytest.raises(IndexFolderError, match=rf"The index file .*{name.name} .*: build the index again"):
            migrate(folder)
        assert state(folder) == damaged
        (folder / name).write_bytes(kept[name])
    shutil.rmtree(folder / "generation-000001" / "bm25")
    assert migrate(folder)


def test_an_interrupted_migration_leaves_the_old_index(folder, encoder, fresh, monkeypatch):
    before = state(folder)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "publish", stop)
        with pytest.raises(KeyboardInterrupt):
            migrate(folder)
    assert {name: content for name, content in state(folder).items() if name in before} == before
    assert migrate(folder)
    assert answers(folder, encoder) == answers(fresh, encoder)
    assert len(list(folder.iterdir())) == 2


def test_mistakes_are_told(folder, tmp_path):
    with pytest.raises(IndexFolderError, match="holds no index"):
        migrate(tmp_path)
    with locked(folder), pytest.raises(OutputError, match="has been writing the index"):
        migrate(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"documents": 119}))
    with pytest.raises(IndexFolderError, match="has 120 documents, 120 vectors and a manifest that tells of 119"):
        migrate(folder)
    (folder / "manifest.json").write_text('{"format": 1, "factory": "Flat"}')
    with pytest.raises(IndexFolderError, match=r"The manifest .* is damaged: build the index again"):
        migrate(folder)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(IndexFolderError, match="is damaged"):
        migrate(folder)
