"""Records of labelled training data → a query, the documents that answer it, and documents that do not.

The fields, first name that is there:

query       query, question, anchor
query id    query_id, query-id, qid, _id
positives   positive, positives, pos, positive_passages, positive_ctxs, answer
negatives   all of negative, negative_1, negative_2 …, negatives, neg, negative_passages, hard_negative_ctxs;
            negative_ctxs where there are none of these, else the documents in it only join the pool

Positives and negatives are a string, an object with ``text`` (or contents, content, body), perhaps ``title`` and an id
(_id, id, docid, passage_id, psg_id), or a list of these. So one reader takes what sentence-transformers, FlagEmbedding,
DPR, Tevatron and ``retriever mine`` write. What has no id is named by a hash of its text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retriever.data.document import Document
from retriever.data.fields import TEXT, checked_id, checked_string
from retriever.data.readers import WAY_OUT, Record, Reject, read_jsonl, read_lines, reason
from retriever.errors import DataError

QUERY = ("query", "question", "anchor")
QUERY_ID = ("query_id", "query-id", "qid", "_id")
POSITIVE = ("positive", "positives", "pos", "positive_passages", "positive_ctxs", "answer")
NEGATIVE = re.compile(r"negatives?|negative_\d+|neg|negative_passages|hard_negative_ctxs")
EASY_NEGATIVE = "negative_ctxs"
DOCUMENT_ID = ("_id", "id", "docid", "passage_id", "psg_id")
JSON_ENDINGS = (".json", ".json.gz")
FIELDS = "a record names its texts query, positive (or positives) and, if it has any, negative (or negatives)"


@dataclass(frozen=True, slots=True)
class Example:
    """What one record says of one query.

    Attributes:
        place: Where the record stands, as an error names it.
        id: The query's id.
        query: Its text.
        positives: Documents that answer it, at least one.
        negatives: Documents that look like answers and are none.
        others: Documents of which nothing is said.
    """

    place: str
    id: str
    query: str
    positives: list[Document]
    negatives: list[Document]
    others: list[Document]


def to_examples(records: Iterator[Record], reject: Reject) -> Iterator[Example]:
    """Each record as an example; the errors of those that are none go to ``reject``."""
    for place, record in records:
        try:
            example = to_example(place, record)
        except DataError as error:
            reject(error)
            continue
        yield example


def to_example(place: str, record: Mapping[str, Any]) -> Example:
    """One record as an example.

    Raises:
        DataError: There is no query or no positive, or one of its texts is empty or no text.
    """
    query_field, query = _first(record, QUERY)
    if query_field is None:
        found = ", ".join(map(str, record)) or "none"
        raise DataError(f"{place} has no query (fields found: {found}): {FIELDS}.")
    if not checked_string(query, query_field, place).strip():
        raise DataError(f"{place} has an empty {query_field}: {WAY_OUT}.")
    id_field, id_ = _first(record, QUERY_ID)
    positive_field, positive = _first(record, POSITIVE)
    positives = _documents(positive, positive_field or "positive", place)
    if not positives:
        raise DataError(f"{place} has a query without a positive document: add one.")
    hard = [d for name in record if NEGATIVE.fullmatch(name) for d in _documents(record[name], name, place)]
    easy = _documents(record.get(EASY_NEGATIVE), EASY_NEGATIVE, place)
    return Example(
        place,
        checked_id(id_, id_field, place) if id_field else text_id(query),
        query,
        positives,
        hard or easy,
        easy if hard else [],
    )


def read_json(path: Path, reject: Reject) -> Iterator[Record]:
    """A list of JSON objects, which is read whole, or an object a line.

    Raises:
        DataError: A list is mangled: then nothing of it can be told apart.
    """
    begun = (line.lstrip() for _, line in read_lines(path, lambda _: None) if line.strip())
    if not next(begun, "").startswith("["):
        yield from read_jsonl(path, reject)
        return
    try:
        records = json.loads("".join(line for _, line in read_lines(path, reject)))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({reason(error)}): mend the file or write it again.") from error
    for number, record in enumerate(records, 1):
        if isinstance(record, dict):
            yield f"{path}, record {number},", record
        else:
            reject(DataError(f"{path}, record {number}, is no object like {{'query': …}}: {WAY_OUT}."))


def text_id(text: str) -> str:
    """The id of a text that has none: 16 hexadecimal digits of its hash."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str | None, Any]:
    """The first of the fields that is there and not empty-handed, with its value."""
    return next(((name, record[name]) for name in names if record.get(name) is not None), (None, None))


def _documents(value: object, name: str, place: str) -> list[Document]:
    """The documents a field holds, of whichever form."""
    if value is None:
        return []
    items = value if isinstance(value, list | tuple) else [value]
    return [_document(item, name, place) for item in items if item is not None]


def _document(value: object, name: str, place: str) -> Document:
    if not isinstance(value, Mapping):
        value = {"text": value}
    text_field, text = _first(value, TEXT)
    _, title = _first(value, ("title",))
    id_field, id_ = _first(value, DOCUMENT_ID)
    document = Document(
        id=checked_id(id_, f"{name} id", place) if id_field else "",
        title=checked_string("" if title is None else title, f"{name} title", place),
        text=checked_string("" if text_field is None else text, f"{name} text", place),
    )
    if not document.content.strip():
        raise DataError(f"{place} has an empty text under {name}: {WAY_OUT}.")
    return document
