"""Kinds that hold codes: candidates scored by full vectors, files, settings, and refusals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pydantic import ValidationError

from retriever.errors import DataError, IndexFolderError
from retriever.indexing import kinds
from retriever.indexing.dense import DenseIndex
from retriever.indexing.kinds import (
    SearchSettings,
    create,
    evenly,
    lists,
    search_parameters,
    selects,
    store_inside,
    unwrapped,
)
from retriever.indexing.ranking import Ranking
from retriever.indexing.vector_files import store_path
from retriever.kernels import faiss

CODED = [
    "PQ32x4fs",
    "IVF16,PQ32x4fs",
    "IVF16_HNSW8,PQ32x4fs",
    "PCA32,IVF16,PQ16x4fs",
    "IVF16,Flat",
    "IVF16,RaBitQfs",
    "RaBitQfs",
    "SQ8",
    "HNSW32_SQ8",
    "PQ8",
]
EVERYTHING = SearchSettings(nprobe=1000, ef=4000, rerank=400)


@pytest.fixture(scope="module")
def vectors():
    """4,000 documents and 60 queries that fill 24 of 64 dimensions, as those of texts fill few."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((24, 64))
    drawn = [rng.standard_normal((count, 24)) @ basis for count in (4000, 60)]
    return [part.astype(np.float32) for part in drawn]


@pytest.fixture(scope="module")
def built(vectors):
    """Every coded kind, built once."""
    return {factory: DenseIndex.build(vectors[0], factory=factory) for factory in CODED}


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def recall(found, exact):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.rows, exact.rows, strict=True)])


@pytest.mark.parametrize("factory", CODED)
def test_a_kind_finds_nearly_everything_and_all_of_it_when_it_looks_everywhere(factory, built, vectors):
    documents, queries = vectors
    exact = DenseIndex.build(documents).search(queries, 10)
    assert recall(built[factory].search(queries, 10), exact) > 0.85
    wide = built[factory].search(queries, 10, parameters=EVERYTHING)
    assert recall(wide, exact) > 0.995  # documents in fp16 swap a few neighbours
    np.testing.assert_allclose(wide.scores, exact.scores, atol=1e-3)


@pytest.mark.parametrize("factory", CODED)
def test_scores_are_those_of_the_full_vectors(factory, built, vectors):
    documents, queries = (unit(part) for part in vectors)
    found = built[factory].search(queries, 5)
    expected = np.einsum("qd,qkd->qk", queries, documents[found.rows])
    np.testing.assert_allclose(found.scores, expected, atol=1e-3)
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("factory", CODED)
def test_a_saved_kind_answers_alike_from_memory_maps(factory, built, vectors, tmp_path, monkeypatch):
    built[factory].save(tmp_path / "vectors.faiss")
    monkeypatch.setattr("retriever.indexing.arrays.SMALL", 0)
    opened = DenseIndex.open(tmp_path / "vectors.faiss")
    assert (len(opened), opened.dimension, opened.is_exact) == (4000, 64, False)
    for alive in (None, np.arange(4000) % 3 == 0):
        one, other = (index.search(vectors[1], 20, alive=alive) for index in (built[factory], opened))
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.scores, other.scores)
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        mapped = maps.read()
    assert str(tmp_path / "vectors.faiss") in mapped
    assert str(store_path(tmp_path / "vectors.faiss")) in mapped


@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "HNSW32_SQfp16", "IVF16,PQ32x4fs"])
def test_stored_vectors_come_back(factory, vectors):
    index = DenseIndex.build(vectors[0], factory=factory)
    rows = np.array([7, 3999, 0, 7])
    found = index.vectors(rows)
    assert (found.shape, found.dtype) == ((4, 64), np.float32)
    np.testing.assert_allclose(found, unit(vectors[0])[rows], atol=1e-6 if factory in ("Flat", "HNSW32") else 1e-3)
    assert index.vectors(np.empty(0, np.int64)).shape == (0, 64)
    for bad in (-1, 4000):
        with pytest.raises(IndexError):
            index.vectors(np.array([bad]))


