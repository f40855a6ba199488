"""The demo on a small corpus: the promised object, the report, the same again."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.demo import ask, claim, next_commands, run_demo
from retriever.encoder import Encoder
from retriever.errors import DataError, OutputError, RetrieverError
from retriever.indexing.index import Index

FAST = {"steps": 20, "every": 10, "size": 64, "dimension": 32, "queries": 20}


def corpus(count=400):
    random = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(500)])
    documents = []
    for i in range(count):
        topic = random.choice(words, 12)
        title = " ".join(random.choice(topic, 5, replace=False))
        documents.append(Document(f"d{i}", f"{title}.", f"{' '.join(random.choice(topic, 30))}. And so on."))
    return Corpus.of(documents, name="small")


def test_the_demo_makes_a_model_an_index_a_report_and_the_promised_object(tmp_path):
    outcome = run_demo(tmp_path / "demo", corpus=corpus(), count=30, overrides=FAST)
    found = json.loads(json.dumps(outcome.to_json()))
    assert (found["documents"], found["queries"]) == (400, 30)
    assert list(found["metrics"]) == ["dense", "bm25", "tfidf", "hybrid"]
    for mode, metrics in found["metrics"].items():
        assert list(metrics) == ["recall@10", "recall@100", "mrr@10"]
        assert all(low <= metrics[name] <= high for name, (low, high) in found["intervals"][mode].items())
    assert found["metrics"]["bm25"]["recall@100"] > 0.9
    assert list(found["seconds"]) == ["corpus", "train", "index", "eval"]
    Encoder.load(found["model"])
    with Index.open(found["index"]) as index:
        assert len(index) == 400 and not index.search("word1", k=1)[0].title
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("<svg") == 2 and "Recall@100, dense minus bm25" in page
    assert all(command.startswith("retriever ") for command in next_commands(outcome))


@pytest.mark.parametrize("name", ["model", "index", "report.html"])
def test_what_no_demo_made_is_not_replaced(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine.txt").write_text("mine")
    with pytest.raises(
        OutputError, match=rf"{name} was made by no demo, which would replace it: choose another --output"
    ):
        run_demo(tmp_path, corpus=corpus(), count=30, overrides=FAST)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name / "mine.txt").exists()


def test_a_demo_replaces_what_one_before_it_left(tmp_path):
    claim(tmp_path)
    (tmp_path / "model").mkdir()
    claim(tmp_path)
    assert "retriever demo" in (tmp_path / "DEMO.txt").read_text()


def test_a_missing_matplotlib_shows_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RetrieverError, match=r"pip install 'dense-retriever\[report\]'"):
        run_demo(tmp_path / "demo", corpus=corpus(), count=30, overrides=FAST)
    assert not (tmp_path / "demo").exists()


def test_queries_are_titles_that_the_bodies_do_not_hold():
    documents = {document.id: document for document in corpus()}
    questions = ask(corpus(), 30, seed=1)
    assert len(questions.queries) == len(set(questions.rows)) == 30
    for query, row in zip(questions.queries, questions.rows, strict=True):
        assert documents[row].title == query
    assert all(not document.title and document.text == documents[document.id].text for document in questions.bodies)
    assert ask(corpus(), 30, seed=2).rows != questions.rows


def test_a_corpus_without_titles_to_ask_for_is_refused(tmp_path):
    with pytest.raises(DataError, match="The corpus bare has no titled documents"):
        run_demo(tmp_path / "demo", corpus=Corpus.of([Document("a", "", "short")], name="bare"))
