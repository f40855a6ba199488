"""Speed of the index that `--factory auto` chooses, against graphs of faiss, hnswlib and usearch, on one thread.

    python benchmarks/index_speed.py --documents 100000
    python benchmarks/index_speed.py --vectors documents.npy --queries queries.npy

Without files, vectors are drawn from a mixture made to be hard: a centre for five documents, each a sparse mean of
200 topics, about them noise whose variance falls over the dimensions, and queries shifted against the documents. Its
local dimension and contrast are printed. All graphs have 32 neighbours a node and are built with a breadth of 100.

Every way gets the cheapest settings whose recall@10 reaches the target on every second query, of breadths an
eighth of a power of two apart; its recall and speed are measured on the others, in one batch. Seconds are
CPU seconds. hnswlib and usearch are no dependencies: `pip install hnswlib usearch` adds them to the table.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from retriever.indexing.dense import DenseIndex
from retriever.indexing.kinds import SearchSettings
from retriever.indexing.tuning import Questions, ask, tune
from retriever.indexing.vector_files import store_path
from retriever.indexing.vectors import unit
from retriever.kernels import faiss

Array = NDArray[np.float32]
Rows = NDArray[np.int64]

K, NEIGHBOURS, CONSTRUCTION, ROUNDS, CHUNK = 10, 32, 100, 3, 16_384
TARGETS, QUERIES = (0.95, 0.99), 6_000  # of which half choose: recall to about 0.1 %
WALKS = sorted({max(K, 2**power * part // 8) for power in range(3, 12) for part in range(8, 16)})
SHARING, TOPICS, SPREAD, SHIFT, DECAY = 5, 200, 0.8, 0.3, 0.3


def mixture(documents: int, queries: int, dimension: int, seed: int = 0) -> tuple[Array, Array]:
    """Unit vectors of documents (N, D) and queries (Q, D)."""
    rng = np.random.default_rng(seed)
    middles = max(documents // SHARING, 1)
    scale = np.arange(1, dimension + 1) ** -DECAY
    turn = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0]
    shape = ((scale / np.linalg.norm(scale))[:, None] * turn).astype(np.float32)  # (D, D)

    def noise(count: int) -> Array:
        drawn: Array = rng.standard_normal((count, dimension), np.float32) @ shape
        return drawn

    centres = unit(rng.dirichlet(np.full(TOPICS, 0.1), middles) @ noise(TOPICS), "cosine")
    weights = rng.dirichlet(np.ones(middles))
    shift = SHIFT * noise(1)

    def draw(count: int, offset: Array | float) -> Array:
        whole = np.empty((count, dimension), np.float32)
        for start in range(0, count, CHUNK):
            part = whole[start : start + CHUNK]
            drawn = centres[rng.choice(middles, len(part), p=weights)] + SPREAD * noise(len(part)) + offset
            part[:] = unit(drawn, "cosine")
        return whole

    return draw(documents, 0.0), draw(queries, shift)


def hardness(documents: Array, queries: Array, index: DenseIndex) -> str:
    """Local intrinsic dimension (maximum likelihood, 100 neighbours), and mean distance over that of the nearest."""
    near = np.sqrt(np.maximum(2 - 2 * index.search(queries[:300], 100).scores, 1e-9))  # (Q, 100)
    local = -1 / np.log(near[:, :-1] / near[:, -1:]).mean(axis=1)
    mean = np.sqrt(np.maximum(2 - 2 * queries[:300] @ documents[:2000].T, 0)).mean(axis=1)
    return f"local dimension {np.mean(local):.1f}, contrast {np.mean(mean / near[:, 0]):.2f}"


class Graph(Protocol):
    """A peer, built of documents."""

    def search(self, queries: Array, ef: int) -> Rows:
        """Rows (Q, 10) of a walk of breadth ``ef``."""

    def save(self, path: str) -> None:
        """Write it to a file."""


class Faiss:
    """HNSW over fp32 vectors."""

    def __init__(self, documents: Array) -> None:
        self.index: Any = faiss.index_factory(documents.shape[1], f"HNSW{NEIGHBOURS}", faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = CONSTRUCTION
        self.index.add(documents)

    def search(self, queries: Array, ef: int) -> Rows:
        """See :class:`Graph`."""
        parameters: Any = faiss.SearchParametersHNSW
        rows: Rows = self.index.search(queries, K, params=parameters(efSearch=ef))[1]
        return rows

    def save(self, path: str) -> None:
        """See :class:`Graph`."""
        faiss.write_index(self.index, path)


class Hnswlib:
    """HNSW over fp32 vectors."""

    def __init__(self, documents: Array) -> None:
        import hnswlib

        self.index: Any = hnswlib.Index("ip", documents.shape[1])
        self.index.init_index(len(documents), M=NEIGHBOURS, ef_construction=CONSTRUCTION)
        self.index.set_num_threads(1)
        self.index.add_items(documents, num_threads=1)

    def search(self, queries: Array, ef: int) -> Rows:
        """See :class:`Graph`."""
        self.index.set_ef(ef)
        return np.asarray(self.index.knn_query(queries, K, num_threads=1)[0], np.int64)

    def save(self, path: str) -> None:
        """See :class:`Graph`."""
        self.index.save_index(path)


class Usearch:
    """HNSW over bf16 vectors."""

    def __init__(self, documents: Array) -> None:
        from usearch.index import Index

        self.index: Any = Index(
            ndim=documents.shape[1], metric="ip", dtype="bf16", connectivity=NEIGHBOURS, expansion_add=CONSTRUCTION
        )
        self.index.add(np.arange(len(documents)), documents, threads=1)

    def search(self, queries: Array, ef: int) -> Rows:
        """See :class:`Graph`."""
        self.index.expansion_search = ef
        return np.asarray(self.index.search(queries, K, threads=1).keys, np.int64)

    def save(self, path: str) -> None:
        """See :class:`Graph`."""
        self.index.save(path)


PEERS: dict[str, tuple[str, Callable[[Array], Graph]]] = {
    f"faiss HNSW{NEIGHBOURS}": ("faiss", Faiss),
    "hnswlib": ("hnswlib", Hnswlib),
    "usearch bf16": ("usearch", Usearch),
}


def speed(search: Callable[[], object], queries: int) -> float:
    """Queries a CPU second, at best."""
    return queries / min(timed(search)[1] for _ in range(ROUNDS))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it returns, and its CPU seconds."""
    began = time.process_time()
    made = work()
    return made, time.process_time() - began


