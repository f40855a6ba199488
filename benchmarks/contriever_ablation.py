"""Contriever's ablations on a static encoder: views, momentum queue, number of negatives, crop lengths.

    python benchmarks/contriever_ablation.py [--corpus npl|pydocs|all] [--seeds 3] [--only GROUP] [--quick]

1. Each row of benchmarks/ablation_rows.py is the recipe contriever-cpu with some settings changed. All rows see the
   same number of pairs, 131,072, and keep the last step: nothing is selected, and no label is read in training.
2. Each row is trained with several seeds and searched exactly: on NPL with its test queries, on pydocs with 1,000
   titles for bodies (see `retriever demo`), the same for all seeds.
3. A query's score is its mean over the seeds. Intervals are 95 % bootstrap intervals over the queries, those of
   differences to the reference paired. The last lines say which findings of the paper hold here.

Results are kept in the folder of ``--cache``, by settings, so that a stopped command goes on where it was; empty it
after a change of the code. ``--jobs`` runs are trained at a time, each by one thread. About 40 minutes of two free
cores; ``--quick`` takes a few, and shows only that all runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ablation_rows import CLAIMS, GROUPS, RECIPE, REFERENCE, ROWS, STEPS, Claim, Row
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from retriever.data.beir import BeirDataset, load_beir
from retriever.data.corpus import open_corpus
from retriever.data.words import WordAnalyzer
from retriever.demo import ask
from retriever.eval.beir import evaluate_beir
from retriever.eval.judge import to_run
from retriever.eval.metrics import score_run
from retriever.eval.significance import bootstrap_interval
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.ranking import Ranking, best
from retriever.indexing.tfidf import TfidfIndex
from retriever.training.api import train
from retriever.training.recipebook import load_recipe, source

NPL = Path(__file__).parents[2] / "shared" / "data" / "beir" / "npl"
SHOWN = {"npl": ("ndcg@10", "recall@100"), "pydocs": ("recall@10", "recall@100", "mrr@10")}
QUERIES, DEPTH = 1_000, 100
QUICK = 16  # times fewer steps
CONTROLS = ("BM25", "tf-idf cosine", "tf-idf over √length")

Scores = dict[str, NDArray[np.float64]]  # metric → (Q,)


@dataclass(frozen=True)
class Measured:
    """One row on one corpus: metric → scores (S, Q) for S seeds, and the CPU seconds of a training."""

    scores: Scores
    seconds: float


@cache
def open_task(name: str, npl: Path) -> BeirDataset:
    """A corpus with judged queries."""
    if name == "npl":
        return load_beir(npl, "test")
    questions = ask(open_corpus("pydocs"), QUERIES, 0)
    queries = {f"{number:04}": query for number, query in enumerate(questions.queries)}
    qrels = {name: {row: 1} for name, row in zip(queries, questions.rows, strict=True)}
    return BeirDataset("pydocs", "titles", questions.bodies, queries, qrels)


def cached(folder: Path, task: BeirDataset, settings: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The record of a run from the folder, or made now and put there."""
    key = hashlib.sha256(f"{task.name} {len(task.queries)} {settings}".encode()).hexdigest()[:16]
    path = folder / f"{task.name}-{key}.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    record = make()
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(record))
    temporary.replace(path)
    return record


def trained(task: BeirDataset, row: Row, seed: int, steps: int, folder: Path) -> dict[str, Any]:
    """Train a row with one seed and search: CPU seconds, and scores by query."""
    settings = row.settings(seed, steps)
    recipe = load_recipe(RECIPE, settings)

    def make() -> dict[str, Any]:
        began = time.process_time()
        with tempfile.TemporaryDirectory() as output:
            encoder = train(recipe, task.corpus, Path(output) / "model", processes=1)
        seconds = time.process_time() - began
        found = evaluate_beir(encoder, task, depth=DEPTH, modes=["dense"])
        return {"seconds": seconds, "scores": _shown(task, found.runs["dense"])}

    return cached(folder, task, source(RECIPE).read_text(encoding="utf-8") + json.dumps(settings, sort_keys=True), make)


def control(task: BeirDataset, name: str, folder: Path) -> dict[str, Any]:
    """BM25, the untrained tf-idf cosine, or the latter with documents divided by the root of their length only."""

    def make() -> dict[str, Any]:
        documents, queries = list(task.corpus), sorted(query for query, judged in task.qrels.items() if judged)
        texts = [document.content for document in documents]
        asked = [task.queries[query] for query in queries]
        if name == "tf-idf over √length":
            ranking = half_normalised(texts, asked)
        else:
            ranking = (Bm25Index if name == "BM25" else TfidfIndex).build(texts).search(asked, DEPTH)
        run = to_run(ranking, queries, [document.id for document in documents])
        return {"seconds": 0.0, "scores": _shown(task, run)}

    return cached(folder, task, name, make)


def half_normalised(texts: list[str], queries: list[str]) -> Ranking:
    """The best documents by tf-idf, where a long document is not made as short as any other."""
    vectorizer = TfidfVectorizer(analyzer=WordAnalyzer("porter"), sublinear_tf=True, norm=None)
    documents = vectorizer.fit_transform(texts)  # (N, V)
    lengths = np.sqrt(documents.multiply(documents).sum(1)).A1  # (N,)
    scores = (vectorizer.transform(queries) @ documents.T).toarray() / np.sqrt(np.maximum(lengths, 1e-9))
    return Ranking.stack((best(np.flatnonzero(row), row[row > 0], DEPTH) for row in scores), DEPTH)


def _shown(task: BeirDataset, run: dict[str, dict[str, float]]) -> dict[str, list[float]]:
    values = score_run(run, task.qrels).values
    return {metric: values[metric].tolist() for metric in SHOWN[task.name]}


