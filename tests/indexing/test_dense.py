"""Dense search against numpy, approximate recall, memory maps, and refusals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from retriever.errors import DataError, IndexFolderError, OutputError
from retriever.indexing import dense
from retriever.indexing.dense import DenseIndex
from retriever.indexing.kinds import SearchSettings
from retriever.kernels import faiss


def gaussian(count, dimension, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def nearest(documents, queries, similarity, k):
    """Rows and similarities of the k nearest, one pair at a time in fp64."""
    found = []
    for query in queries.astype(np.float64):
        scores = []
        for document in documents.astype(np.float64):
            score = float(query @ document)
            if similarity == "cosine":
                score /= np.linalg.norm(query) * np.linalg.norm(document)
            scores.append(score)
        order = sorted(range(len(scores)), key=lambda row: (-scores[row], row))[:k]
        found.append((order, [scores[row] for row in order]))
    return found


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("queries", [1, 3, 50])  # one thread; fewer than the batch threshold; a matrix product
def test_flat_search_is_exact(similarity, queries, monkeypatch):
    monkeypatch.setattr(dense, "CHUNK", 100)  # three chunks
    documents, asked = 3 * gaussian(250, 16), gaussian(queries, 16, seed=1)
    ranking = DenseIndex.build(documents, similarity).search(asked, 7)
    for query, (rows, scores) in enumerate(nearest(documents, asked, similarity, 7)):
        assert ranking.rows[query].tolist() == rows
        np.testing.assert_allclose(ranking.scores[query], scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "HNSW32_SQfp16"])
def test_the_background_is_that_of_all_documents(similarity, factory, tmp_path):
    documents, queries = gaussian(90, 8) + 0.3, gaussian(4, 8, seed=1)
    index = DenseIndex.build(documents[:50], similarity, factory)
    index.search(queries, 3)
    index.add(documents[50:])  # the background must not remember the first fifty
    index.save(tmp_path / "index")
    for found in (index, DenseIndex.open(tmp_path / "index", similarity)):
        background = found.search(queries, 3).background
        scores = np.array(
            [
                [score for _, score in sorted(zip(*query, strict=True))]
                for query in nearest(documents, queries, similarity, 90)
            ]
        )
        tolerance = 1e-2 if factory.endswith("fp16") else 1e-5
        np.testing.assert_allclose(background.mean, scores.mean(axis=1), atol=tolerance)
        np.testing.assert_allclose(background.deviation, scores.std(axis=1), atol=tolerance)
        assert background.known.tolist() == [1] * 4
    assert len(index.search(np.empty((0, 8), np.float32), 3).background.mean) == 0


def test_a_search_without_a_background_finds_the_same():
    documents, queries = (np.random.default_rng(0).standard_normal((count, 8)).astype(np.float32) for count in (50, 4))
    index = DenseIndex.build(documents)
    whole, bare = index.search(queries, 5), index.search(queries, 5, background=False)
    assert (bare.rows.tolist(), bare.scores.tolist(), bare.background) == (
        whole.rows.tolist(),
        whole.scores.tolist(),
        None,
    )
    assert index.search(queries[:0], 5, background=False).background is None


def test_a_sample_stands_for_many_documents(monkeypatch):
    documents, queries = gaussian(5_000, 8) + 0.3, gaussian(3, 8, seed=1)
    documents[2_500:] += 1  # two halves, of which an even spread sees both
    whole = DenseIndex.build(documents, "dot").search(queries, 3).background
    monkeypatch.setattr(dense, "SAMPLE", 500)
    sample = DenseIndex.build(documents, "dot").search(queries, 3).background
    assert (sample.mean != whole.mean).all()
    np.testing.assert_allclose(sample.mean, whole.mean, atol=0.15 * whole.deviation.max())
    np.testing.assert_allclose(sample.deviation, whole.deviation, rtol=0.1)


@pytest.mark.parametrize("factory", ["HNSW32", "HNSW16", "HNSW32_SQfp16"])
def test_graphs_find_nearly_everything(factory):
    basis = gaussian(24, 64, seed=5)  # texts' vectors fill few dimensions
    documents, queries = gaussian(4000, 24) @ basis, gaussian(100, 24, seed=1) @ basis
    exact = DenseIndex.build(documents).search(queries, 10)
    graph = DenseIndex.build(documents, factory=factory)

    def recall(**options):
        found = graph.search(queries, 10, **options).rows
        return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact.rows, strict=True)])

    assert recall() >= 0.95
    assert recall(parameters=SearchSettings(ef=10)) < recall()


def test_a_graph_gives_k_hits_even_where_ef_is_smaller():
    graph = DenseIndex.build(gaussian(1000, 8), factory="HNSW32")
    rows = graph.search(gaussian(2, 8, seed=1), 500, parameters=SearchSettings(ef=1)).rows
    assert (rows >= 0).all()
    assert all(len(set(row)) == len(row) for row in rows)


def test_k_beyond_the_corpus_gives_the_corpus():
    assert DenseIndex.build(np.eye(3, dtype=np.float32)).search(np.eye(3, dtype=np.float32)[:1], 10).rows.tolist() == [
        [0, 1, 2]
    ]


def test_equal_vectors_stand_by_rising_row():
    documents = np.ones((40, 4), np.float32)
    documents[20] = [1, 0, 0, 0]
    ranking = DenseIndex.build(documents).search(np.array([[1, 0, 0, 0]], np.float32), 40)
    assert ranking.rows.tolist() == [[20, *(row for row in range(40) if row != 20)]]


def test_zero_vectors_have_no_direction():
    documents = np.array([[1, 0], [0, 0], [-1, 0]], np.float32)
    index = DenseIndex.build(documents)
    ranking = index.search(np.array([[0, 0], [2, 0]], np.float32), 3)
    assert ranking.rows.tolist() == [[-1, -1, -1], [0, 1, 2]]
    assert ranking.scores.tolist() == [[-np.inf] * 3, [1, 0, -1]]


def test_lengths_do_not_overflow_or_vanish():
    documents = np.array([[1e30, 0], [0, 1e-30]], np.float32)
    assert DenseIndex.build(documents).search(documents, 1).scores.tolist() == [[1], [1]]


def test_no_queries_give_an_empty_ranking():
    assert DenseIndex.build(gaussian(5, 4)).search(np.empty((0, 4), np.float32), 3).rows.shape == (0, 3)


def map_flags(path):
    """What the system knows of the map of a file, such as rr: read in no order."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    found = any(line.endswith(str(path)) for line in lines)
    return next(line for line in lines if line.startswith("VmFlags")).split() if found else []


