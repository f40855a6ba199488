"""Fusion and weight of a hybrid search, asked for or remembered by the index, against its parts."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retriever.data.document import Document
from retriever.errors import DataError
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.dense import DenseIndex
from retriever.indexing.hybrid import fuse
from retriever.indexing.index import Index
from retriever.indexing.searching import Part, candidates

QUERY = "heron and quill"
WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "islet", "quill"]


@pytest.fixture(scope="module")
def exact(encoder, documents):
    """Rankings of QUERY, as deep as a fusion looks, computed beside the index."""
    contents, depth = [document.content for document in documents], candidates(10)
    dense = DenseIndex.build(encoder.encode(contents)).search(encoder.encode([QUERY], "query"), depth)
    return {"dense": dense, "bm25": Bm25Index.build(contents).search([QUERY], depth)}


@pytest.fixture
def folder(encoder, documents, tmp_path):
    Index.build(encoder, documents, tmp_path / "index").close()
    return tmp_path / "index"


@pytest.fixture
def index(folder, encoder):
    with Index.open(folder, encoder) as index:
        yield index


def test_a_text_is_no_list(index):
    with pytest.raises(DataError, match="The queries are the text 'heron': give a list of queries"):
        index.search_batch("heron")
    with pytest.raises(DataError, match="The filters are the text 'number>=2': give a list of filters"):
        index.search("heron", filters="number>=2")
    for ask in (index.rank, index.parts):
        with pytest.raises(DataError, match="The queries are the text 'heron'"):
            ask("heron", 3)
    with pytest.raises(DataError, match="The queries are the text 'heron'"):
        index.tune(0.9, "heron")
    with pytest.raises(DataError, match="The ids are the text 'heron'"):
        index.rows("heron")


@pytest.mark.parametrize("name", [5, Path("doc-5"), None])
def test_an_id_is_a_string(index, name):
    for ask in (index.get, lambda one: index.rows([one]), lambda one: index.delete([one])):
        with pytest.raises(DataError, match=r"The id .* is a (int|PosixPath|NoneType): give ids as strings"):
            ask(name)


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
@pytest.mark.parametrize("query", [5, None, b"heron", ["heron"]])
def test_a_query_is_a_string(index, mode, query):
    with pytest.raises(DataError, match=r"The query .* is a (int|NoneType|bytes|list): give queries as strings"):
        index.search_batch(["heron", query], 3, mode)


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_numbers_of_numpy_are_numbers(index, mode):
    found = index.search("heron", np.int64(3), mode, offset=np.int64(1))
    assert found == index.search("heron", 3, mode, offset=1) and len(found) == 3


def test_an_open_index_stays_with_its_folder(folder, encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with Index.open(folder.name, encoder) as index:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert index.add([Document("new", text="zeppelin")]) == (1, 0)
        assert index.search("zeppelin", 1, "bm25")[0].id == "new"
    with Index.open(folder, encoder) as index:
        assert index.get("new") is not None


@pytest.mark.parametrize("mode", ["hybrid", "dense", "bm25"])
def test_a_wrong_fusion_or_weight_is_refused_in_every_mode(index, mode):
    with pytest.raises(DataError, match="The fusion 'nope' is unknown"):
        index.search("heron", mode=mode, fusion="nope")
    with pytest.raises(DataError, match="The weight of the vectors in a hybrid search is 5"):
        index.search("heron", mode=mode, weight=5)


def test_the_weight_of_the_vectors_can_be_chosen(index, exact):
    for weight, weights in ((0.5, None), (0.25, [1, 3]), (0, [0, 1]), (1, [1, 0])):
        expected = fuse([exact["dense"], exact["bm25"]], 10, method="tmm", weights=weights).rows[0]
        hits = index.search(QUERY, fusion="tmm", weight=weight)
        assert [hit.id for hit in hits] == [f"doc-{row}" for row in expected]
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(DataError, match=r"weight of the vectors in a hybrid search is .*between 0 and 1"):
            index.search(QUERY, weight=weight)


def test_the_index_remembers_how_it_was_tuned(folder, encoder, exact):
    def expected(method, weights=None):
        return [
            f"doc-{row}" for row in fuse([exact["dense"], exact["bm25"]], 10, method=method, weights=weights).rows[0]
        ]

    with Index.open(folder, encoder) as index, Index.open(folder, encoder) as other:
        index.set_fusion("minmax", 0.25)
        assert index.info()["fusion"] == {"method": "minmax", "weight": 0.25}
        for one in (index, other):
            assert [hit.id for hit in one.search(QUERY)] == expected("minmax", [1, 3])
            assert [hit.id for hit in one.search(QUERY, weight=0.5)] == expected("minmax")
            assert [hit.id for hit in one.search(QUERY, fusion="rrf")] == expected("rrf")  # with the weight of none
        index.add([Document("new", text="quill")])
        index.compact()
        index.verify()
        assert (index.info()["fusion"]["weight"], index.info()["generation"]) == (0.25, 4)
        with pytest.raises(DataError, match="'max' is unknown"):
            index.set_fusion("max", 0.5)
        with pytest.raises(DataError, match="between 0 and 1"):
            index.set_fusion("rrf", 2)


def test_the_parts_of_a_hybrid_search_can_be_had(index, exact):
    dense, bm25 = index.parts([QUERY])
    np.testing.assert_array_equal(dense.rows, exact["dense"].rows)
    np.testing.assert_array_equal(bm25.rows, exact["bm25"].rows)
    assert index.rows(["doc-7", "nobody"]).tolist() == [7, -1]


@pytest.mark.parametrize("fusion", ["fisher", "rrf"])
def test_a_hybrid_search_explains_its_hits_by_its_sides(index, exact, fusion):
    hits = index.search(QUERY, 10, fusion=fusion, explain=True)
    assert [replace(hit, parts={}) for hit in hits] == index.search(QUERY, 10, fusion=fusion)
    for hit in hits:
        row = int(hit.id.removeprefix("doc-"))
        assert list(hit.parts) == ["dense", "bm25"]
        for side, part in hit.parts.items():
            place = exact[side].rows[0].tolist().index(row) if row in exact[side].rows[0] else None
            if place is None:
                assert part is None
            else:
                assert part == Part(pytest.approx(exact[side].scores[0, place], abs=1e-5), place + 1)
                assert (type(part.score), type(part.rank)) == (float, int)


def test_a_document_that_one_side_does_not_find_has_no_part_there(index):
    found = {hit.id: hit.parts for hit in index.search("heron", 120, explain=True)}
    without = next(name for name, parts in found.items() if parts["bm25"] is None)
    assert "heron" not in index.get(without).content
    assert found[without]["dense"].rank > 1


@pytest.mark.parametrize("mode", ["dense", "bm25"])
def test_a_search_of_one_side_is_its_own_explanation(index, mode):
    many = index.search_batch([QUERY, "amber"], 5, mode, explain=True)
    assert all(hit.parts == {mode: Part(hit.score, hit.rank)} for hits in many for hit in hits)
    assert all(hit.parts == {} for hit in index.search(QUERY, 5, mode))


def test_filters_hold_for_the_parts(index):
    hits = index.search(QUERY, filters=["number<10"], explain=True)
    ranks = sorted(hit.parts["dense"].rank for hit in hits)
    assert ranks == list(range(1, len(hits) + 1)) and len(hits) == 10


def test_rankings_of_one_side_can_be_fused(index):
    sides = [index.rank(["device"], 1000, side) for side in ("dense", "bm25")]
    assert fuse(sides, 3).rows.tolist() == index.rank(["device"], 3).rows.tolist()


@pytest.mark.parametrize(("k", "depth"), [(1, 100), (10, 100), (20, 200), (100, 1000), (500, 1000), (5000, 5000)])
def test_a_fusion_looks_ten_times_as_deep_as_hits_are_wanted_within_bounds(k, depth):
    assert candidates(k) == depth


def test_all_pages_look_at_the_candidates_of_the_first():
    assert {candidates(10, offset) for offset in range(91)} == {100}
    assert {candidates(10, offset) for offset in range(91, 991)} == {1000}
    assert {candidates(50, offset) for offset in range(451)} == {500}
    assert (candidates(10, 991), candidates(5000, 10)) == (1001, 5010)


@pytest.fixture(scope="module", params=["Flat", "IVF8,PQ8x4"])
def large(request, encoder, tmp_path_factory):
    """600 documents, found exactly or by their codes."""
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(3, 30))) for _ in range(600)]
    documents = [Document(f"doc-{number}", text=text, metadata={"n": number}) for number, text in enumerate(texts)]
    folder = tmp_path_factory.mktemp("large") / "index"
    with Index.build(encoder, documents, folder, factory=request.param) as index:
        yield index


@pytest.mark.parametrize(("fusion", "weight"), [("fisher", 0.5), ("rrf", 0.5), ("tmm", 0.25)])
def test_pages_of_a_hybrid_search_are_cut_from_one_order(large, fusion, weight):
    queries = [f"{one} {other}" for one, other in itertools.combinations(WORDS[:6], 2)]
    order = fuse(large.parts(queries, 10), 100, method=fusion, weights=[2 * weight, 2 - 2 * weight])
    pages = [
        large.search_batch(queries, 10, fusion=fusion, weight=weight, offset=offset) for offset in range(0, 100, 10)
    ]
    for rows, *found in zip(order.rows, *pages, strict=True):
        hits = [hit for page in found for hit in page]
        assert [hit.id for hit in hits] == [f"doc-{row}" for row in rows]
        assert [hit.rank for hit in hits] == list(range(1, 101))
        assert len({hit.id for hit in hits}) == 100


def test_pages_of_hits_that_filters_allow_follow_each_other(large):
    pages = [large.search("amber quill", 10, filters=["n<65"], offset=offset) for offset in range(0, 80, 10)]
    hits = [hit for page in pages for hit in page]
    assert [len(page) for page in pages] == [10] * 6 + [5, 0]
    assert {hit.id for hit in hits} == {f"doc-{row}" for row in range(65)}


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_hits_can_be_skipped(index, mode):
    whole = index.search(QUERY, 10, mode, explain=True)
    assert index.search(QUERY, 4, mode, offset=6, explain=True) == whole[6:]
    assert index.search(QUERY, 4, mode, offset=500) == []
    for bad, told in (
        ({"offset": -1}, "offset is -1: give the number of hits to skip"),
        ({"offset": 5, "k": 0}, "k is 0"),
    ):
        with pytest.raises(DataError, match=told):
            index.search(QUERY, mode=mode, **bad)
