"""BEIR folders: written, read, and refused with file and line."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared_data import SHARED, needs_shared

from retriever.data.beir import load_beir, read_qrels, write_beir
from retriever.data.document import Document
from retriever.errors import DataError, OutputError

DOCUMENTS = [Document("1", "T", "t"), Document("2"), Document("3", "", "t\u2028é", {"year": 3})]
QUERIES = {"q1": "first", "q2": "second", "unjudged": "third"}
QRELS = {"q1": {"1": 2, "2": 0}, "q2": {"3": 1, "not in the corpus": 1}}


@pytest.fixture
def folder(tmp_path):
    return write_beir(tmp_path / "tiny", DOCUMENTS, QUERIES, QRELS)


def test_round_trip(folder):
    dataset = load_beir(folder)
    assert (dataset.name, dataset.split) == ("tiny", "test")
    assert list(dataset.corpus) == list(dataset.corpus) == DOCUMENTS
    assert [dict(d.metadata) for d in dataset.corpus] == [{}, {}, {"year": 3}]
    assert dataset.queries == QUERIES
    assert dataset.qrels == QRELS


def test_the_files_are_what_others_read(folder):
    assert (folder / "corpus.jsonl").read_text(encoding="utf-8").split("\n")[:2] == [
        '{"_id": "1", "title": "T", "text": "t"}',
        '{"_id": "2", "title": "", "text": ""}',
    ]
    assert (folder / "queries.jsonl").read_text().split("\n")[0] == '{"_id": "q1", "text": "first"}'
    expected = "query-id\tcorpus-id\tscore\nq1\t1\t2\nq1\t2\t0\nq2\t3\t1\nq2\tnot in the corpus\t1\n"
    assert (folder / "qrels" / "test.tsv").read_bytes() == expected.encode()


ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n"), min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.dictionaries(ids, st.dictionaries(ids, st.integers(-1, 4), min_size=1, max_size=3), min_size=1, max_size=3))
def test_any_judgments_survive(tmp_path_factory, qrels):
    folder = write_beir(tmp_path_factory.mktemp("x") / "y", DOCUMENTS, QUERIES, qrels)
    assert load_beir(folder).qrels == qrels


def test_copies_are_kept_for_evaluation(tmp_path):
    twins = [Document("1", text="same"), Document("2", text="same")]
    assert list(load_beir(write_beir(tmp_path / "x", twins, QUERIES, QRELS)).corpus) == twins


def test_gzipped_files_are_read(folder):
    for name in ("corpus.jsonl", "queries.jsonl"):
        path = folder / name
        (folder / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    dataset = load_beir(str(folder))
    assert list(dataset.corpus) == DOCUMENTS
    assert dataset.queries == QUERIES


def test_nothing_is_left_behind_when_writing_fails(tmp_path):
    def documents():
        yield DOCUMENTS[0]
        raise ValueError("broken source")

    with pytest.raises(ValueError, match="broken source"):
        write_beir(tmp_path / "x", documents(), QUERIES, QRELS)
    for bad in ("a\tb", "a\nb"):
        with pytest.raises(DataError, match=r"holds a tab or a line end, which a judgment file cannot express"):
            write_beir(tmp_path / "x", DOCUMENTS, QUERIES, {"q1": {bad: 1}})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(folder):
    with pytest.raises(OutputError, match=rf"{folder} exists already: choose another place or remove it first"):
        write_beir(folder, DOCUMENTS, {}, {})
    assert load_beir(folder).qrels == QRELS
    (folder.parent / "empty").mkdir()
    assert load_beir(write_beir(folder.parent / "empty", DOCUMENTS, QUERIES, QRELS, "dev"), "dev").split == "dev"


def test_missing_parts_are_named(folder):
    layout = "a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv"
    with pytest.raises(DataError, match=f"There is no folder {folder}/x: {layout}"):
        load_beir(folder / "x")
    (folder / "qrels" / "dev.tsv").write_text("q1\t1\t1\n")
    with pytest.raises(DataError, match=f"{folder} has no judgments for the split 'train': choose one of dev, test"):
        load_beir(folder, "train")
    for path in (folder / "qrels").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=f"{folder} has no judgments in qrels: {layout}"):
        load_beir(folder)
    (folder / "queries.jsonl").unlink()
    with pytest.raises(DataError, match=rf"{folder} has no queries.jsonl or queries.jsonl.gz: {layout}"):
        load_beir(folder)
    (folder / "corpus.jsonl").unlink()
    with pytest.raises(DataError, match=rf"{folder} has no corpus.jsonl or corpus.jsonl.gz: {layout}"):
        load_beir(folder)


def test_mangled_queries_are_named(folder):
    path = folder / "queries.jsonl"
    path.write_text('{"_id": "q1", "text": "a"}\n{"_id": "q1", "text": "b"}\n')
    with pytest.raises(DataError, match=f"'q1' at {path}:2 was taken at {path}:1"):
        load_beir(folder)
    path.write_text('{"_id": "q1"}\n')
    with pytest.raises(DataError, match=f"{path}:1 has no field text"):
        load_beir(folder)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("query-id\tcorpus-id\tscore\nq1\t1\tgood\n", 2),
        ("q1\t1\t1\nq1\t2\n", 2),
        ("q1 1 1\n", 1),
        ("q1\t0\t1\t1\n", 1),
        ("h\th\th\n\nq1\t1\t0.5\n", 3),
    ],
)
def test_mangled_judgments_are_named(content, line, tmp_path):
    (tmp_path / "test.tsv").write_text(content)
    with pytest.raises(DataError, match=rf"{tmp_path}/test.tsv:{line} is no judgment: a line is a query id, a"):
        read_qrels(tmp_path / "test.tsv")


@pytest.mark.parametrize("score", [10**19, -(10**19), 2_000_000_000])
def test_a_score_that_would_fill_the_memory_is_refused(score, tmp_path):
    (tmp_path / "test.tsv").write_text(f"q\td\t{score}\n")
    with pytest.raises(DataError, match=rf"test\.tsv:1 has the score {score}: scores are small whole numbers"):
        read_qrels(tmp_path / "test.tsv")


def test_judgments_that_contradict_each_other(tmp_path):
    path = tmp_path / "test.tsv"
    path.write_text("q\td\t1\nq\td\t1\n")
    assert read_qrels(path) == {"q": {"d": 1}}
    path.write_text("q\td\t1\nq\te\t1\nq\td\t0\n")
    with pytest.raises(DataError, match=rf"{path}:3 judges document 'd' for query 'q' with 0 after 1: keep one"):
        read_qrels(path)


def test_judgments_without_a_header_with_windows_ends_or_none(tmp_path):
    path = tmp_path / "test.tsv"
    path.write_bytes(b"\xef\xbb\xbf1\t2\t1\r\n\r\n1\t3\t2")
    assert read_qrels(path) == {"1": {"2": 1, "3": 2}}
    path.write_bytes(b"query-id\tcorpus-id\tscore\n")
    with pytest.raises(DataError, match=rf"{path} holds no judgment"):
        read_qrels(path)
    path.write_bytes(b"q\td\t1\n\xe9\td\t1\n")
    with pytest.raises(DataError, match=rf"{path}:2 is not UTF-8"):
        read_qrels(path)


@needs_shared
@pytest.mark.parametrize(
    ("name", "split", "counts"),  # documents, queries, judged queries, judgments
    [
        ("scifact", "test", (5183, 1109, 300, 339)),
        ("scifact", "train", (5183, 1109, 809, 919)),
        ("cranfield", "test", (1400, 225, 225, 1612)),
        ("cisi", "test", (1460, 112, 76, 3114)),
        ("npl", "test", (11426, 93, 93, 2083)),
        ("xquad-zh", "test", (240, 1190, 1190, 1190)),
    ],
)
def test_real_collections_have_the_counts_they_should(name, split, counts):
    dataset = load_beir(SHARED / "beir" / name, split)
    found = {document.id for document in dataset.corpus}
    judged = [document for judgments in dataset.qrels.values() for document in judgments]
    assert (len(found), len(dataset.queries), len(dataset.qrels), len(judged)) == counts
    assert found.issuperset(judged)
    assert dataset.queries.keys() >= dataset.qrels.keys()
