"""Mining hard negatives: documents that a model takes for answers to a training query, and that are none.

1. Documents of the pool whose texts differ in case and blanks only are one text.
2. All texts are encoded once, as documents; queries a block at a time, as queries. Search is exact.
3. A query's known texts are its positives, its own text and the empty text. They are taken out of its ranking; what is
   left has ranks from 1, and the ranks asked for are candidates. The best ranks are left out by default: among them
   are the answers that nobody labelled.
4. A candidate is a likely false negative if it scores above a bar set by the *lowest* score s of the query's positives:
   s − margin, or max_ratio · s (the "TopK-MarginPos" and "TopK-PercPos" of NV-Retriever, Moreira et al. 2024,
   arXiv 2407.15831), or the lower of the two. Where s ≤ 0, the second is s − (1 − max_ratio) · |s|.
5. Of the others, the best or a random choice are the negatives. Some can come from the ranking of BM25 instead; ranks
   then count in that ranking, and the bar is the same.

Scores are computed in fp32 and rounded to 6 decimals before they are compared, so that the numbers written obey the
bar. In memory are the pool's documents and vectors.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.data.labelled import Labelled, keyed_fraction
from retriever.errors import DataError, ModelError
from retriever.indexing.bm25 import Bm25Index
from retriever.indexing.dense import DenseIndex
from retriever.indexing.mining_part import Part
from retriever.indexing.mining_report import MiningReport, summarise
from retriever.indexing.vectors import unit
from retriever.reporting import Reporter

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder

Sampling: TypeAlias = Literal["top", "random"]

FORMAT = 1  # part of every header: raise it when the same input gives other lines
CHUNK = 1_024  # texts encoded between two writes
BLOCK = 256  # queries searched between two writes
DECIMALS = 6


@dataclass(frozen=True, slots=True)
class MiningOptions:
    """What to mine.

    Attributes:
        negatives: Negatives a query, at most.
        first: Best rank taken, from 1.
        last: Worst rank taken.
        margin: How much lower than the positive a negative must score at least, if not None.
        max_ratio: Share of the positive's score that a negative may reach, if not None.
        bm25: How many of the negatives come from BM25.
        sampling: ``top`` takes the best ranks, ``random`` any.
        seed: Of the random choice.

    Raises:
        DataError: A value is out of range.
    """

    negatives: int = 7
    first: int = 10
    last: int = 100
    margin: float | None = None
    max_ratio: float | None = 0.95
    bm25: int = 0
    sampling: Sampling = "top"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.negatives < 1:
            raise DataError(f"negatives is {self.negatives}: ask for at least one (--negatives).")
        if not 1 <= self.first <= self.last:
            raise DataError(f"The ranks {self.first}:{self.last} are no range: give first:last, from 1 (--ranks).")
        if not 0 <= self.bm25 <= self.negatives:
            raise DataError(f"bm25 is {self.bm25}: choose between 0 and the {self.negatives} negatives (--bm25).")
        if self.margin is not None and not (math.isfinite(self.margin) and self.margin >= 0):
            raise DataError(f"margin is {self.margin}: choose 0 or more (--margin).")
        if self.max_ratio is not None and not (math.isfinite(self.max_ratio) and self.max_ratio > 0):
            raise DataError(f"max_ratio is {self.max_ratio}: choose a number above 0 (--max-ratio).")
        if self.sampling not in ("top", "random"):
            raise DataError(f"The sampling {self.sampling!r} is unknown: choose top or random (--sampling).")

    def bar(self, positive: float) -> float:
        """The highest score of a negative, given the lowest of the positives."""
        bars = [math.inf]
        if self.margin is not None:
            bars.append(positive - self.margin)
        if self.max_ratio is not None:
            bars.append(positive * (self.max_ratio if positive > 0 else 2 - self.max_ratio))
        return min(bars)


@dataclass(frozen=True, slots=True)
class Pool:
    """Documents, and which of them have the same text.

    Attributes:
        documents: All N documents.
        texts: Number of each document's text (N,); texts are numbered in order of first appearance.
        firsts: The first document of each text (M,).
        numbers: Hash of a text, but for case and blanks → its number.
    """

    documents: list[Document]
    texts: NDArray[np.int64]
    firsts: NDArray[np.int64]
    numbers: dict[bytes, int]

    @classmethod
    def of(cls, documents: Iterable[Document]) -> Pool:
        """Compare the texts of documents."""
        kept = list(documents)
        numbers: dict[bytes, int] = {}
        texts = np.array([numbers.setdefault(_digest(document.content), len(numbers)) for document in kept], np.int64)
        return cls(kept, texts, np.unique(texts, return_index=True)[1], numbers)

    def __len__(self) -> int:
        return len(self.firsts)

    def document(self, text: int) -> Document:
        """The first document of a text."""
        return self.documents[int(self.firsts[text])]

    def known(self, query: str, positives: NDArray[np.int32]) -> set[int]:
        """Texts that are no candidates for a query: its positives (rows), its own text, the empty text."""
        others = (self.numbers.get(_digest(text)) for text in (query, ""))
        return {*self.texts[positives].tolist(), *(text for text in others if text is not None)}


def mine(
    encoder: Encoder,
    labelled: Labelled,
    output: str | Path,
    options: MiningOptions | None = None,
    *,
    dtype: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> MiningReport:
    """Mine negatives for every query; see the module's header.

    The output is JSONL that :func:`retriever.data.labelled.open_labelled` reads, whole or not there at all. A line
    holds ``query_id``, ``query``, ``positives`` and ``negatives``, each of these an object with ``_id``, ``title``,
    ``text``, ``score`` and ``rank`` (and ``source`` of a negative), and ``false_negatives``, the number of candidates
    above the bar. The rank of a positive is 1 + the number of texts above it that are not known; null beyond the last
    rank.
    Negatives that the data came with are replaced.

    Args:
        encoder: The model; its prompts and its similarity apply.
        labelled: Queries, positives and the pool to mine from.
        output: The ``.jsonl`` file to write. Until it is whole, ``OUTPUT.part`` stands beside it.
        options: What to mine.
        dtype: Precision of encoding: ``float32``, ``bfloat16`` or ``auto``.
        resume: Go on with ``OUTPUT.part``; the result has the same bytes as an uninterrupted run's.
        overwrite: Replace the output and what is left of an unfinished run.
        reporter: Hears of progress.

    Returns:
        Statistics of the output.

    Raises:
        DataError: The pool is too small for the first rank, or the model gives vectors that are not finite.
        OutputError: The output is taken or cannot be written, another process mines it, or there is nothing to resume.
    """
    options, reporter = options or MiningOptions(), reporter or Reporter()
    output = Path(output).expanduser()
    header = {
        "format": FORMAT,
        "model": encoder.fingerprint,
        "device": encoder.device.type,
        "dtype": dtype,
        "data": labelled.fingerprint(),
        "options": asdict(options),
    }
    pool = Pool.of(labelled.documents)
    if len(pool) <= options.first:
        raise DataError(
            f"{labelled.name} has a pool of {len(pool)} texts, too few for ranks from {options.first}: take better "
            "ranks (--ranks) or mine from a larger corpus (--corpus)."
        )
    with Part.claimed(output, header, resume=resume, overwrite=overwrite) as part:
        try:
            vectors = _encode(encoder, pool, part, dtype, reporter)
            miner = _Miner(encoder, labelled, pool, vectors, options, dtype)
        except (DataError, ModelError):
            part.discard()
            raise
        done = part.keep_lines(len(labelled), BLOCK)
        with reporter.stage("mine", len(labelled), done) as advance:
            for start in range(done, len(labelled), BLOCK):
                records = miner.block(range(start, min(start + BLOCK, len(labelled))))
                part.add_lines(records)
                advance(len(records))
        part.publish()
    return summarise(output, documents=len(pool.documents), texts=len(pool), last=options.last)


def _encode(encoder: Encoder, pool: Pool, part: Part, dtype: str, reporter: Reporter) -> NDArray[np.float32]:
    """Vectors of all texts (M, D), those encoded before a kill included."""
    done = part.keep_vectors(len(pool), encoder.dimension, CHUNK)
    with reporter.stage("encode", len(pool), done) as advance:
        for start in range(done, len(pool), CHUNK):
            contents = [pool.document(text).content for text in range(start, min(start + CHUNK, len(pool)))]
            vectors = encoder.encode(contents, "document", dtype=dtype, progress=advance)
            part.add_vectors(unit(vectors, encoder.similarity))
    return part.vectors(len(pool), encoder.dimension)


class _Miner:
    """Everything that does not change from query to query."""

    def __init__(
        self,
        encoder: Encoder,
        labelled: Labelled,
        pool: Pool,
        vectors: NDArray[np.float32],
        options: MiningOptions,
        dtype: str,
    ) -> None:
        self.encoder, self.labelled, self.pool, self.vectors = encoder, labelled, pool, vectors
        self.options, self.dtype = options, dtype
        self.dense = DenseIndex.build(vectors, "dot")
        self.bm25: Bm25Index | None = None
        if options.bm25:
            self.bm25 = Bm25Index.build(pool.document(text).content for text in range(len(pool)))

    def block(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The lines of some queries."""
        queries = [self.labelled.queries[row] for row in rows]
        known = [self.pool.known(q, self.labelled.positives[row]) for q, row in zip(queries, rows, strict=True)]
        depth = self.options.last + max(map(len, known))
        vectors = unit(self.encoder.encode(queries, "query", dtype=self.dtype), self.encoder.similarity)
        dense = self.dense.search(vectors, depth)
        sparse = self.bm25.search(queries, depth) if self.bm25 else None
        return [
            self._line(row, vectors[i], known[i], dense.hits(i)[0], sparse.hits(i)[0] if sparse else None)
            for i, row in enumerate(rows)
        ]

    def _line(
        self,
        row: int,
        vector: NDArray[np.float32],
        known: set[int],
        dense: NDArray[np.int64],
        sparse: NDArray[np.int64] | None,
    ) -> dict[str, Any]:
        """The line of one query, from its vector (D,) and its two rankings of texts."""
        query, options = self.labelled.queries[row], self.options
        rng = np.random.default_rng(int(keyed_fraction(query, options.seed) * 2**48))
        ranks = free_ranks(dense.tolist(), known)
        positives = self._positives(self.labelled.positives[row], vector, ranks)
        bar = options.bar(min(positive["score"] for positive in positives))
        negatives: list[dict[str, Any]] = []
        false: set[int] = set()
        for source, ranking, wanted in (
            ("dense", ranks, options.negatives - options.bm25),
            ("bm25", free_ranks([] if sparse is None else sparse.tolist(), known), options.bm25),
        ):
            taken = {negative["text"] for negative in negatives}
            candidates = [
                text for text, rank in ranking.items() if text not in known and options.first <= rank <= options.last
            ]
            scores = dict(zip(candidates, self._scores(vector, candidates), strict=True))
            false |= {text for text, score in scores.items() if score > bar}
            fair = [text for text in candidates if text not in false and text not in taken]
            for text in choose(fair, wanted, options.sampling, rng):
                negatives.append({"text": text, "score": scores[text], "rank": ranking[text], "source": source})
        return {
            "query_id": self.labelled.ids[row],
            "query": query,
            "positives": positives,
            "negatives": [_entry(self.pool.document(negative.pop("text")), **negative) for negative in negatives],
            "false_negatives": len(false),
        }

    def _positives(
        self, rows: NDArray[np.int32], vector: NDArray[np.float32], ranks: dict[int, int]
    ) -> list[dict[str, Any]]:
        """The entries of the positives (rows of the pool), one a text."""
        first = {int(self.pool.texts[row]): int(row) for row in rows[::-1]}
        texts = sorted(first)
        entries = []
        for text, score in zip(texts, self._scores(vector, texts), strict=True):
            rank = ranks.get(text)
            within = rank if rank is not None and rank <= self.options.last else None
            entries.append(_entry(self.pool.documents[first[text]], score=score, rank=within))
        return entries

    def _scores(self, vector: NDArray[np.float32], texts: list[int]) -> list[float]:
        """Rounded similarities of a query's vector (D,) with texts."""
        scores = np.einsum("nd,d->n", self.vectors[texts], vector)
        return [round(score, DECIMALS) for score in scores.tolist()]


def free_ranks(ranking: Sequence[int], known: set[int]) -> dict[int, int]:
    """Each text of a ranking → 1 + the number of texts above it that are not known."""
    ranks: dict[int, int] = {}
    free = 1
    for text in ranking:
        ranks[text] = free
        free += text not in known
    return ranks


def choose(texts: list[int], count: int, sampling: Sampling, rng: np.random.Generator) -> list[int]:
    """At most ``count`` of the texts, in their order: the first, or any."""
    if sampling == "top" or len(texts) <= count:
        return texts[:count]
    return [texts[place] for place in np.sort(rng.choice(len(texts), count, replace=False))]


def _entry(document: Document, **values: Any) -> dict[str, Any]:
    return {"_id": document.id, "title": document.title, "text": document.text, **values}


def _digest(text: str) -> bytes:
    """Equal for texts that differ in case and blanks only."""
    return hashlib.blake2b(" ".join(text.casefold().split()).encode(), digest_size=16).digest()
