"""Labelled training data: queries with the documents that answer them, and perhaps some that only look like it.

1. Every format becomes the same thing: distinct queries, a pool of documents, and for each query the rows of its
   positives and of its negatives in that pool.
2. Formats that hold texts (see :mod:`retriever.data.labelled_records`) make a pool of their distinct texts. Formats
   that hold ids (judgments of a BEIR folder, triples) take the corpus as their pool.
3. A query that occurs again adds to what was said of it before.
4. A negative that is also a positive of its query, or has the same text as one, is dropped and counted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retriever.data.beir import load_beir
from retriever.data.corpus import Corpus, Rejected, open_corpus
from retriever.data.labelled_ids import Judged, judged_by_qrels, judged_by_triples
from retriever.data.labelled_pool import IdPool, TextPool
from retriever.data.labelled_records import JSON_ENDINGS, QUERY, Example, read_json, to_examples
from retriever.data.ragged import Ragged
from retriever.data.readers import read_lines
from retriever.data.sources import find_file, find_source
from retriever.errors import DataError

TSV_ENDINGS = (".tsv", ".tsv.gz")
ENDING = re.compile(r"\.(json|tsv)(\.gz)?$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LabelledReport:
    """What reading labelled data met.

    Attributes:
        repeated: Lines or judged queries whose text had occurred before, and was added to.
        without_positives: Judged queries left out because nothing is relevant to them.
        contradictions: Negatives dropped because they are, or read like, a positive of their query.
        bad_lines: Lines, rows or judgments skipped because they could not be used.
    """

    repeated: int = 0
    without_positives: int = 0
    contradictions: int = 0
    bad_lines: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Q queries with labelled documents out of a pool of N.

    Attributes:
        name: A short name, for tables and files.
        ids: Ids of the queries, distinct.
        queries: Their texts, distinct.
        documents: The pool.
        positives: Rows of the pool that answer each query, at least one.
        negatives: Rows that do not, perhaps none.
        report: What reading met; a part of the data keeps the report of the whole.
    """

    name: str
    ids: list[str]
    queries: list[str]
    documents: Corpus
    positives: Ragged  # Q rows
    negatives: Ragged  # Q rows
    report: LabelledReport

    def __len__(self) -> int:
        return len(self.queries)

    def fingerprint(self) -> str:
        """Hash of the queries, the pool and what is said of them."""
        digest = hashlib.sha256(self.documents.fingerprint().encode())
        digest.update(json.dumps([self.ids, self.queries]).encode())
        for rows in (self.positives, self.negatives):
            digest.update(rows.offsets.tobytes())
            digest.update(rows.ids.tobytes())
        return digest.hexdigest()

    def take(self, rows: NDArray[np.int64]) -> Labelled:
        """The given queries, in the given order, over the same pool."""
        return replace(
            self,
            ids=[self.ids[row] for row in rows],
            queries=[self.queries[row] for row in rows],
            positives=self.positives.take(rows),
            negatives=self.negatives.take(rows),
        )

    def split_dev(self, share: float, seed: int = 0) -> tuple[Labelled, Labelled]:
        """Hold out some queries, to choose a model by.

        A query is held out if the hash of its text under the seed falls into the share: whatever else the data holds.

        Args:
            share: Expected share held out, between 0 and 1.
            seed: Key of the hash.

        Returns:
            The queries to train on and those held out, both over the whole pool.

        Raises:
            DataError: The share is out of range, or one of the parts is empty.
        """
        if not 0 < share < 1:
            raise DataError(f"The share of queries to hold out is {share}: choose one between 0 and 1.")
        held_out = np.array([keyed_fraction(query, seed) < share for query in self.queries])
        if held_out.all() or not held_out.any():
            part = "all" if held_out.all() else "none"
            raise DataError(
                f"A share of {share} holds out {part} of the {len(self)} queries of {self.name}: choose another share "
                "or seed, or give more queries."
            )
        return self.take(np.flatnonzero(~held_out)), self.take(np.flatnonzero(held_out))


def keyed_fraction(text: str, seed: int) -> float:
    """A number in [0, 1) that only the text and the seed decide, uniform over texts."""
    digest = hashlib.blake2b(text.encode(), digest_size=6, key=str(seed).encode()).digest()
    return int.from_bytes(digest, "little") / 2**48


def open_labelled(
    data: str | Path, *, split: str = "train", corpus: str | Path | None = None, skip_bad_lines: bool = False
) -> Labelled:
    """Read labelled training data.

    Args:
        data: One of

            - a ``.jsonl``, ``.json``, ``.csv``, ``.tsv`` (all also ``.gz``) or ``.parquet`` file, or a data set of the
              ``datasets`` library, with fields such as query, positive and negative, or those of DPR: see
              :mod:`retriever.data.labelled_records`;
            - a BEIR folder: judgments above 0 make positives, others negatives;
            - a ``.tsv`` file without a header, of query id, positive id and negative id: needs ``corpus``.
        split: Which judgments of a BEIR folder, or split of a ``datasets`` data set.
        corpus: For triples of ids, the BEIR folder with the documents and the queries. For texts, a corpus whose
            documents come first in the pool: there is more to mine from.
        skip_bad_lines: Count lines that cannot be used in the report instead of raising.

    Raises:
        DataError: The data is missing or mangled, has a query without a positive document, or names a query or document
            that there is not; or an option does not fit the format.
    """
    path = Path(data).expanduser()
    reject = Rejected(skip_bad_lines)
    if path.is_dir() and find_file(path, "corpus.jsonl"):
        if corpus is not None:
            raise DataError(f"{path} is a BEIR folder with a corpus of its own: leave the other corpus out.")
        return _open_beir(path, split, skip_bad_lines, reject)
    if path.is_file() and path.name.lower().endswith(TSV_ENDINGS) and not _has_header(path):
        if corpus is None:
            raise DataError(
                f"{path} has no header that names query and positive: write one, or, if it holds triples of ids, give "
                "the BEIR folder with their texts as corpus (--corpus)."
            )
        return _open_triples(path, Path(corpus).expanduser(), skip_bad_lines, reject)
    pool = TextPool(None if corpus is None else open_corpus(corpus, skip_bad_lines=skip_bad_lines))
    return _open_texts(path, split, pool, reject)


