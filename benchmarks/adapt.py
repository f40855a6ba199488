"""Adaptation measured: an encoder before and after `retriever train adapt`, BM25, and the hybrids of both with it.

    python benchmarks/adapt.py MODEL DIR… [--pydocs] [--seed 0]

MODEL is a folder or a hub name, each DIR a BEIR folder, whose test queries are asked. With --pydocs, the documentation
of this Python is another task: 1,000 titles are held out as queries for the bodies (see `retriever demo`). Adaptation
sees the documents alone; no test query takes part in it. Differences are paired over the queries, with 95 % bootstrap
intervals and randomisation tests. Most of the time goes into encoding each corpus twice: for adaptation, and to search.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from sentence_transformers.sentence_transformer.modules import Dense

from retriever.cli.show import RichReporter
from retriever.data.beir import load_beir
from retriever.data.corpus import Corpus, open_corpus
from retriever.demo import ask
from retriever.encoder import Encoder
from retriever.eval.judge import drop_identical, judge, to_run
from retriever.eval.metrics import score_run
from retriever.eval.significance import bootstrap_interval, paired_randomisation
from retriever.eval.tables import metrics_table
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.dense import DenseIndex
from retriever.indexing.hybrid import fuse
from retriever.indexing.ranking import Ranking
from retriever.training.api import train
from retriever.training.distil import mapped

SHOWN = ("ndcg@10", "recall@10", "recall@100")
PAIRS = (
    ("adapted", "start"),
    ("adapted", "bm25"),
    ("adapted + bm25", "start + bm25"),
    ("adapted + bm25", "bm25"),
    ("adapted + bm25", "start"),
)
DEPTH = 1000  # hits fused and judged
SAMPLE = 64  # texts on which mapped vectors are compared with those of the saved model

Vectors = NDArray[np.float32]
Scores = Mapping[str, Mapping[str, NDArray[np.float64]]]  # system → metric → (Q,)


@dataclass(frozen=True)
class Task:
    """A corpus, and judged queries by id."""

    name: str
    corpus: Corpus
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def pydocs(seed: int) -> Task:
    """Held-out titles as queries for bodies."""
    questions = ask(open_corpus("pydocs"), 1_000, seed)
    queries = {str(number): query for number, query in enumerate(questions.queries)}
    qrels = {name: {row: 1} for name, row in zip(queries, questions.rows, strict=True)}
    return Task("pydocs", questions.bodies, queries, qrels)


def beir(folder: Path) -> Task:
    """The judged test queries of a BEIR folder."""
    dataset = load_beir(folder, "test")
    judged = {query: judgments for query, judgments in dataset.qrels.items() if judgments}
    return Task(dataset.name, dataset.corpus, {query: dataset.queries[query] for query in judged}, judged)


def moved(adapted: Encoder, vectors: Vectors) -> Vectors:
    """Vectors of the start as the adapted encoder has them."""
    layer = next((module for module in reversed(list(adapted.stack)) if isinstance(module, Dense)), None)
    if layer is None:
        return vectors
    weight = layer.linear.weight.detach().cpu()
    return mapped(torch.from_numpy(vectors), weight, adapted.similarity == "cosine").numpy()


def vectors_of(model: str, adapted: Encoder, task: Task, reporter: RichReporter) -> dict[str, tuple[Vectors, Vectors]]:
    """Documents and queries before and after; texts are encoded once."""
    start, texts = Encoder.load(model), [document.content for document in task.corpus]
    with reporter.stage(f"encode {task.name}", len(texts)) as advance:
        documents = start.encode(texts, progress=advance)
    queries = start.encode(list(task.queries.values()), "query")
    if adapted.fingerprint == start.fingerprint:
        return {"start": (documents, queries), "adapted": (documents, queries)}
    after = moved(adapted, documents), moved(adapted, queries)
    close = np.abs(adapted.encode(texts[:SAMPLE]) - after[0][:SAMPLE]).max()
    assert close < 0.02, f"the saved model has other vectors than the map of the start's, by {close}"
    return {"start": (documents, queries), "adapted": after}


def rankings(task: Task, vectors: dict[str, tuple[Vectors, Vectors]], similarity: str) -> dict[str, Ranking]:
    """Every system's ranking of the queries."""
    texts, names = [document.content for document in task.corpus], list(task.queries)
    ids = [document.id for document in task.corpus]
    found = {"bm25": Bm25Index.build(texts).search(list(task.queries.values()), DEPTH + 1)}
    for system, (documents, queries) in vectors.items():
        index = DenseIndex.build(documents, "cosine" if similarity == "cosine" else "dot")
        found[system] = index.search(queries, DEPTH + 1)
    found = {system: drop_identical(ranking, names, ids, DEPTH) for system, ranking in found.items()}
    return found | {f"{system} + bm25": fuse([found[system], found["bm25"]], DEPTH) for system in vectors}


def measure(model: str, task: Task, seed: int, console: Console) -> None:
    """Adapt, search, judge and print."""
    reporter, began, used = RichReporter(), time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train("adapt", task.corpus, Path(folder) / "m", reporter=reporter, model=model, seed=seed)
        adapted = Encoder.load(Path(folder) / "m")
    took = f"{(time.process_time() - used) / 60:.1f} CPU minutes, {(time.perf_counter() - began) / 60:.1f} of the clock"
    vectors = vectors_of(model, adapted, task, reporter)
    ids, names = [document.id for document in task.corpus], list(task.queries)
    runs = {system: to_run(found, names, ids) for system, found in rankings(task, vectors, adapted.similarity).items()}
    metrics, intervals = judge(runs, task.qrels)
    console.print(
        metrics_table(
            {system: {metric: values[metric] for metric in SHOWN} for system, values in metrics.items()},
            {system: {metric: values[metric] for metric in SHOWN} for system, values in intervals.items()},
            title=f"{task.name}: {len(ids):,} documents, {len(names):,} queries; adapted in {took}",
        )
    )
    print_differences({system: score_run(run, task.qrels).values for system, run in runs.items()}, console)


def print_differences(scores: Scores, console: Console) -> None:
    """Systems minus others, with intervals and paired tests."""
    for metric in SHOWN:
        for ours, theirs in PAIRS:
            gaps = scores[ours][metric] - scores[theirs][metric]
            low, high = bootstrap_interval(gaps)
            p = paired_randomisation(scores[ours][metric], scores[theirs][metric])
            console.print(f"{metric}, {ours} minus {theirs}: {gaps.mean():+.3f} [{low:+.3f}, {high:+.3f}], p = {p:.5f}")


def main() -> None:
    """Measure every task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("folders", type=Path, nargs="*", metavar="DIR")
    parser.add_argument("--pydocs", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tasks = [beir(folder) for folder in options.folders] + ([pydocs(options.seed)] if options.pydocs else [])
    for task in tasks:
        measure(options.model, task, options.seed, Console())


if __name__ == "__main__":
    main()
