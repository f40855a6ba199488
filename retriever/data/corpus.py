"""Corpora: documents from any source, streamed as often as needed.

1. A source (see :mod:`retriever.data.sources`) gives records; the field names make documents of them.
2. A document whose title and text both occurred before is dropped and counted, by a 16-byte hash. Empty documents are
   kept: judgments may count them, and they tell nothing about each other.
3. An id that occurs twice is an error.

In memory are the hashes and the ids, never the documents.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from retriever.data.document import Document, strings
from retriever.data.fields import Fields
from retriever.data.readers import Reject
from retriever.data.sources import find_source
from retriever.errors import BadRecordError, DataError

FORMAT = "1"  # part of every fingerprint: raise it when the same source gives other documents

Read: TypeAlias = Callable[[Reject], Iterator[tuple[str, Document]]]


@dataclass(frozen=True)
class CorpusReport:
    """What one full pass over a corpus met.

    Attributes:
        documents: Documents given out.
        duplicates: Documents dropped because an earlier one has the same title and text.
        empty: Documents given out although they hold neither title nor text.
        bad_lines: Lines, rows or files skipped because they could not be used.
    """

    documents: int
    duplicates: int
    empty: int
    bad_lines: int


class Corpus:
    """A re-iterable of documents; see :func:`open_corpus` and :meth:`of`.

    Args:
        name: A short name for tables and files.
        origin: The source, as an error should name it.
        read: Starts a pass: takes the callback for bad records, gives each document and its place.
        content_hash: Hash of what the source holds and how it is read.
        skip_bad_lines: Count records that cannot be used instead of raising their error.
        deduplicate: Drop exact copies.

    Attributes:
        report: Counts of the last full pass, ``None`` before the first.
    """

    def __init__(
        self,
        name: str,
        origin: str,
        read: Read,
        content_hash: Callable[[], str],
        *,
        skip_bad_lines: bool = False,
        deduplicate: bool = True,
    ) -> None:
        self.name = name
        self.report: CorpusReport | None = None
        self._origin = origin
        self._read = read
        self._content_hash = content_hash
        self._options = (skip_bad_lines, deduplicate)
        self._fingerprint = ""

    @classmethod
    def of(cls, documents: Iterable[Document], *, name: str = "corpus", deduplicate: bool = False) -> Corpus:
        """A corpus of documents in memory, all kept unless asked otherwise.

        Raises:
            DataError: One of them is no document, or its id, title or text no string.
        """
        kept = list(documents)
        for document in kept:
            strings(document)

        def read(_: Reject) -> Iterator[tuple[str, Document]]:
            return ((f"{name}:{number}", document) for number, document in enumerate(kept, 1))

        return cls(name, name, read, lambda: _hash_documents(kept), deduplicate=deduplicate)

    @classmethod
    def join(cls, corpora: Sequence[Corpus]) -> Corpus:
        """Several corpora one after the other; a document's id becomes ``corpus/id``.

        Raises:
            DataError: Two of them have the same name.
        """
        names = [corpus.name for corpus in corpora]
        for name in names:
            if names.count(name) > 1:
                raise DataError(f"Two of the corpora are called {name!r}; rename one of their files.")

        def read(_: Reject) -> Iterator[tuple[str, Document]]:
            for corpus in corpora:
                for document in corpus:
                    id_ = f"{corpus.name}/{document.id}"
                    yield id_, Document(id_, document.title, document.text, document.metadata)

        name = " + ".join(names)
        return cls(name, name, read, lambda: " ".join(c.fingerprint() for c in corpora), deduplicate=False)

    def __iter__(self) -> Iterator[Document]:
        """Stream the documents and set :attr:`report` at the end.

        Raises:
            DataError: A record is mangled, an id occurs twice, or there is no document at all.
        """
        bad, counts = Rejected(self._options[0]), Counter[str]()
        ids: set[str] = set()
        for place, document in self._distinct(bad, counts):
            if document.id in ids:
                raise self._twice(document.id, place)
            ids.add(document.id)
            yield document
        if not ids:
            skipped = f" ({bad.count} bad lines were skipped)" if bad.count else ""
            raise DataError(f"{self._origin} holds no document{skipped}: give a source with text in it.")
        self.report = CorpusReport(len(ids), counts["duplicates"], counts["empty"], bad.count)

    def fingerprint(self) -> str:
        """Hash of the content and of how it is read: equal fingerprints mean equal documents in equal order."""
        if not self._fingerprint:
            values = f"{FORMAT} {self._options} {self._content_hash()}"
            self._fingerprint = hashlib.sha256(values.encode()).hexdigest()
        return self._fingerprint

    def _distinct(self, reject: Reject, counts: Counter[str]) -> Iterator[tuple[str, Document]]:
        """Places and documents, without those whose title and text occurred before; duplicates and empty ones count."""
        seen: set[bytes] = set()
        for place, document in self._read(reject):
            if not document.title and not document.text:
                counts["empty"] += 1
            elif self._options[1]:
                key = _key(document)
                if key in seen:
                    counts["duplicates"] += 1
                    continue
                seen.add(key)
            yield place, document

    def _twice(self, id_: str, second: str) -> DataError:
        """The error for a repeated id; a second pass finds where it stood first, so that no pass stores places."""
        kept = self._distinct(lambda _: None, Counter())
        first = next(place for place, document in kept if document.id == id_)
        return DataError(
            f"The id {id_!r} at {second} was taken at {first}: ids must be unique; rename one, or choose another field "
            "for them."
        )


class Rejected:
    """Raises the error of a bad record, or counts it.

    Args:
        skip: Count.

    Attributes:
        count: Errors met so far.
    """

    def __init__(self, skip: bool) -> None:
        self.count = 0
        self._skip = skip

    def __call__(self, error: DataError) -> None:
        """Take an error; see the class."""
        if not self._skip:
            raise BadRecordError(str(error)) from error
        self.count += 1


def open_corpus(
    source: str | Path,
    *,
    text_field: str | None = None,
    title_field: str | None = None,
    id_field: str | None = None,
    skip_bad_lines: bool = False,
    deduplicate: bool = True,
    split: str = "train",
    streaming: bool = False,
) -> Corpus:
    """Open a corpus; nothing is read before it is iterated.

    Args:
        source: A ``.txt``, ``.jsonl``, ``.csv``, ``.tsv`` (all also ``.gz``) or ``.parquet`` file, a BEIR folder, a
            folder of text and Markdown files, a data set saved by ``datasets``, the name of one on the Hugging Face
            hub (``owner/name`` or ``owner/name:config``), or ``pydocs``, the documentation inside this Python.
        text_field: Field with the text; by default the first there is of text, contents, content, body.
        title_field: Field with the title; by default title, if there is one.
        id_field: Field with the id; by default the first there is of _id, id, docid, else the row number.
        skip_bad_lines: Count mangled lines in the report instead of raising.
        deduplicate: Drop documents whose title and text occurred before.
        split: Split of a ``datasets`` data set.
        streaming: Do not download a data set from the hub, stream it at every pass.

    Raises:
        DataError: The source does not exist or is of no known kind.
    """
    found = find_source(source, split, streaming)
    fields = Fields(text_field, title_field, id_field)

    def read(reject: Reject) -> Iterator[tuple[str, Document]]:
        return fields.documents(found.records(reject), reject)

    def content_hash() -> str:
        return f"{fields} {found.content_hash()}"

    options = {"skip_bad_lines": skip_bad_lines, "deduplicate": deduplicate}
    return Corpus(found.name, found.origin, read, content_hash, **options)


def _key(document: Document) -> bytes:
    content = f"{len(document.title)} {document.title}{document.text}"
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _hash_documents(documents: list[Document]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        values = [document.id, document.title, document.text, dict(document.metadata)]
        digest.update(json.dumps(values, default=str).encode())
    return digest.hexdigest()
