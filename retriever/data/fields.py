"""Records → documents: which field is the text, the title and the id; whatever is left becomes metadata.

1. An object called ``metadata``, as BEIR writes it, is taken apart, also where it is a string of JSON.
2. Where a file knows no types, as CSV, a value of the metadata that is written like a number, ``true`` or ``false``
   is one, so that filters compare it as such; ``007`` is none. An empty value is left out.
3. Where a file knows more types than JSON, as Parquet, days and times become ISO 8601, durations seconds, decimal
   numbers plain ones and bytes base64; NaN, as pandas writes a missing number, is left out. A number or a text that
   JSON cannot hold, as an infinite one, mangles the record. Other things, as pictures, stay: training does not look at
   them, and an index refuses them.
"""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

from retriever.data.document import LEVELS, Document, nests_within
from retriever.data.readers import WAY_OUT, Record, Reject, Untyped, reason
from retriever.errors import DataError

TEXT = ("text", "contents", "content", "body")
TITLE = ("title",)
ID = ("_id", "id", "docid")
_SCALAR = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?|true|false")  # no more digits than fp64 tells apart


class RowNumber(str):
    """The id of a record that has none: its number, counted from 0."""

    __slots__ = ()


@dataclass(frozen=True)
class Fields:
    """Names of the fields of a record; the first usual name that the record has, where none is given."""

    text: str | None = None
    title: str | None = None
    id: str | None = None

    def documents(self, records: Iterator[Record], reject: Reject) -> Iterator[tuple[str, Document]]:
        """Each record's place and document; a record without an id is named by its number, counted from 0."""
        for row, (place, record) in enumerate(records):
            try:
                document = self.document(record, place, RowNumber(row))
            except DataError as error:
                reject(error)
                continue
            yield place, document

    def document(self, record: Mapping[str, Any], place: str, missing_id: str) -> Document:
        """One record as a document.

        Raises:
            DataError: A field is missing or not a string.
        """
        text_name = _find(record, self.text, TEXT)
        title_name = _find(record, self.title, TITLE)
        id_name = _find(record, self.id, ID)
        for option, name, missing in (
            ("text_field", self.text, text_name is None),
            ("title_field", self.title, self.title is not None and title_name is None),
            ("id_field", self.id, self.id is not None and id_name is None),
        ):
            if missing:
                looked_for = repr(name) if name else "text"
                found = ", ".join(map(str, record)) or "none"
                way_out = f"name one with {option} (--{option.replace('_', '-')})"
                raise DataError(f"{place} has no field {looked_for} (fields found: {found}): {way_out}.")
        title = record[title_name] if title_name and record[title_name] is not None else ""
        return Document(
            id=checked_id(record[id_name], id_name, place) if id_name else missing_id,
            title=checked_string(title, title_name, place),
            text=checked_string(record[text_name] if text_name else "", text_name, place),
            metadata=_metadata(record, {text_name, title_name, id_name}, place),
        )


def _find(record: Mapping[str, Any], name: str | None, usual: tuple[str, ...]) -> str | None:
    return next((candidate for candidate in ((name,) if name else usual) if candidate in record), None)


def checked_string(value: object, name: str | None, place: str) -> str:
    """The value of a field that must be a string.

    Args:
        value: Of the field.
        name: Of the field.
        place: Where it stands, as the error names it.

    Raises:
        DataError: It is something else, or cannot be written as UTF-8.
    """
    if not isinstance(value, str):
        raise DataError(f"{place} has a {name} that is not a string but {type(value).__name__}: {WAY_OUT}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{place} has a {name} with half a surrogate pair in it: {WAY_OUT}.") from error
    return value


def checked_id(value: object, name: str, place: str) -> str:
    """The value of a field that names something: a string or a whole number; see :func:`checked_string`.

    Raises:
        DataError: It is empty or something else.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value in (None, ""):
        raise DataError(f"{place} has an empty {name}: give every document an id, or none.")
    return checked_string(value, name, place)


def _metadata(record: Mapping[str, Any], used: set[str | None], place: str) -> dict[str, Any]:
    """The other fields; see the module's header."""
    rest = {name: value for name, value in record.items() if name not in used}
    nested = rest.get("metadata")
    if isinstance(nested, str) and nested.lstrip().startswith("{"):
        try:
            nested = json.loads(nested)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place} has metadata that are not valid JSON ({reason(error)}): {WAY_OUT}.") from error
    if isinstance(nested, Mapping):
        del rest["metadata"]
    if isinstance(record, Untyped):
        rest = {name: json.loads(value) if _SCALAR.fullmatch(value) else value for name, value in rest.items() if value}
    if isinstance(nested, Mapping):
        rest.update(nested)
    if not nests_within(LEVELS, rest):
        raise DataError(f"{place} has metadata of more than {LEVELS} levels: {WAY_OUT}.")
    try:
        return {name: _plain(value) for name, value in rest.items() if not _is_nan(value)}
    except ValueError as error:
        raise DataError(f"{place} has metadata that JSON cannot hold ({reason(error)}): {WAY_OUT}.") from error


def _plain(value: Any) -> Any:  # noqa: ANN401
    """A value in the types of JSON, where there is one for it.

    Raises:
        ValueError: It is a number or a text that JSON cannot hold.
    """
    if isinstance(value, str):
        value.encode()
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (float, Decimal)):
        if not math.isfinite(value):
            raise ValueError(f"the number {value}")
        return float(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, Mapping):
        return {_plain(name): _plain(one) for name, one in value.items()}
    return value


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