def test_vectors_can_be_added_after_the_first_search(vectors):
    documents, queries = vectors
    index = DenseIndex.empty(64, factory="IVF16,PQ32x4fs")
    index.add(documents[:3000])
    index.search(queries, 3)
    index.add(documents[3000:])
    assert len(index) == 4000
    rows = index.search(documents[3000:], 1, parameters=EVERYTHING).rows[:, 0]
    assert (rows == np.arange(3000, 4000)).mean() > 0.99


def test_half_precision_and_mapped_vectors_are_read_in_chunks(vectors, tmp_path):
    np.save(tmp_path / "vectors.npy", unit(vectors[0]).astype(np.float16))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    one, other = (DenseIndex.build(source, factory="PQ32x4fs") for source in (mapped, np.asarray(mapped, np.float32)))
    np.testing.assert_array_equal(one.search(vectors[1], 9).rows, other.search(vectors[1], 9).rows)


def test_settings_widen_the_search(built, vectors):
    documents, queries = vectors
    exact = DenseIndex.build(documents).search(queries, 10)

    def of(factory, **settings):
        return recall(built[factory].search(queries, 10, parameters=SearchSettings(**settings)), exact)

    assert of("IVF16,PQ32x4fs", nprobe=1) < of("IVF16,PQ32x4fs", nprobe=4) < of("IVF16,PQ32x4fs", nprobe=16)
    assert of("RaBitQfs", rerank=1) < of("RaBitQfs", rerank=3) < of("RaBitQfs", rerank=20)
    assert of("HNSW32_SQ8", ef=1, rerank=1) < of("HNSW32_SQ8", ef=200, rerank=1)


def test_the_first_of_few_hits_is_as_good_as_of_ten(built, vectors):
    one, ten = (built["RaBitQfs"].search(vectors[1], k, parameters=SearchSettings(rerank=2)) for k in (1, 10))
    np.testing.assert_array_equal(one.rows[:, 0], ten.rows[:, 0])


@pytest.mark.parametrize("factory", CODED)
@pytest.mark.parametrize("k", [1, 999, 4000, 9000])
def test_every_query_gets_k_hits(factory, k, built, vectors):
    found = built[factory].search(vectors[1][:3], k, parameters=SearchSettings(nprobe=1, ef=1, rerank=1))
    assert found.rows.shape == (3, min(k, 4000))
    for rows in found.rows:
        assert rows.min() >= 0 and len(set(rows)) == len(rows)


def test_searching_leaves_the_index_as_it_is(built, vectors):
    index = built["IVF16,PQ32x4fs"]
    before = index.kind.nprobe
    settings = [SearchSettings(nprobe=1 + number % 16) for number in range(64)]
    expected = [index.search(vectors[1], 5, parameters=one).rows for one in settings]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: index.search(vectors[1], 5, parameters=one).rows, settings))
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))
    assert index.kind.nprobe == before


def test_what_faiss_is_told():
    graph = faiss.index_factory(8, "HNSW8", faiss.METRIC_INNER_PRODUCT)
    graph.add(np.random.default_rng(0).random((200, 8), np.float32))
    assert search_parameters(graph, SearchSettings(), 10).efSearch == kinds.EF_SEARCH
    assert search_parameters(graph, SearchSettings(ef=20), 60).efSearch == 60  # FAISS loses hits where ef < k
    assert search_parameters(graph, SearchSettings(ef=20), 10, share=0.25).efSearch == 80
    assert search_parameters(graph, SearchSettings(ef=10**20), 10).efSearch == 200
    for nlist, nprobe in ((4, 4), (16, 8), (64, 8), (256, 32)):
        inverted = faiss.index_factory(8, f"IVF{nlist},Flat", faiss.METRIC_INNER_PRODUCT)
        assert search_parameters(inverted, SearchSettings(), 0).nprobe == nprobe
    assert search_parameters(inverted, SearchSettings(nprobe=5), 0).nprobe == 5
    assert search_parameters(inverted, SearchSettings(nprobe=5), 0, share=0.1).nprobe == 50
    assert search_parameters(inverted, SearchSettings(nprobe=5), 0, share=0.01).nprobe == 256
    turned = faiss.index_factory(8, "PCA4,IVF64,Flat", faiss.METRIC_INNER_PRODUCT)
    assert isinstance(search_parameters(turned, SearchSettings(), 10), faiss.SearchParametersPreTransform)
    assert search_parameters(faiss.index_factory(8, "PQ4x4fs"), SearchSettings(), 10) is None


