"""TREC run files: ``query Q0 document rank score tag``, one hit a line.

Scores are written with as many digits as it takes to read the same float back, and ranks in trec_eval's order (score,
then document id, both descending), so that a file scores the same here, in trec_eval and after any round trip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from retriever.errors import DataError
from retriever.eval.metrics import Run
from retriever.files import write_atomically


def write_run(path: str | Path, run: Mapping[str, Mapping[str, float]], tag: str = "retriever") -> Path:
    """Write a run as a TREC run file, whole or not at all.

    Args:
        path: The file; missing parent folders are made.
        run: Query id → document id → score. A query without hits leaves no line.
        tag: Name of the system, the last column.

    Returns:
        The path.

    Raises:
        DataError: An id or the tag is empty or holds a blank, which the format cannot express; a score is not finite.
        OutputError: The file cannot be written.
    """
    _check_word("tag", tag)
    lines = []
    for query, hits in run.items():
        _check_word("query id", query)
        for rank, (document, score) in enumerate(ordered(hits), start=1):
            _check_word("document id", document)
            if not math.isfinite(score):
                raise DataError(f"Document {document!r} of query {query!r} has the score {score}: a run needs numbers.")
            lines.append(f"{query} Q0 {document} {rank} {float(score)!r} {tag}\n")
    return write_atomically(path, "".join(lines))


def read_run(path: str | Path) -> Run:
    """Read a TREC run file. The rank column is not read: as in trec_eval, the scores make the order.

    Args:
        path: The file.

    Returns:
        Query id → document id → score, queries and hits in file order.

    Raises:
        DataError: The file is missing, empty, not UTF-8 text, or a line is mangled or repeats a document.
    """
    path = Path(path).expanduser()
    run: Run = {}
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    query, document, score = _hit(line, f"{path}:{number}")
                    hits = run.setdefault(query, {})
                    if document in hits:
                        raise DataError(f"{path}:{number}: document {document!r} is listed twice for query {query!r}.")
                    hits[document] = score
    except OSError as error:
        raise DataError(f"Cannot read the run file {path} ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"The run file {path} is not UTF-8 text: convert it, or give the right file.") from error
    if not run:
        raise DataError(f"The run file {path} is empty: it needs lines 'query Q0 document rank score tag'.")
    return run


def ordered(hits: Mapping[str, float]) -> list[tuple[str, float]]:
    """The hits of one query in trec_eval's order: score, then document id, both descending."""
    return sorted(hits.items(), key=lambda hit: (hit[1], hit[0]), reverse=True)


def _hit(line: str, place: str) -> tuple[str, str, float]:
    """Query, document and score of one line."""
    fields = line.split()
    if len(fields) != 6:
        raise DataError(f"{place}: {len(fields)} columns where a TREC run has 6: 'query Q0 document rank score tag'.")
    try:
        score = float(fields[4])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise DataError(f"{place}: the score (column 5) is {fields[4]!r}, not a finite number.")
    return fields[0], fields[2], score


def _check_word(what: str, word: str) -> None:
    if len(word.split()) != 1 or word.split()[0] != word:
        raise DataError(
            f"The {what} {word!r} is empty or holds a blank, which separates the columns of a TREC run file: "
            "rename it, or keep the results as JSON."
        )
