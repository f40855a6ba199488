"""Examples of pairs, readable."""

from __future__ import annotations

import numpy as np
import pytest

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.tokenizers import SubwordTokenizer, WordTokenizer
from retriever.data.tokens import tokenise
from retriever.errors import RecipeError
from retriever.training.view_examples import WIDTH, Example, draw_examples, render
from retriever.training.view_settings import Views

TOPICS = ["anvils", "bridges", "clocks", "drums"]
DOCUMENTS = [
    Document(str(i), f"About {topic}", f"First of all, {topic}. " + " ".join(f"{topic}{word}" for word in range(40)))
    for i, topic in enumerate(TOPICS)
]


@pytest.fixture(params=["words", "subwords"])
def made(request, tmp_path, monkeypatch):
    monkeypatch.setenv("RETRIEVER_CACHE", str(tmp_path))
    texts = [document.content for document in DOCUMENTS]
    words = WordTokenizer.train(texts, min_documents=1, stemmer="none")
    tokenizer = words if request.param == "words" else SubwordTokenizer.train(texts, size=300)
    return tokenise(Corpus.of(DOCUMENTS), tokenizer, processes=1), tokenizer


def views_of(**settings):
    return Views.model_validate({"query": {"tokens": (4, 4)}, "document": {"ratio": (0.3, 0.5)}, **settings})


def test_examples_are_pairs_of_their_document(made):
    store, tokenizer = made
    examples = draw_examples(store, np.arange(4), views_of(mix={"title": 1}, positives=2), tokenizer, 10, seed=0)
    assert sorted(example.row for example in examples) == [0, 1, 2, 3]
    for example in examples:
        topic = TOPICS[example.row]
        assert (example.kind, example.query) == ("title", f"about {topic}")
        assert len(example.documents) == 2 and len(set(example.documents)) == 2
        assert all(topic in text and f"about {topic}" not in text for text in example.documents)


def test_the_seed_decides(made):
    store, tokenizer = made
    one, two, other = (draw_examples(store, np.arange(4), views_of(), tokenizer, 2, seed) for seed in (1, 1, 2))
    assert one == two != other and len(one) == 2


def test_masks_are_shown_or_refused(made):
    store, tokenizer = made
    draw = lambda: draw_examples(store, np.arange(4), views_of(mask=0.9), tokenizer, 4, seed=0)  # noqa: E731
    if isinstance(tokenizer, WordTokenizer):
        with pytest.raises(RecipeError, match="no mask token"):
            draw()
    else:
        assert all("[MASK]" in example.documents[0] for example in draw())


def test_a_page_of_examples():
    long = "word " * 60
    page = render([Example(1234, "title", "a name", ("one", long)), Example(0, "crop", "", ("two",))])
    lines = page.split("\n")
    assert lines[:4] == [
        "title (document 1,234)",
        "  query     a name",
        "  document  one",
        "  document  " + lines[3][12:],
    ]
    assert lines[-4:] == ["", "crop (document 0)", "  query", "  document  two"]
    assert max(map(len, lines)) <= WIDTH and lines[4].startswith(" " * 12 + "word")
    assert " ".join(page.split()).count("word") == 60
