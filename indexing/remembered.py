"""Results of a method that are kept for each object, and go with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar, cast
from weakref import WeakMethod

P = ParamSpec("P")
T = TypeVar("T")


def remembered(method: Callable[P, T], size: int) -> Callable[P, T]:
    """A bound method whose results for the ``size`` arguments used last are kept.

    The object keeps it as an attribute, but it does not hold the object, as a plain ``lru_cache`` would: what is open
    closes with the last reference, and not when garbage is collected.
    """
    weak = WeakMethod(method)

    @lru_cache(size)
    def result(*arguments: Any) -> T:
        bound: Any = weak()
        value: T = bound(*arguments)
        return value

    return cast("Callable[P, T]", result)
