"""Words and stems."""

from __future__ import annotations

import pickle
import re

import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from retriever.data import words
from retriever.data.words import WordAnalyzer


@given(st.text(max_size=40), st.sampled_from(["porter", "english", "german", "none"]))
def test_analysis_is_lower_case_split_stem(text, stemmer):
    analyzer = WordAnalyzer(stemmer)
    surface = re.findall(r"[^\W_]+", text.lower())
    stems = surface if stemmer == "none" else [Stemmer.Stemmer(stemmer).stemWord(word) for word in surface]
    assert analyzer.words(text) == surface
    assert analyzer(text) == analyzer(text) == stems
    assert [analyzer.stem(word) for word in surface] == stems


def test_examples():
    assert WordAnalyzer()("Running DOGS, ran_fast; naïve 1.5") == ["run", "dog", "ran", "fast", "naïv", "1", "5"]


def test_the_memo_does_not_grow_without_end(monkeypatch):
    monkeypatch.setattr(words, "MEMO_LIMIT", 10)
    analyzer = WordAnalyzer()
    assert analyzer(" ".join(f"w{i}s" for i in range(95))) == [f"w{i}" for i in range(95)]
    assert len(analyzer._stems) <= 10


def test_an_analyzer_travels_to_another_process():
    assert pickle.loads(pickle.dumps(WordAnalyzer("german")))("Häuser") == WordAnalyzer("german")("Häuser")


def test_an_unknown_stemmer_is_refused():
    with pytest.raises(KeyError):
        WordAnalyzer("klingon")
