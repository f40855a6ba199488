"""Filters: conditions on the metadata of documents, such as ``year>=2020`` or ``lang=en,de``.

1. A condition is a field, one of ``= != < <= > >=``, and a value. ``=`` takes several values between commas, of which
   one must hold. A document must meet all conditions; one without the field meets none, nor does an object.
2. A list meets ``=`` where one of its members does, and no other operator: ``tags=python``.
3. A value that is written as JSON writes a number compares with numbers: whole ones exactly, ``true`` and ``false`` as
   1 and 0. Under ``=`` and ``!=`` it compares with texts, too, as it is written. Any other value compares with texts,
   also one in double quotes, which may hold commas. One that begins with a quote ends with one.
4. SQLite finds the documents. What is found is scored as without a filter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retriever.errors import DataError

_FORM = re.compile(r"(?P<field>[^=!<>]*)(?P<operator><=|>=|!=|=|<|>)(?P<values>.*)", re.DOTALL)
_VALUE = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")*)"\s*|(?P<plain>[^,]*))(?P<more>,|$)')
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(?P<part>\.[0-9]+)?(?P<power>[eE][-+]?[0-9]+)?", re.ASCII)
_NUMBERS, _TEXTS = "IN ('integer', 'real', 'true', 'false')", "= 'text'"  # JSON types of SQLite
MOST = 10_000  # values of a condition: SQLite takes 32,766 of them in a clause, and a number can stand for two
_WHOLE = 2**63  # whole numbers up to it are compared exactly


@dataclass(frozen=True, slots=True)
class Condition:
    """What a field of the metadata must be: one of the values for ``=``, else as the operator says."""

    field: str
    operator: str
    values: tuple[str | int | float, ...]

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition.

        Raises:
            DataError: It has no operator, field or value, several values where one belongs, more than ``MOST``, or a
                quote that does not end.
        """
        match = _FORM.fullmatch(text)
        field, operator, rest = (part.strip() for part in match.groups()) if match else ("", "", "")
        values = _values(rest)
        if len(values) > MOST:
            raise DataError(f"A filter takes {MOST:,} values at most, not {len(values):,}: ask in several searches.")
        is_several = len(values) > 1 and operator != "="
        if not field or not all(values) or is_several or rest.startswith(("=", "!", "<", ">")):
            raise DataError(
                f"The filter {text!r} is no condition: write a field, one of = != < <= > >=, and a value: year>=2020."
            )
        if any(value and value[0].startswith('"') and not value[1] for value in values):
            raise DataError(
                f"The filter {text!r} has a value that begins with a quote and does not end with one: write "
                'author="Smith, John", and a quote that belongs to the value twice.'
            )
        meanings = [_meanings(*value, operator) for value in values if value]
        return cls(field, operator, tuple(one for meaning in meanings for one in meaning))

    def sql(self) -> tuple[str, dict[str, str | int | float]]:
        """A clause over the metadata of a document, and the values of its placeholders."""
        told = {f"value{place}": value for place, value in enumerate(self.values)}
        tests = []
        for kind, is_text in ((_NUMBERS, False), (_TEXTS, True)):
            own = [f":{name}" for name, value in told.items() if isinstance(value, str) is is_text]
            if own and self.operator == "=":
                tests.append(f"(type {kind} AND atom IN ({', '.join(own)}))")
            elif own:
                tests.append(f"(type {kind} AND atom {self.operator} {own[0]})")
        meets = " OR ".join(tests)
        if self.operator == "=":
            meets += f" OR (type = 'array' AND EXISTS (SELECT 1 FROM json_each(field.value) WHERE {meets}))"
        clause = f"EXISTS (SELECT 1 FROM json_each(metadata) AS field WHERE key = :field AND ({meets}))"
        return clause, {"field": self.field, **told}


def fields_of(metadata: Mapping[str, Any]) -> set[str]:
    """The fields that a condition can be of: all but objects."""
    return {name for name, value in metadata.items() if not isinstance(value, Mapping)}


def unknown_field(folder: Path, field: str, known: Iterable[str]) -> DataError:
    """The error that says that no document has a field to filter by; it lists those that a condition can name."""
    names = sorted(name for name in known if name and name == name.strip() and not set("=!<>") & set(name))
    there = f"there are {', '.join(names)}" if names else "there is none"
    return DataError(f"No document of the index {folder} has a field {field!r} to filter by: {there}.")


def _values(text: str) -> list[tuple[str, bool] | None]:
    """What stands between commas, and whether in quotes; None where nothing does."""
    values: list[tuple[str, bool] | None] = []
    place, more = 0, ","
    while more and (match := _VALUE.match(text, place)):
        quoted, plain, more = match.groups()
        if quoted is not None:
            values.append((quoted.replace('""', '"'), True))
        else:
            values.append((plain.strip(), False) if plain.strip() else None)
        place = match.end()
    return values


def _meanings(text: str, is_quoted: bool, operator: str) -> list[str | int | float]:
    """What a value compares with; see the module's header."""
    word = {"true": 1, "false": 0}.get(text)
    match = _NUMBER.fullmatch(text)
    if is_quoted or (word is None and match is None):
        return [text]
    number: int | float = float(text) if word is None else word
    if match and not match["part"] and not match["power"] and len(text) <= 20 and -_WHOLE <= int(text) < _WHOLE:
        number = int(text)
    return [number, text] if operator in ("=", "!=") else [number]
