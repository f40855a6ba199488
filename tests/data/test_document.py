"""How deep metadata nest, counted by hand."""

from __future__ import annotations

import pytest

from retriever.data.document import nests_within


@pytest.mark.parametrize(
    ("value", "levels"),
    [
        (None, 0),
        ("[[]]", 0),
        ({}, 1),
        ([1, "a", None], 1),
        ({"a": 1, "b": (2, 3)}, 2),
        ([[], [[]], []], 3),
        ({"a": [{"b": [0]}], "c": {}}, 4),
    ],
)
def test_levels_are_counted(value, levels):
    assert nests_within(levels, value) and not nests_within(levels - 1, value)


def test_what_holds_itself_is_too_deep():
    endless = []
    endless.append(endless)
    assert not nests_within(1_000, endless)