def measured(task: BeirDataset, records: Iterable[dict[str, Any]]) -> Measured:
    """The seeds of one row together."""
    runs = list(records)
    scores = {metric: np.array([run["scores"][metric] for run in runs]) for metric in SHOWN[task.name]}
    return Measured(scores, float(np.mean([run["seconds"] for run in runs])))


def difference(ours: Measured, theirs: Measured, metric: str) -> tuple[float, float, float]:
    """Mean of ours minus theirs, and the ends of its interval."""
    gaps = ours.scores[metric].mean(0) - theirs.scores[metric].mean(0)  # (Q,)
    return float(gaps.mean()), *bootstrap_interval(gaps)


def cell(of_row: Measured, reference: Measured | None, metric: str) -> str:
    """``0.331`` and the difference to the reference with its interval, or the interval of the value itself."""
    scores = of_row.scores[metric].mean(0)
    if reference is None:
        low, high = bootstrap_interval(scores)
        return f"{scores.mean():.3f} [{low:.3f}, {high:.3f}]"
    gap, low, high = difference(of_row, reference, metric)
    mark = " ↑" if low > 0 else " ↓" if high < 0 else ""
    return f"{scores.mean():.3f}, {gap:+.3f} [{low:+.3f}, {high:+.3f}]{mark}"


def table(found: dict[str, dict[str, Measured]], rows: list[str]) -> str:
    """Markdown: a line a row, a column a corpus and metric, and the CPU seconds of a training."""
    head = ["row"]
    lines = [[row] for row in rows]
    for corpus, of_corpus in found.items():
        head += [f"{corpus} {metric}" for metric in SHOWN[corpus]] + [f"{corpus} seconds"]
        for row, line in zip(rows, lines, strict=True):
            reference = None if row == REFERENCE else of_corpus[REFERENCE]
            line += [cell(of_corpus[row], reference, metric) for metric in SHOWN[corpus]]
            line.append(f"{of_corpus[row].seconds:.0f}" if of_corpus[row].seconds else "–")
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    text = [" | ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)) for line in [head, *lines]]
    text.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in text)


def verdict(claim: Claim, corpus: str, of_corpus: dict[str, Measured]) -> str:
    """Whether a finding of the paper holds, metric by metric."""
    parts = []
    for metric in SHOWN[corpus]:
        gap, low, high = difference(of_corpus[claim.better], of_corpus[claim.worse], metric)
        word = "shown" if low > 0 else "contradicted" if high < 0 else "not distinguishable"
        parts.append(f"{metric} {gap:+.3f} [{low:+.3f}, {high:+.3f}] {word}")
    return f"{claim.sentence}; {corpus}: {'; '.join(parts)}."


def spread(of_corpus: dict[str, Measured], metric: str) -> float:
    """Standard deviation over the seeds of a row's mean, pooled over the rows."""
    means = [m.scores[metric].mean(1) for m in of_corpus.values() if len(m.scores[metric]) > 1]
    return float(np.sqrt(np.mean([np.var(values, ddof=1) for values in means])))


def fill(runs: list[tuple[str, int, Row]], steps: int, options: argparse.Namespace) -> None:
    """Put every run into the cache, several at a time; tells of each that is done."""
    context = get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = {
            pool.submit(fill_one, name, seed, row, steps, options.npl, options.cache): (name, seed, row)
            for name, seed, row in runs
        }
        for number, done in enumerate(as_completed(waiting), 1):
            done.result()
            name, seed, row = waiting[done]
            print(f"{number} of {len(runs)}: {name}, seed {seed}: {row.name}", file=sys.stderr)


def fill_one(name: str, seed: int, row: Row, steps: int, npl: Path, folder: Path) -> None:
    """Put a run into the cache."""
    trained(open_task(name, npl), row, seed, steps, folder)


def main() -> None:
    """Train, search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", choices=[*SHOWN, "all"], default="all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=GROUPS, help="one group of rows, beside the reference")
    parser.add_argument("--quick", action="store_true", help="one seed and few steps")
    parser.add_argument("--npl", type=Path, default=NPL, help="the NPL collection as a BEIR folder")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path("ablation-cache"))
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    seeds, steps = (1, STEPS // QUICK) if options.quick else (options.seeds, STEPS)
    rows = [row for row in ROWS if options.only in (None, row.group) or row.name == REFERENCE]
    names, found = list(SHOWN) if options.corpus == "all" else [options.corpus], dict[str, dict[str, Measured]]()
    runs = [(name, seed, row) for name in names for seed in range(seeds) for row in rows]
    fill(runs, steps, options)
    for name in names:
        task = open_task(name, options.npl)
        records: dict[str, list[dict[str, Any]]] = {row.name: [] for row in rows}
        for seed in range(seeds):
            for row in rows:
                records[row.name].append(trained(task, row, seed, steps, options.cache))
        found[name] = {system: measured(task, [control(task, system, options.cache)]) for system in CONTROLS}
        found[name] |= {row: measured(task, of_row) for row, of_row in records.items()}
    print(table(found, [*CONTROLS, *(row.name for row in rows)]))
    for corpus, of_corpus in found.items():
        for claim in CLAIMS:
            if {claim.better, claim.worse} <= set(of_corpus):
                print(verdict(claim, corpus, of_corpus))
        if seeds > 1:
            spreads = ", ".join(f"{metric} {spread(of_corpus, metric):.4f}" for metric in SHOWN[corpus])
            print(f"{corpus}: standard deviation of a row's mean over the seeds: {spreads}.")


if __name__ == "__main__":
    main()