def graph_row(name: str, documents: Array, asked: Questions) -> None:
    """Build a peer, choose its breadths, and print what it does."""
    module, kind = PEERS[name]
    if importlib.util.find_spec(module) is None:
        print(f"{name:<28} is not installed: `pip install {module}` adds it.")
        return
    graph, seconds = timed(lambda: kind(documents))
    choosing, measuring = asked.every_second(0), asked.every_second(1)
    cells, walks = [], list(WALKS)
    for target in TARGETS:
        while walks and recall(graph, choosing, walks[0]) < target:
            walks.pop(0)
        if not walks:
            cells.append("not reached")
            continue
        ef, vectors = walks[0], measuring.vectors
        rate = speed(lambda: graph.search(vectors, ef), len(vectors))  # noqa: B023
        cells.append(f"{rate:>7,.0f} at {recall(graph, measuring, ef):.3f}, ef {ef}")
    with tempfile.TemporaryDirectory() as folder:
        graph.save(f"{folder}/index")
        line(name, seconds, Path(folder, "index").stat().st_size / len(documents), cells)


def recall(graph: Graph, asked: Questions, ef: int) -> float:
    """Share of the true hits that a walk finds."""
    return float(asked.recall(graph.search(asked.vectors, ef))[:, -1].mean())


def own_row(factory: str, documents: Array, queries: Array) -> None:
    """The same of an index of ours, with the time that tuning by documents takes, as in every build."""
    index, seconds = timed(lambda: DenseIndex.build(documents, factory=factory))
    if index.is_exact:
        return
    tuning, asked, cells = timed(lambda: tune(index, TARGETS[-1]))[1], queries[1::2], []
    for target in TARGETS:
        chosen = tune(index, target, queries).chosen
        rate = speed(lambda: index.search(asked, K, parameters=chosen.settings, background=False), len(asked))  # noqa: B023
        cells.append(f"{rate:>7,.0f} at {chosen.recall:.3f}, {told(chosen.settings)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "vectors.faiss")
        index.save(path)
        sizes = [file.stat().st_size / len(documents) for file in (path, store_path(path)) if file.exists()]
    line(str(index.factory), seconds, sum(sizes), cells)
    print(f"{'':<28} {tuning:>7.1f} s more for tuning; {sizes[0]:,.0f} of the bytes are codes, searched first")


def told(settings: SearchSettings) -> str:
    """Settings in short."""
    return ", ".join(f"{name} {value}" for name, value in settings.model_dump(exclude_none=True).items())


def line(name: str, seconds: float, size: float, cells: list[str]) -> None:
    """Print a row."""
    print(f"{name:<28} {seconds:>7.1f} s {size:>7,.0f} B   {'   '.join(f'{cell:<40}' for cell in cells)}", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--vectors", help="a .npy file of document vectors (N, D), instead of the mixture")
    parser.add_argument("--queries", help="a .npy file of query vectors (Q, D); needed with --vectors")
    parser.add_argument("--factory", help="measure this kind too; several between semicolons")
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    if options.vectors:
        documents, queries = (unit(np.load(path), "cosine") for path in (options.vectors, options.queries))
        queries = queries[queries.any(axis=1)]  # others find nothing
    else:
        documents, queries = mixture(options.documents, QUERIES, options.dimension)
    count, dimension = documents.shape
    exact, seconds = timed(lambda: DenseIndex.build(documents))
    asked, _ = ask(exact, queries)
    print(f"{count:,} x {dimension}, {hardness(documents, queries, exact)}, {len(queries):,} queries; by `auto`:")
    rate = speed(lambda: exact.search(queries[1::2], K, background=False), len(queries[1::2]))
    print(f"{'':<28} {'build':>9} {'a vector':>9}   " + "   ".join(f"{f'queries/s at {t}':<40}" for t in TARGETS))
    line("exact", seconds, 4 * dimension, [f"{rate:>7,.0f} at 1.000"])
    for factory in ["auto", *(options.factory.split(";") if options.factory else [])]:
        own_row(factory, documents, queries)
    for name in PEERS:
        graph_row(name, documents, asked)


if __name__ == "__main__":
    main()
