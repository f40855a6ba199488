"""Search settings that reach a recall, found by trying them on the index itself.

1. Queries are the user's own, or documents of the index where there are none. A document is an easier query than a
   person's: it lies among its neighbours. It finds itself first, which does not count.
2. Their true hits are the ten nearest of all stored vectors; what is as near as the tenth is as true. Recall is the
   share of ten true hits that a search finds. A query to which more than twenty are as near is left out, unless nearly
   all are like that: in a crowd of equal texts, what a search finds says little of it. Of the others, every second is
   for choosing, and the rest for measuring.
3. For each breadth (lists visited, or breadth of the walk through a graph) one deep search by codes tells at which
   depth each true hit stands, and so the recall for every number of candidates that full vectors score: a true hit
   among the candidates is always found. Two timed searches tell what a candidate costs.
4. A narrow search takes no longer than a wide one with as many candidates: where other work on the machine disturbed
   the clock, the wide one's time counts for both.
5. Of all pairs of breadth and candidates whose recall reaches the target, the cheapest is chosen. The same is done for
   other targets, which makes the table of what recall costs.
6. What was chosen is measured on the queries that had no say, in one batch, in CPU time of one thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from retriever.errors import DataError
from retriever.indexing.dense import DenseIndex
from retriever.indexing.kinds import SearchSettings, evenly, lists, unwrapped
from retriever.kernels import faiss, faiss_threads

Array = NDArray[np.float32]
Rows = NDArray[np.int64]

K = 10  # hits that recall is counted over
QUERIES = 1000  # documents that serve as queries, half of them for measuring: recall to about 0.4 %
FEWEST = 20  # queries that tuning needs
DEEPEST = 48  # most candidates for each hit wanted
TRIED = 8  # candidates for each hit wanted, of the second timed search
TARGETS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995)  # rows of the table
TIE = 1e-6  # scores that differ by less are equal
REPEATS = 3  # of a search whose speed is told; the fastest counts
WIDEST_WALK = 2048  # greatest breadth of a walk through a graph that is tried
MISSING = -2  # where a query has fewer true hits than others


class TradeOff(BaseModel):
    """One row of the table: what a search finds, and how fast.

    Attributes:
        settings: What it may spend.
        recall: Share of the ten nearest vectors that it finds.
        error: Standard error of ``recall``.
        per_second: Queries a second of one thread.
    """

    settings: SearchSettings
    recall: float
    error: float
    per_second: float


class Tuning(BaseModel):
    """What tuning found, measured on queries that had no say in it.

    Attributes:
        target: The recall wanted.
        chosen: The cheapest settings that reached it; those of the highest recall if none did.
        reached: Whether they did, on the queries of the choice.
        exact_per_second: Queries a second of one thread that compares with every vector.
        queries: How many queries measured; as many others chose.
        own: Whether they are the user's own, not documents.
        table: The cheapest settings for other targets, by rising recall.
    """

    target: float
    chosen: TradeOff
    reached: bool
    exact_per_second: float
    queries: int
    own: bool
    table: list[TradeOff]


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Queries with their true hits.

    Attributes:
        vectors: Queries (Q, D).
        truth: Rows (Q, T), T ≥ 10.
        wanted: Hits to ask for, so that ten are left without the query itself.
    """

    vectors: Array
    truth: Rows
    wanted: int

    def recall(self, rows: Rows) -> NDArray[np.float64]:
        """Of hits (Q, C), the recall of the first 1, 2, … C of each query, (Q, C)."""
        is_true = (rows[:, :, None] == self.truth[:, None, :]).any(axis=2)  # (Q, C)
        shares: NDArray[np.float64] = np.minimum(np.cumsum(is_true, axis=1), K) / K
        return shares

    def every_second(self, start: int) -> Questions:
        """Half of the queries."""
        return Questions(self.vectors[start::2], self.truth[start::2], self.wanted)


