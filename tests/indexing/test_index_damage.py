"""What is told of damaged files of an index, and what is no damage."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager, suppress

import numpy as np
import pytest

import retriever.indexing.view as view
from retriever.data.document import Document
from retriever.errors import IndexFolderError
from retriever.indexing.index import Index
from retriever.indexing.manifest import Manifest
from retriever.indexing.postings import Postings
from retriever.indexing.store import DocumentStore
from retriever.indexing.verify import difference

LITTLE_MEMORY = """
import mmap  # which NumPy wants when it first maps a file
import re
import resource
import sys
from pathlib import Path
from retriever.indexing import arrays
from retriever.indexing.index import Index

arrays.SMALL = int(sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_AS)[1]
used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
for more in range(0, 100 << 20, 1 << 18):
    resource.setrlimit(resource.RLIMIT_AS, (used + more, hard))
    try:
        Index.open(sys.argv[1]).close()
    except Exception as error:
        print(type(error).__name__, flush=True)
    else:
        print("opened")
        break
"""


def test_too_many_open_files_are_no_damage(folder):
    """Every file of an index that cannot be opened for want of descriptors is left alone, and no repair is advised."""
    with Index.open(folder) as index:
        index.delete(["doc-1"])
        segment = index.manifest.segments[0]
        name, file = next(iter(index.manifest.files.items()))
    place = folder / segment.name
    with no_descriptors():
        for look in (
            lambda: view.read_manifest(folder),
            lambda: view.read_alive(folder, segment),
            lambda: Postings.open(place / "postings"),
            lambda: DocumentStore(place / "documents.sqlite"),
            lambda: difference(folder / name, file),
            lambda: Index.damage(folder),
        ):
            with pytest.raises(OSError, match="Too many open files"):
                look()
    assert Index.damage(folder) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
@pytest.mark.parametrize(("factory", "small"), [("Flat", 0), ("IVF16,SQ8", 1 << 20)])
def test_too_little_memory_is_no_damage(encoder, tmp_path, factory, small):
    """However little memory is left, an index that does not open is not told to be damaged."""
    corpus = [Document(str(n), text=f"amber w{n}") for n in range(10_000)]
    vectors = np.random.default_rng(0).normal(size=(len(corpus), encoder.dimension)).astype(np.float32)
    Index.build(encoder, corpus, tmp_path / "index", factory=factory, vectors=vectors, recall=None).close()
    command = [sys.executable, "-c", LITTLE_MEMORY, str(tmp_path / "index"), str(small)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert {"MemoryError", "OSError"} & set(told) and told[-1] == "opened" and "IndexFolderError" not in told


@contextmanager
def no_descriptors():
    """Every file descriptor that the process may have is taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 8, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in taken:
            os.close(one)


def test_no_index_is_told(tmp_path):
    with pytest.raises(IndexFolderError, match=r"holds no index .* build one with `retriever index build`"):
        Index.open(tmp_path / "nowhere")
    with pytest.raises(IndexFolderError, match="holds no index"):
        Index.open(tmp_path)


def test_every_missing_or_truncated_file_is_told(folder, built):
    for name in read(folder)["files"]:
        (folder / name).unlink()
        with pytest.raises(IndexFolderError, match=r"is missing: mend the index with"):
            Index.open(folder)
        (folder / name).write_bytes((built / name).read_bytes()[:-1])
        with pytest.raises(IndexFolderError, match=r"is damaged \(\d+ bytes instead of \d+\): mend the index with"):
            Index.open(folder)
        shutil.copy(built / name, folder / name)
    Index.open(folder).close()


def test_a_flipped_bit_is_found_by_verify(folder, built):
    with Index.open(folder) as index:
        for name in index.manifest.files:
            content = bytearray((built / name).read_bytes())
            content[len(content) // 2] ^= 1
            (folder / name).unlink()
            (folder / name).write_bytes(content)
            with pytest.raises(IndexFolderError, match=f"is damaged: {name} has another content than was written"):
                index.verify()
            shutil.copy(built / name, folder / name)
        index.verify()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"format": 2}', '{"format": "x"}', "\xff"])
def test_a_damaged_manifest_is_told(folder, content):
    (folder / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(IndexFolderError, match=r"The manifest .*manifest\.json is damaged"):
        Index.open(folder)


def test_an_index_of_a_newer_release_is_told(folder):
    (folder / "manifest.json").write_text(json.dumps({**read(folder), "format": 3}))
    with pytest.raises(IndexFolderError, match="has format 3 and this release reads up to 2: upgrade"):
        Index.open(folder)


def test_an_index_of_an_earlier_release_is_told(folder):
    (folder / "manifest.json").write_text(json.dumps({**read(folder), "format": 1}))
    with pytest.raises(IndexFolderError, match="has format 1 of an earlier release: run `retriever index migrate"):
        Index.open(folder)


@pytest.mark.parametrize("change", [{"documents": 119}, {"dimension": 31}])
def test_files_that_do_not_fit_together_are_told(folder, change):
    (folder / "manifest.json").write_text(json.dumps({**read(folder), **change}))
    with pytest.raises(IndexFolderError, match="do not fit together"):
        Index.open(folder)


def test_an_index_overwritten_between_two_looks_is_opened_anew(folder, encoder, documents, monkeypatch):
    stale = view.read_manifest(folder)
    Index.build(encoder, documents[:3], folder, overwrite=True).close()
    manifests = iter([stale])
    monkeypatch.setattr(view, "read_manifest", lambda path: next(manifests, Manifest(**read(path))))
    with Index.open(folder) as index:
        assert len(index) == 3


def read(folder):
    return json.loads((folder / "manifest.json").read_text())
