"""Filters: conditions on the metadata of documents, such as ``year>=2020`` or ``lang=en,de``.

1. A condition is a field, one of ``= != < <= > >=``, and a value. ``=`` takes several values between commas, of which
   one must hold. A document must meet all conditions; one without the field meets none.
2. A value that is a number compares with numbers, any other with texts; ``true`` and ``false`` are the numbers 1 and 0.
3. SQLite finds the documents. What is found is scored as without a filter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from retriever.errors import DataError

_FORM = re.compile(r"\s*(?P<field>[^=!<>]+?)\s*(?P<operator><=|>=|!=|=|<|>)\s*(?P<value>.*?)\s*", re.DOTALL)
_KINDS = {float: "IN ('integer', 'real', 'true', 'false')", str: "= 'text'"}  # JSON types of SQLite


@dataclass(frozen=True, slots=True)
class Condition:
    """What a field of the metadata must be: one of the values for ``=``, else as the operator says."""

    field: str
    operator: str
    values: tuple[str | float, ...]

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition.

        Raises:
            DataError: It has no operator, field or value, or several values where one belongs.
        """
        match = _FORM.fullmatch(text)
        values = [part.strip() for part in match["value"].split(",")] if match else []
        if match is None or not all(values) or (len(values) > 1 and match["operator"] != "="):
            raise DataError(
                f"The filter {text!r} is no condition: write a field, one of = != < <= > >=, and a value: year>=2020."
            )
        return cls(match["field"], match["operator"], tuple(map(_value, values)))

    def sql(self) -> tuple[str, list[str | float]]:
        """A clause over the metadata of a document, and the values of its placeholders."""
        tests = [f"(type {_KINDS[type(value)]} AND atom {self.operator} ?)" for value in self.values]
        clause = f"EXISTS (SELECT 1 FROM json_each(metadata) WHERE key = ? AND ({' OR '.join(tests)}))"
        return clause, [self.field, *self.values]


def _value(text: str) -> str | float:
    if text in ("true", "false"):
        return float(text == "true")
    try:
        return float(text)
    except ValueError:
        return text
