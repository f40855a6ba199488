"""Words and stems."""

from __future__ import annotations

import itertools
import pickle
import re
import sys
import unicodedata

import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from retriever.data import words
from retriever.data.words import UNSPACED, WORD, WordAnalyzer, split_words
from retriever.errors import DataError

SCRIPT = re.compile("CJK|HIRAGANA|KATAKANA|IDEOGRAPHIC|VERTICAL KANA|THAI|LAO|KHMER|MYANMAR")
unspaced = re.compile(f"[{UNSPACED}]")
blank_separated = st.characters(exclude_categories=["Cs"]).filter(lambda character: not unspaced.match(character))


def split_loops(text):
    """The words of a text, character by character."""
    words, run, kind = [], "", "other"
    for character in [*text.lower(), " "]:
        now = "pair" if unspaced.match(character) else "word" if character.isalnum() else "other"
        if now != kind:
            words += [run] if kind == "word" or (kind == "pair" and len(run) == 1) else []
            words += [a + b for a, b in itertools.pairwise(run)] if kind == "pair" else []
            run, kind = "", now
        run += character
    return words


@given(st.text(blank_separated, max_size=40), st.sampled_from(["porter", "english", "german", "none"]))
def test_analysis_is_lower_case_split_stem(text, stemmer):
    analyzer = WordAnalyzer(stemmer)
    surface = re.findall(r"[^\W_]+", text.lower())
    stems = surface if stemmer == "none" else [Stemmer.Stemmer(stemmer).stemWord(word) for word in surface]
    assert analyzer.words(text) == surface
    assert analyzer(text) == analyzer(text) == stems
    assert [analyzer.stem(word) for word in surface] == stems


def test_examples():
    assert WordAnalyzer()("Running DOGS, ran_fast; naïve 1.5") == ["run", "dog", "ran", "fast", "naïv", "1", "5"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("東京都", ["東京", "京都"]),
        ("東", ["東"]),
        ("1998年の東京、Tokyo市", ["1998", "年の", "の東", "東京", "tokyo", "市"]),
        ("人工智能。机器", ["人工", "工智", "智能", "机器"]),
        ("スーパー", ["スー", "ーパ", "パー"]),
        ("ภาษาไทย", ["ภา", "าษ", "ษา", "าไ", "ไท", "ทย"]),
        ("ที่นี่ 12 ๑๒", ["ที", "ี่", "่น", "นี", "ี่", "12", "๑๒"]),
        ("ភាសា", ["ភា", "ាស", "សា"]),
        ("한국어 문서", ["한국어", "문서"]),
        ("snake_東京_case", ["snake", "東京", "case"]),
        ("𠀀𠀁", ["𠀀𠀁"]),
    ],
)
def test_scripts_without_blanks_become_overlapping_pairs(text, words):
    assert split_words(text) == WordAnalyzer().words(text) == WordAnalyzer("none")(text) == words


@given(st.text("aB1_ 東京都ไที่の。ー\u3099é", max_size=20) | st.text(max_size=20))
def test_splitting_equals_plain_loops(text):
    assert split_words(text) == split_loops(text)


def test_pairs_are_made_of_letters_and_marks_of_scripts_without_blanks_only():
    for character in filter(unspaced.match, map(chr, range(sys.maxunicode + 1))):
        if unicodedata.category(character) != "Cn":
            assert unicodedata.category(character)[0] in "LM" or character == "〇"
            assert SCRIPT.search(unicodedata.name(character))


def test_the_memo_does_not_grow_without_end(monkeypatch):
    monkeypatch.setattr(words, "MEMO_LIMIT", 10)
    analyzer = WordAnalyzer()
    assert analyzer(" ".join(f"w{i}s" for i in range(95))) == [f"w{i}" for i in range(95)]
    assert len(analyzer._stems) <= 10


def test_an_analyzer_travels_to_another_process():
    assert pickle.loads(pickle.dumps(WordAnalyzer("german")))("Häuser") == WordAnalyzer("german")("Häuser")


def test_an_unknown_stemmer_is_refused():
    with pytest.raises(DataError, match="The stemmer 'klingon' is unknown: choose none, arabic, "):
        WordAnalyzer("klingon")


@pytest.mark.parametrize("text", ["A_b-C9", "x\x1cy\x0bz", "\t \n", "É!a", "K2 K", *map(chr, range(128))])
def test_ascii_is_split_as_any_other_text(text):
    assert split_words(text) == WORD.findall(text.lower())
