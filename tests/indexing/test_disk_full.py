"""A file that cannot grow any more, wherever it happens, leaves the index as it was and is told in a sentence."""

from __future__ import annotations

import resource
import shutil
from contextlib import contextmanager

import pytest

from retriever.data.document import Document
from retriever.errors import OutputError
from retriever.indexing.index import Index

LIMITS = [0, 100, 1_000, 4_096, 10_000, 20_000, 50_000]  # bytes
NEW = [Document(f"new-{number}", text=f"zeppelin heron w{number} " * 5) for number in range(40)]


@contextmanager
def files_of_at_most(size):
    """Let no file of this process grow beyond a size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def built(encoder, documents, tmp_path_factory):
    path = tmp_path_factory.mktemp("built") / "index"
    with Index.build(encoder, documents, path) as index:
        index.delete(["doc-5"])
        index.add([Document("doc-6", text="quill")])
    return path


CHANGES = {
    "add": lambda index: index.add(NEW),
    "delete": lambda index: index.delete(["doc-1"]),
    "compact": lambda index: index.compact(),
    "set_fusion": lambda index: index.set_fusion("rrf", 0.5),
    "build": lambda index: Index.build(index.encoder, NEW, index.folder, overwrite=True).close(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_full_disk_leaves_the_old_index(built, encoder, tmp_path, change):
    refused = 0
    for limit in LIMITS:
        folder = shutil.copytree(built, tmp_path / f"{limit}")
        before = {path.relative_to(folder) for path in folder.rglob("*")}
        with Index.open(folder, encoder) as index:
            expected = index.search("heron and quill", 20)
            try:
                with files_of_at_most(limit):
                    CHANGES[change](index)
            except OutputError as error:
                refused += 1
                assert "Cannot write" in str(error) and str(folder) in str(error)
                assert {path.relative_to(folder) for path in folder.rglob("*")} == before
                assert index.search("heron and quill", 20) == expected
            index.verify()
            CHANGES["add"](index)
            assert index.search("zeppelin", 1, "bm25")
        assert Index.damage(folder, encoder, 10) == []
    assert refused >= 2
