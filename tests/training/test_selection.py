"""Known-item selection: ranks against plain loops, and what is kept away from training."""

from __future__ import annotations

import numpy as np

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.tokenizers import WordTokenizer
from retriever.data.tokens import tokenise
from retriever.encoder import Encoder
from retriever.training.recipe import Selection
from retriever.training.selection import hold_out, metrics, ranks


def test_ranks_equal_plain_loops_and_ties_count_against_the_document():
    random = np.random.default_rng(0)
    queries = random.standard_normal((300, 6)).astype(np.float32)
    documents = random.standard_normal((400, 6)).astype(np.float32)
    documents[7] = documents[3]  # a twin of query 3's document
    found = ranks(queries, documents)
    for i in (0, 3, 7, 255, 256, 299):
        own = float(queries[i] @ documents[i])
        better = sum(float(queries[i] @ d) > own + 1e-5 for d in documents)
        ties = sum(abs(float(queries[i] @ d) - own) <= 1e-5 for d in documents)
        assert found[i] == better + ties


def test_a_collapsed_encoder_finds_nothing():
    found = ranks(np.ones((5, 3), np.float32), np.ones((200, 3), np.float32))
    assert metrics(found) == {"recall@10": 0.0, "recall@100": 0.0, "mrr@10": 0.0}


def test_metrics_by_hand():
    assert metrics(np.array([1, 2, 10, 11, 100, 101])) == {
        "recall@10": 3 / 6,
        "recall@100": 5 / 6,
        "mrr@10": (1 + 1 / 2 + 1 / 10) / 6,
    }


def corpus_of(count):
    words = [f"word{i}" for i in range(40)]
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(words, 20)) for _ in range(count)]
    return Corpus.of([Document(str(i), f"title of {text[:12]}", text) for i, text in enumerate(texts)])


def test_held_out_documents_are_the_first_candidates_and_do_not_hold_their_query():
    corpus = corpus_of(200)
    tokenizer = WordTokenizer.train(d.content for d in corpus)
    encoder = Encoder.static(tokenizer, dimension=8)
    encoder.prompts = {"query": "title word1 ", "document": "of "}
    store = tokenise(corpus, tokenizer, processes=1)
    held = hold_out(corpus, store, encoder, Selection(queries=10, pool=50), seed=3)
    documents = list(corpus)
    assert len(held.queries) == len(held.rows) == 10 and len(held.documents) == 60
    for place, row in enumerate(held.rows):
        document = documents[row]
        assert held.documents[place].tolist() == tokenizer.encode([f"of {document.text}"])[0].tolist()
        assert held.queries[place].tolist() == tokenizer.encode([f"title word1 {document.title}"])[0].tolist()
    texts = [tuple(held.documents[i].tolist()) for i in range(10, 60)]
    assert not {tuple(store[row].tolist()) for row in held.rows} & set(texts)
    assert set(held.score(encoder, "float32")) == {"recall@10", "recall@100", "mrr@10"}


def test_no_selection_when_none_is_wanted_or_nothing_is_eligible():
    corpus = Corpus.of([Document("a", "", "too short"), Document("b", "", "also short")])
    tokenizer = WordTokenizer.train(d.content for d in corpus)
    encoder = Encoder.static(tokenizer, dimension=4)
    store = tokenise(corpus, tokenizer, processes=1)
    assert hold_out(corpus, store, encoder, Selection(queries=10), 0) is None
    assert hold_out(corpus_of(100), store, encoder, Selection(queries=0), 0) is None
