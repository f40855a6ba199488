"""Fusion and weight of a hybrid search, asked for or remembered by the index, against its parts."""

from __future__ import annotations

from dataclasses import replace

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
