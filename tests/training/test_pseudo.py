"""Pseudo-queries: where they come from, and that nothing held out is among them."""

from __future__ import annotations

import numpy as np
import pytest

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.training.pseudo import LONGEST, cloze_items, pseudo_queries

NONE = np.empty(0, np.int64)
WORDS = (3, 6)


def corpus(count=60, title=lambda number: f"the title of {number}", length=30):
    texts = (" ".join(f"w{number}x{place}" for place in range(length)) for number in range(count))
    return Corpus.of([Document(str(number), title(number), text) for number, text in enumerate(texts)], name="toy")


def is_piece(piece, text):
    return f" {piece} " in f" {text} "


def test_a_query_is_the_name_of_its_document_or_some_of_its_words():
    documents = list(corpus())
    found = pseudo_queries(corpus(), NONE, 1_000, 1_000, WORDS, 0)
    assert sorted(found.own.tolist()) == list(range(60)) and found.documents == [d.content for d in documents]
    named = 0
    for query, own in zip(found.queries, found.own, strict=True):
        if query == documents[own].title:
            named += 1
        else:
            assert is_piece(query, documents[own].text) and 3 <= len(query.split()) <= 6
    assert 15 < named < 45


def test_untitled_documents_are_named_by_their_first_sentence():
    sentences = [Document(str(n), "", f"Sentence number {n} of many. And then w{n} more words.") for n in range(40)]
    found = pseudo_queries(Corpus.of(sentences), NONE, 100, 100, WORDS, 0)
    named = [query for query, own in zip(found.queries, found.own, strict=True) if query.startswith("Sentence number")]
    assert len(named) > 10
    assert all(
        query.split()[2] == str(own) for query, own in zip(found.queries, found.own, strict=True) if query in named
    )


def test_documents_without_a_name_give_words():
    found = pseudo_queries(corpus(title=lambda _: ""), NONE, 100, 100, WORDS, 0)
    assert len(found.queries) == 60 and all(3 <= len(query.split()) <= 6 for query in found.queries)


def test_a_long_name_is_no_query():
    found = pseudo_queries(corpus(title=lambda _: "word " * (LONGEST + 1)), NONE, 100, 100, WORDS, 0)
    assert max(len(query.split()) for query in found.queries) <= 6


def test_what_is_held_out_is_neither_asked_nor_answered():
    held_out = np.arange(0, 60, 2)
    found = pseudo_queries(corpus(), held_out, 100, 100, WORDS, 0)
    contents = [document.content for document in corpus()]
    assert found.documents == contents[1::2] and len(found.queries) == 30


def test_pool_and_queries_are_limited_and_drawn_by_the_seed():
    draws = [pseudo_queries(corpus(), NONE, 20, 8, WORDS, seed) for seed in (0, 0, 1)]
    assert all(len(draw.documents) == 20 and len(set(draw.own.tolist())) == len(draw.queries) == 8 for draw in draws)
    assert draws[0].queries == draws[1].queries and draws[0].documents == draws[1].documents
    assert draws[0].queries != draws[2].queries and draws[0].documents != draws[2].documents


def test_documents_without_text_ask_nothing():
    empty = [Document("a", "", ""), Document("b", "", "one"), Document("c", "", "enough words for a query here")]
    found = pseudo_queries(Corpus.of(empty), NONE, 10, 10, WORDS, 0)
    assert found.own.tolist() == [2] and len(found.documents) == 3


def test_clozes_are_words_cut_out_of_a_document():
    texts = [document.text for document in corpus()]
    items = cloze_items(corpus(), 100, WORDS, 0)
    assert len(items) == 6, "a tenth of the documents"
    for query, rest, row in zip(items.queries, items.documents, items.rows, strict=True):
        assert is_piece(query, texts[row]) and 3 <= len(query.split()) <= 6
        assert not set(query.split()) & set(rest.split())
        assert sorted(query.split() + rest.split()) == sorted(texts[row].split())
    assert (np.diff(items.rows) > 0).all()


@pytest.mark.parametrize(("length", "expected"), [(15, 0), (16, 6)])
def test_clozes_leave_ten_words(length, expected):
    items = cloze_items(corpus(length=length), 100, WORDS, 0)
    assert len(items) == expected and items.rows.dtype == np.int64
    assert all(len(rest.split()) >= 10 for rest in items.documents)


def test_clozes_are_drawn_by_the_seed():
    one, same, other = (cloze_items(corpus(), 3, WORDS, seed) for seed in (0, 0, 1))
    assert len(one) == 3 and one.queries == same.queries and one.queries != other.queries
