"""Filters against plain Python conditions, in every mode of search, and what is no filter."""

from __future__ import annotations

import math
import operator

import pytest

from retriever.data.document import Document
from retriever.errors import DataError
from retriever.indexing.filters import Condition
from retriever.indexing.index import Index
from retriever.indexing.store import DocumentStore

MODES = ["hybrid", "dense", "bm25"]
OPERATORS = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt}
OPERATORS[">="] = operator.ge


@pytest.fixture(scope="module")
def index(encoder, documents, tmp_path_factory):
    """Three segments, some documents deleted."""
    metas = [{"year": 1990 + n % 40, "lang": ("en", "de", "fr")[n % 3], 'a "b" c': n % 2 == 0} for n in range(120)]
    metas[7] = {"year": "unknown", "lang": None}
    metas[8] = {"year": 2001.5, "lang": "2001"}
    corpus = [Document(d.id, d.title, d.text, meta) for d, meta in zip(documents, metas, strict=True)]
    with Index.build(encoder, corpus[:90], tmp_path_factory.mktemp("filters") / "index") as index:
        index.add(corpus[90:110])
        index.add(corpus[110:114])
        index.delete([f"doc-{number}" for number in (3, 60, 95)])
        yield index


def everything(index):
    return list(index._current().live())


def meets(document, field, sign, value):
    own = document.metadata.get(field)
    if isinstance(own, str) and (isinstance(value, str) or sign in ("=", "!=")):
        return OPERATORS[sign](own, str(value))
    return isinstance(own, (int, float)) and isinstance(value, (int, float)) and OPERATORS[sign](own, value)


