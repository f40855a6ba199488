"""What the worker threads do: searching, embedding, labelling, and changing the index.

Tasks are values: requests whose tasks are equal are computed in one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.encoder.encoder import Encoder, Kind
from retriever.indexing.hybrid import Fusion
from retriever.indexing.index import Hit, Index, Mode
from retriever.indexing.labels import LabelIndex, Tag

DEEP = 100  # hits of each part that are looked at when a hybrid search is explained


@dataclass(frozen=True, slots=True)
class Part:
    """How one side of a search sees a hit: its own score and its own rank, from 1."""

    score: float
    rank: int


@dataclass(frozen=True, slots=True)
class Found:
    """A hit and what its parts say; a part is None where it does not have the hit among its first ones."""

    hit: Hit
    parts: dict[str, Part | None]


@dataclass(frozen=True)
class Search:
    """Queries → hits.

    Attributes:
        index: The index.
        mode: See :meth:`retriever.indexing.index.Index.search_batch`, also for the others.
        fusion: Likewise.
        weight: Likewise.
        k: Likewise.
        filters: Likewise.
        explain: Whether a hybrid search tells the parts of its hits, at the price of a search more for each.
    """

    index: Index
    mode: Mode
    fusion: Fusion | None
    weight: float | None
    k: int
    filters: tuple[str, ...]
    explain: bool

    def run(self, inputs: Sequence[str]) -> list[list[Found]]:
        """The hits of each query, best first."""
        found = self._hits(inputs, self.mode, self.k)
        if self.mode != "hybrid":
            return [[Found(hit, {self.mode: Part(hit.score, hit.rank)}) for hit in hits] for hits in found]
        if not self.explain:
            return [[Found(hit, {}) for hit in hits] for hits in found]
        sides = [mode for mode in get_args(Mode) if mode != "hybrid"]
        seen = {side: [_by_id(hits) for hits in self._hits(inputs, side, max(self.k, DEEP))] for side in sides}
        return [
            [Found(hit, {side: seen[side][query].get(hit.id) for side in sides}) for hit in hits]
            for query, hits in enumerate(found)
        ]

    def _hits(self, queries: Sequence[str], mode: Mode, k: int) -> list[list[Hit]]:
        return self.index.search_batch(queries, k, mode, self.fusion, self.filters, self.weight)


@dataclass(frozen=True, slots=True)
class Embedding:
    """The vector of a text (D,), and how many tokens the text has, also those that the encoder does not read."""

    vector: NDArray[np.float32]
    tokens: int


@dataclass(frozen=True)
class Embed:
    """Texts → vectors, as :meth:`retriever.encoder.Encoder.encode` makes them."""

    encoder: Encoder
    kind: Kind
    dtype: str

    def run(self, inputs: Sequence[str]) -> list[Embedding]:
        """The vector of each text."""
        vectors = self.encoder.encode(inputs, self.kind, dtype=self.dtype)
        counts = count_tokens(self.encoder, inputs)
        return [Embedding(vector, count) for vector, count in zip(vectors, counts, strict=True)]


@dataclass(frozen=True)
class Predict:
    """Texts → labels, see :meth:`retriever.indexing.labels.LabelIndex.predict`."""

    labels: LabelIndex
    k: int
    dtype: str

    def run(self, inputs: Sequence[str]) -> list[list[Tag]]:
        """The labels of each text, best first."""
        return self.labels.predict(inputs, self.k, dtype=self.dtype)


@dataclass(frozen=True)
class Upsert:
    """Documents into an index, all of a batch in one change that is on disk when it returns."""

    index: Index
    dtype: str

    def run(self, inputs: Sequence[Document]) -> list[bool]:
        """For each document whether it replaced another; of those with one id, the last counts."""
        seen: set[str] = set()
        replaced = []
        for document in inputs:
            replaced.append(document.id in seen or self.index.get(document.id) is not None)
            seen.add(document.id)
        self.index.add({document.id: document for document in inputs}.values(), dtype=self.dtype)
        len(self.index)  # opens the new state here, so that no search has to wait for it
        return replaced


@dataclass(frozen=True)
class Delete:
    """Documents out of an index, likewise."""

    index: Index

    def run(self, inputs: Sequence[str]) -> list[bool]:
        """For each id whether it was there."""
        missing = set(self.index.delete(inputs))
        len(self.index)
        return [name not in missing for name in inputs]


@dataclass(frozen=True)
class Get:
    """Ids → documents."""

    index: Index

    def run(self, inputs: Sequence[str]) -> list[Document | None]:
        """The document of each id, or None."""
        return [self.index.get(name) for name in inputs]


def count_tokens(encoder: Encoder, texts: Sequence[str]) -> list[int]:
    """How many tokens each text has; of encoders joined, the first one's."""
    if encoder.parts:
        return count_tokens(encoder.parts[0], texts)
    lengths: list[int] = encoder.text_tokenizer.encode(texts).lengths.tolist()
    return lengths


def _by_id(hits: Sequence[Hit]) -> dict[str, Part | None]:
    return {hit.id: Part(hit.score, hit.rank) for hit in hits}
