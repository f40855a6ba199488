"""The documents of an index: an SQLite file of string ids, titles, texts and metadata, by row.

1. Rows count from 0 in the order of the corpus; they are the rows that the searches return.
2. Ids are unique. Metadata are JSON, so that SQLite can filter by them.
3. A finished file never changes: it is opened read-only and immutable, without locks, by one connection that threads
   share in turns.
4. Text is UTF-8: an id or a value that is half a character is in no file.
5. A condition on metadata looks at all documents. Which of them meet it is remembered of the last ``REMEMBERED``, a bit
   a document each.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import LEVELS, Document, nests_within, strings
from retriever.errors import DataError, IndexFolderError, OutputError
from retriever.indexing.damage import is_lack
from retriever.indexing.filters import Condition
from retriever.indexing.remembered import remembered

SCHEMA = """
CREATE TABLE documents (
    row INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL
)
"""
COLUMNS = "id, title, text, metadata"
NO_METADATA = "{}"
REMEMBERED = 64  # conditions
CHUNK = 8_192  # documents read at a time where all are wanted


def write(path: str | Path, documents: Iterable[Document]) -> int:
    """Write documents into a new file.

    Args:
        path: The file, which must not exist.
        documents: Documents in the order of their rows; they are read once and not held.

    Returns:
        How many there were.

    Raises:
        DataError: There are none, an id occurs twice, an id, a title or a text is no string, or metadata or text cannot
            be stored.
        OutputError: The file cannot be written.
    """
    last = Document("")
    count = 0

    def rows() -> Iterator[tuple[int, str, str, str, str]]:
        nonlocal last, count
        for last in documents:
            yield count, *strings(last), _metadata(last)
            count += 1

    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = OFF")  # a broken file is thrown away, not repaired
            connection.execute("PRAGMA synchronous = OFF")  # whoever publishes the file syncs it
            connection.execute(SCHEMA)
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", rows())
            connection.execute("COMMIT")
    except sqlite3.IntegrityError as error:
        raise twice(last.id) from error
    except UnicodeEncodeError as error:
        raise DataError(f"Document {last.id!r} holds half a character ({error.reason}): mend its text.") from error
    except (sqlite3.DataError, OverflowError) as error:  # SQLite takes a billion bytes
        raise DataError(f"Document {last.id!r} cannot be stored ({error}): split it.") from error
    except sqlite3.OperationalError as error:
        raise OutputError(f"Cannot write {path} ({error}): choose a place with room and write access.") from error
    if not count:
        raise no_document()
    return count


class DocumentStore:
    """Documents by row, read-only; threads may share it.

    Args:
        path: What :func:`write` wrote; the file must not change while it is open.

    Raises:
        IndexFolderError: The file is missing or damaged.
        OSError: Too many files are open, or memory is lacking.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).resolve()
        self._lock = threading.Lock()
        self._is_closed = False
        try:
            uri = f"{self.path.as_uri()}?mode=ro&immutable=1"
            self._connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._damaged(error) from error
        weakref.finalize(self, self._connection.close)
        self._meeting = remembered(self._find_meeting, REMEMBERED)
        self._fields = remembered(self._find_fields, 1)
        try:
            self._count = int(self._select("SELECT coalesce(max(row) + 1, 0) FROM documents")[0][0])
        except IndexFolderError:
            self.close()
            raise

    def get(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Document]:
        """The documents of the given rows, in the given order.

        Raises:
            IndexFolderError: A row is not there, or the file is damaged.
        """
        wanted = [int(row) for row in rows]
        query = f"SELECT row, {COLUMNS} FROM documents WHERE row IN (SELECT value FROM json_each(?))"
        found = {row: fields for row, *fields in self._select(query, json.dumps(wanted))}
        if missing := set(wanted) - found.keys():
            raise self._damaged(f"document {min(missing)} is missing")
        return [self._document(*found[row]) for row in wanted]

    def find(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """The row of each id, −1 for one that is not there."""
        rows = []
        for name in ids:
            try:
                found = self._select("SELECT row FROM documents WHERE id = ?", name)
            except UnicodeEncodeError:
                found = []
            rows.append(found[0][0] if found else -1)
        return np.array(rows, np.int64)

    def matching(self, conditions: Iterable[Condition]) -> NDArray[np.bool_]:
        """Which rows meet all conditions, (N,).

        Raises:
            DataError: A condition holds half a character.
        """
        meets = np.ones(len(self), bool)
        for condition in conditions:
            meets &= np.unpackbits(self._meeting(condition), count=len(self)).view(bool)
        return meets

    def fields(self) -> frozenset[str]:
        """The names of the fields of the metadata that a condition can be of, looked for once."""
        return self._fields()

    def chunks(self, size: int) -> Iterator[list[Document]]:
        """All documents by rising row, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.get(range(start, min(start + size, len(self))))

    def __iter__(self) -> Iterator[Document]:
        """All documents by rising row."""
        return chain.from_iterable(self.chunks(CHUNK))

    def check(self) -> str | None:
        """What SQLite finds wrong with the file; None if nothing is."""
        try:
            found = self._select("PRAGMA integrity_check(1)")[0][0]
            count = self._select("SELECT count(*) FROM documents")[0][0]
        except IndexFolderError as error:
            return str(error.__cause__)
        if found != "ok":
            return str(found)
        return None if count == len(self) else f"{count:,} documents in {len(self):,} rows"

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._is_closed = True
            self._connection.close()

    def __len__(self) -> int:
        return self._count

    def _find_fields(self) -> frozenset[str]:
        query = "SELECT DISTINCT key FROM documents, json_each(metadata) WHERE type != 'object'"
        return frozenset(name for (name,) in self._select(query))

    def _find_meeting(self, condition: Condition) -> NDArray[np.uint8]:
        """Which rows meet a condition, as bits."""
        clause, values = condition.sql()
        try:
            rows = [row for (row,) in self._select(f"SELECT row FROM documents WHERE {clause}", **values)]
        except UnicodeEncodeError as error:
            raise DataError(f"The filter by {condition.field!r} holds half a character: mend it.") from error
        meets = np.zeros(len(self), bool)
        meets[rows] = True
        return np.packbits(meets)

    def _select(self, query: str, *values: str, **named: str | float) -> list[Any]:
        try:
            with self._lock:
                if self._is_closed:
                    raise IndexFolderError(f"The documents {self.path} are closed: open the index again.")
                return self._connection.execute(query, named or values).fetchall()
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    def _document(self, name: str, title: str, text: str, metadata: str) -> Document:
        try:
            return Document(name, title, text, json.loads(metadata) if metadata != NO_METADATA else {})
        except ValueError as error:
            raise self._damaged(f"metadata of {name!r}") from error

    def _damaged(self, reason: object) -> IndexFolderError:
        try:
            self.path.open("rb").close()  # SQLite does not tell why it cannot open a file
        except OSError as error:
            if is_lack(error):
                raise
        return IndexFolderError(f"The documents {self.path} are missing or damaged ({reason}): build the index again.")


def twice(name: str) -> DataError:
    """The error that says that two documents have the same id."""
    return DataError(f"The id {name!r} occurs twice in the corpus: give every document its own id.")


def no_document() -> DataError:
    """The error that says that there is nothing to store."""
    return DataError("There is no document to index: give a corpus with text in it.")


def _metadata(document: Document) -> str:
    if not nests_within(LEVELS, document.metadata):
        raise DataError(f"The metadata of document {document.id!r} have more than {LEVELS} levels: use plain values.")
    try:
        return json.dumps(dict(document.metadata), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The metadata of document {document.id!r} are not JSON ({error}): use plain values."
        ) from error