def test_lists_hold_as_many_rows_as_are_wanted(vectors):
    inner = DenseIndex.build(vectors[0], factory="IVF16,PQ32x4fs").kind
    assert search_parameters(inner, SearchSettings(nprobe=1), 10).nprobe == 1
    assert search_parameters(inner, SearchSettings(nprobe=1), 1000).nprobe == 4  # a quarter of the rows
    assert search_parameters(inner, SearchSettings(nprobe=9), 1000).nprobe == 9


@pytest.mark.parametrize(
    ("factory", "inside", "count", "skips"),
    [
        ("Flat", True, 0, False),
        ("SQfp16", True, 0, False),
        ("HNSW8", True, 0, True),
        ("HNSW8_SQfp16", True, 0, True),
        ("HNSW8_SQ8", False, 0, True),
        ("SQ8", False, 0, False),
        ("PQ8x4fs", False, 0, False),
        ("IVF7,SQfp16", False, 7, True),
        ("OPQ8,IVF7,PQ8x4fs", False, 7, True),
    ],
)
def test_what_a_kind_is(factory, inside, count, skips):
    index = create(factory, 16)
    assert (store_inside(index) is not None, lists(index), selects(index)) == (inside, count, skips)


def test_a_sample_is_spread_over_all_rows():
    assert evenly(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert evenly(101, 5).tolist() == [0, 25, 50, 75, 100]
    assert evenly(0, 5).tolist() == []


@pytest.mark.parametrize("factory", ["PQ32x4fs,Refine(SQfp16)", "IDMap,Flat", "IVF16,Flat,RFlat", "IDMap2,HNSW8"])
def test_wrappers_that_are_ours_already_are_refused(factory):
    with pytest.raises(IndexFolderError, match="leave out Refine and IDMap"):
        DenseIndex.empty(64, factory=factory)


@pytest.mark.parametrize("factory", ["IVF0,Flat", "HNSW0", "HNSW1", "HNSW8_PQ8", "HNSW8_2+PQ8", "LSH", "OPQ7,SQ8"])
def test_kinds_that_faiss_cannot_search_by_inner_product_are_refused(factory):
    with pytest.raises(IndexFolderError, match=r"FAISS makes no index .* by inner product"):
        DenseIndex.empty(64, factory=factory)


def test_too_few_vectors_are_told(vectors, tmp_path):
    with pytest.raises(IndexFolderError, match="63 vectors are too few"):
        DenseIndex.build(vectors[0][:63], factory="OPQ8,PQ8x4")
    with pytest.raises(IndexFolderError, match=r"5 vectors are too few .* choose Flat, or fewer lists"):
        DenseIndex.build(vectors[0][:5], factory="IVF16,PQ32x4fs")
    index = DenseIndex.empty(64, factory="PQ32x4fs")
    index.add(vectors[0][:15])
    with pytest.raises(IndexFolderError, match="15 vectors are too few"):
        index.save(tmp_path / "vectors.faiss")


@pytest.mark.parametrize("factory", ["IVF16,PQ32x4fs", "OPQ8,PQ8x4"])
def test_no_advice_of_faiss_reaches_the_terminal(vectors, capfd, factory):
    DenseIndex.build(vectors[0][:300], factory=factory).search(vectors[1], 3)
    assert capfd.readouterr() == ("", "")


def test_values_beyond_half_precision_are_refused():
    large = np.full((40, 4), 7e4, np.float32)
    assert DenseIndex.build(large, "dot").search(large[:1], 1).scores[0, 0] > 1e10
    for factory in ("PQ2x4fs", "HNSW8_SQfp16"):
        with pytest.raises(DataError, match=r"beyond fp16 \(65,504\): use the factory Flat or HNSW32"):
            DenseIndex.build(large, "dot", factory)


def test_a_lost_damaged_or_foreign_store_is_told(built, vectors, tmp_path):
    path = tmp_path / "vectors.faiss"
    built["PQ32x4fs"].save(path)
    content = store_path(path).read_bytes()
    store_path(path).write_bytes(content[: len(content) // 2])
    with pytest.raises(IndexFolderError, match=r"vectors\.fp16\.faiss are missing or damaged"):
        DenseIndex.open(path)
    store_path(path).unlink()
    with pytest.raises(IndexFolderError, match=r"vectors\.fp16\.faiss are missing"):
        DenseIndex.open(path)
    DenseIndex.build(vectors[0][:50], factory="SQfp16").save(store_path(path))
    with pytest.raises(IndexFolderError, match="do not fit together"):
        DenseIndex.open(path)


def test_settings_are_plain_data_and_checked():
    settings = SearchSettings(nprobe=3, rerank=4)
    assert settings.model_dump_json() == '{"nprobe":3,"ef":null,"rerank":4}'
    assert SearchSettings.model_validate_json(settings.model_dump_json()) == settings
    for bad in ({"nprobe": 0}, {"ef": -1}, {"rerank": 0}, {"probe": 1}):
        with pytest.raises(ValidationError):
            SearchSettings(**bad)


@pytest.mark.parametrize("factory", ["PCA24,Flat", "PCAR24,IVF4,Flat"])
def test_principal_components_leave_the_order_by_inner_product_alone(factory, vectors):
    """Documents far from the origin: a mean taken off would make long ones near and near ones far."""
    documents, queries = (part + np.float32(5) * vectors[0][0] for part in vectors)
    index = DenseIndex.build(documents, "dot", factory)  # 24 dimensions and the mean: 24 are enough but for a constant
    found = index.candidates(queries, 10, SearchSettings(nprobe=4))
    scores = queries.astype(np.float64) @ documents.T.astype(np.float64)  # (Q, N)
    assert np.mean([len(set(own) & set(np.argsort(-row)[:10])) for own, row in zip(found, scores, strict=True)]) > 9.5


@pytest.mark.parametrize("factory", CODED)
def test_the_hits_that_must_be_sure_cost_as_much_in_a_deep_search_and_the_others_less(factory, built, vectors):
    documents, queries = vectors
    index, settings = built[factory], SearchSettings(nprobe=8, rerank=20)
    first = index.search(queries, 10, parameters=settings)
    exact = DenseIndex.build(documents).search(queries, 200)
    deep = index.search(queries, 200, parameters=settings, surely=10)
    whole = index.search(queries, 200, parameters=settings)
    assert recall(
        Ranking(deep.rows[:, :10], deep.scores[:, :10]), Ranking(exact.rows[:, :10], exact.scores[:, :10])
    ) >= (recall(first, Ranking(exact.rows[:, :10], exact.scores[:, :10])))
    assert 0.6 < recall(deep, exact) <= recall(whole, exact)
    assert index._spending(settings, 400, 200) is index._spending(settings, 400, 200)


def test_lists_of_few_codes_are_searched_query_by_query_also_after_opening(vectors, tmp_path, monkeypatch):
    documents, queries = vectors
    for cached, way in ((4000 * 8, kinds.ONE_BY_ONE), (4000 * 8 - 1, 0)):
        monkeypatch.setattr(kinds, "CACHED", cached)
        index = DenseIndex.build(documents, factory="PCA32,IVF16,PQ16x4fs")  # 8 bytes a code
        index.save(tmp_path / "vectors.faiss")
        opened = DenseIndex.open(tmp_path / "vectors.faiss")
        found = [one.candidates(queries, 60, SearchSettings(nprobe=4)) for one in (index, opened)]
        assert unwrapped(index.kind).implem == unwrapped(opened.kind).implem == way
        np.testing.assert_array_equal(*found)
        unwrapped(index.kind).implem = 12  # FAISS's own way for few hits
        other = index.candidates(queries, 60, SearchSettings(nprobe=4))
        assert np.mean([len(set(a) & set(b)) / 60 for a, b in zip(found[0], other, strict=True)]) > 0.97