@pytest.mark.parametrize("factory", ["Flat", "HNSW32", "HNSW32_SQfp16", "IVF16,PQ32x4fs"])
@pytest.mark.parametrize("mapped", [True, False])
def test_a_saved_index_answers_alike_from_a_memory_map(tmp_path, monkeypatch, factory, mapped):
    index = DenseIndex.build(gaussian(3000, 64), factory=factory)
    index.save(tmp_path / "vectors.faiss")
    monkeypatch.setattr("retriever.indexing.arrays.SMALL", 0 if mapped else 1 << 30)
    opened = DenseIndex.open(tmp_path / "vectors.faiss")
    assert (len(opened), opened.dimension) == (3000, 64)
    queries = gaussian(9, 64, seed=1)
    np.testing.assert_array_equal(opened.search(queries, 20).rows, index.search(queries, 20).rows)
    np.testing.assert_array_equal(opened.search(queries, 20).scores, index.search(queries, 20).scores)
    flags = map_flags(tmp_path / "vectors.faiss")
    assert bool(flags) == mapped and "rr" not in flags


def test_flat_files_are_the_same_at_every_build(tmp_path):
    for name in ("a", "b"):
        DenseIndex.build(gaussian(100, 8)).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_threads_can_search_at_once():
    index = DenseIndex.build(gaussian(2000, 32), factory="HNSW32")
    queries = gaussian(200, 32, seed=1)
    expected = index.search(queries, 5).rows
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda query: index.search(query[None], 5).rows[0], queries))
    np.testing.assert_array_equal(np.stack(found), expected)


def test_searching_leaves_the_number_of_threads_alone():
    before = faiss.omp_get_max_threads()
    DenseIndex.build(gaussian(10, 4)).search(gaussian(1, 4), 3)
    assert faiss.omp_get_max_threads() == before


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_refused(bad):
    vectors = gaussian(5, 4)
    vectors[3, 1] = bad
    with pytest.raises(DataError, match="Vector 3 holds NaN or infinity"):
        DenseIndex.build(vectors)
    with pytest.raises(DataError, match="Vector 3 holds NaN or infinity"):
        DenseIndex.build(gaussian(5, 4)).search(vectors, 2)


@pytest.mark.parametrize("shape", [(2, 5), (4,), (1, 2, 4)])
def test_another_dimension_is_refused(shape):
    with pytest.raises(DataError, match=r"vectors of dimension 4 and cannot take an array of shape"):
        DenseIndex.build(gaussian(5, 4)).search(np.ones(shape, np.float32), 2)


@pytest.mark.parametrize("factory", ["", "Flatt", "flat", "IVF16", "PQ3x4fs", "LSH"])
def test_an_unknown_factory_is_refused(factory):
    with pytest.raises(IndexFolderError, match="of dimension 4 by inner product: choose Flat, HNSW32 or another"):
        DenseIndex.empty(4, factory=factory)


@pytest.mark.parametrize("factory", ["Flat", "HNSW32"])
def test_a_truncated_file_is_told(tmp_path, factory):
    path = tmp_path / "vectors.faiss"
    DenseIndex.build(gaussian(100, 8), factory=factory).save(path)
    content = path.read_bytes()
    for size in (0, 3, 20, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(IndexFolderError, match=r"vectors\.faiss are missing or damaged"):
            DenseIndex.open(path)
    path.unlink()
    with pytest.raises(IndexFolderError, match="missing or damaged"):
        DenseIndex.open(path)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OutputError, match="choose a place with room"):
        DenseIndex.build(gaussian(3, 4)).save(tmp_path / "nowhere" / "vectors.faiss")
    if dense.Path("/dev/full").exists():
        with pytest.raises(OutputError, match="/dev/full"):
            DenseIndex.build(gaussian(3000, 64)).save("/dev/full")


@pytest.mark.parametrize("k", [0, -3])
def test_k_below_one_is_refused(k):
    with pytest.raises(DataError, match="ask for at least one hit"):
        DenseIndex.build(gaussian(3, 4)).search(gaussian(1, 4), k)
