"""Labelled data: every format against what it says, mistakes as sentences, and the laws that hold for any of it."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import SHARED, needs_shared

from retriever.data import labelled_ids
from retriever.data.beir import write_beir
from retriever.data.document import Document
from retriever.data.labelled import LabelledReport, keyed_fraction, open_labelled
from retriever.data.tokenizers import WordTokenizer
from retriever.data.tokens import tokenise
from retriever.errors import BadRecordError, DataError

DOCUMENTS = [
    Document("1", "Tea", "a hot drink"),
    Document("2", "", "a cold drink"),
    Document("3", "", "a fruit"),
    Document("4", "", "Tea a hot drink"),  # reads like document 1
]
QUERIES = {"q1": "what is tea", "q2": "what is an apple", "q3": "what is beer", "q4": "unjudged"}
QRELS = {"q1": {"1": 2, "3": 0, "4": 0}, "q2": {"3": 1}, "q3": {"2": 0}}


@pytest.fixture
def beir(tmp_path):
    return write_beir(tmp_path / "drinks", DOCUMENTS, QUERIES, QRELS, split="train")


def write(path, *records):
    text = "".join((record if isinstance(record, str) else json.dumps(record)) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode()) if path.name.endswith(".gz") else text.encode())
    return path


def told(labelled):
    """Query → (contents of its positives, contents of its negatives)."""
    contents = [document.content for document in labelled.documents]
    return {
        query: tuple([contents[row] for row in rows[i]] for rows in (labelled.positives, labelled.negatives))
        for i, query in enumerate(labelled.queries)
    }


SPELLINGS = [
    {"query": "q", "positive": "p", "negative": "n"},
    {"query": "q", "positives": ["p"], "negatives": ["n"]},
    {"anchor": "q", "positive": "p", "negative": "n"},
    {"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [0.9], "prompt": "Represent: "},
    {"query": "q", "positives": {"text": "p"}, "negatives": [{"title": None, "text": "n", "score": 0.5}]},
    {"query_id": 7, "query": "q", "positive_passages": [{"docid": "1", "text": "p"}], "negative_passages": ["n"]},
    {"question": "q", "answers": ["short"], "positive_ctxs": [{"text": "p"}], "hard_negative_ctxs": [{"text": "n"}]},
    {"question": "q", "positive_ctxs": [{"text": "p"}], "negative_ctxs": ["n"], "hard_negative_ctxs": []},
    {"question": "q", "answer": "p", "negative": "n"},
    {"query": "q", "positive": "p", "negative": None, "negative_1": "n", "negative_2": None},
]


@pytest.mark.parametrize("record", SPELLINGS)
def test_usual_spellings_mean_the_same(tmp_path, record):
    labelled = open_labelled(write(tmp_path / "x.jsonl", record))
    assert told(labelled) == {"q": (["p"], ["n"])}


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".json", ".json.gz"])
def test_lines_of_json_under_every_ending(tmp_path, ending):
    path = write(tmp_path / f"my.pairs{ending}", {"query": "q", "pos": "p"}, "", {"query": "r", "pos": ["p", "s"]})
    labelled = open_labelled(path)
    assert told(labelled) == {"q": (["p"], []), "r": (["p", "s"], [])}
    assert labelled.name == "my.pairs" and len(labelled) == 2


def test_a_list_of_dpr_records_in_one_json_file(tmp_path):
    easy, hard = {"title": "", "text": "easy"}, {"title": "Hard", "text": "one", "passage_id": "12"}
    record = {"question": "q", "positive_ctxs": [{"title": "A", "text": "b"}], "negative_ctxs": [easy]}
    path = tmp_path / "nq.json"
    path.write_text(json.dumps([record | {"hard_negative_ctxs": [hard]}, record | {"question": "r"}], indent=1))
    labelled = open_labelled(path)
    assert told(labelled) == {"q": (["A b"], ["Hard one"]), "r": (["A b"], ["easy"])}
    documents = list(labelled.documents)
    assert [document.content for document in documents] == ["A b", "Hard one", "easy"]
    assert documents[1] == Document("12", "Hard", "one") and documents[0].title == "A"


def test_tables_with_a_header_are_read_by_their_fields(tmp_path):
    (tmp_path / "x.tsv").write_text('anchor\tpositive\tnegative\nq\t"p\tn\n')
    (tmp_path / "x.csv").write_text('query,positive\nq,"p, and more"\n')
    assert told(open_labelled(tmp_path / "x.tsv")) == {"q": (['"p'], ["n"])}
    assert told(open_labelled(tmp_path / "x.csv")) == {"q": (["p, and more"], [])}


def test_a_saved_data_set(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = {"anchor": ["q", "r"], "positive": ["p", "s"], "negative": ["n", "p"]}
    parts = datasets.DatasetDict({"fit": datasets.Dataset.from_dict(rows)})
    parts.save_to_disk(str(tmp_path / "triplets"))
    labelled = open_labelled(tmp_path / "triplets", split="fit")
    assert told(labelled) == {"q": (["p"], ["n"]), "r": (["s"], ["p"])}


def test_the_same_text_is_one_document_and_the_same_query_one_query(tmp_path):
    path = write(
        tmp_path / "x.jsonl",
        {"query": "q", "positive": "p", "negative": "n"},
        {"query": "r", "positive": "n", "negative": {"title": "p", "text": "x"}},
        {"query": "q", "positive": ["s", "p"], "negative": ["m", "n", "p x"]},
    )
    labelled = open_labelled(path)
    assert told(labelled) == {"q": (["p", "s"], ["n", "m", "p x"]), "r": (["n"], ["p x"])}
    assert [document.content for document in labelled.documents] == ["p", "n", "p x", "s", "m"]
    assert labelled.report == LabelledReport(repeated=1)


def test_negatives_that_are_positives_are_dropped_wherever_they_stand(tmp_path):
    path = write(
        tmp_path / "x.jsonl",
        {"query": "q", "positive": "p", "negative": ["s", "n", "p"]},
        {"query": "q", "positive": {"title": "s", "text": "s"}, "negative": "n"},
        {"query": "q", "positive": "s"},
    )
    labelled = open_labelled(path)
    assert told(labelled) == {"q": (["p", "s s", "s"], ["n"])}
    assert labelled.report.contradictions == 2


def test_judgments_of_a_beir_folder(beir):
    labelled = open_labelled(beir)
    assert labelled.ids == ["q1", "q2"] and labelled.name == "drinks"
    assert told(labelled) == {"what is tea": (["Tea a hot drink"], ["a fruit"]), "what is an apple": (["a fruit"], [])}
    assert list(labelled.documents) == DOCUMENTS
    assert labelled.report == LabelledReport(without_positives=1, contradictions=1)


def test_triples_by_id(beir, tmp_path):
    path = write(tmp_path / "ids.tsv.gz", "q1\t1\t2", "q2\t3\t2", "q1\t1\t3", "", "q1\t2\t4")
    labelled = open_labelled(path, corpus=beir)
    expected = {"what is tea": (["Tea a hot drink", "a cold drink"], ["a fruit"])}
    assert told(labelled) == expected | {"what is an apple": (["a fruit"], ["a cold drink"])}
    assert list(labelled.documents) == DOCUMENTS
    assert labelled.report == LabelledReport(repeated=2, contradictions=2)


def test_a_corpus_beside_the_texts_comes_first_in_the_pool(beir, tmp_path):
    path = write(tmp_path / "x.jsonl", {"query": "q", "positive": "a fruit", "negative": ["new", "a cold drink"]})
    labelled = open_labelled(path, corpus=beir)
    assert told(labelled) == {"q": (["a fruit"], ["new", "a cold drink"])}
    contents = [document.content for document in labelled.documents]
    assert contents == [document.content for document in DOCUMENTS] + ["new"]
    assert [row.tolist() for row in (labelled.positives[0], labelled.negatives[0])] == [[2], [4, 1]]
    assert len({labelled.fingerprint(), open_labelled(path).fingerprint()}) == 2
    assert open_labelled(path, corpus=beir).documents.fingerprint() == labelled.documents.fingerprint()


def test_a_pool_can_be_tokenised(beir, tmp_path):
    path = write(tmp_path / "x.jsonl", {"query": "q", "positive": "a fruit", "negative": "fruit fruit fruit"})
    labelled = open_labelled(path, corpus=beir)
    store = tokenise(labelled.documents, WordTokenizer.train(["a fruit", "fruit"], min_documents=1), processes=1)
    assert len(store) == 5 and len(store[4]) == 3


def test_ids_are_kept_and_what_has_none_is_named_by_its_text(tmp_path):
    records = [{"qid": "x1", "query": "q", "positive": {"_id": 3, "text": "p"}}, {"query": "r", "positive": "s"}]
    labelled = open_labelled(write(tmp_path / "x.jsonl", *records))
    other = open_labelled(write(tmp_path / "y.jsonl", *reversed(records)))
    assert labelled.ids[0] == "x1" and len(labelled.ids[1]) == 16 and other.ids == labelled.ids[::-1]
    assert [d.id for d in labelled.documents] == [d.id for d in other.documents][::-1]
    assert next(iter(labelled.documents)).id == "3"


MISTAKES = [
    ({"text": "x"}, ":2 has no query (fields found: text)"),
    ({"query": "q"}, ":2 has a query without a positive document: add one"),
    ({"query": "q", "positives": []}, ":2 has a query without a positive"),
    ({"query": "q", "pos": [None]}, ":2 has a query without a positive"),
    ({"query": " ", "positive": "p"}, ":2 has an empty query"),
    ({"query": ["q"], "positive": "p"}, ":2 has a query that is not a string but list"),
    ({"query": "q", "positive": "p", "negatives": ["n", ""]}, ":2 has an empty text under negatives"),
    ({"query": "q", "positive": {"title": "", "body": ""}}, ":2 has an empty text under positive"),
    ({"query": "q", "pos": [3]}, ":2 has a pos text that is not a string but int"),
    ({"query": "q", "pos": {"text": "x", "title": 1}}, ":2 has a pos title that is not a string but int"),
    ({"query": "q\ud800", "positive": "p"}, ":2 has a query with half a surrogate pair"),
    ('{"query": "q", ', ":2 is not valid JSON"),
]


@pytest.mark.parametrize(("record", "message"), MISTAKES)
def test_a_bad_line_is_named_or_skipped_and_counted(tmp_path, record, message):
    path = write(tmp_path / "x.jsonl", {"query": "fine", "positive": "p"}, record)
    with pytest.raises(DataError) as caught:
        open_labelled(path)
    assert f"{path}{message}" in str(caught.value)
    labelled = open_labelled(path, skip_bad_lines=True)
    assert told(labelled) == {"fine": (["p"], [])} and labelled.report.bad_lines == 1


def test_bad_records_of_a_list(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('[{"query": "fine", "positive": "p"}, 3, {"question": "q", "positive_ctxs": []}]')
    with pytest.raises(DataError, match=r"x\.json, record 2, is no object"):
        open_labelled(path)
    assert open_labelled(path, skip_bad_lines=True).report.bad_lines == 2
    path.write_text('[{"query": "fine", "positive": "p"},')
    with pytest.raises(DataError, match=r"x\.json is not valid JSON"):
        open_labelled(path, skip_bad_lines=True)


def test_ids_must_be_unique(beir, tmp_path):
    path = write(tmp_path / "x.jsonl", {"query_id": 1, "query": "q", "pos": "p"}, {"qid": 1, "query": "r", "pos": "p"})
    with pytest.raises(DataError, match=r"x\.jsonl:2 gives the query id '1' to a second text"):
        open_labelled(path)
    path = write(tmp_path / "y.jsonl", {"query": "q", "positive": {"id": "2", "text": "not document 2"}})
    with pytest.raises(DataError, match=r"The id '2' at .*y\.jsonl:1 is taken by another text"):
        open_labelled(path, corpus=beir)


def test_judgments_of_what_is_not_there(tmp_path):
    qrels = {"q1": {"1": 1, "gone": 1}, "lost": {"1": 1}, "void": {"2": 1}}
    folder = write_beir(tmp_path / "x", DOCUMENTS, {**QUERIES, "void": " "}, qrels, "train")
    lines = (folder / "qrels" / "train.tsv").read_text().splitlines()
    with pytest.raises(DataError, match=r"train\.tsv:3 names the document 'gone', which is not in the corpus"):
        open_labelled(folder)
    labelled = open_labelled(folder, skip_bad_lines=True)
    assert labelled.queries == ["what is tea"] and labelled.report.bad_lines == 3
    (folder / "qrels" / "train.tsv").write_text("\n".join([lines[0], *lines[3:]]))
    with pytest.raises(DataError, match=r"train\.tsv:2 names the query 'lost', which is not in the queries"):
        open_labelled(folder)
    (folder / "qrels" / "train.tsv").write_text("\n".join([lines[0], *lines[4:]]))
    with pytest.raises(DataError, match=r"train\.tsv:2 names the query 'void', which has no text in the queries"):
        open_labelled(folder)


def test_mangled_lines_of_texts_told_by_id_are_left_out(beir, tmp_path):
    for name in ("corpus", "queries"):
        path = beir / f"{name}.jsonl"
        path.write_text(path.read_text() + "{mangled\n")
    triples = tmp_path / "triples.tsv"
    triples.write_text("q1\t1\t3\n")
    for data, corpus in ((beir, None), (triples, beir)):
        with pytest.raises(BadRecordError, match=r"(corpus|queries)\.jsonl:5 is not valid JSON .*: mend it\.$"):
            open_labelled(data, corpus=corpus)
        labelled = open_labelled(data, corpus=corpus, skip_bad_lines=True)
        assert labelled.queries[0] == "what is tea" and len(list(labelled.documents)) == len(DOCUMENTS)
        assert labelled.documents.report.bad_lines == 1


def test_unknown_documents_cost_one_reading_of_the_judgments(beir, monkeypatch):
    path, read = beir / "qrels" / "train.tsv", labelled_ids.read_lines
    path.write_text(path.read_text() + "".join(f"q1\tnone{number}\t1\n" for number in range(50)))
    times = []
    monkeypatch.setattr(labelled_ids, "read_lines", lambda *arguments: times.append(1) or read(*arguments))
    assert open_labelled(beir, skip_bad_lines=True).report.bad_lines == 50 and len(times) == 1


def test_a_line_that_is_not_utf8_counts_once(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'{"query": "a", "positive": "b"}\n{"query": "\xff", "positive": "c"}\n')
    assert open_labelled(path, skip_bad_lines=True).report.bad_lines == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1\t1", "is no triple"),
        ("q1\t1\t2\t3", "is no triple"),
        ("q9\t1\t2", "names the query 'q9'"),
        ("q1\tx\t2", "names the document 'x'"),
        ("q1\t1\ty", "names the document 'y'"),
    ],
)
def test_bad_triples(beir, tmp_path, line, message):
    path = write(tmp_path / "ids.tsv", "q1\t1\t2", line)
    with pytest.raises(DataError, match=rf"ids\.tsv:2 {message}"):
        open_labelled(path, corpus=beir)
    assert open_labelled(path, corpus=beir, skip_bad_lines=True).report.bad_lines == 1


def test_options_that_do_not_fit_the_format(beir, tmp_path):
    path = write(tmp_path / "ids.tsv", "q1\t1\t2")
    for data, options, message in (
        (path, {}, "give the BEIR folder with their texts as corpus"),
        (path, {"corpus": tmp_path}, "is no BEIR folder"),
        (beir, {"corpus": beir}, "leave the other corpus out"),
        (beir, {"split": "dev"}, "choose one of train"),
        (tmp_path / "none.jsonl", {}, "There is no file or folder"),
        (write(tmp_path / "empty.jsonl"), {}, "holds no query with a positive document"),
        (write(tmp_path / "x.jsonl", {"query": "q", "positive": "p"}), {"corpus": tmp_path / "no"}, "There is no"),
    ):
        with pytest.raises(DataError, match=message):
            open_labelled(data, **options)


def test_queries_of_which_nothing_is_relevant_are_not_enough(tmp_path):
    folder = write_beir(tmp_path / "x", DOCUMENTS, QUERIES, {"q1": {"1": 0}}, "train")
    with pytest.raises(DataError, match="holds no query with a positive"):
        open_labelled(folder)


def many(tmp_path, count=400):
    records = [{"query": f"query {i}", "positive": [f"p{i}", "shared"], "negative": f"p{i + 1}"} for i in range(count)]
    return open_labelled(write(tmp_path / "many.jsonl", *records))


def test_held_out_queries_depend_on_their_text_and_the_seed_alone(tmp_path):
    labelled = many(tmp_path)
    train, dev = labelled.split_dev(0.1, seed=3)
    assert sorted(train.queries + dev.queries) == sorted(labelled.queries)
    assert 20 <= len(dev) <= 60
    whole = told(labelled)
    assert told(train) | told(dev) == whole and dev.documents is labelled.documents
    half = labelled.take(np.arange(399, 199, -1))
    assert half.queries[0] == "query 399" and told(half)["query 399"] == whole["query 399"]
    assert set(half.split_dev(0.1, seed=3)[1].queries) == set(half.queries) & set(dev.queries)
    assert set(labelled.split_dev(0.1, seed=4)[1].queries) != set(dev.queries)
    assert set(labelled.split_dev(0.3, seed=3)[1].queries) > set(dev.queries)


def test_a_share_must_leave_something_on_both_sides(tmp_path):
    labelled = many(tmp_path, count=3)
    for share in (0, 1, -0.1, 1.5):
        with pytest.raises(DataError, match="choose one between 0 and 1"):
            labelled.split_dev(share)
    with pytest.raises(DataError, match="holds out none of the 3 queries"):
        labelled.split_dev(1e-9)
    with pytest.raises(DataError, match="holds out all of the 3 queries"):
        labelled.split_dev(1 - 1e-9)


def test_hashed_fractions_are_uniform():
    drawn = np.sort([keyed_fraction(f"text {i}", 0) for i in range(2000)])
    assert drawn[0] >= 0 and drawn[-1] < 1
    assert np.abs(drawn - np.arange(2000) / 2000).max() < 0.04  # Kolmogorov–Smirnov, p < 0.003


def test_fingerprints_follow_what_is_said(tmp_path):
    record = {"query": "q", "positive": ["p", "s"], "negative": "n"}
    changes = [{"query": "r"}, {"positive": ["s", "p"]}, {"negative": "m"}, {"negative": None}, {"query_id": "1"}]
    found = [open_labelled(write(tmp_path / f"{i}.jsonl", record | c)).fingerprint() for i, c in enumerate(changes)]
    path = write(tmp_path / "x.jsonl", record)
    assert len({open_labelled(path).fingerprint(), *found}) == 1 + len(changes)
    assert open_labelled(path).fingerprint() == open_labelled(write(tmp_path / "y.jsonl", "", record)).fingerprint()


letters = st.sampled_from("abcdef")
some = st.lists(letters, max_size=4)
lines = st.lists(st.tuples(st.sampled_from("xyz"), some.filter(bool), some), min_size=1, max_size=6)


@given(lines)
def test_any_lines_against_plain_sets(tmp_path_factory, lines):
    records = [{"query": q, "positives": p, "negatives": n} for q, p, n in lines]
    labelled = open_labelled(write(tmp_path_factory.mktemp("x") / "x.jsonl", *records))
    expected = {}
    for query, positives, negatives in lines:
        entry = expected.setdefault(query, (set(), set()))
        entry[0].update(positives)
        entry[1].update(negatives)
    found = told(labelled)
    assert list(found) == list(expected)
    for query, (positives, negatives) in expected.items():
        assert sorted(found[query][0]) == sorted(positives)
        assert sorted(found[query][1]) == sorted(negatives - positives)
    assert labelled.report.contradictions == sum(len(p & n) for p, n in expected.values())
    assert len(list(labelled.documents)) == len({text for _, p, n in lines for text in p + n})


@needs_shared
def test_scifact():
    """809 training queries, two of which repeat another's text; 919 judgments."""
    labelled = open_labelled(SHARED / "beir" / "scifact")
    assert len(labelled) == 807 and labelled.report == LabelledReport(repeated=2)
    assert len(labelled.positives.ids) == 916 and len(labelled.negatives.ids) == 0
    train, dev = labelled.split_dev(0.1)
    assert (len(train), len(dev)) == (730, 77)
