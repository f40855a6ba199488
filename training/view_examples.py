"""Pairs to look at: what a recipe would train on, as text.

1. Draw some documents, and a pair of each as training would, noise included.
2. Decode the tokens. A word tokenizer gives stems, so these are not the words of the document.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retriever.data.tokenizers import SubwordTokenizer, WordTokenizer
from retriever.data.tokens import TokenStore
from retriever.training.view_noise import mask_token
from retriever.training.view_settings import Views
from retriever.training.views import disturbed, draw

WIDTH = 100  # characters a line


@dataclass(frozen=True, slots=True)
class Example:
    """A positive pair, readable.

    Attributes:
        row: Number of the document in its corpus.
        kind: As in ``views.mix``.
        query: The query view.
        documents: The document views.
    """

    row: int
    kind: str
    query: str
    documents: tuple[str, ...]


def draw_examples(
    store: TokenStore,
    rows: NDArray[np.int64],
    views: Views,
    tokenizer: WordTokenizer | SubwordTokenizer,
    count: int,
    seed: int,
) -> list[Example]:
    """Pairs of random documents.

    Args:
        store: Token ids of the corpus.
        rows: Documents to draw from, of at least one token each.
        views: Kinds of pairs, lengths and noise.
        tokenizer: The one the store was made with.
        count: Pairs wanted; at most one a document is drawn.
        seed: Another seed draws others.

    Raises:
        RecipeError: The recipe masks tokens and the tokenizer has no mask token.
    """
    random = np.random.default_rng(seed)
    chosen = random.permutation(rows)[:count]
    drawn = draw(store, chosen, views, random)
    queries, documents = disturbed(drawn, views, random, mask_token(tokenizer, views))
    return [
        Example(
            int(row),
            str(drawn.kinds[place]),
            tokenizer.decode(queries[place]),
            tuple(tokenizer.decode(documents[key]) for key in range(place, len(documents), len(chosen))),
        )
        for place, row in enumerate(chosen)
    ]


def render(examples: Iterable[Example]) -> str:
    """The examples as a page of plain text."""
    blocks = []
    for example in examples:
        lines = [f"{example.kind} (document {example.row:,})", *_indented("query", example.query)]
        for text in example.documents:
            lines += _indented("document", text)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _indented(label: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"  {label:10s}", subsequent_indent=" " * 12) or [f"  {label}"]
