"""Recurring spans: found where they are and nowhere else, shared by both views, cut out as promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import same, store_of_texts

from retriever.data.ragged import Ragged
from retriever.training.view_settings import Views
from retriever.training.view_spans import LONGEST, has_recurring, recurrence, spans

PHRASE = [901, 902, 903, 904]


def views_of(**settings):
    crops = {"query": {"tokens": (4, 8)}, "document": {"ratio": (0.5, 1.0)}}
    return Views.model_validate({**crops, "mix": {"span": 1}, **settings})


def with_phrase(first, gap, last, phrase=PHRASE):
    """A text that holds the phrase twice, among tokens that never recur."""
    filler = iter(range(1, 900))
    take = lambda count: [next(filler) for _ in range(count)]  # noqa: E731
    return [*take(first), *phrase, *take(gap), *phrase, *take(last)]


def holds(text, phrase):
    return any(text[at : at + len(phrase)] == list(phrase) for at in range(len(text)))


def plain_recurs(text, ngram):
    """Whether an n-gram stands twice in a text without overlap, by plain loops."""
    return any(
        text[i : i + ngram] == text[j : j + ngram]
        for i in range(len(text) - ngram + 1)
        for j in range(i + ngram, len(text) - ngram + 1)
    )


texts_of_few_tokens = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=14), min_size=1, max_size=6)


@given(texts_of_few_tokens, st.integers(2, 4))
def test_which_documents_recur_against_plain_loops(texts, ngram):
    has = has_recurring(store_of_texts(texts), np.arange(len(texts)), ngram)
    assert has.tolist() == [plain_recurs(text, ngram) for text in texts]


@given(texts_of_few_tokens, st.integers(2, 4), st.integers(0, 9))
def test_a_recurrence_is_two_equal_places_of_one_text_and_of_no_other(texts, ngram, seed):
    ragged = Ragged.from_rows(texts)
    found = recurrence(ragged, ngram, np.random.default_rng(seed))
    for row, text in enumerate(texts):
        first, second, length = (int(values[row]) for values in found)
        if not length:
            continue
        first, second = first - ragged.offsets[row], second - ragged.offsets[row]
        assert ngram <= length <= LONGEST and first >= 0 and first + length <= second
        assert second + length <= len(text) and text[first : first + length] == text[second : second + length]
        others = [other for at, other in enumerate(texts) if at != row]
        assert not any(holds(other, text[first : first + length]) for other in others)
        if length < LONGEST and first + length < second and second + length < len(text):
            assert text[first + length] != text[second + length], "the phrase is as long as it can be"


@given(texts_of_few_tokens, st.integers(2, 4))
def test_one_text_alone_has_a_recurrence_if_plain_loops_find_one(texts, ngram):
    for text in texts:
        found = recurrence(Ragged.from_rows([text]), ngram, np.random.default_rng(0))
        assert not found.length[0] or plain_recurs(text, ngram)
        if len(set(text[:ngram])) == ngram and plain_recurs(text[:ngram] * 2, ngram):
            twice = recurrence(Ragged.from_rows([text[:ngram] * 2]), ngram, np.random.default_rng(0))
            assert twice.length[0] == ngram


def test_the_phrase_grows_to_both_sides_up_to_its_limit():
    text = with_phrase(5, 30, 5, phrase=list(range(901, 912)))
    for seed in range(20):
        found = recurrence(Ragged.from_rows([text]), 3, np.random.default_rng(seed))
        assert (found.first[0], found.second[0], found.length[0]) == (5, 46, 11)
    long = with_phrase(5, 30, 5, phrase=list(range(901, 941)))
    assert recurrence(Ragged.from_rows([long]), 3, np.random.default_rng(0)).length[0] == LONGEST


def test_all_phrases_and_places_are_drawn():
    text = [1, 2, 3, 10, 4, 5, 6, 11, 1, 2, 3, 12, 4, 5, 6, 13, 1, 2, 3]
    texts = Ragged.from_rows([[token + 100 * row for token in text] for row in range(400)])
    found = recurrence(texts, 3, np.random.default_rng(0))
    pairs = {
        (int(a - start), int(b - start)) for a, b, start in zip(found.first, found.second, texts.offsets, strict=False)
    }
    assert pairs == {(0, 8), (0, 16), (8, 16), (4, 12)}


def test_what_other_texts_say_too_is_no_topic():
    common = [1, 2, 3, 10, 11, 1, 2, 3]
    own = [1, 2, 3, 20, 21, 22, 23, 1, 2, 3, 20, 21, 22]
    found = recurrence(Ragged.from_rows([common, own]), 3, np.random.default_rng(0))
    assert found.length[0] == 0 and found.length[1] >= 3
    assert recurrence(Ragged.from_rows([common]), 3, np.random.default_rng(0)).length.tolist() == [3]


def test_texts_too_short_for_any_phrase():
    found = recurrence(Ragged.from_rows([[1], [2, 3]]), 3, np.random.default_rng(0))
    assert found.length.tolist() == [0, 0]
    has, queries, documents = spans(store_of_texts([[1], [2, 3]]), np.arange(2), views_of(), np.random.default_rng(0))
    assert not has.any() and len(queries) == len(documents[0]) == 0


@pytest.mark.parametrize("keep", [0.0, 1.0])
def test_both_views_hold_the_phrase_unless_it_is_cut_out_of_the_query(keep):
    texts = [[token + 1000 * row for token in with_phrase(20, 25, 20)] for row in range(50)]
    has, queries, documents = spans(
        store_of_texts(texts), np.arange(50), views_of(span_keep=keep), np.random.default_rng(0)
    )
    assert has.all() and len(documents) == 1
    for row in range(50):
        phrase = [token + 1000 * row for token in PHRASE]
        query, document = queries[row].tolist(), documents[0][row].tolist()
        assert holds(document, phrase)
        assert holds(query, phrase) == bool(keep) and 4 <= len(query) <= 8
        assert set(query) & set(document) <= set(phrase), "the views come from different places"
        around = texts[row][20 - 8 : 20 + 4 + 8], texts[row][49 - 8 : 49 + 4 + 8]
        assert any(set(query) <= set(place) for place in around), "the query surrounds the phrase"


def test_the_phrase_stays_with_its_probability_and_either_place_may_ask():
    texts = [[token + 1000 * row for token in with_phrase(20, 25, 20)] for row in range(2000)]
    _, queries, _ = spans(store_of_texts(texts), np.arange(2000), views_of(span_keep=0.3), np.random.default_rng(0))
    assert queries.lengths.min() >= 4
    kept = [bool(set(queries[row] - 1000 * row) & set(PHRASE)) for row in range(2000)]
    assert np.mean(kept) == pytest.approx(0.3, abs=0.03)
    early = [min(queries[row] - 1000 * row) <= 20 + 8 for row in range(2000) if len(queries[row]) > len(PHRASE)]
    assert np.mean(early) == pytest.approx(0.5, abs=0.04)


def test_a_query_that_would_be_nothing_keeps_the_phrase():
    texts = [[1, 2, 3, 1, 2, 3]] * 1
    for seed in range(10):
        has, queries, documents = spans(
            store_of_texts(texts), np.arange(1), views_of(span_keep=0.0), np.random.default_rng(seed)
        )
        assert has.all() and queries[0].tolist() == documents[0][0].tolist() == [1, 2, 3]


def test_windows_hide_what_recurs_outside_them():
    store = store_of_texts([with_phrase(10, 300, 10)])
    assert has_recurring(store, np.arange(1), 3).all()
    found = [spans(store, np.arange(1), views_of(window=100), np.random.default_rng(seed))[0][0] for seed in range(20)]
    assert not any(found)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=60), min_size=1, max_size=6), st.integers(0, 99))
def test_views_are_pieces_of_their_own_document(texts, seed):
    store, rows = store_of_texts(texts), np.arange(len(texts))
    views = views_of(positives=3, ngram=2)
    has, queries, documents = spans(store, rows, views, np.random.default_rng(seed))
    assert len(documents) == 3 and len(queries) == has.sum()
    for place, row in enumerate(np.flatnonzero(has)):
        for lot in documents:
            assert holds(texts[row], lot[place].tolist()) and len(lot[place]) >= 2
        assert len(queries[place]) >= 1 and set(queries[place]) <= set(texts[row])
    _, again, _ = spans(store, rows, views, np.random.default_rng(seed))
    assert same(queries, again)
