"""Known-item queries: against sampling written as a plain sort."""

from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import SHARED, needs_shared

from retriever.data.beir import load_beir
from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.knownitem import known_items, split_query

BODY = "one two three four five six seven eight nine ten"


def make(n, eligible=lambda i: True):
    """A corpus whose documents are eligible or not."""
    return Corpus.of([Document(f"d{i}", "a b c" if eligible(i) else "a b", f"{BODY} {i}") for i in range(n)])


def oracle(n, eligible, count, seed):
    def key(i):
        return hashlib.blake2b(f"{seed} d{i}".encode(), digest_size=8).digest()

    rows = sorted((i for i in range(n) if eligible(i)), key=key)
    return sorted(rows[: min(count, max(1, len(rows) // 10))])


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(1, 4), st.integers(0, 50), st.integers(0, 9))
def test_the_smallest_hashes_are_chosen_up_to_a_tenth(n, step, count, seed):
    def eligible(i):
        return i % step == 0

    items = known_items(make(n, eligible), count, seed)
    assert items.rows.tolist() == oracle(n, eligible, count, seed)
    assert items.rows.dtype == np.int64
    assert items.queries == ["a b c"] * len(items)
    assert items.documents == [f"{BODY} {i}" for i in items.rows]


def test_seeds_differ_and_repeat():
    draws = [known_items(make(500), 20, seed).rows.tolist() for seed in (0, 1, 0)]
    assert draws[0] == draws[2] != draws[1]


def test_a_document_keeps_its_lot_when_others_come_and_go():
    few, many = (set(known_items(make(n), 10, 3).rows.tolist()) for n in (500, 1000))
    assert {row for row in many if row < 500} <= few


def test_nothing_eligible_is_a_legal_outcome():
    for items in (known_items(make(20, lambda i: False), 5, 0), known_items(make(20), 0, 0)):
        assert (len(items), items.documents, items.rows.tolist()) == (0, [], [])


@pytest.mark.parametrize(
    ("document", "query", "rest"),
    [
        (Document("1", "The  title", "The text. More."), "The title", "The text. More."),
        (Document("1", "", "The text.\nMore. And more."), "The text.", "More. And more."),
        (Document("1", "A title", " A title The text."), "A title", "The text."),
        (Document("1", "The cat", "The catalogue."), "The cat", "The catalogue."),
        (Document("1", " ", "Only one sentence"), "Only one sentence", ""),
        (Document("1"), "", ""),
    ],
)
def test_the_query_is_not_in_the_rest(document, query, rest):
    assert split_query(document) == (query, rest)


@pytest.mark.parametrize(
    ("title", "text", "eligible"),
    [
        ("a b c", BODY, True),
        ("a b", BODY, False),
        ("a b c", BODY.rpartition(" ")[0], False),
        ("--- a, b. C!", BODY.replace(" ", "-"), True),
    ],
)
def test_who_is_eligible(title, text, eligible):
    assert len(known_items(Corpus.of([Document("1", title, text)]), 1, 0)) == eligible


def test_only_the_chosen_are_in_memory(tmp_path):
    class Streamed:
        def __iter__(self):
            return (Document(str(i), "a b c", BODY + "x" * 100_000) for i in range(200))  # 20 MB

    tracemalloc.start()
    assert len(known_items(Streamed(), 5, 0)) == 5
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3_000_000


@needs_shared
@pytest.mark.parametrize("name", ["scifact", "cranfield", "xquad-en"])
def test_real_corpora_give_queries(name):
    corpus = load_beir(SHARED / "beir" / name).corpus
    items = known_items(corpus, 20, seed=1)
    assert len(items) == 20
    documents = list(corpus)
    for query, rest, row in zip(items.queries, items.documents, items.rows, strict=True):
        assert rest in documents[row].text
        assert query in " ".join(documents[row].content.split())
        assert query not in rest
