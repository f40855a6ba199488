"""The demo: a search engine for the documentation inside your own Python, from raw text to answers.

1. Read the docstrings of the running installation. A docstring's first sentence is its title, the rest its body.
2. Set 1,000 titles aside as queries: the document to find is the body. Training and indexes see bodies only.
3. Train an encoder on the bodies from random initialisation, without any label.
4. Build the index: vectors and BM25.
5. Evaluate dense search, BM25, an untrained tf-idf cosine and the hybrid on the held-out queries.
6. Answer five searches and write a report.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retriever.data.corpus import Corpus, open_corpus
from retriever.data.document import Document
from retriever.data.knownitem import known_items
from retriever.errors import DataError, OutputError
from retriever.eval.judge import judge, to_run
from retriever.eval.metrics import score_run
from retriever.eval.plots import bars_svg
from retriever.eval.report import (
    Found,
    Section,
    facts,
    figure_block,
    metrics_block,
    paragraph,
    searches_block,
    write_report,
)
from retriever.eval.significance import bootstrap_interval, paired_randomisation
from retriever.eval.tables import Intervals, Metrics
from retriever.figure import house_style
from retriever.files import write_atomically
from retriever.indexing.hybrid import fuse
from retriever.indexing.index import Hit, Index
from retriever.indexing.tfidf import TfidfIndex
from retriever.reporting import Reporter
from retriever.training.api import train
from retriever.training.curve import curve_svg
from retriever.training.recipebook import load_recipe
from retriever.training.trainer import LOG

RECIPES = {"static": "contriever-cpu", "transformer": "contriever-small"}
MODEL, INDEX, REPORT, MARK = "model", "index", "report.html", "DEMO.txt"
SHOWN = ("recall@10", "recall@100", "mrr@10")
DEPTH = 1000  # hits fused and judged
SEARCHES = (
    "read a csv file into a table",
    "compress data with gzip",
    "how to run a function in another process",
    "measure the distance between two probability distributions",
    "split a string at whitespace",
)
Family = Literal["static", "transformer"]


@dataclass(frozen=True)
class Questions:
    """The documents without their titles, and Q titles as queries for ``rows``."""

    bodies: Corpus
    queries: list[str]
    rows: list[str]  # id of the document each query asks for


@dataclass(frozen=True)
class Difference:
    """Recall@100 of dense search minus another system's, over the same queries."""

    other: str
    mean: float
    interval: tuple[float, float]
    p: float

    def __str__(self) -> str:
        low, high = self.interval
        verdict = "better" if low > 0 else "worse" if high < 0 else "not distinguishable"
        gap = f"{self.mean:+.3f} [{low:+.3f}, {high:+.3f}], p = {self.p:.5f}"
        return f"Recall@100, dense minus {self.other}: {gap}: {verdict}."


@dataclass(frozen=True)
class Outcome:
    """What the demo made and found; times in seconds."""

    documents: int
    queries: int
    metrics: Metrics
    intervals: Intervals
    differences: list[Difference]
    searches: Mapping[str, list[Hit]]
    seconds: dict[str, float]
    model: Path
    index: Path
    report: Path

    def to_json(self) -> dict[str, Any]:
        """Everything that `json.dumps` can take."""
        return {
            "documents": self.documents,
            "queries": self.queries,
            "metrics": self.metrics,
            "intervals": self.intervals,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "model": str(self.model),
            "index": str(self.index),
            "report": str(self.report),
        }


def run_demo(
    output: Path,
    *,
    family: Family = "static",
    corpus: Corpus | None = None,
    count: int = 1_000,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
) -> Outcome:
    """Run the whole path once; see the module's header.

    Args:
        output: Gets ``model/``, ``index/`` and ``report.html``; those of an earlier demo, told by ``DEMO.txt`` beside
            them, are replaced.
        family: ``static`` or ``transformer``.
        corpus: Titled documents, instead of the documentation of this Python.
        count: Queries to hold out.
        seed: Of the queries and of training.
        overrides: Settings of the recipe to change.
        reporter: Hears of progress.

    Raises:
        DataError: The corpus has no titles to ask for.
        OutputError: The folder cannot be written, or holds a model, an index or a report that no demo made.
        RetrieverError: Matplotlib, which the report needs, is not installed.
    """
    reporter, seconds = reporter or Reporter(), dict[str, float]()
    with house_style():
        pass  # a missing matplotlib shows now, not after the training
    recipe = load_recipe(RECIPES[family], {"seed": seed, **(overrides or {})})
    claim(output)
    with _timed(seconds, "corpus"), reporter.stage("corpus") as advance:
        questions = ask(corpus or open_corpus("pydocs"), count, seed)
        advance(len(list(questions.bodies)))
    with _timed(seconds, "train"):
        encoder = train(recipe, questions.bodies, output / MODEL, overwrite=True, reporter=reporter)
    with _timed(seconds, "index"), reporter.stage("index") as advance:
        index = Index.build(encoder, questions.bodies, output / INDEX, overwrite=True, progress=advance)
    with _timed(seconds, "eval"), reporter.stage("evaluate") as advance:
        metrics, intervals, differences = evaluate(index, questions)
        advance(len(questions.queries))
    searches = dict(zip(SEARCHES, index.search_batch(SEARCHES, k=3), strict=True))
    outcome = Outcome(
        documents=len(index),
        queries=len(questions.queries),
        metrics=metrics,
        intervals=intervals,
        differences=differences,
        searches=searches,
        seconds=seconds,
        model=output / MODEL,
        index=output / INDEX,
        report=output / REPORT,
    )
    report(outcome)
    return outcome


