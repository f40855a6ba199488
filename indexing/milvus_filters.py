"""Filters in the language of Milvus, with the meaning that they have in :mod:`retriever.indexing.filters`.

1. Comparisons of Milvus hold between values of one kind only, but ``!=`` holds between all, and where there is nothing:
   so it becomes "less or greater".
2. ``true`` and ``false`` are no numbers to Milvus: they are compared by name where 1 or 0 would meet the condition.
3. Lists are looked into by ``json_contains_any``, for which 1 and 1.0 differ on some servers.
4. Names and values are written as JSON texts, so that they cannot be read as anything else.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Sequence

from retriever.errors import DataError
from retriever.indexing.filters import Condition

UNHEARD = re.compile(r"[\x00-\x07\x0b\x0e-\x1f\ud800-\udfff]")  # what JSON writes in a way that Milvus does not read
LARGEST = 1e308  # beyond it are numbers that no expression can name
EXACT = 2**53  # whole numbers below it are the same in fp64
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def expression(conditions: Sequence[Condition]) -> str | None:
    """What documents that meet all conditions meet, in the language of Milvus; None without any condition.

    Raises:
        DataError: One holds a character that cannot be written in it.
    """
    for one in conditions:
        if UNHEARD.search(" ".join([one.field, *(value for value in one.values if isinstance(value, str))])):
            raise DataError(f"The filter by {one.field!r} holds a control or half a character: Milvus cannot read it.")
    return " and ".join(f"({' or '.join(_tests(one))})" for one in conditions) or None


def _tests(condition: Condition) -> list[str]:
    """What a condition asks for, one of which must hold."""
    field = f"metadata[{_told(condition.field)}]"
    tests = [_test(field, condition.operator, value) for value in condition.values]
    if condition.operator == "=":
        members = dict.fromkeys(member for value in condition.values for member in _members(value))
        tests.append(f"json_contains_any({field}, [{', '.join(members)}])")
    return tests


def _members(value: str | int | float) -> list[str]:
    """The members of a list that equal a value."""
    if isinstance(value, str):
        return [_told(value)]
    forms = [int(value), float(value)] if abs(value) < EXACT and value == int(value) else [value]
    return [*map(_told, forms), *_words("=", value)]


def _told(value: str | int | float) -> str:
    """A value as Milvus reads it."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(max(min(value, LARGEST), -LARGEST))


def _words(sign: str, value: float) -> list[str]:
    """``true`` and ``false``, as far as 1 and 0 stand so to a number."""
    return [word for word, one in (("true", 1), ("false", 0)) if COMPARE[sign](one, value)]


def _test(field: str, sign: str, value: str | int | float) -> str:
    """One comparison. Numbers compare with numbers alone, texts with texts; ``!=`` needs the field."""
    told = _told(value)
    if sign == "!=":
        tests = [f"{field} < {told}", f"{field} > {told}"]
    else:
        tests = [f"{field} {'==' if sign == '=' else sign} {told}"]
    if not isinstance(value, str):
        tests += [f"{field} == {word}" for word in _words(sign, value)]
    return f"({' or '.join(tests)})"
