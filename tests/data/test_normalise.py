"""Text normalisation: each rule, idempotence, and the same in a Hugging Face tokenizer."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers

from retriever.data.normalise import TABLE, normalise, normaliser

touched = st.text(st.sampled_from([chr(point) for point in TABLE] + list("aé-~'\"/ .漢\n\t\x00")), max_size=30)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x01\x08b\x0ec\x0fd\x11e\x1bf", "abcdef"),
        ("soft\xadhyphen", "softhyphen"),
        ("a\x0bb\x0cc\x85d", "a b c d"),
        ("a‐b‑c‒d–e—f―g⁃h⁻i−j－k", "a-b-c-d-e-f-g-h-i-j-k"),
        ("“a” „b‟", '"a" "b"'),
        ("‘a’ ‚b‛ `c´ ՚ ＇ ꞌ Ꞌ", "'a' 'b' 'c' ' ' ' '"),
        ("5′ 6″ 7‴ 8⁗", "5' 6'' 7''' 8''''"),
        ("5‵ 6‶ 7‷", "5' 6'' 7'''"),
        ("wait…", "wait..."),
        ("1⁄2 ∕ 3", "1/2 / 3"),
        ("~ ∼ ˜ ～", "~ ∼ ˜ ～"),
        ("plain text, 'as' \"it\" - is/was…\n\tnaïve", "plain text, 'as' \"it\" - is/was...\n\tnaïve"),
        ("", ""),
    ],
)
def test_rules(text, expected):
    assert normalise(text) == normaliser().normalize_str(text) == expected


def test_21_control_characters_go():
    gone = [chr(point) for point, replacement in TABLE.items() if not replacement and chr(point) != "\xad"]
    assert len(gone) == 21
    assert {unicodedata.category(character) for character in gone} == {"Cc"}
    assert not any(character.isspace() for character in gone)


def test_all_other_characters_stay():
    for point in range(sys.maxunicode + 1):
        if point not in TABLE:
            assert normalise(chr(point)) == chr(point)


@given(touched | st.text())
def test_a_second_time_changes_nothing(text):
    once = normalise(text)
    assert normalise(once) == once
    assert not any(ord(character) in TABLE for character in once)


@given(touched | st.text(st.characters(exclude_categories=["Cs"])))
def test_tokenizers_normalise_alike(text):
    assert normaliser().normalize_str(text) == normalise(text)


def test_the_tokenizer_s_own_normalizer_follows():
    assert normaliser([normalizers.Lowercase(), normalizers.Replace("'", "’")]).normalize_str("It´S") == "it’s"
