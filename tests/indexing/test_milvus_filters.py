"""Filters in the language of Milvus: what they look like, and that texts cannot break out of them."""

from __future__ import annotations

import json

import pytest

from retriever.errors import DataError
from retriever.indexing.filters import Condition
from retriever.indexing.milvus_filters import expression


def told(*filters):
    return expression([Condition.parse(text) for text in filters])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("year>=2020", '((metadata["year"] >= 2020))'),
        ("year<2.5", '((metadata["year"] < 2.5 or metadata["year"] == true or metadata["year"] == false))'),
        (
            "flag=true",
            '((metadata["flag"] == 1 or metadata["flag"] == true) or (metadata["flag"] == "true")'
            ' or json_contains_any(metadata["flag"], [1, 1.0, true, "true"]))',
        ),
        (
            "zip!=7",
            '((metadata["zip"] < 7 or metadata["zip"] > 7 or metadata["zip"] == true or metadata["zip"] == false)'
            ' or (metadata["zip"] < "7" or metadata["zip"] > "7"))',
        ),
        (
            "lang=en,de",
            '((metadata["lang"] == "en") or (metadata["lang"] == "de")'
            ' or json_contains_any(metadata["lang"], ["en", "de"]))',
        ),
        (
            f"n={2**53}",
            f'((metadata["n"] == {2**53}) or (metadata["n"] == "{2**53}")'
            f' or json_contains_any(metadata["n"], [{2**53}, "{2**53}"]))',
        ),
        ("author!=Ann", '((metadata["author"] < "Ann" or metadata["author"] > "Ann"))'),
        ("year>1e999", '((metadata["year"] > 1e+308))'),
        ("größe=ß", '((metadata["größe"] == "ß") or json_contains_any(metadata["größe"], ["ß"]))'),
    ],
)
def test_conditions(text, wanted):
    assert told(text) == wanted


@pytest.mark.parametrize("text", ["a=x\x01", "a\x02b=x", "a=\ud800"])
def test_what_milvus_cannot_read_is_refused(text):
    with pytest.raises(DataError, match="holds a control or half a character"):
        told(text)


def test_all_must_hold_and_none_is_none():
    assert told("a=x", "b=y") == f"{told('a=x')} and {told('b=y')}"
    assert expression([]) is None


@pytest.mark.parametrize("evil", ['x" or row >= 0 or metadata["a"] == "', "x\\", 'x\\" or true', "x\n\t", "]"])
def test_names_and_values_stay_texts(evil):
    for condition in (Condition("a", "=", (evil,)), Condition(evil, "=", ("x",))):
        text = expression([condition])
        start, _, rest = text.partition("metadata[")
        name, end = json.JSONDecoder().raw_decode(rest)
        assert rest[end:].startswith("] == ")
        value, stop = json.JSONDecoder().raw_decode(rest[end + 5 :])
        assert (name, value) == (condition.field, condition.values[0])
        told_again = rest[end + 5 + stop :].removeprefix(") or json_contains_any(metadata[")
        name, end = json.JSONDecoder().raw_decode(told_again)
        assert told_again[end:].startswith("], [")
        value, stop = json.JSONDecoder().raw_decode(told_again[end + 4 :])
        assert (name, value) == (condition.field, condition.values[0])
        assert (start, told_again[end + 4 + stop :]) == ("((", "]))")