@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize(
    ("field", "value"), [("year", 2001), ("year", 2001.5), ("lang", "en"), ("lang", "eo"), ("lang", 2001)]
)
def test_filters_hold_what_python_holds(index, field, sign, value):
    expected = [document.id for document in everything(index) if meets(document, field, sign, value)]
    found = index.search("amber", 200, "dense", filters=[f"{field}{sign}{value}"])
    assert sorted(hit.id for hit in found) == sorted(expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("filters", [["year>=2000", "lang=en,de"], ["lang=fr"], [' a "b" c = true ', "year < 2010"]])
def test_filtered_hits_are_those_of_a_search_without_the_others(index, mode, filters):
    whole = index.search("amber heron", 1_000, mode)
    allowed = {hit.id for hit in index.search("amber", 1_000, "dense", filters=filters)}
    assert 0 < len(allowed) < len(index)
    expected = [(hit.id, pytest.approx(hit.score, rel=1e-5)) for hit in whole if hit.id in allowed]
    for k in (3, 1_000):
        found = index.search("amber heron", k, mode, filters=filters)
        assert [(hit.id, hit.score) for hit in found] == expected[:k]
        assert [hit.rank for hit in found] == list(range(1, len(found) + 1))


def test_a_condition_looks_at_the_documents_once_and_is_right_after_changes(encoder, documents, tmp_path, monkeypatch):
    asked = []
    select = DocumentStore._select

    def counting(self, query, *values, **named):
        asked.append(query)
        return select(self, query, *values, **named)

    def found(*filters):
        return {hit.id for hit in index.search("amber", 200, "dense", filters=filters)}

    corpus = [Document(d.id, d.title, d.text, {"odd": n % 2, "n": n}) for n, d in enumerate(documents)]
    with Index.build(encoder, corpus, tmp_path / "index") as index:
        first, both = found("odd=1"), found("n<60", "odd=1")
        assert first == {document.id for document in corpus if document.metadata["odd"]}
        monkeypatch.setattr(DocumentStore, "_select", counting)
        assert found("odd=1") == first and found("odd=1", "n<60") == both == first & found("n<60")
        assert asked and not [query for query in asked if "json_each(metadata)" in query]
        gone = min(first)
        index.delete([gone])
        assert found("odd=1") == first - {gone}
        index.add([Document("new", text="amber", metadata={"odd": 1}), Document(min(both - {gone}), text="amber")])
        assert found("odd=1") == first - {gone, min(both - {gone})} | {"new"}


def test_a_condition_takes_many_values(index):
    values = ",".join(map(str, range(1900, 6900)))
    expected = [d.id for d in everything(index) if d.metadata.get("year") in range(1900, 6900)]
    found = index.search("amber", 200, "dense", filters=[f"year={values}"])
    assert sorted(hit.id for hit in found) == sorted(expected)
    with pytest.raises(DataError, match="A filter takes 10,000 values at most, not 10,001"):
        index.search("amber", filters=[f"year={','.join('1' * 10_001)}"])


def test_a_filter_that_nothing_meets_gives_no_hit(index):
    for mode in MODES:
        assert index.search_batch(["amber", "heron"], 3, mode, filters=["year>3000"]) == [[], []]


def test_an_unknown_field_lists_the_fields(index):
    with pytest.raises(DataError, match=r"has a field 'yaer' to filter by: there are a \"b\" c, lang, year\."):
        index.search("amber", filters=["yaer>2000"])


def test_without_metadata_there_is_nothing_to_filter_by(encoder, tmp_path):
    Index.build(encoder, [Document("a", text="amber")], tmp_path / "index").close()
    with Index.open(tmp_path / "index", encoder) as index, pytest.raises(DataError, match="there is none"):
        index.search("amber", filters=["year=1"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "year",
        "=3",
        "year=",
        "year>1,2",
        "lang=en,,de",
        "year!<3 ",
        ">=",
        "a=b,",
        "year==2020",
        "lang<>en",
        "n=>5",
    ],
)
def test_what_is_no_condition_is_told(index, text):
    with pytest.raises(DataError, match="is no condition: write a field"):
        index.search("amber", filters=[text])


@pytest.mark.parametrize("text", ['by="Smith, John', 'by=Ann,"Smith', 'by="Smith"x', 'by="', 'year>"2020'])
def test_a_quote_that_does_not_end_is_told(text):
    with pytest.raises(DataError, match="begins with a quote and does not end with one"):
        Condition.parse(text)


def test_fields_that_no_condition_can_be_of_are_told_as_none(encoder, tmp_path):
    metadata = {"": 1, " year": 2, "a=b": 3, "nested": {"year": 4}, "both": {}, "lang": "en"}
    corpus = [Document("a", text="amber", metadata=metadata), Document("b", text="amber", metadata={"both": 5})]
    with Index.build(encoder, corpus, tmp_path / "index") as index:
        assert [hit.id for hit in index.search("amber", filters=["both=5"])] == ["b"]
        for field in ("nested", "nested.year", "year", "b"):
            with pytest.raises(DataError, match=rf"has a field '{field}' to filter by: there are both, lang\.$"):
                index.search("amber", filters=[f"{field}=4"])


def test_the_parts_of_a_condition():
    assert Condition.parse(" year >= 2020 ") == Condition("year", ">=", (2020,))
    assert Condition.parse("lang=en, 1e3,true") == Condition("lang", "=", ("en", 1000.0, "1e3", 1, "true"))
    assert Condition.parse("url!=http://a=b") == Condition("url", "!=", ("http://a=b",))
    assert Condition.parse('by= "Smith, John" ,"7", 5" disk,"a ""b"""').values == (
        "Smith, John",
        "7",
        '5" disk',
        'a "b"',
    )
    for text in ("007", "nan", "1_000", "inf", "+5", "0x1", "٣", ".5"):
        assert Condition.parse(f"x={text}").values == (text,)
    assert Condition.parse(f"x>{'9' * 5000}").values == (math.inf,)


def test_numbers_are_compared_exactly_and_texts_as_they_are_written(encoder, tmp_path):
    metas = {
        "a": {"n": 2**53 + 1, "zip": "02139", "m": -(10**18) - 1},
        "b": {"n": 2**53, "zip": "7"},
        "c": {"n": 7, "zip": 7},
    }
    corpus = [Document(name, text="amber", metadata=meta) for name, meta in metas.items()]
    with Index.build(encoder, corpus, tmp_path / "index") as index:
        for text, expected in {
            f"n={2**53 + 1}": "a",
            f"n>{2**53}": "a",
            f"m={-(10**18) - 1}": "a",
            f"m>={-(10**18)}": "",
            f"n!={2**53}": "ac",
            "zip=02139": "a",
            "zip!=02139": "b",
            "zip=7": "bc",
            'zip="7"': "b",
            "zip!=7": "a",
            "zip>6": "c",
        }.items():
            assert "".join(sorted(hit.id for hit in index.search("amber", filters=[text]))) == expected, text


def test_a_list_meets_what_one_of_its_members_equals(encoder, tmp_path):
    lists = {"a": ["python", "Smith, John", 3], "b": [3.0, True, "4"], "c": [], "d": [["python"], {"python": 3}, None]}
    corpus = [Document(name, text="amber", metadata={"tags": members}) for name, members in lists.items()]
    corpus.append(Document("e", text="amber", metadata={"tags": "python"}))
    with Index.build(encoder, corpus, tmp_path / "index") as index:
        for text, expected in {
            "tags=python": "ae",
            'tags=rust,"Smith, John"': "a",
            "tags=3": "ab",
            "tags=3,python": "abe",
            "tags=1": "b",
            "tags=4": "b",
            'tags="3"': "",
            "tags=null": "",
            "tags!=3": "e",
            "tags!=rust": "e",
            "tags>2": "",
            f"tags={','.join(map(str, range(10_000)))}": "ab",
        }.items():
            assert "".join(sorted(hit.id for hit in index.search("amber", filters=[text]))) == expected, text[:20]


@pytest.mark.parametrize("text", ["x'); DROP TABLE documents; --=1", 'a"b=1', "a]b=1", "$.x=1", "ß=ü"])
def test_hostile_fields_are_only_unknown(index, text):
    with pytest.raises(DataError, match="has a field"):
        index.search("amber", filters=[text])
    assert len(everything(index)) == len(index)