@dataclass(frozen=True, slots=True)
class Option:
    """Settings with their recall on the queries of the choice, and the seconds that all of them take."""

    settings: SearchSettings
    recall: float
    cost: float


def tune(index: DenseIndex, target: float, queries: Array | None = None) -> Tuning:
    """Find the cheapest search settings that reach a recall.

    Args:
        index: An index that is not exact.
        target: Recall@10 wanted, above 0 and below 1.
        queries: Query vectors (Q, D); documents of the index if not given.

    Raises:
        DataError: The target is out of range, the queries or documents are too few, or a vector does not fit.
    """
    check_target(target)
    if len(index) <= 2 * K:
        raise DataError(f"The index holds {len(index)} vectors, too few to tune it: exact search finds all of them.")
    with faiss_threads(1):  # so that the CPU time of this thread is that of the search
        questions, exact_per_second = ask(index, queries)
        choosing, measuring = (questions.every_second(start) for start in (0, 1))
        options = _steadied(list(_options(index, choosing, max(*TARGETS, target))))
        best = _cheapest(options, target)
        chosen = best or max(options, key=lambda option: option.recall)
        goals = [option for goal in TARGETS if (option := _cheapest(options, goal))]
        settings = dict.fromkeys(option.settings for option in goals)
        table = {one: _measure(index, measuring, one) for one in dict.fromkeys([chosen.settings, *settings])}
    return Tuning(
        target=target,
        chosen=table[chosen.settings],
        reached=best is not None,
        exact_per_second=exact_per_second,
        queries=len(measuring.vectors),
        own=queries is not None,
        table=sorted(table.values(), key=lambda row: (row.recall, -row.per_second)),
    )


def ask(index: DenseIndex, queries: Array | None) -> tuple[Questions, float]:
    """Queries with their true hits, and how many a second exact search answers.

    Args:
        index: An index of any kind, of more than 20 vectors.
        queries: Query vectors (Q, D); documents of the index if not given.

    Raises:
        DataError: The queries are too few, or a vector does not fit.
    """
    own = _sample(index) if queries is None else None
    vectors = index.vectors(own) if own is not None else np.asarray(queries, np.float32)
    vectors = check_queries(vectors)
    began = time.thread_time()
    found = index.exact(vectors, 2 * K + 1)
    per_second = len(vectors) / (time.thread_time() - began)
    scores = found.scores if own is None else np.where(found.rows == own[:, None], -np.inf, found.scores)
    bar = -np.sort(-scores, axis=1)[:, K - 1 : K] - TIE  # (Q, 1)
    truth = np.where(scores >= bar, found.rows, MISSING)
    is_told = found.scores[:, -1] < bar[:, 0]  # all that are as near as the tenth are known
    if is_told.sum() >= FEWEST:
        vectors, truth = vectors[is_told], truth[is_told]
    return Questions(vectors, truth, K if own is None else K + 1), per_second


def tune_to(index: DenseIndex, target: float | None, queries: Array | None = None) -> Tuning | None:
    """Like :func:`tune`, but nothing where nothing can be tuned: no target, an exact index, or a handful of vectors."""
    if target is None or index.is_exact or len(index) <= 2 * K or (queries is None and len(_sample(index)) < FEWEST):
        return None
    return tune(index, target, queries)


def check_target(target: float) -> None:
    """See that a recall can be aimed at.

    Raises:
        DataError: It is not above 0 and below 1.
    """
    if not 0 < target < 1:
        raise DataError(f"A recall of {target:g} cannot be aimed at: give one above 0 and below 1, such as 0.95.")


def check_queries(vectors: Array) -> Array:
    """The queries (Q, D) that have a direction; others find nothing.

    Raises:
        DataError: They are too few to tune by.
    """
    told = vectors[vectors.any(axis=1)]
    if len(told) < FEWEST:
        raise DataError(f"Tuning takes {FEWEST} or more queries with words that the model knows, not {len(told)}.")
    return told


