"""What is said of queries by id: judgments of a BEIR folder, and triples of query, positive and negative."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from retriever.data.beir import BeirDataset
from retriever.data.readers import WAY_OUT, Reject, read_lines
from retriever.errors import DataError

Find = Callable[[str], int | None]
"""Document id → row of the pool, or None."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Some of what is known of one query.

    Attributes:
        place: Where it is said, as an error names it.
        id: The query's id.
        query: Its text.
        positives: Rows of the pool that answer it.
        negatives: Rows that do not.
    """

    place: str
    id: str
    query: str
    positives: list[int]
    negatives: list[int]


def judged_by_qrels(dataset: BeirDataset, path: Path, find: Find, reject: Reject) -> Iterator[Judged]:
    """Each judged query, with its documents of a grade above 0 as positives and the others as negatives.

    Args:
        dataset: Queries and judgments.
        path: The file of the judgments, for errors.
        find: Finds the documents.
        reject: Takes the errors of judgments on queries or documents that there are not.
    """
    place = _Places(path)
    for query, judged in dataset.qrels.items():
        if not dataset.queries.get(query, "").strip():
            document = next(iter(judged))
            reject(_unknown(place(query, document), "query", query, "queries.jsonl", query in dataset.queries))
            continue
        rows: tuple[list[int], list[int]] = ([], [])
        for document, grade in judged.items():
            row = find(document)
            if row is None:
                reject(_unknown(place(query, document), "document", document, "corpus"))
            else:
                rows[grade <= 0].append(row)
        yield Judged(str(path), query, dataset.queries[query], *rows)


def judged_by_triples(
    path: Path, folder: Path, queries: Mapping[str, str], find: Find, reject: Reject
) -> Iterator[Judged]:
    """Each line of query id, positive id and negative id, separated by tabs.

    Args:
        path: The triples.
        folder: The BEIR folder with the texts, for errors.
        queries: Query id → text.
        find: Finds the documents.
        reject: Takes the errors of lines that are no triple or name something that there is not.
    """
    for number, line in read_lines(path, reject):
        cells = line.rstrip("\r\n").split("\t")
        place = f"{path}:{number}"
        if cells == [""]:
            continue
        if len(cells) != 3:
            reject(DataError(f"{place} is no triple of query id, positive id and negative id by tabs: {WAY_OUT}."))
            continue
        query, positive, negative = cells
        rows = (find(positive), find(negative))
        if not queries.get(query, "").strip():
            reject(_unknown(place, "query", query, f"queries of {folder}", query in queries))
        elif rows[0] is None or rows[1] is None:
            missing = positive if rows[0] is None else negative
            reject(_unknown(place, "document", missing, f"corpus of {folder}"))
        else:
            yield Judged(place, query, queries[query], [rows[0]], [rows[1]])


class _Places:
    """Where each judgment of a file stands; the file is read at the first question."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.numbers: dict[tuple[str, ...], int] = {}

    def __call__(self, query: str, document: str) -> str:
        """The line of a judgment."""
        if not self.numbers:
            for number, line in read_lines(self.path, lambda _: None):
                self.numbers.setdefault(tuple(line.split("\t")[:2]), number)
        return f"{self.path}:{self.numbers[query, document]}"


def _unknown(place: str, what: str, id_: str, where: str, is_empty: bool = False) -> DataError:
    lack = "has no text" if is_empty else "is not"
    return DataError(f"{place} names the {what} {id_!r}, which {lack} in the {where}: add it.")
