"""Evaluation on a BEIR data set: dense, BM25 and hybrid search side by side.

1. Encode all documents and the judged queries; search exactly (no approximate index blurs the comparison).
2. Search the same texts with BM25, and fuse the two rankings by combined surprise.
3. Drop the hit whose document id is the query's own id, as BEIR does: in ArguAna and Quora the queries are documents of
   the corpus, and finding oneself is no merit. The dropping comes before fusing, so that all modes see the same corpus.
4. Score every run with trec_eval's metrics over all judged queries and put a bootstrap interval around each mean. All
   runs share the bootstrap's draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from retriever.data.beir import BeirDataset, load_beir
from retriever.data.normalise import normalise
from retriever.encoder.encoder import Encoder, Similarity
from retriever.errors import DataError
from retriever.eval.judge import drop_identical, judge, to_run
from retriever.eval.metrics import Run
from retriever.eval.runs import write_run
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.dense import DenseIndex
from retriever.indexing.hybrid import fuse
from retriever.indexing.ranking import Ranking
from retriever.indexing.vectors import check_similarity

Mode: TypeAlias = Literal["dense", "bm25", "hybrid"]

MODES: tuple[Mode, ...] = ("dense", "bm25", "hybrid")


@dataclass(frozen=True)
class Results:
    """What an evaluation found.

    Attributes:
        dataset: Name of the data set.
        split: Split of the judgments.
        queries: Number of judged queries.
        metrics: Mode → metric → mean over all judged queries, a fraction.
        intervals: Mode → metric → low and high end of the 95 % bootstrap interval.
        runs: Mode → run, for `write_runs` and for paired tests.
    """

    dataset: str
    split: str
    queries: int
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, list[float]]]
    runs: dict[str, Run] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Everything but the runs, as plain types that `json.dumps` takes."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "queries": self.queries,
            "metrics": self.metrics,
            "intervals": self.intervals,
        }

    def write_runs(self, folder: str | Path) -> list[Path]:
        """Write each run as the TREC file ``DATASET.MODE.run``.

        Raises:
            DataError: An id holds a blank, which the format cannot express.
            OutputError: The folder cannot be written.
        """
        return [
            write_run(Path(folder) / f"{self.dataset}.{mode}.run", run, tag=mode) for mode, run in self.runs.items()
        ]


def evaluate_beir(
    encoder: Encoder | None,
    dataset: BeirDataset | str | Path,
    *,
    depth: int = 1000,
    modes: Sequence[Mode] = MODES,
    similarity: Similarity | None = None,
    ignore_identical_ids: bool = True,
    normalise_text: bool = False,
    dtype: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> Results:
    """Evaluate an encoder on a BEIR data set, with BM25 and the hybrid of both beside it.

    Args:
        encoder: The encoder; its query and document prompts are applied. BM25 alone needs none.
        dataset: Corpus, queries and judgments, or the folder whose split ``test`` they are.
        depth: Hits kept per query; MAP and the run files look this deep.
        modes: The rankings to evaluate, in the order in which tables show them.
        similarity: Similarity of the vectors, instead of the encoder's own.
        ignore_identical_ids: Drop the hit whose document id equals the query id.
        normalise_text: Apply :func:`retriever.data.normalise.normalise` to documents and queries first, for all modes.
        dtype: Precision of encoding: ``float32``, ``bfloat16`` or ``auto``.
        progress: Called with the number of texts just encoded: all documents, then the judged queries.

    Returns:
        Means, intervals and runs of every mode.

    Raises:
        DataError: Nothing is judged, a judged query is not among the queries, a mode or the similarity is unknown, or
            the folder cannot be read.
    """
    if not modes or not set(modes) <= set(MODES):
        raise DataError(f"The modes {list(modes)} cannot be evaluated: choose from {', '.join(MODES)}.")
    if similarity is not None:
        check_similarity(similarity)
    if isinstance(dataset, (str, Path)):
        dataset = load_beir(dataset)
    queries = sorted(query for query, judged in dataset.qrels.items() if judged)
    for query in queries:
        if query not in dataset.queries:
            raise DataError(
                f"Query {query!r} of {dataset.name}'s {dataset.split} judgments is missing from its queries: "
                "complete queries.jsonl or remove the judgment."
            )
    documents = list(dataset.corpus)
    ids = [document.id for document in documents]
    texts = [document.content for document in documents]
    questions = [dataset.queries[query] for query in queries]
    if normalise_text:
        texts, questions = [list(map(normalise, some)) for some in (texts, questions)]
    k = min(depth + 1, len(ids))

    def rank(mode: str) -> Ranking:
        if mode == "bm25":
            found = Bm25Index.build(texts).search(questions, k)
        elif encoder is None:
            raise DataError("Dense and hybrid search need an encoder: give a model, or evaluate bm25 alone.")
        else:
            found = _dense(encoder, texts, questions, k, similarity or encoder.similarity, dtype, progress)
        return drop_identical(found, queries if ignore_identical_ids else [""] * len(queries), ids, depth)

    rankings = {mode: rank(mode) for mode in ("dense", "bm25") if mode in modes or "hybrid" in modes}
    if "hybrid" in modes:
        rankings["hybrid"] = fuse([rankings["dense"], rankings["bm25"]], depth)
    runs: dict[str, Run] = {mode: to_run(rankings[mode], queries, ids) for mode in modes}
    metrics, intervals = judge(runs, dataset.qrels)
    return Results(dataset.name, dataset.split, len(queries), metrics, intervals, runs)


def _dense(
    encoder: Encoder,
    texts: Sequence[str],
    questions: Sequence[str],
    k: int,
    similarity: Similarity,
    dtype: str,
    progress: Callable[[int], None] | None,
) -> Ranking:
    """Exact search by vectors."""
    documents = encoder.encode(texts, "document", dtype=dtype, progress=progress)
    index = DenseIndex.build(documents, similarity, "Flat")
    return index.search(encoder.encode(questions, "query", dtype=dtype, progress=progress), k)
