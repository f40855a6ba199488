"""The files that extreme multi-label data sets are made of.

records     a JSON object a line
texts       a text a line; a blank line is a text that is empty
targets     header `rows cols`, then a row of `label:relevance` a point;
            or header `points features labels`, then `label,label feature:value …` a point, whose features are ignored;
            or a CSR matrix (points, labels) that scipy saved
filter      `point label` a line, no header; an empty file is no pair

Rows and labels count from 0. No line can be left out, for all files of a data set share row numbers: the first mangled
one is refused, with its file and number.
"""

from __future__ import annotations

import json
import zipfile
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_matrix, issparse, load_npz

from retriever.data.readers import cannot_read, read_lines, reason, refuse
from retriever.data.xmc_points import Pairs, build_targets
from retriever.errors import DataError

Placed: TypeAlias = tuple[str, Mapping[str, Any]]
"""Where a record stands, and the record."""


def read_records(path: Path) -> Iterator[Placed]:
    """Place and JSON object of each line; blank lines are none.

    Raises:
        DataError: A line is no JSON object.
    """
    for number, line in read_lines(path, refuse):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number} is not valid JSON ({reason(error)}): write one object a line.") from error
        if not isinstance(record, dict):
            raise DataError(f"{path}:{number} is JSON but not an object: write one object a line.")
        yield f"{path}:{number}", record


def read_texts(path: Path) -> list[str]:
    """The text of each line, white space at its ends cut."""
    return [line.strip() for _, line in read_lines(path, refuse)]


def read_targets(path: Path, points: int, labels: int) -> csr_matrix:
    """Read the targets of as many points over as many labels, from text.

    Raises:
        DataError: Header, rows and the two numbers disagree, a row is mangled, or a label is out of range.
    """
    lines = read_lines(path, refuse)
    header = [_whole(field) for field in next(lines, (1, ""))[1].split()]
    if len(header) not in (2, 3) or None in header:
        raise DataError(f"{path}:1 is no header: it holds `rows cols`, or `points features labels` in the old format.")
    if (header[0], header[-1]) != (points, labels):
        raise DataError(
            f"{path}:1 tells of {header[0]:,} points and {header[-1]:,} labels, but there are texts of {points:,} and "
            f"{labels:,}: take files of one data set."
        )
    entries = TargetList(labels)
    rows = 0
    for number, line in lines:
        if rows == points and not line.strip():
            continue  # a blank line at the end is no point
        is_old = len(header) == 3
        for field in _old_fields(line) if is_old else line.split():
            label, colon, value = field.partition(":")
            relevance = _number(value) if colon else 1.0 if is_old else None
            entries.add(rows, _whole(label), relevance, f"{path}:{number}", field)
        rows += 1
    if rows != points:
        raise DataError(f"The header of {path} tells of {points:,} rows, but {rows:,} follow: fetch the file again.")
    return entries.matrix(points)


def read_npz(path: Path, points: int, labels: int) -> csr_matrix:
    """Read the targets of as many points over as many labels, as scipy's `save_npz` writes them.

    Raises:
        DataError: The file is mangled or of another shape.
    """
    try:
        with path.open("rb") as file:
            matrix = load_npz(file)
    except OSError as error:
        raise cannot_read(path, error) from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} holds no sparse matrix of scipy's ({reason(error)}): write it with save_npz."
        ) from error
    if not issparse(matrix) or matrix.shape != (points, labels):
        raise DataError(
            f"{path} has the shape {matrix.shape}, but there are texts of {points:,} points and {labels:,} labels: "
            "take files of one data set."
        )
    found = matrix.tocoo()
    return build_targets(found.row, found.col, found.data, (points, labels))


def read_filter(path: Path | None, points: int, labels: int) -> Pairs:
    """Read filter pairs (M, 2), each once, in rising order; none without a file.

    Raises:
        DataError: A line is no pair, or names a point or label that is not there.
    """
    found: list[tuple[int, int]] = []
    for number, line in read_lines(path, refuse) if path is not None else ():
        if not line.strip():
            continue
        pair = [_whole(field) for field in line.split()]
        if len(pair) != 2 or pair[0] is None or pair[1] is None:
            raise DataError(f"{path}:{number} is no filter pair: a line is the row of a point and the row of a label.")
        for row, size, what in ((pair[0], points, "point"), (pair[1], labels, "label")):
            if row >= size:
                raise DataError(
                    f"{path}:{number} names {what} {row}, but there are {size:,}, counted from 0: take the filter file "
                    "of this data set, or an empty one."
                )
        found.append((pair[0], pair[1]))
    return np.unique(np.array(found, np.int64).reshape(-1, 2), axis=0)


class TargetList:
    """Collects (point, label, relevance), eight bytes a number.

    Args:
        labels: L, how many labels there are.
    """

    def __init__(self, labels: int) -> None:
        self.labels = labels
        self._rows, self._columns, self._values = array("q"), array("q"), array("d")

    def add(self, row: int, label: int | None, relevance: float | None, place: str, written: str) -> None:
        """Take one entry, written so in that place.

        Raises:
            DataError: It has no label or no relevance, or the label is out of range.
        """
        if label is None or relevance is None or not np.isfinite(relevance):
            raise DataError(f"{place} has the entry {written!r}, which is no label row with a relevance: mend it.")
        if not 0 <= label < self.labels:
            raise DataError(
                f"{place} names label {label}, but there are {self.labels:,}, counted from 0: mend the line, or "
                "complete the labels."
            )
        self._rows.append(row)
        self._columns.append(label)
        self._values.append(relevance)

    def listen(self, records: Iterable[Placed]) -> Iterator[Placed]:
        """Hand records on, and take the entries of their ``target_ind`` and, if it is there, ``target_rel``.

        Raises:
            DataError: The two are no lists of one length, or an entry is mangled.
        """
        for row, (place, record) in enumerate(records):
            labels = record.get("target_ind")
            values = record.get("target_rel", [1.0] * len(labels) if isinstance(labels, list) else None)
            if not isinstance(labels, list) or not isinstance(values, list) or len(labels) != len(values):
                raise DataError(
                    f"{place} needs a list target_ind of label rows, and a list target_rel of as many numbers or none."
                )
            for label, value in zip(labels, values, strict=True):
                is_row = isinstance(label, int) and not isinstance(label, bool)
                relevance = float(value) if isinstance(value, (int, float)) else None
                self.add(row, label if is_row else None, relevance, place, f"{label}:{value}")
            yield place, record

    def matrix(self, points: int) -> csr_matrix:
        """The targets (points, L)."""
        return build_targets(self._rows, self._columns, self._values, (points, self.labels))


def _old_fields(line: str) -> list[str]:
    """The labels of a row of the old format; one that starts with a blank or a feature has none."""
    labels = line.split(maxsplit=1)[0] if line.strip() and not line[0].isspace() else ""
    return [] if ":" in labels or not labels else labels.split(",")


def _whole(field: str) -> int | None:
    return int(field) if field.isascii() and field.isdigit() else None


def _number(field: str) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None
