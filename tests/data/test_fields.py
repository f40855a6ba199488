"""Records to documents."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest

from retriever.data.document import Document
from retriever.data.fields import Fields
from retriever.data.readers import Untyped
from retriever.errors import DataError


def document(record, **names):
    return Fields(**names).document(record, "c.jsonl:7", "6")


@pytest.mark.parametrize(
    ("record", "names", "expected"),
    [
        ({"text": "t"}, {}, Document("6", "", "t")),
        ({"_id": "a", "title": "T", "text": "t"}, {}, Document("a", "T", "t")),
        ({"id": 5, "contents": "t"}, {}, Document("5", "", "t")),
        ({"docid": "d", "content": "t"}, {}, Document("d", "", "t")),
        ({"body": "t", "title": None}, {}, Document("6", "", "t")),
        ({"_id": "a", "id": "b", "text": "t", "body": "u"}, {}, Document("a", "", "t", {"id": "b", "body": "u"})),
        ({"n": "1", "h": "T", "p": "t"}, {"text": "p", "title": "h", "id": "n"}, Document("1", "T", "t")),
        ({"text": "t", "p": "u"}, {"text": "p"}, Document("6", "", "u", {"text": "t"})),
        ({"text": "t", "metadata": {"url": "u"}, "year": 1}, {}, Document("6", "", "t", {"year": 1, "url": "u"})),
        ({"text": "t", "metadata": "plain"}, {}, Document("6", "", "t", {"metadata": "plain"})),
        ({"text": "t", "metadata": ' {"year": "1"}'}, {}, Document("6", "", "t", {"year": "1"})),
        ({"text": "t", "year": "1"}, {}, Document("6", "", "t", {"year": "1"})),
        ({"text": ""}, {}, Document("6")),
    ],
)
def test_fields_find_their_place(record, names, expected):
    found = document(record, **names)
    assert found == expected
    assert dict(found.metadata) == dict(expected.metadata)


@pytest.mark.parametrize(
    ("record", "names", "message"),
    [
        ({"a": 1, "b": 2}, {}, r"c.jsonl:7 has no field text \(fields found: a, b\): name one with text_field"),
        ({}, {}, r"has no field text \(fields found: none\)"),
        ({"text": "t"}, {"text": "p"}, r"has no field 'p' \(fields found: text\): name one with text_field"),
        ({"text": "t"}, {"title": "h"}, r"has no field 'h' \(fields found: text\): name one with title_field"),
        ({"text": "t"}, {"id": "n"}, r"has no field 'n' \(fields found: text\): name one with id_field"),
        ({"text": 3}, {}, "c.jsonl:7 has a text that is not a string but int: mend it"),
        ({"text": None}, {}, "has a text that is not a string but NoneType"),
        ({"text": ["a"]}, {}, "has a text that is not a string but list"),
        ({"text": "t", "title": 1.5}, {}, "has a title that is not a string but float"),
        ({"text": "t", "_id": True}, {}, "has a _id that is not a string but bool"),
        ({"text": "t", "_id": {}}, {}, "has a _id that is not a string but dict"),
        ({"text": "t", "_id": None}, {}, "has an empty _id: give every document an id, or none"),
        ({"text": "t", "id": ""}, {}, "has an empty id"),
        ({"text": "t", "metadata": '{"year": 1'}, {}, r"c.jsonl:7 has metadata that are not valid JSON \(Expecting"),
        ({"text": "half \ud83d"}, {}, "has a text with half a surrogate pair in it"),
    ],
)
def test_what_does_not_fit_is_named(record, names, message):
    with pytest.raises(DataError, match=message):
        document(record, **names)


def test_missing_ids_are_row_numbers():
    rejected = []
    records = [("a:1", {"text": "x"}), ("a:2", {"text": 0}), ("a:5", {"text": "y"})]
    found = list(Fields().documents(iter(records), rejected.append))
    assert found == [("a:1", Document("0", text="x")), ("a:5", Document("2", text="y"))]
    assert len(rejected) == 1


def test_values_of_a_file_without_types_are_numbers_where_they_are_written_so():
    written = {"a": "2024", "b": "-2.50", "c": "0", "d": "true", "e": "false", "f": "", "metadata": '{"year": "1"}'}
    texts = {"g": "007", "h": "1e5", "i": "1.", "j": "123456789012345678", "k": "NaN", "l": "null", "m": "\u0661"}
    found = document(Untyped({"id": "12", "text": "2024", **written, **texts}))
    numbers = {"a": 2024, "b": -2.5, "c": 0, "d": True, "e": False, "year": "1"}
    assert found == Document("12", "", "2024", numbers | texts)
    assert dict(found.metadata) == numbers | texts


def test_values_of_more_types_than_json_become_their_equals_there():
    day, moment = date(2024, 1, 2), datetime(2024, 1, 2, 3, 4, tzinfo=timezone.utc)
    values = {"day": day, "at": moment, "noon": time(12), "price": Decimal("1.50"), "gone": float("nan"), "none": None}
    values |= {"took": timedelta(minutes=1.5), "raw": b"\xff\x00", "pairs": [("a", 1)]}
    found = document({"text": "t", **values, "days": [day, {"last": day}]})
    assert dict(found.metadata) == {
        "day": "2024-01-02",
        "at": "2024-01-02T03:04:00+00:00",
        "noon": "12:00:00",
        "price": 1.5,
        "none": None,
        "took": 90.0,
        "raw": "/wA=",
        "pairs": [["a", 1]],
        "days": ["2024-01-02", {"last": "2024-01-02"}],
    }


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (math.inf, "the number inf"),
        ([1, {"x": math.nan}], "the number nan"),
        (Decimal("-Infinity"), "the number -Infinity"),
        ("half \ud800", "surrogates not allowed"),
        ({"half \ud800": 1}, "surrogates not allowed"),
    ],
)
def test_values_that_json_cannot_hold_mangle_the_record(value, why):
    with pytest.raises(DataError, match=rf"c.jsonl:7 has metadata that JSON cannot hold \(.*{why}\): mend it"):
        document({"text": "t", "value": value})


def test_values_of_other_kinds_stay_as_they_are():
    picture = object()
    assert document({"text": "t", "picture": picture}).metadata["picture"] is picture
