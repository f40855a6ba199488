"""A collection in Milvus: documents with vectors and words, on one file, one server or a cluster.

1. A document is an entity: its id is the primary key, so that storing it again replaces it; ``row`` numbers documents
   in the order in which they were stored; title, text and metadata (JSON) are kept as they are.
2. ``vector`` is compared by inner product; under cosine similarity vectors of length 1 are stored.
3. ``words`` is a sparse vector of a weight a word, compared by inner product; see
   :mod:`retriever.indexing.milvus_words`.
4. Filters are expressions over the metadata; see :mod:`retriever.indexing.milvus_filters`.
5. The collection tells the fingerprint of the encoder that made its vectors.

The address is a file whose name ends in ``.db`` (served by milvus-lite within this process) or ``http://host:19530``.
A token is read from the variable ``MILVUS_TOKEN`` and stored nowhere.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.errors import DataError, IndexFolderError, OutputError
from retriever.indexing.milvus_filters import UNHEARD
from retriever.indexing.ranking import Hits

BATCH = 500  # entities sent or fetched at a time: a message of Milvus holds 64 MB
QUERIES = 64  # queries asked at a time
DEEPEST = 16_384  # hits that Milvus gives
LONGEST = {"id": 512, "title": 65_535, "text": 65_535}  # bytes
FINGERPRINT = "retriever.fingerprint"
KINDS = {"Flat": "FLAT", "auto": "AUTOINDEX"}
TOLD = ["id", "row", "title", "text", "metadata"]
GRAPH = re.compile(r"HNSW(\d+)")


class Collection:
    """A collection of a Milvus server; get one with :meth:`new` or :meth:`open`.

    Args:
        client: A connected ``pymilvus.MilvusClient``.
        uri: Its address.
        name: The collection.
    """

    def __init__(self, client: Any, uri: str, name: str) -> None:  # noqa: ANN401 — of an extra that may be missing
        self._client, self.uri, self.name = client, uri, name

    @classmethod
    def new(cls, uri: str, stem: str) -> Collection:
        """A collection with a name of its own, which :meth:`create` makes.

        Args:
            uri: The address of Milvus.
            stem: What its name begins with.

        Raises:
            IndexFolderError: Milvus cannot be reached.
        """
        name = f"{re.sub(r'[^A-Za-z0-9]', '_', stem)[:40]}_{uuid4().hex[:8]}"
        return cls(connect(uri), uri, name if name[0].isalpha() else f"c{name}")

    @classmethod
    def open(cls, uri: str, name: str, fingerprint: str | None) -> Collection:
        """Open a collection that :meth:`create` made, of the encoder with a fingerprint or, if not given, of any.

        Raises:
            IndexFolderError: Milvus cannot be reached, there is no such collection, or another model made its vectors.
        """
        if is_missing(uri):
            raise IndexFolderError(f"The file {uri} of Milvus is not there: put it back, or build the index again.")
        collection = cls(connect(uri), uri, name)
        with collection._asking():
            if not collection._client.has_collection(name):
                raise IndexFolderError(f"Milvus at {uri} has no collection {name}: build the index again.")
            told = collection._client.describe_collection(name).get("properties", {})
            if fingerprint is not None and told.get(FINGERPRINT) != fingerprint:
                raise IndexFolderError(
                    f"The collection {name} of Milvus at {uri} holds vectors of another model: build the index again."
                )
            collection._client.load_collection(name)
        return collection

    @classmethod
    def discard(cls, uri: str, name: str) -> None:
        """Delete a collection that is not open; one that is gone already is left at that.

        Raises:
            IndexFolderError: Milvus cannot be reached.
            OutputError: Milvus refuses.
        """
        if is_missing(uri):
            raise IndexFolderError(f"The file {uri} of Milvus is not there: put it back first.")
        with closing(cls(connect(uri), uri, name)) as collection:
            collection.drop()

    def create(self, dimension: int, factory: str, fingerprint: str) -> None:
        """Make the collection, empty.

        Args:
            dimension: D.
            factory: ``Flat``, ``auto`` or ``HNSW32``: how vectors are searched.
            fingerprint: Of the encoder.

        Raises:
            IndexFolderError: Milvus refuses, or the factory is none of these.
        """
        kind, settings = _kind(factory)
        with self._asking():
            self._client.create_collection(
                self.name,
                schema=_schema(self._client, dimension),
                index_params=_indexes(self._client, kind, settings),
                consistency_level="Strong",
                properties={FINGERPRINT: fingerprint},
            )

    def put(
        self,
        documents: Sequence[Document],
        first: int,
        vectors: NDArray[np.float32],
        words: Sequence[Mapping[int, float]],
    ) -> None:
        """Store N documents; one whose id is there is replaced.

        Args:
            documents: The documents.
            first: The row of the first one; the others follow.
            vectors: (N, D).
            words: Weights by word, at least one a document.

        Raises:
            DataError: A text is longer than Milvus takes.
            OutputError: Milvus refuses.
        """
        for start in range(0, len(documents), BATCH):
            entities = [
                _entity(documents[place], first + place, vectors[place], words[place])
                for place in range(start, min(start + BATCH, len(documents)))
            ]
            with self._asking(OutputError):
                self._client.upsert(self.name, entities)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete documents."""
        for start in range(0, len(ids), BATCH):
            with self._asking(OutputError):  # a list given as ids would not be escaped by pymilvus
                self._client.delete(self.name, filter=_among("id", ids[start : start + BATCH]))

    def search(
        self, field: str, queries: Sequence[Any], k: int, expression: str | None = None, effort: int | None = None
    ) -> list[Hits]:
        """Rows, rising, and scores of the ``k`` best documents for each query.

        Args:
            field: ``vector`` or ``words``.
            queries: What is compared with the field.
            k: Hits wanted.
            expression: What the documents must meet.
            effort: ``ef`` of a graph.

        Raises:
            DataError: ``k`` is deeper than Milvus goes.
        """
        if k > DEEPEST:
            raise DataError(f"Milvus finds {DEEPEST:,} hits at most, not {k:,}: ask for fewer.")
        found: list[Hits] = []
        settings = {"metric_type": "IP", "params": {} if effort is None else {"ef": effort}}
        for start in range(0, len(queries), QUERIES):
            with self._asking():
                answers = self._client.search(
                    self.name,
                    data=list(queries[start : start + QUERIES]),
                    anns_field=field,
                    search_params=settings,
                    limit=k,
                    filter=expression or "",
                    output_fields=["row"],
                )
            found += [_hits(answer) for answer in answers]
        return found

    def documents(self, rows: Sequence[int]) -> dict[int, Document]:
        """The documents of rows, by row; those that are not there are left out."""
        return {entity["row"]: _document(entity) for entity in self._select("row", rows, TOLD)}

    def find(self, ids: Sequence[str]) -> dict[str, tuple[int, Document]]:
        """Row and document of each id that is there."""
        return {entity["id"]: (entity["row"], _document(entity)) for entity in self._select("id", ids, TOLD)}

    def vectors(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """The vectors (N, D) of those rows that are there, in any order."""
        return np.array([entity["vector"] for entity in self._select("row", rows, ["vector"])], np.float32)

    def __iter__(self) -> Iterator[Document]:
        """All documents, by no order."""
        with self._asking():
            pages = self._client.query_iterator(self.name, batch_size=BATCH, output_fields=TOLD)
            while page := pages.next():
                yield from map(_document, page)
            pages.close()

    def __len__(self) -> int:
        with self._asking():
            return int(self._client.query(self.name, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def drop(self) -> None:
        """Delete the collection."""
        with self._asking(OutputError):
            self._client.drop_collection(self.name)

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def _select(self, field: str, values: Sequence[Any], told: Sequence[str]) -> Iterator[dict[str, Any]]:
        values = [value for value in values if not (isinstance(value, str) and UNHEARD.search(value))]  # nothing has it
        for start in range(0, len(values), BATCH):
            some = _among(field, values[start : start + BATCH])
            with self._asking():
                yield from self._client.query(self.name, filter=some, output_fields=list(told))

    @contextmanager
    def _asking(self, kind: type[IndexFolderError | OutputError] = IndexFolderError) -> Iterator[None]:
        """Errors of Milvus as one sentence."""
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except MilvusException as error:
            reason = error.message.splitlines()[0].rstrip(".")
            raise kind(f"Milvus at {self.uri} refused ({reason}): see that it runs, and try again.") from error


def connect(uri: str) -> Any:  # noqa: ANN401 — of an extra that may be missing
    """A client of Milvus.

    Raises:
        IndexFolderError: The extra is not installed, the address is none, or nothing answers there.
    """
    try:
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException
    except ImportError as error:
        raise IndexFolderError("Milvus needs an extra: pip install 'dense-retriever[milvus]'.") from error
    for name in ("pymilvus", "grpc._server"):  # they log what they raise, and what milvus-lite does without
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return MilvusClient(uri, token=os.environ.get("MILVUS_TOKEN", ""), timeout=10)
    except (MilvusException, ImportError, OSError) as error:
        reason = (getattr(error, "message", "") or str(error)).splitlines()[0].rstrip(".")
        raise IndexFolderError(
            f"There is no Milvus at {uri} ({reason}): give a file that ends in .db, or http://host:19530 of a server."
        ) from error


def is_missing(uri: str) -> bool:
    """Whether an address is a file that is not there, and that connecting would make."""
    return "://" not in uri and not Path(uri).exists()


def _kind(factory: str) -> tuple[str, dict[str, int]]:
    """Type and settings of an index over vectors."""
    if match := GRAPH.fullmatch(factory):
        return "HNSW", {"M": int(match[1]), "efConstruction": 200}
    if factory not in KINDS:
        raise IndexFolderError(f"Milvus has no index type {factory!r}: choose Flat, auto or HNSW32.")
    return KINDS[factory], {}


def _schema(client: Any, dimension: int) -> Any:  # noqa: ANN401
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=LONGEST["id"])
    schema.add_field("row", DataType.INT64)
    for name in ("title", "text"):
        schema.add_field(name, DataType.VARCHAR, max_length=LONGEST[name])
    schema.add_field("metadata", DataType.JSON)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    schema.add_field("words", DataType.SPARSE_FLOAT_VECTOR)
    return schema


def _indexes(client: Any, kind: str, settings: dict[str, int]) -> Any:  # noqa: ANN401
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type=kind, metric_type="IP", params=settings)
    indexes.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    indexes.add_index("row", index_type="INVERTED")
    return indexes


def _entity(document: Document, row: int, vector: NDArray[np.float32], words: Mapping[int, float]) -> dict[str, Any]:
    texts = {"id": document.id, "title": document.title, "text": document.text}
    for name, text in texts.items():
        if (size := len(text.encode())) > LONGEST[name]:
            way_out = "give it a shorter one" if name == "id" else "split the document"
            raise DataError(
                f"The {name} of document {document.id[:80]!r} has {size:,} bytes and Milvus takes {LONGEST[name]:,}: "
                f"{way_out}."
            )
    if UNHEARD.search(document.id):
        raise DataError(f"The id {document.id!r} has a control character, which Milvus cannot look for: give another.")
    return {**texts, "row": row, "metadata": dict(document.metadata), "vector": vector, "words": dict(words)}


def _among(field: str, values: Sequence[Any]) -> str:
    """The expression that a field has one of several values."""
    return f"{field} in [{', '.join(json.dumps(value, ensure_ascii=False) for value in values)}]"


def _document(entity: Mapping[str, Any]) -> Document:
    metadata = entity["metadata"]
    return Document(
        entity["id"],
        entity["title"],
        entity["text"],
        json.loads(metadata) if isinstance(metadata, (str, bytes)) else metadata,
    )


def _hits(answer: Sequence[Any]) -> Hits:
    rows = np.array([hit["entity"]["row"] for hit in answer], np.int64)
    scores = np.array([hit["distance"] for hit in answer], np.float32)
    order = np.argsort(rows)
    return rows[order], scores[order]
