"""Structure: what titles, headings and first sentences name, and how often corpora have them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import KINDS, store_of_parts

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.parts import PartKind
from retriever.data.tokenizers import WordTokenizer
from retriever.data.tokens import tokenise
from retriever.errors import RecipeError
from retriever.training.structure import FINDERS, headings, sentences, survey, titles
from retriever.training.view_settings import Views

CROPS = {"query": {"tokens": (4, 16)}, "document": {"ratio": (0.05, 0.5)}}
RANDOM = np.random.default_rng(0)

DOCUMENTS = [
    [("T", 3), ("S", 5), (".", 20)],
    [(".", 7)],
    [("T", 2), ("M", 1), ("T", 2), ("M", 1), ("S", 4)],  # the title once more
    [("T", 6)],
    [("S", 4)],
    [("S", 4), ("M", 2)],  # blanks alone
    [("T", 1), ("M", 1)],
    [("M", 1), ("H", 2), ("M", 1), ("S", 3), (".", 9), ("L", 1), (".", 4)],
    [("M", 1), ("H", 2), ("M", 2), ("M", 1), ("H", 3), ("M", 1), (".", 9), ("M", 1), ("H", 2)],
    [("S", 4), ("L", 1), (".", 4)],
]
"""T title, H heading, L label, S first sentence, M markup, . text."""


def spans(named):
    """(name start, length), (text start, length) of each document, relative to it; None where there is no pair."""
    store = store_of_parts(DOCUMENTS)
    return [
        ((int(a - start), int(b)), (int(c - start), int(d))) if found else None
        for a, b, c, d, start, found in zip(
            named.name_starts,
            named.name_lengths,
            named.text_starts,
            named.text_lengths,
            store.offsets,
            named.found,
            strict=False,
        )
    ]


def found(finder):
    return spans(finder(store_of_parts(DOCUMENTS), np.arange(len(DOCUMENTS)), RANDOM))


def test_titles_name_bodies_without_them():
    assert found(titles) == [((0, 3), (3, 25)), None, ((0, 2), (6, 4)), None, *[None] * 6]


def test_first_sentences_name_what_follows():
    assert found(sentences) == [
        ((3, 5), (8, 20)),
        *[None] * 6,
        ((4, 3), (7, 14)),
        None,
        ((0, 4), (4, 5)),
    ]


def test_headings_name_the_text_up_to_the_next_heading_or_label():
    assert found(headings) == [*[None] * 7, ((1, 2), (4, 12)), ((6, 3), (10, 9)), None]


def test_rows_may_come_in_any_order_and_twice():
    named = titles(store_of_parts(DOCUMENTS), np.array([2, 1, 0, 2]), RANDOM)
    assert named.found.tolist() == [True, False, True, True]
    assert named.name_lengths.tolist() == [2, 0, 3, 2] and named.text_lengths.tolist() == [4, 0, 25, 4]


def test_every_heading_is_drawn_equally_often():
    store = store_of_parts([[("S", 2), ("H", 1), (".", 5), ("H", 2), (".", 6), ("L", 1), (".", 9), ("H", 3), (".", 7)]])
    named = headings(store, np.zeros(3000, np.int64), np.random.default_rng(0))
    pairs = set(zip(named.name_lengths.tolist(), named.text_lengths.tolist(), strict=True))
    assert pairs == {(1, 5), (2, 6), (3, 7)}
    assert np.bincount(named.name_lengths)[1:].min() > 900


def some(kinds, least, most):
    return st.lists(st.tuples(st.sampled_from(kinds), st.integers(1, 5)), min_size=least, max_size=most)


document = st.builds(list.__add__, some("TM", 0, 3), some("HSML.", 1, 8))  # titles come first


@given(st.lists(document, min_size=1, max_size=6), st.integers(0, 9))
def test_pairs_stay_in_their_document_and_do_not_overlap(documents, seed):
    store = store_of_parts(documents)
    rows = np.random.default_rng(seed).permutation(len(documents))
    for finder in FINDERS.values():
        named = finder(store, rows, np.random.default_rng(seed))
        where = named.found
        name_ends, text_ends = named.name_starts + named.name_lengths, named.text_starts + named.text_lengths
        assert (named.name_lengths[~where] == 0).all() and (named.name_lengths[where] > 0).all()
        assert (named.name_starts[where] >= store.offsets[rows][where]).all()
        assert (name_ends[where] <= named.text_starts[where]).all()
        assert (text_ends[where] <= store.offsets[rows + 1][where]).all()


@given(st.lists(document, min_size=1, max_size=6))
def test_headings_against_a_plain_loop(documents):
    store = store_of_parts(documents)
    named = headings(store, np.arange(len(documents)), RANDOM)
    for row, parts in enumerate(documents):
        solid = [kind for kind, _ in parts if kind != "M"]
        expected = any(one == "H" and two in ".S" for one, two in pairwise(solid))
        assert named.found[row] == expected


def real_store(tmp_path, monkeypatch, documents):
    monkeypatch.setenv("RETRIEVER_CACHE", str(tmp_path))
    tokenizer = WordTokenizer.train([d.content for d in documents], min_documents=1, stemmer="none")
    return tokenise(Corpus.of(documents), tokenizer, processes=1), tokenizer


def test_a_real_page(tmp_path, monkeypatch):
    page = "# The Tool\n\nIt cuts. It joins.\n\n## Cutting\n\nTake two.\nTake three.\n\n## See also\nnothing"
    store, tokenizer = real_store(tmp_path, monkeypatch, [Document("1", "The tool", page)])

    def read(start, length):
        return tokenizer.decode(store.ids[start[0] : start[0] + length[0]])

    texts = []
    for finder in (titles, sentences):
        named = finder(store, np.zeros(1, np.int64), RANDOM)
        texts.append((read(named.name_starts, named.name_lengths), read(named.text_starts, named.text_lengths)))
    body = "it cuts it joins cutting take two take three see also nothing"
    assert texts == [("the tool", body), ("it cuts", body.removeprefix("it cuts "))]
    drawn = headings(store, np.zeros(50, np.int64), RANDOM)
    names = {
        (
            tokenizer.decode(store.ids[a : a + b]),
            tokenizer.decode(store.ids[c : c + d]),
        )
        for a, b, c, d in zip(drawn.name_starts, drawn.name_lengths, drawn.text_starts, drawn.text_lengths, strict=True)
    }
    assert names == {("cutting", "take two take three"), ("see also", "nothing")}


def views_of(**mix):
    return Views.model_validate({**CROPS, "mix": mix})


def test_a_survey_counts_what_the_recipe_asks_for():
    store = store_of_parts(DOCUMENTS)
    rows = np.arange(len(DOCUMENTS))
    found = survey(store, rows, views_of(crop=1, title=1, heading=2, sentence=1))
    assert found.documents == 10 and found.counts == {"title": 2, "heading": 2, "sentence": 3}
    assert str(found) == (
        "Of 10 documents, 2 have a title and a body, 2 have a heading of their own with text below it, 3 have a first "
        "sentence and more; the others are cropped."
    )
    assert survey(store, rows[:2], views_of(title=1)).counts == {"title": 1}
    assert survey(store, rows, views_of(crop=1)).counts == {}


def test_blocks_do_not_show(monkeypatch):
    store, rows = store_of_parts(DOCUMENTS), np.arange(len(DOCUMENTS))
    whole = survey(store, rows, views_of(title=1, sentence=1))
    monkeypatch.setattr("retriever.training.structure.BLOCK", 3)
    assert survey(store, rows, views_of(title=1, sentence=1)) == whole


def test_a_corpus_without_any_of_the_structures_is_refused():
    store, rows = store_of_parts([[(".", 5)], [("S", 4), ("M", 1)]]), np.arange(2)
    with pytest.raises(RecipeError, match=r"views\.mix asks for documents with a title and a body or a phrase that"):
        survey(store, rows, views_of(title=1, span=1))
    assert survey(store, rows, views_of(title=1, crop=0.1)).counts == {"title": 0}
    assert survey(store, rows, views_of(title=1, cloze=0.1)).counts == {"title": 0}


def test_every_kind_of_part_is_known_here():
    assert set(KINDS.values()) == set(PartKind)
