"""Filters in the language of Milvus, with the meaning that they have in :mod:`retriever.indexing.filters`.

1. Comparisons of Milvus hold between values of one kind only, but ``!=`` holds between all, and where there is nothing:
   so it becomes "less or greater".
2. ``true`` and ``false`` are no numbers to Milvus: they are compared by name where 1 or 0 would meet the condition.
3. Names and values are written as JSON texts, so that they cannot be read as anything else.
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
    tests = [f"({' or '.join(_test(one.field, one.operator, value) for value in one.values)})" for one in conditions]
    return " and ".join(tests) or None


def _test(name: str, sign: str, value: str | int | float) -> str:
    """One comparison. Numbers compare with numbers alone, texts with texts; ``!=`` needs the field."""
    field = f"metadata[{json.dumps(name, ensure_ascii=False)}]"
    told = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(max(min(value, LARGEST), -LARGEST))
    if sign == "!=":
        tests = [f"{field} < {told}", f"{field} > {told}"]
    else:
        tests = [f"{field} {'==' if sign == '=' else sign} {told}"]
    if not isinstance(value, str):  # true and false are the numbers 1 and 0
        tests += [f"{field} == {word}" for word, one in (("true", 1), ("false", 0)) if COMPARE[sign](one, value)]
    return f"({' or '.join(tests)})"