def claim(output: Path) -> None:
    """Make a folder the demo's own.

    Raises:
        OutputError: It cannot be written, or holds a model, an index or a report that no demo made.
    """
    taken = next((name for name in (MODEL, INDEX, REPORT) if (output / name).exists()), None)
    if taken is not None and not (output / MARK).exists():
        raise OutputError(f"{output / taken} was made by no demo, which would replace it: choose another --output.")
    write_atomically(
        output / MARK, f"`retriever demo` made {MODEL}, {INDEX} and {REPORT} beside this, and replaces them.\n"
    )


def ask(corpus: Corpus, count: int, seed: int) -> Questions:
    """Take the titles off all documents and hold some of them out as queries.

    Raises:
        DataError: No document has both a title and a body.
    """
    items = known_items(corpus, count, seed)
    documents = list(corpus)
    titled = [(query, documents[row].id) for query, row in zip(items.queries, items.rows, strict=True)]
    if not titled:
        raise DataError(f"The corpus {corpus.name} has no titled documents to ask for; give one with titles.")
    bodies = [Document(document.id, "", document.text, document.metadata) for document in documents]
    return Questions(
        Corpus.of(bodies, name=f"{corpus.name} without titles"),
        [query for query, _ in titled],
        [row for _, row in titled],
    )


def evaluate(index: Index, questions: Questions) -> tuple[Metrics, Intervals, list[Difference]]:
    """Judge dense, BM25, tf-idf and hybrid search on the held-out queries."""
    queries, documents = questions.queries, list(questions.bodies)
    dense, bm25 = index.rank(queries, DEPTH, "dense"), index.rank(queries, DEPTH, "bm25")
    rankings = {
        "dense": dense,
        "bm25": bm25,
        "tfidf": TfidfIndex.build(document.text for document in documents).search(queries, DEPTH),
        "hybrid": fuse([dense, bm25], DEPTH),
    }
    names, ids = [str(number) for number in range(len(queries))], [document.id for document in documents]
    qrels = {name: {row: 1} for name, row in zip(names, questions.rows, strict=True)}
    runs = {mode: to_run(ranking, names, ids) for mode, ranking in rankings.items()}
    metrics, intervals = judge(runs, qrels)
    recall = {mode: score_run(run, qrels).values["recall@100"] for mode, run in runs.items()}
    differences = [_difference(recall["dense"], recall[other], other) for other in ("bm25", "tfidf")]
    return _shown(metrics), _shown(intervals), differences


def report(outcome: Outcome) -> None:
    """Write the HTML report."""
    bars = bars_svg(outcome.metrics, outcome.intervals)
    curve = curve_svg(outcome.model / LOG)
    hits = {query: [Found(hit.id, hit.score, hit.text) for hit in found] for query, found in outcome.searches.items()}
    seconds = {f"{name}, seconds": f"{value:.0f}" for name, value in outcome.seconds.items()}
    sections = [
        Section("What was made", [facts({"documents": outcome.documents, "queries": outcome.queries, **seconds})]),
        Section(
            "How well it searches",
            [
                metrics_block(outcome.metrics, outcome.intervals, caption="Known-item search: one document a query."),
                figure_block(bars, "Dense, BM25, tf-idf and hybrid search on the held-out queries."),
                *(paragraph(str(difference)) for difference in outcome.differences),
            ],
        ),
        Section(
            "How it was trained",
            [figure_block(curve, "Loss, and the scores on known items held out of training, over the steps.")],
        ),
        Section("Searches", [searches_block(hits)]),
        Section("Next", [paragraph(command) for command in next_commands(outcome)]),
    ]
    subtitle = "The documentation inside one Python installation, searched by a model trained on it from nothing."
    write_report(outcome.report, "A search engine you trained yourself", sections, subtitle=subtitle)


def next_commands(outcome: Outcome) -> list[str]:
    """What to try next."""
    return [
        f'retriever search {outcome.index} "parse command line arguments"',
        "retriever train contriever-cpu --data YOUR.jsonl --output model",
        "retriever index build model YOUR.jsonl --output index",
    ]


def _difference(ours: Any, theirs: Any, other: str) -> Difference:  # noqa: ANN401 — score arrays (Q,)
    gaps = ours - theirs
    return Difference(other, float(np.mean(gaps)), bootstrap_interval(gaps), paired_randomisation(ours, theirs))


def _shown(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {mode: {metric: of_mode[metric] for metric in SHOWN} for mode, of_mode in values.items()}


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began