def _open_beir(folder: Path, split: str, skip_bad_lines: bool, reject: Rejected) -> Labelled:
    dataset = load_beir(folder, split, skip_bad_lines=skip_bad_lines)
    pool = IdPool(dataset.corpus)
    judged = judged_by_qrels(dataset, folder / "qrels" / f"{split}.tsv", pool.find, reject)
    return _assemble(dataset.name, str(folder), judged, dataset.corpus, pool.same, reject)


def _open_triples(path: Path, folder: Path, skip_bad_lines: bool, reject: Rejected) -> Labelled:
    queries = find_file(folder, "queries.jsonl")
    if queries is None or not find_file(folder, "corpus.jsonl"):
        raise DataError(f"{folder} is no BEIR folder: the triples {path} need its corpus.jsonl and queries.jsonl.")
    documents, asked = (
        open_corpus(source, deduplicate=False, skip_bad_lines=skip_bad_lines) for source in (folder, queries)
    )
    texts = {query.id: query.text for query in asked}
    pool = IdPool(documents)
    judged = judged_by_triples(path, folder, texts, pool.find, reject)
    return _assemble(_stem(path), str(path), judged, documents, pool.same, reject)


def _open_texts(path: Path, split: str, pool: TextPool, reject: Rejected) -> Labelled:
    if path.is_file() and path.name.lower().endswith(JSON_ENDINGS):
        name, origin, records = _stem(path), str(path), read_json(path, reject)
    else:
        source = find_source(path, split)
        name, origin, records = source.name, source.origin, source.records(reject)
    judged = [_place_texts(example, pool) for example in to_examples(records, reject)]
    return _assemble(name, origin, judged, pool.corpus(name), pool.same, reject)


def _place_texts(example: Example, pool: TextPool) -> Judged:
    """An example with the rows that its documents have in the pool."""
    positives, negatives, _ = (
        [pool.add(document, example.place) for document in documents]
        for documents in (example.positives, example.negatives, example.others)
    )
    return Judged(example.place, example.id, example.query, positives, negatives)


def _assemble(
    name: str,
    origin: str,
    judged: Iterable[Judged],
    documents: Corpus,
    same: Callable[[int], int],
    reject: Rejected,
) -> Labelled:
    """Steps 3 and 4 of the module's header.

    Args:
        name: Of the data.
        origin: Of the data, for errors.
        judged: What is said of each query, in any number of pieces.
        documents: The pool.
        same: Row → what it shares with rows of the same text.
        reject: Has counted what reading skipped.

    Raises:
        DataError: An id stands for two queries, or no query has a positive.
    """
    merged: dict[str, Judged] = {}
    texts: dict[str, str] = {}
    repeated = 0
    for piece in judged:
        if texts.setdefault(piece.id, piece.query) != piece.query:
            raise DataError(f"{piece.place} gives the query id {piece.id!r} to a second text: ids must be unique.")
        first = merged.setdefault(piece.query, piece)
        if first is not piece:
            repeated += 1
            first.positives.extend(piece.positives)
            first.negatives.extend(piece.negatives)
    kept = [piece for piece in merged.values() if piece.positives]
    if not kept:
        raise DataError(f"{origin} holds no query with a positive document: there is nothing to learn from.")
    positives = [list(dict.fromkeys(piece.positives)) for piece in kept]
    negatives, contradictions = [], 0
    for piece, own in zip(kept, positives, strict=True):
        answers = {same(row) for row in own}
        distinct = dict.fromkeys(piece.negatives)
        negatives.append([row for row in distinct if same(row) not in answers])
        contradictions += len(distinct) - len(negatives[-1])
    return Labelled(
        name=name,
        ids=[piece.id for piece in kept],
        queries=[piece.query for piece in kept],
        documents=documents,
        positives=Ragged.from_rows(positives),
        negatives=Ragged.from_rows(negatives),
        report=LabelledReport(repeated, len(merged) - len(kept), contradictions, reject.count),
    )


def _has_header(path: Path) -> bool:
    """Whether the first line of a table names a query field."""
    _, line = next(read_lines(path, lambda _: None), (0, ""))
    return not set(QUERY).isdisjoint(line.rstrip("\r\n").split("\t"))


def _stem(path: Path) -> str:
    """The file's name without its ending, as for other sources."""
    return ENDING.sub("", path.name) or path.name
