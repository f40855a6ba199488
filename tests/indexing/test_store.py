"""The document store: what goes in comes out, by row, from any thread."""

from __future__ import annotations

import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import numpy as np
import pytest

from retriever.data.document import Document
from retriever.errors import DataError, IndexFolderError, OutputError
from retriever.indexing.filters import Condition
from retriever.indexing.store import DocumentStore, write

ODD = [
    Document(
        "1", "Ünïcode ✓", "line\nbreak\r\n\ttab \x00 nul", {"year": 2020, "nested": {"list": [1, 2.5, None, True, "ß"]}}
    ),
    Document("01"),
    Document("", "an empty id is an id", "'; DROP TABLE documents; --"),
    Document("long", text="x" * 1_000_000),
]


def nested(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.fixture
def store(tmp_path):
    assert write(tmp_path / "odd #1?.sqlite", iter(ODD)) == 4
    store = DocumentStore(tmp_path / "odd #1?.sqlite")
    yield store
    store.close()


def test_documents_come_back_in_the_order_asked(store):
    assert len(store) == 4
    assert store.get([0, 1, 2, 3]) == ODD
    assert store.get(np.array([3, 0, 3], np.int64)) == [ODD[3], ODD[0], ODD[3]]
    assert store.get([]) == []


def test_chunks_are_all_documents_by_row(store):
    assert list(store.chunks(3)) == [ODD[:3], ODD[3:]]
    assert list(store.chunks(10)) == [ODD]
    assert list(store) == ODD


@pytest.mark.parametrize("row", [4, -1, 10**9])
def test_a_row_that_is_not_there_is_told(store, row):
    with pytest.raises(IndexFolderError, match=f"document {row} is missing"):
        store.get([0, row])


def test_many_rows_come_at_once(tmp_path):
    documents = [Document(f"d{number}") for number in range(50_000)]
    write(tmp_path / "many", documents)
    store = DocumentStore(tmp_path / "many")
    assert store.get(range(49_999, -1, -1)) == documents[::-1]
    store.close()


def test_threads_share_a_store(tmp_path, documents):
    write(tmp_path / "documents", documents)
    store = DocumentStore(tmp_path / "documents")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: store.get([number % 120, (7 * number) % 120]), range(800)))
    assert found == [[documents[number % 120], documents[(7 * number) % 120]] for number in range(800)]
    store.close()


def test_opening_changes_nothing_and_needs_no_write_access(tmp_path, documents):
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "documents", documents)
    before = (folder / "documents").read_bytes()
    folder.chmod(0o500)
    store = DocumentStore(folder / "documents")
    assert store.get([5]) == [documents[5]]
    with pytest.raises(IndexFolderError, match="readonly"):
        store._select("DELETE FROM documents")
    store.close()
    folder.chmod(0o700)
    assert [path.name for path in folder.iterdir()] == ["documents"]
    assert (folder / "documents").read_bytes() == before


def test_metadata_of_a_hundred_levels_are_read_and_filtered_by(tmp_path):
    documents = [Document("a", metadata={"deep": nested(98), "n": 1}), Document("b", metadata={"n": 2})]
    write(tmp_path / "documents", documents)
    store = DocumentStore(tmp_path / "documents")
    assert store.get([0, 1]) == documents
    assert store.matching([Condition.parse("n>1")]).tolist() == [False, True]
    assert store.fields() == {"deep", "n"}


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([Document("a"), Document("b"), Document("a")], "The id 'a' occurs twice in the corpus"),
        ([Document("a", metadata={"day": date(2020, 1, 1)})], "metadata of document 'a' are not JSON .*date"),
        ([Document("a", metadata={"score": float("nan")})], "metadata of document 'a' are not JSON"),
        ([Document("a", text="half \ud83d")], "Document 'a' holds half a character"),
        ([Document("half \ud83d")], r"Document 'half \\ud83d' holds half a character"),
        ([Document("a", None, "x")], "The title of document 'a' must be a string and is NoneType"),
        ([Document("a", text=["x"])], "The text of document 'a' must be a string and is list"),
        ([Document(5, text="x")], "The id of document 5 must be a string and is int"),
        (["a text"], r"The corpus holds a str where a Document belongs: give documents, or open_corpus\(PATH\)"),
        ([], "There is no document to index"),
        ([Document("a", metadata=None)], "metadata of document 'a' are not JSON"),
        ([Document("a", metadata={"deep": nested(99)})], "metadata of document 'a' have more than 100 levels"),
    ],
)
def test_documents_that_cannot_be_stored_are_told(tmp_path, documents, message):
    with pytest.raises(DataError, match=message):
        write(tmp_path / "documents", documents)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="SQLite's limits can be set from Python 3.11 on")
def test_a_document_beyond_what_sqlite_takes_is_told(tmp_path, monkeypatch):
    def connect(*arguments, **options):
        connection = connected(*arguments, **options)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)
        return connection

    connected = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(DataError, match=r"Document 'long' cannot be stored \(string or blob too big\): split it"):
        write(tmp_path / "documents", [Document("short"), Document("long", text="x" * 20_000)])


def test_an_error_of_the_corpus_passes_through(tmp_path):
    def broken():
        yield Document("a")
        raise DataError("line 2 is mangled")

    with pytest.raises(DataError, match="line 2 is mangled"):
        write(tmp_path / "documents", broken())


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OutputError, match="choose a place with room and write access"):
        write(tmp_path / "nowhere" / "documents", ODD)


def test_a_damaged_or_missing_file_is_told(tmp_path, documents):
    with pytest.raises(IndexFolderError, match="missing or damaged"):
        DocumentStore(tmp_path / "nowhere")
    path = tmp_path / "documents"
    write(path, documents)
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[:5000], b"no database" * 1000):
        path.write_bytes(damaged)
        with pytest.raises(IndexFolderError, match=r"documents are missing or damaged .*: build the index again"):
            DocumentStore(path).get([100])


def test_half_a_character_is_in_no_file(store):
    assert store.find(["01", "\ud800", "1"]).tolist() == [1, -1, 0]
    for text in ("nested=\ud800", "nested!=a\udcff", "\ud800=1"):
        with pytest.raises(DataError, match=r"The filter by '.*' holds half a character: mend it"):
            store.matching([Condition.parse(text)])


def test_a_closed_store_says_so(store):
    store.close()
    store.close()
    with pytest.raises(IndexFolderError, match=r"The documents .*sqlite are closed: open the index again\.$"):
        store.get([0])


def test_metadata_are_json_that_sqlite_can_filter_by(tmp_path, documents):
    write(tmp_path / "documents", documents)
    connection = sqlite3.connect(tmp_path / "documents")
    rows = connection.execute("SELECT row FROM documents WHERE json_extract(metadata, '$.number') > 117").fetchall()
    connection.close()
    assert rows == [(118,), (119,)]


def test_fields_are_looked_for_once(store, monkeypatch):
    fields = store.fields()
    assert fields == {"year"}
    monkeypatch.setattr(store, "_select", None)
    assert store.fields() == fields
