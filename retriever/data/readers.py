"""Files of one record a line or row → records.

A reader yields ``(place, record)``: where the record stands, as an error would name it, and its named fields. What
cannot be used goes to ``reject``, which raises the error or counts it and lets the reader go on with the next record.
Everything streams; lines end at a line feed only, for texts may hold any other separator.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from retriever.errors import DataError

Record: TypeAlias = tuple[str, Mapping[str, Any]]
Reject: TypeAlias = Callable[[DataError], None]
Reader: TypeAlias = Callable[[Path, Reject], Iterator[Record]]


class Untyped(dict[str, str]):
    """A record of a file that knows no types: a number in it is a string of digits."""


WAY_OUT = "mend it"


def read_lines(path: Path, reject: Reject) -> Iterator[tuple[int, str]]:
    """Lines of a plain or gzipped UTF-8 file with their numbers from 1, line ends kept, a byte order mark dropped.

    Raises:
        DataError: The file cannot be read or its compression is mangled.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, 1):
                try:
                    line = (raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw).decode()
                except UnicodeDecodeError as error:
                    reject(not_utf8(f"{path}:{number}", error))
                    continue
                yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path} is mangled after line {number} ({reason(error)}): fetch or compress the file again."
        ) from error
    except OSError as error:
        raise cannot_read(path, error) from error


def read_text(path: Path, reject: Reject) -> Iterator[Record]:
    """A document a line; blank lines are none."""
    for number, line in read_lines(path, reject):
        if text := line.strip():
            yield f"{path}:{number}", {"text": text}


def read_jsonl(path: Path, reject: Reject) -> Iterator[Record]:
    """A JSON object a line; blank lines are none."""
    for number, line in read_lines(path, reject):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            reject(DataError(f"{path}:{number} is not valid JSON ({reason(error)}): {WAY_OUT}."))
            continue
        if not isinstance(record, dict):
            reject(DataError(f"{path}:{number} is JSON but not an object like {{'text': …}}: {WAY_OUT}."))
            continue
        yield f"{path}:{number}", record


def read_csv(path: Path, reject: Reject) -> Iterator[Record]:
    """A header, then a record a row; fields in double quotes may hold commas and line ends."""
    csv.field_size_limit(2**31 - 1)  # the module's limit for all its users: 128 KiB is too short for a document
    lines = _Lines(path, reject)
    return _read_rows(lines, csv.reader(lines, strict=True), reject)


def read_tsv(path: Path, reject: Reject) -> Iterator[Record]:
    """A header, then a record a line; fields end at tabs, and quotes mean nothing."""
    lines = _Lines(path, reject)
    return _read_rows(lines, (line.rstrip("\r\n").split("\t") for line in lines), reject)


def read_parquet(path: Path, reject: Reject) -> Iterator[Record]:
    """A record a row, read a batch at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1_000):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path}:{number}", record
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is no whole Parquet file (after row {number}: {reason(error)}): fetch or write it again."
        ) from error


READERS: dict[str, Reader] = {
    ".txt": read_text,
    ".txt.gz": read_text,
    ".jsonl": read_jsonl,
    ".jsonl.gz": read_jsonl,
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".tsv": read_tsv,
    ".tsv.gz": read_tsv,
    ".parquet": read_parquet,
}


def ending(path: Path) -> str | None:
    """The key of ``READERS`` the file's name ends with, if there is one."""
    return next((known for known in READERS if path.name.lower().endswith(known)), None)


def reason(error: Exception) -> str:
    """The first line of a library's message, to stand inside a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")


def refuse(error: DataError) -> None:
    """A ``reject`` that raises the error."""
    raise error


def not_utf8(place: str, error: UnicodeDecodeError) -> DataError:
    """The error for bytes that are not UTF-8."""
    byte = error.object[error.start]
    return DataError(f"{place} is not UTF-8 (byte 0x{byte:02x}): convert it, for example with `iconv -t utf-8`.")


def cannot_read(path: Path, error: OSError) -> DataError:
    """The error for a file the system does not let us read."""
    return DataError(f"Cannot read {path} ({error.strerror or error}): check the path and its permissions.")


class _Lines:
    """The lines of a file; ``first`` is the number of the first line taken since it was last set to 0."""

    def __init__(self, path: Path, reject: Reject) -> None:
        self.path = path
        self.first = 0
        self._lines = read_lines(path, reject)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        self.first = self.first or number
        return line


def _read_rows(lines: _Lines, rows: Iterator[list[str]], reject: Reject) -> Iterator[Record]:
    """Rows under a header → records; a row may take several lines."""
    header: list[str] = []
    while True:
        lines.first = 0
        try:
            row = next(rows, None)
        except csv.Error as error:
            reject(DataError(f"{lines.path}:{lines.first} is not valid CSV ({error}): {WAY_OUT}."))
            continue
        place = f"{lines.path}:{lines.first}"
        if row is None:
            return
        if not any(row):
            continue
        if not header:
            header = row
            if twice := [name for name, count in Counter(header).items() if name and count > 1]:
                raise DataError(f"{place} names the column {twice[0]!r} twice: give every column its own name.")
        elif len(row) != len(header):
            found = "1 column" if len(row) == 1 else f"{len(row)} columns"
            reject(DataError(f"{place} has {found} where the header has {len(header)}: {WAY_OUT}."))
        else:
            yield place, Untyped(zip(header, row, strict=True))


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.name.lower().endswith(".gz") else path.open("rb")
