"""Known-item selection: ranks against plain loops, and what is kept away from training."""

from __future__ import annotations

import numpy as np
import pytest

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.labelled import Labelled, LabelledReport
from retriever.data.ragged import Ragged
from retriever.data.tokenizers import WordTokenizer
from retriever.data.tokens import tokenise
from retriever.encoder import Encoder
from retriever.eval.metrics import score_run
from retriever.training.recipe import Selection
from retriever.training.selection import hold_out, hold_out_queries, metrics, ranks

METRICS = {"recall@10", "recall@100", "mrr@10", "ndcg@10"}
OWN = Ragged.from_rows([[i] for i in range(300)])


def test_ranks_equal_plain_loops_and_ties_count_against_the_document():
    random = np.random.default_rng(0)
    queries = random.standard_normal((300, 6)).astype(np.float32)
    documents = random.standard_normal((400, 6)).astype(np.float32)
    documents[7] = documents[3]  # a twin of query 3's document
    found = ranks(queries, documents, OWN)
    for i in (0, 3, 7, 255, 256, 299):
        own = float(queries[i] @ documents[i])
        better = sum(float(queries[i] @ d) > own + 1e-5 for d in documents)
        ties = sum(abs(float(queries[i] @ d) - own) <= 1e-5 for d in documents)
        assert found[i] == better + ties


def test_a_collapsed_encoder_finds_nothing():
    found = ranks(np.ones((5, 3), np.float32), np.ones((200, 3), np.float32), OWN.take(np.arange(5)))
    assert metrics(found, np.ones(5, int)) == dict.fromkeys(METRICS, 0.0)


def test_an_encoder_whose_vectors_are_no_numbers_finds_nothing():
    found = ranks(np.full((5, 3), np.nan, np.float32), np.ones((200, 3), np.float32), OWN.take(np.arange(5)))
    assert metrics(found, np.ones(5, int)) == dict.fromkeys(METRICS, 0.0)


def test_metrics_by_hand():
    assert metrics(np.array([1, 2, 10, 11, 100, 101]), np.ones(6, int)) == {
        "recall@10": 3 / 6,
        "recall@100": 5 / 6,
        "mrr@10": (1 + 1 / 2 + 1 / 10) / 6,
        "ndcg@10": pytest.approx((1 + 1 / np.log2(3) + 1 / np.log2(11)) / 6),
    }


def test_metrics_with_several_answers_are_those_of_trec_eval():
    random = np.random.default_rng(0)
    counts = random.integers(1, 15, 50)
    found = [np.sort(random.choice(np.arange(1, 150), count, replace=False)) for count in counts]
    run = {str(q): {str(rank): 200.0 - rank for rank in range(1, 150)} for q in range(50)}
    qrels = {str(q): {str(rank): 1 for rank in ranks_of} for q, ranks_of in enumerate(found)}
    expected = score_run(run, qrels).means
    ours = metrics(np.concatenate(found), counts)
    for name in ("recall@10", "recall@100", "mrr@10", "ndcg@10"):
        assert ours[name] == pytest.approx(expected[name], abs=1e-6)


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
    assert set(held.score(encoder, "float32")) == METRICS


def test_held_out_queries_compete_for_their_own_documents_among_others():
    pool = corpus_of(60)
    texts = [document.text for document in pool]
    labelled = Labelled(
        "toy",
        ["a", "b"],
        ["word1 word2", "word3"],
        pool,
        Ragged.from_rows([[40, 3], [40]]),
        Ragged.from_rows([[], []]),
        LabelledReport(),
    )
    tokenizer = WordTokenizer.train(d.content for d in pool)
    encoder = Encoder.static(tokenizer, dimension=8)
    encoder.prompts = {"document": "title of "}
    store = tokenise(pool, tokenizer, processes=1)
    held = hold_out_queries(labelled, store, encoder, Selection(pool=20), seed=0, limit=99)
    assert len(held.documents) == 22 and not len(held.rows)
    for query, rows in enumerate(([40, 3], [40])):
        for column, row in zip(held.answers[query], rows, strict=True):
            own = tokenizer.encode([f"title of title of {texts[row][:12]} {texts[row]}"])[0]
            assert held.documents[column].tolist() == own.tolist()
    vectors = (encoder.embed(tokens, dtype="float32") for tokens in (held.queries, held.documents))
    assert held.score(encoder, "float32") == metrics(ranks(*vectors, held.answers), np.array([2, 1]))


def test_no_selection_when_none_is_wanted_or_nothing_is_eligible():
    corpus = Corpus.of([Document("a", "", "too short"), Document("b", "", "also short")])
    tokenizer = WordTokenizer.train(d.content for d in corpus)
    encoder = Encoder.static(tokenizer, dimension=4)
    store = tokenise(corpus, tokenizer, processes=1)
    assert hold_out(corpus, store, encoder, Selection(queries=10), 0) is None
    assert hold_out(corpus_of(100), store, encoder, Selection(queries=0), 0) is None
