"""BEIR folders: a corpus, queries and relevance judgments in the layout everyone exchanges.

corpus.jsonl        {"_id", "title", "text"}      also .gz
queries.jsonl       {"_id", "text"}               also .gz
qrels/SPLIT.tsv     query-id, corpus-id, score    with a header
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retriever.data.corpus import Corpus, open_corpus
from retriever.data.document import Document
from retriever.data.readers import read_lines, refuse
from retriever.data.sources import find_file
from retriever.errors import DataError, OutputError
from retriever.files import replacing

HIGHEST = 1_000_000  # of a score: trec_eval holds some bytes for each grade up to the highest
HEADER = "query-id\tcorpus-id\tscore"
LAYOUT = "a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv"


@dataclass(frozen=True)
class BeirDataset:
    """A BEIR data set; judged documents that the corpus lacks are tolerated, as trec_eval does.

    Attributes:
        name: The folder's name.
        split: The split of the judgments.
        corpus: The documents, streamed; none is dropped.
        queries: Query id → text, the unjudged ones included.
        qrels: Query id → document id → graded relevance.
    """

    name: str
    split: str
    corpus: Corpus
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def load_beir(folder: str | Path, split: str = "test", *, skip_bad_lines: bool = False) -> BeirDataset:
    """Read the queries and one split's judgments of a BEIR folder, and open its corpus.

    Args:
        folder: The folder.
        split: Which judgments.
        skip_bad_lines: Leave mangled lines of corpus and queries out instead of raising; not for an evaluation.

    Raises:
        DataError: A part is missing or mangled.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}: {LAYOUT}.")
    queries = find_file(folder, "queries.jsonl")
    for name, path in (("corpus", find_file(folder, "corpus.jsonl")), ("queries", queries)):
        if path is None:
            raise DataError(f"{folder} has no {name}.jsonl or {name}.jsonl.gz: {LAYOUT}.")
    return BeirDataset(
        name=folder.resolve().name,
        split=split,
        corpus=open_corpus(folder, deduplicate=False, skip_bad_lines=skip_bad_lines),
        queries={
            query.id: query.text
            for query in open_corpus(str(queries), deduplicate=False, skip_bad_lines=skip_bad_lines)
        },
        qrels=read_qrels(_judgments(folder, split)),
    )


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Read ``query-id corpus-id score`` lines, separated by tabs, with or without a header.

    Raises:
        DataError: A line is mangled or contradicts an earlier one, a score is far too high, or there is no judgment.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, line in read_lines(path, refuse):
        columns = line.rstrip("\r\n").split("\t")
        if columns == [""]:
            continue
        score = _integer(columns[2]) if len(columns) == 3 else None
        if score is None:
            if number == 1 and len(columns) == 3:
                continue  # the header
            raise DataError(
                f"{path}:{number} is no judgment: a line is a query id, a document id and a whole-number score, "
                "separated by tabs."
            )
        if abs(score) > HIGHEST:
            raise DataError(f"{path}:{number} has the score {score}: scores are small whole numbers, such as 0 to 3.")
        judged = qrels.setdefault(columns[0], {})
        if judged.setdefault(columns[1], score) != score:
            raise DataError(
                f"{path}:{number} judges document {columns[1]!r} for query {columns[0]!r} with {score} after "
                f"{judged[columns[1]]}: keep one of the two lines."
            )
    if not qrels:
        raise DataError(f"{path} holds no judgment: add lines of query id, document id and score.")
    return qrels


def write_beir(
    folder: str | Path,
    documents: Iterable[Document],
    queries: Mapping[str, str],
    qrels: Mapping[str, Mapping[str, int]],
    split: str = "test",
) -> Path:
    """Write a BEIR folder, whole or not at all.

    Returns:
        The folder.

    Raises:
        DataError: An id holds a tab or a line end, which the judgments cannot express.
        OutputError: The folder exists and is not empty, or cannot be written.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputError(f"{folder} exists already: choose another place or remove it first.")
    with replacing(folder) as temporary:
        with (temporary / "corpus.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(_line(_record(document)) for document in documents)
        with (temporary / "queries.jsonl").open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(_line({"_id": id_, "text": text}) for id_, text in queries.items())
        (temporary / "qrels").mkdir()
        with (temporary / "qrels" / f"{split}.tsv").open("w", encoding="utf-8", newline="\n") as file:
            file.write(f"{HEADER}\n")
            for query, judged in qrels.items():
                file.writelines(f"{_cell(query)}\t{_cell(id_)}\t{score}\n" for id_, score in judged.items())
    return folder


def _judgments(folder: Path, split: str) -> Path:
    path = folder / "qrels" / f"{split}.tsv"
    if not path.is_file():
        found = ", ".join(sorted(path.stem for path in (folder / "qrels").glob("*.tsv")))
        if not found:
            raise DataError(f"{folder} has no judgments in qrels: {LAYOUT}.")
        raise DataError(f"{folder} has no judgments for the split {split!r}: choose one of {found}.")
    return path


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _record(document: Document) -> dict[str, Any]:
    record: dict[str, Any] = {"_id": document.id, "title": document.title, "text": document.text}
    return record | ({"metadata": dict(document.metadata)} if document.metadata else {})


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _cell(id_: str) -> str:
    if any(separator in id_ for separator in "\t\r\n"):
        raise DataError(f"The id {id_!r} holds a tab or a line end, which a judgment file cannot express: rename it.")
    return id_
