"""Which index is chosen for how many vectors, dimensions and bytes."""

from __future__ import annotations

import numpy as np
import pytest

from retriever.errors import IndexFolderError
from retriever.indexing.dense import DenseIndex
from retriever.indexing.factory import EXACT, choose, possible
from retriever.indexing.kinds import create, lists


@pytest.mark.parametrize(
    ("count", "dimension", "factory"),
    [
        (0, 384, "Flat"),
        (EXACT // 384, 384, "Flat"),
        (EXACT // 384 + 1, 384, "PCAR192,IVF512,PQ96x4fs"),
        (EXACT // 1024 + 1, 1024, "PCAR512,IVF512,PQ256x4fs"),
        (100_000, 384, "PCAR192,IVF1024,PQ96x4fs"),
        (500_000, 384, "PCAR192,IVF2048,PQ96x4fs"),
        (1_000_000, 384, "PCAR192,IVF2048,PQ96x4fs"),
        (10_000_000, 768, "PCAR384,IVF8192,PQ192x4fs"),
    ],
)
def test_the_size_chooses(count, dimension, factory):
    assert choose(count, dimension) == factory


@pytest.mark.parametrize(
    ("dimension", "factory"),
    [(1, "Pad8,IVF4096,PQ4x4fs"), (8, "IVF4096,PQ4x4fs"), (50, "PCAR32,IVF16384,PQ16x4fs")],
)
def test_codes_fit_every_dimension(dimension, factory):
    assert choose(50_000_000, dimension) == factory


@pytest.mark.parametrize("dimension", [*range(1, 40), 75, 100, 129, 384, 1023])
@pytest.mark.parametrize("bytes_each", [None, 10, 300])
def test_faiss_knows_what_is_chosen(dimension, bytes_each):
    count = 30_000_000
    if bytes_each == 10 and dimension > 64:
        with pytest.raises(IndexFolderError):
            choose(count, dimension, bytes_each * count)
        return
    index = create(choose(count, dimension, None if bytes_each is None else bytes_each * count), dimension)
    assert index.d == dimension
    assert lists(index) == (16_384 if dimension > 8 else 4_096)


def test_less_memory_means_smaller_codes():
    count, dimension = 100_000, 384
    chosen = [choose(count, dimension, budget * count) for budget in (56, 55, 32, 31, 20)]
    codes = [factory.removeprefix("PCAR192,IVF1024,") for factory in chosen]
    assert codes == ["PQ96x4fs", "PQ48x4fs", "PQ48x4fs", "PQ24x4fs", "PQ24x4fs"]
    assert choose(1000, dimension, 4 * dimension * 1000) == "Flat"
    assert choose(1000, dimension, 4 * dimension * 1000 - 1) == "PCAR192,IVF64,PQ96x4fs"
    assert choose(100_000, 100, 12 * 100_000) == "PCAR56,IVF1024,PQ7x4fs"  # 8 dimensions a code


def test_there_is_a_list_at_least():
    assert choose(16, 8, 31 * 16) == "IVF2,PQ4x4fs"


def test_no_room_at_all_is_told():
    with pytest.raises(IndexFolderError, match=r"No index of 1,000,000 vectors .* fits into 1,000 bytes: give it more"):
        choose(1_000_000, 384, 1000)
    with pytest.raises(IndexFolderError, match=r"No index of 15 vectors of dimension 8 fits into 465 bytes"):
        choose(15, 8, 31 * 15)  # codes would, but are learnt from more


@pytest.mark.parametrize(
    ("dimension", "half", "whole"),
    [
        (384, "PCAR192,IVF2048,PQ96x4fs", "IVF512,PQ192x4fs"),
        (50, "PCAR32,IVF2048,PQ16x4fs", "Pad56,IVF512,PQ28x4fs"),
    ],
)
def test_half_of_the_dimensions_are_taken_where_they_hold_most_of_the_variance(dimension, half, whole):
    held, kept = np.zeros(dimension), int(half.split(",")[0].removeprefix("PCAR"))
    for share, expected in ((0.79, whole), (0.81, half), (1, half)):
        held[:kept], held[kept:] = share / kept, (1 - share) / (dimension - kept)
        assert choose(1_000_000, dimension, spectrum=held) == expected
    assert possible("auto", 1_000_000, dimension) == {half, whole}


def test_half_of_the_dimensions_are_taken_where_there_is_no_room_for_all():
    count, flat = 1_000_000, np.ones(384)
    chosen = [choose(count, 384, each * count, flat) for each in (32, 31, 20)]
    assert chosen == ["IVF512,PQ48x4fs", "PCAR192,IVF2048,PQ24x4fs", "PCAR192,IVF2048,PQ24x4fs"]
    with pytest.raises(IndexFolderError, match="give it more memory"):
        choose(count, 384, 19 * count, flat)


def test_only_auto_is_chosen_for():
    assert possible("HNSW32", 1_000_000, 384) == {"HNSW32"}
    assert possible("auto", 1_000, 384) == {"Flat"}
    assert possible("auto", 1_000_000, 384, 60e6) == {"PCAR192,IVF2048,PQ96x4fs", "IVF512,PQ96x4fs"}


@pytest.mark.parametrize(("decay", "kind"), [(1.0, "PCAR16,IVF128,PQ8x4fs"), (0.0, "IVF32,PQ16x4fs")])
def test_how_the_vectors_lie_chooses_once_they_are_there(decay, kind):
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((32, 32)))[0]
    vectors = (rng.standard_normal((2_000, 32)) * np.arange(1, 33) ** -decay @ turn).astype(np.float32)
    index = DenseIndex.empty(32, factory="auto", count=2_000, memory=2_000 * 19)
    assert index.factory == "PCAR16,IVF128,PQ8x4fs"
    index.add(vectors)
    index.finish()
    assert index.factory == kind
    assert (index.search(vectors[:50], 1).rows[:, 0] == np.arange(50)).mean() > 0.9
    assert DenseIndex.build(vectors, factory="auto").factory == "Flat"


@pytest.mark.parametrize("dimension", [5, 16])
def test_the_choice_can_be_built_searched_and_filtered(dimension):
    documents = np.random.default_rng(0).standard_normal((2000, dimension)).astype(np.float32)
    factory = choose(2000, dimension, 19 * 2000)
    assert ("Pad" in factory, "IVF32" in factory, "IVF128" in factory) == (
        dimension == 5,
        dimension == 5,
        dimension == 16,
    )
    index = DenseIndex.build(documents, factory=factory)
    assert (index.search(documents[:50], 1).rows[:, 0] == np.arange(50)).mean() > 0.9
    alive = np.arange(2000) % 2 == 0
    assert alive[index.search(documents[:50], 5, alive=alive).rows].all()
