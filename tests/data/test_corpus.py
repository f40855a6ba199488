"""Corpora: what is kept, dropped, counted and refused, whatever the source."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shared_data import SHARED, needs_shared

from retriever.data.corpus import Corpus, CorpusReport, open_corpus
from retriever.data.document import Document
from retriever.errors import DataError


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def ids(corpus):
    return [document.id for document in corpus]


words = st.text("ab", max_size=2)
documents = st.lists(st.tuples(words, words), max_size=12)


@given(documents)
def test_exact_copies_are_dropped_but_the_first_and_every_empty_one_stays(pairs):
    corpus = Corpus.of([Document(str(i), *pair) for i, pair in enumerate(pairs)], deduplicate=True)
    expected = [i for i, pair in enumerate(pairs) if pair == ("", "") or pair not in pairs[:i]]
    if not pairs:
        with pytest.raises(DataError, match="holds no document"):
            list(corpus)
        return
    assert ids(corpus) == [str(i) for i in expected]
    empty = pairs.count(("", ""))
    assert corpus.report == CorpusReport(len(expected), len(pairs) - len(expected), empty, bad_lines=0)


def test_title_and_text_do_not_run_into_each_other():
    documents = [
        Document("1", "ab", "c"),
        Document("2", "a", "bc"),
        Document("3", "a", "\0c"),
        Document("4", "a\0", "c"),
    ]
    corpus = Corpus.of([*documents, Document("5", "half", "\ud800")], deduplicate=True)
    assert ids(corpus) == ["1", "2", "3", "4", "5"]


def test_in_memory_corpora_keep_copies_unless_asked():
    corpus = Corpus.of([Document("1", text="x"), Document("2", text="x")], name="twins")
    assert corpus.name == "twins"
    assert ids(corpus) == ids(corpus) == ["1", "2"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("a text", r"The corpus holds a str where a Document belongs: give documents, or open_corpus\(PATH\)"),
        (Document(7, text="a text"), "The id of document 7 must be a string and is int"),
        (Document("7", text=None), "The text of document '7' must be a string and is NoneType"),
    ],
)
def test_a_corpus_in_memory_holds_documents_of_strings(given, sentence):
    with pytest.raises(DataError, match=sentence):
        Corpus.of([Document("1", text="good"), given])


def test_the_report_comes_with_the_end_of_a_pass():
    corpus = Corpus.of([Document("1", text="x"), Document("2", text="y")])
    passing = iter(corpus)
    next(passing)
    assert corpus.report is None
    assert len(list(passing)) == 1
    assert corpus.report == CorpusReport(2, 0, 0, 0)


def test_an_id_that_occurs_twice_is_refused_with_both_places(tmp_path):
    path = write_jsonl(
        tmp_path / "c.jsonl", [{"id": "a", "text": "1"}, {"id": "b", "text": "2"}, {"id": "a", "text": "3"}]
    )
    with pytest.raises(DataError, match=rf"'a' at {path}:3 was taken at {path}:1: ids must be unique"):
        list(open_corpus(path))


def test_a_repeated_document_is_a_copy_not_a_repeated_id(tmp_path):
    path = write_jsonl(tmp_path / "c.jsonl", [{"id": "a", "text": "1"}, {"id": "a", "text": "1"}])
    assert ids(open_corpus(path)) == ["a"]
    with pytest.raises(DataError, match="must be unique"):
        list(open_corpus(path, deduplicate=False))


def test_the_first_place_of_a_repeated_id_is_not_that_of_a_dropped_copy(tmp_path):
    rows = [{"id": "a", "text": "1"}, {"id": "b", "text": "1"}, {"id": "b", "text": "2"}, {"id": "b", "text": "3"}]
    path = write_jsonl(tmp_path / "c.jsonl", rows)
    with pytest.raises(DataError, match=rf"'b' at {path}:4 was taken at {path}:3: ids must be unique"):
        list(open_corpus(path))


def test_metadata_of_too_many_levels_are_a_mangled_line(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "good"}\n{"text": "deep", "m": ' + "[" * 100 + "]" * 100 + "}\n")
    with pytest.raises(DataError, match=rf"{path}:2 has metadata of more than 100 levels"):
        list(open_corpus(path))
    corpus = open_corpus(path, skip_bad_lines=True)
    assert ids(corpus) == ["0"] and corpus.report.bad_lines == 1


def test_skipped_lines_are_counted_and_no_id_error_is_among_them(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": \n[1]\n\xff\n{"text": 3}\n{"title": "no text"}\n{"text": "b"}\n')
    corpus = open_corpus(path, skip_bad_lines=True)
    assert [d.text for d in corpus] == ["a", "b"]
    assert corpus.report == CorpusReport(2, 0, 0, bad_lines=5)
    write_jsonl(path, [{"id": "a", "text": "1"}, {"id": "a", "text": "2"}])
    with pytest.raises(DataError, match="must be unique"):
        list(open_corpus(path, skip_bad_lines=True))


def test_a_corpus_of_bad_lines_only_is_empty_and_says_why(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text("{\n{\n")
    with pytest.raises(DataError, match=rf"{path} holds no document \(2 bad lines were skipped\)"):
        list(open_corpus(path, skip_bad_lines=True))


@pytest.mark.parametrize("name", ["c.txt", "c.jsonl", "c.csv", "c.tsv"])
def test_an_empty_file_is_no_corpus(name, tmp_path):
    (tmp_path / name).write_bytes(b"\n\n")
    with pytest.raises(DataError, match=f"{name} holds no document"):
        list(open_corpus(tmp_path / name))


def test_fingerprints_follow_content_and_options_but_not_the_place(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "x", "body": "y"}])
    moved = write_jsonl(tmp_path / "b.jsonl", [{"text": "x", "body": "y"}])
    changed = write_jsonl(tmp_path / "c.jsonl", [{"text": "x", "body": "z"}])
    same = {open_corpus(p).fingerprint() for p in (path, moved)}
    assert len(same) == 1
    different = [
        open_corpus(changed),
        open_corpus(path, text_field="body"),
        open_corpus(path, title_field="body"),
        open_corpus(path, id_field="body"),
        open_corpus(path, skip_bad_lines=True),
        open_corpus(path, deduplicate=False),
    ]
    assert len(same | {corpus.fingerprint() for corpus in different}) == 7


def test_the_ending_is_part_of_the_fingerprint(tmp_path):
    for name in ("a.txt", "a.tsv"):
        (tmp_path / name).write_text("text\nx\n")
    assert open_corpus(tmp_path / "a.txt").fingerprint() != open_corpus(tmp_path / "a.tsv").fingerprint()


@settings(max_examples=20)
@given(documents, documents)
def test_in_memory_fingerprints_are_equal_exactly_if_the_documents_are(one, other):
    def corpus(pairs):
        return Corpus.of([Document(str(i), *pair, {"n": i}) for i, pair in enumerate(pairs)])

    assert (corpus(one).fingerprint() == corpus(other).fingerprint()) == (one == other)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["_id", "text", "title", "x"]), inner),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.lists(json_values.map(json.dumps) | st.text(max_size=8), max_size=5))
def test_whatever_the_lines_hold_the_outcome_is_documents_or_a_data_error(tmp_path, lines):
    (tmp_path / "c.jsonl").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    for skip in (False, True):
        try:
            found = list(open_corpus(tmp_path / "c.jsonl", skip_bad_lines=skip))
        except DataError as error:
            assert "\n" not in str(error)
            continue
        assert all(isinstance(d.id, str) and isinstance(d.title, str) and isinstance(d.text, str) for d in found)


def test_a_pass_keeps_hashes_in_memory_and_no_text(tmp_path):
    path = write_jsonl(tmp_path / "c.jsonl", ({"text": f"{i} " + "x" * 100_000} for i in range(200)))  # 20 MB
    tracemalloc.start()
    assert sum(1 for _ in open_corpus(path)) == 200
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


@needs_shared
@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("text/debian.jsonl.gz", CorpusReport(61_415, 0, 0, 0)),
        ("text/sentences.txt.gz", CorpusReport(238_853, 0, 0, 0)),
        ("beir/cranfield", CorpusReport(1_400, 0, 2, 0)),
    ],
)
def test_real_corpora_have_the_documents_they_should(name, report):
    corpus = open_corpus(SHARED / name)
    assert sum(1 for _ in corpus) == report.documents
    assert corpus.report == report