def _sample(index: DenseIndex) -> Rows:
    """Rows of documents that can be queries, spread evenly."""
    rows = evenly(len(index), QUERIES)
    chosen: Rows = rows[index.vectors(rows).any(axis=1)]
    return chosen


def _options(index: DenseIndex, asked: Questions, goal: float) -> Iterator[Option]:
    """Every pair of breadth and candidates, up to the breadth at which recall is as good as ``goal``."""
    for breadth in _breadths(index):
        deepest = _deepest(index, breadth, asked.wanted)
        settings = [_settings(index, breadth, rerank) for rerank in range(1, deepest + 1)]
        found = index.candidates(asked.vectors, deepest * asked.wanted, settings[0])
        recall = asked.recall(found)[:, asked.wanted - 1 :: asked.wanted].mean(axis=0)  # (deepest,)
        if recall[-1] < TARGETS[0] and breadth != _breadths(index)[-1]:
            continue  # too little to be worth timing
        tried = min(TRIED, deepest)
        first, other = (_seconds(index, asked, settings[rerank - 1], 1) for rerank in (1, tried))
        each = max(other - first, 0) / max(tried - 1, 1)
        for rerank, one in enumerate(settings):
            yield Option(one, float(recall[rerank]), first + each * rerank)
        if recall[-1] >= goal:
            return


def _steadied(options: Sequence[Option]) -> list[Option]:
    """Options by rising breadth, none of them dearer than a broader one with as many candidates."""
    least: dict[int | None, float] = {}
    steadied = []
    for option in reversed(options):
        rerank = option.settings.rerank
        least[rerank] = min(option.cost, least.get(rerank, math.inf))
        steadied.append(replace(option, cost=least[rerank]))
    return steadied[::-1]


def _cheapest(options: Iterable[Option], goal: float) -> Option | None:
    """The cheapest that reaches a recall."""
    reaching = [option for option in options if option.recall >= goal]
    return min(reaching, key=lambda option: option.cost, default=None)


def _breadths(index: DenseIndex) -> list[int | None]:
    """Lists visited, or breadths of the walk, to try: each time an eighth of a power of two more."""
    steps = sorted({2**power * part // 8 for power in range(16) for part in range(8, 16)})
    if isinstance(unwrapped(index.kind), faiss.IndexHNSW):
        return [step for step in steps if K < step <= WIDEST_WALK]
    if most := lists(index.kind):
        return [*(step for step in steps if step < most), most]
    return [None]


def _deepest(index: DenseIndex, breadth: int | None, wanted: int) -> int:
    """Most candidates for each hit wanted: a walk finds no more than its breadth, and no search more than there is."""
    if not index.is_coded:
        return 1
    is_walk = isinstance(unwrapped(index.kind), faiss.IndexHNSW)
    most = breadth if is_walk and breadth is not None else len(index)
    return max(min(DEEPEST, most // wanted), 1)


def _settings(index: DenseIndex, breadth: int | None, rerank: int) -> SearchSettings:
    settings = SearchSettings(rerank=rerank) if index.is_coded else SearchSettings()
    return settings.model_copy(update={"nprobe" if lists(index.kind) else "ef": breadth})


def _measure(index: DenseIndex, asked: Questions, settings: SearchSettings) -> TradeOff:
    """What a search with these settings finds, and how fast."""
    recall = asked.recall(index.search(asked.vectors, asked.wanted, parameters=settings).rows)[:, -1]  # (Q,)
    return TradeOff(
        settings=settings,
        recall=float(recall.mean()),
        error=float(recall.std() / np.sqrt(len(recall))),
        per_second=len(recall) / _seconds(index, asked, settings, REPEATS),
    )


def _seconds(index: DenseIndex, asked: Questions, settings: SearchSettings, repeats: int) -> float:
    """CPU seconds of a search for all queries, at best."""
    best = np.inf
    for _ in range(repeats):
        began = time.thread_time()
        index.search(asked.vectors, asked.wanted, parameters=settings, background=False)
        best = min(best, time.thread_time() - began)
    return float(best)
