"""Pairs: kinds by their weights, each kind as promised, nothing across documents, everything from the generator."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import is_piece, same, store_of, store_of_parts

from retriever.training.view_crops import crop, window
from retriever.training.view_noise import delete
from retriever.training.view_settings import Views
from retriever.training.views import draw, pairs

CROPS = {"query": {"tokens": (4, 16)}, "document": {"ratio": (0.05, 0.5)}}
FULL = {"crop": 0.3, "cloze": 0.1, "title": 0.2, "heading": 0.1, "sentence": 0.2, "span": 0.1}
PAGE = [("T", 4), ("S", 6), (".", 30), ("M", 1), ("H", 3), ("M", 1), (".", 40)]


def views_of(**settings):
    return Views.model_validate({**CROPS, **settings})


def positions(text, row):
    return (text - 1000 * row).tolist()


def test_crops_alone_are_what_they_always_were():
    """The plain recipe draws a window, two crops and two deletions, in this order and nothing else."""
    store, rows = store_of([50, 300, 2, 1] * 16), np.arange(64)
    views = views_of(window=32, delete=0.1)
    queries, documents = pairs(store, rows, views, np.random.default_rng(5))
    random = np.random.default_rng(5)
    windows = window(store, rows, 32, random)
    query, document = crop(windows, views.query, random), crop(windows, views.document, random)
    assert same(queries, delete(query, 0.1, random)) and same(documents, delete(document, 0.1, random))


def test_pairs_depend_on_the_generator_alone_and_differ_from_each_other():
    store, rows = store_of_parts([PAGE] * 64), np.arange(64)
    views = views_of(window=32, delete=0.1, replace=0.1, repeat=0.1, mask=0.1, mix=FULL, positives=2)
    one, two, other = (pairs(store, rows, views, np.random.default_rng(seed), mask=7) for seed in (5, 5, 6))
    assert all(map(same, one, two)) and not all(map(same, one, other))
    assert any(one[0][row].tolist() != one[1][row].tolist() for row in range(64))


def test_kinds_come_by_their_weights():
    drawn = draw(
        store_of_parts([PAGE] * 8000), np.arange(8000), views_of(mix={**FULL, "span": 0}), np.random.default_rng(0)
    )
    counts = Counter(drawn.kinds.tolist())
    for kind, weight in FULL.items():
        assert counts[kind] / 8000 == pytest.approx(weight / 0.9 if kind != "span" else 0, abs=0.015)


def test_documents_that_lack_the_structure_are_cropped():
    store = store_of_parts([PAGE, [(".", 30)], [("S", 9)]] * 100)
    for kind, rows in (("title", 100), ("heading", 100), ("sentence", 100), ("span", 0), ("cloze", 300)):
        drawn = draw(store, np.arange(300), views_of(mix={kind: 1}), np.random.default_rng(0))
        assert Counter(drawn.kinds.tolist()) == Counter({kind: rows, "crop": 300 - rows})
        for row in range(300):
            assert set(positions(drawn.queries[row], row)) <= set(range(100))
    assert (drawn.kinds == "cloze").all()


def test_titles_are_queries_for_bodies_without_them():
    drawn = draw(store_of_parts([PAGE] * 200), np.arange(200), views_of(mix={"title": 1}), np.random.default_rng(0))
    lengths = []
    for row in range(200):
        assert positions(drawn.queries[row], row) == [0, 1, 2, 3]
        document = drawn.documents[0][row]
        assert is_piece(document, row, 85) and min(positions(document, row)) >= 4
        lengths.append(len(document))
    assert min(lengths) == int(0.05 * 81) and max(lengths) == 40, "crops of the body by its own length"


def test_headings_are_queries_for_the_text_below():
    drawn = draw(store_of_parts([PAGE] * 200), np.arange(200), views_of(mix={"heading": 1}), np.random.default_rng(0))
    for row in range(200):
        assert positions(drawn.queries[row], row) == [41, 42, 43]
        assert is_piece(drawn.documents[0][row], row, 85) and min(positions(drawn.documents[0][row], row)) >= 45


def test_first_sentences_are_queries_for_the_rest():
    drawn = draw(store_of_parts([PAGE] * 200), np.arange(200), views_of(mix={"sentence": 1}), np.random.default_rng(0))
    for row in range(200):
        assert positions(drawn.queries[row], row) == [4, 5, 6, 7, 8, 9]
        assert min(positions(drawn.documents[0][row], row)) >= 10


def test_a_window_cuts_long_names_and_long_texts():
    store = store_of_parts([[("T", 20), ("S", 300)]] * 50)
    drawn = draw(store, np.arange(50), views_of(mix={"title": 1}, window=10), np.random.default_rng(0))
    assert set(drawn.queries.lengths.tolist()) == {10} and drawn.documents[0].lengths.max() <= 5
    assert drawn.queries.ids[0] == 0
    starts = drawn.documents[0].ids[drawn.documents[0].offsets[:-1]] - 1000 * np.arange(50)
    assert starts.min() >= 20 and len(set(starts.tolist())) > 30


@pytest.mark.parametrize("keep", [0.0, 0.3, 1.0])
def test_cloze_documents_lack_the_query_unless_it_is_kept(keep):
    store, rows = store_of([80] * 2000), np.arange(2000)
    drawn = draw(store, rows, views_of(mix={"cloze": 1}, cloze_keep=keep), np.random.default_rng(0))
    kept = 0
    for row in range(2000):
        query, document = positions(drawn.queries[row], row), positions(drawn.documents[0][row], row)
        assert 4 <= len(query) <= 16 and is_piece(drawn.queries[row], row, 80)
        whole = document == list(range(80))
        assert whole or document == [at for at in range(80) if at not in query]
        kept += whole
    assert kept / 2000 == pytest.approx(keep, abs=0.03)


def test_cloze_leaves_something_of_the_shortest_documents():
    store = store_of([1, 2, 3] * 100)
    drawn = draw(store, np.arange(300), views_of(mix={"cloze": 1}, cloze_keep=0), np.random.default_rng(0))
    for row in range(300):
        query, document = drawn.queries[row].tolist(), drawn.documents[0][row].tolist()
        assert query and document
        assert not set(query) & set(document) or row % 3 == 0, "a single token is both"


@pytest.mark.parametrize("mix", [{"crop": 1}, {"cloze": 1}, {"title": 1}, {"sentence": 1, "heading": 1}])
def test_several_positives_are_views_major_and_differ(mix):
    store, rows = store_of_parts([PAGE] * 30), np.arange(30)[::-1].copy()
    queries, documents = pairs(store, rows, views_of(mix=mix, positives=4, cloze_keep=0.5), np.random.default_rng(0))
    assert len(queries) == 30 and len(documents) == 120
    lots = [documents.take(np.arange(30) + 30 * view) for view in range(4)]
    for lot in lots:
        assert [int(lot[place][0]) // 1000 for place in range(30)] == rows.tolist()
    assert not any(same(lots[0], lot) for lot in lots[1:])


def test_the_first_of_several_positives_is_a_crop_like_any_other():
    store, rows = store_of([256] * 4000), np.arange(4000)
    views = Views.model_validate({"query": {"ratio": (0.05, 0.5)}, "document": {"ratio": (0.05, 0.5)}, "positives": 3})
    _, documents = pairs(store, rows, views, np.random.default_rng(0))
    assert documents.lengths.reshape(3, -1).mean(1) == pytest.approx([69.9] * 3, abs=1.5)


@pytest.mark.parametrize(("noise", "sides"), [("both", (1, 1)), ("query", (1, 0)), ("document", (0, 1))])
def test_noise_goes_to_the_sides_it_is_meant_for(noise, sides):
    store, rows = store_of([100] * 500), np.arange(500)
    views = views_of(mask=0.5, noise=noise, positives=2)
    for side, meant in zip(pairs(store, rows, views, np.random.default_rng(0), mask=-1), sides, strict=True):
        assert (side.ids == -1).mean() == pytest.approx(0.5 * meant, abs=0.03)


part = st.tuples(st.sampled_from("HSML."), st.integers(1, 12))
page = st.builds(
    lambda title, parts: title + parts, st.sampled_from([[], [("T", 3)]]), st.lists(part, min_size=1, max_size=6)
)


@given(st.lists(page, min_size=1, max_size=8), st.integers(0, 99), st.sampled_from([None, 2, 9]), st.integers(1, 3))
def test_no_view_crosses_a_document_or_is_empty(pages, seed, width, positives):
    store = store_of_parts(pages)
    random = np.random.default_rng(seed)
    rows = random.integers(0, len(pages), 12)
    views = views_of(mix=FULL, window=width, positives=positives, delete=0.5, repeat=0.5)
    queries, documents = pairs(store, rows, views, random)
    assert len(queries) == 12 and len(documents) == 12 * positives
    for place, text in enumerate([*listed(queries), *listed(documents)]):
        assert len(text) and (text // 1000 == rows[place % 12]).all()
        assert (np.diff(text) >= 0).all()


def listed(texts):
    return [texts[row] for row in range(len(texts))]


def test_the_parts_of_a_batch_come_back_in_order():
    """Mixed kinds are drawn apart and put together again; every row must be of its own document."""
    store, rows = store_of_parts([PAGE] * 500), np.random.default_rng(1).permutation(500)
    drawn = draw(store, rows, views_of(mix=FULL), np.random.default_rng(0))
    for place, row in enumerate(rows):
        query = positions(drawn.queries[place], row)
        if drawn.kinds[place] == "title":
            assert query == [0, 1, 2, 3]
        if drawn.kinds[place] == "heading":
            assert query == [41, 42, 43]
        assert set(query) <= set(range(85)) and set(positions(drawn.documents[0][place], row)) <= set(range(85))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 3), st.sampled_from([None, 10]))
def test_the_same_text_is_every_view_and_only_noise_tells_them_apart(lengths, positives, most):
    store, rows = store_of(lengths), np.arange(len(lengths))
    views = views_of(mix={"same": 1.0}, positives=positives, window=most)
    queries, documents = pairs(store, rows, views, np.random.default_rng(0))
    assert len(documents) == positives * len(lengths)
    for row, length in enumerate(lengths):
        wanted = list(range(min(length, most or length)))
        texts = [queries[row], *(documents[view * len(lengths) + row] for view in range(positives))]
        assert all(positions(text, row) == wanted for text in texts)
    noisy = pairs(store_of([50]), np.arange(1), views_of(mix={"same": 1.0}, delete=0.3), np.random.default_rng(0))
    assert not same(*noisy)
