"""What the worker threads do: searching, embedding, labelling, and changing the index.

Tasks are values: requests whose tasks are equal are computed in one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retriever.data.document import Document
from retriever.data.words import WordAnalyzer
from retriever.encoder.encoder import Encoder, Kind
from retriever.indexing.hybrid import Fusion
from retriever.indexing.index import Hit, Index, Mode
from retriever.indexing.labels import LabelIndex, Tag
from retriever.server.passages import Passages, Piece
from retriever.server.service import Service


@dataclass(frozen=True, slots=True)
class Found:
    """A hit, and its passage and title as pieces that match the query or do not, where they are wanted."""

    hit: Hit
    passage: list[Piece] | None = None
    heading: list[Piece] | None = None


@dataclass(frozen=True)
class Search:
    """Queries → hits.

    Attributes:
        index: The index.
        mode: See :meth:`retriever.indexing.index.Index.search_batch`, also for the others.
        fusion: Likewise.
        weight: Likewise.
        k: Hits wanted beyond the offset.
        offset: Hits that are left out.
        filters: See :meth:`retriever.indexing.index.Index.search_batch`.
        explain: Likewise.
        highlight: Whether passages are wanted.
    """

    index: Index
    mode: Mode = "hybrid"
    fusion: Fusion | None = None
    weight: float | None = None
    k: int = 10
    offset: int = 0
    filters: tuple[str, ...] = ()
    explain: bool = False
    highlight: bool = True

    def run(self, inputs: Sequence[str]) -> list[list[Found]]:
        """The hits of each query, best first."""
        options = self.mode, self.fusion, self.filters, self.weight
        found = self.index.search_batch(inputs, self.k, *options, explain=self.explain, offset=self.offset)
        if not self.highlight:
            return [[Found(hit) for hit in hits] for hits in found]
        analyzer = _analyzer(self.index.manifest.bm25.stemmer)
        return [_highlighted(query, hits, analyzer) for query, hits in zip(inputs, found, strict=True)]


def _highlighted(query: str, hits: Sequence[Hit], analyzer: WordAnalyzer) -> list[Found]:
    shown = Passages(query, analyzer).with_titles([hit.text for hit in hits], [hit.title for hit in hits])
    return [Found(hit, *pieces) for hit, pieces in zip(hits, shown, strict=True)]


_analyzer = lru_cache(1)(WordAnalyzer)  # it remembers stems


@dataclass(frozen=True, slots=True)
class Length:
    """How many tokens a text has with its prompt, and how many of these an encoder reads at most; None for all."""

    tokens: int
    limit: int | None

    @property
    def fits(self) -> bool:
        """Whether the encoder reads the text whole."""
        return self.limit is None or self.tokens <= self.limit


@dataclass(frozen=True, slots=True)
class Embedding:
    """The vector of a text (D,), and the text's length to each encoder that reads it: several where they are joined."""

    vector: NDArray[np.float32]
    lengths: tuple[Length, ...]


@dataclass(frozen=True)
class Embed:
    """Texts → vectors, as :meth:`retriever.encoder.Encoder.encode` makes them."""

    service: Service
    kind: Kind

    def run(self, inputs: Sequence[str]) -> list[Embedding]:
        """The vector of each text."""
        encoder = self.service.encoder
        vectors = encoder.encode(inputs, self.kind, dtype=self.service.dtype)
        told = measure(encoder, inputs, self.kind)
        return [Embedding(vector, lengths) for vector, lengths in zip(vectors, told, strict=True)]


@dataclass(frozen=True)
class Describe:
    """What is served."""

    service: Service

    def run(self, inputs: Sequence[None]) -> list[dict[str, Any]]:
        """The same for each that asks."""
        return [self.service.info()] * len(inputs)


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
        len(self.index)  # opens the new state now, so that no search has to
        return replaced


@dataclass(frozen=True)
class Delete:
    """Documents out of an index, likewise."""

    index: Index

    def run(self, inputs: Sequence[str]) -> list[bool]:
        """For each id whether it was there; of those given several times, the first deletes."""
        gone = set(self.index.delete(inputs))
        len(self.index)
        were_there = []
        for name in inputs:
            were_there.append(name not in gone)
            gone.add(name)
        return were_there


@dataclass(frozen=True)
class Get:
    """Ids → documents."""

    index: Index

    def run(self, inputs: Sequence[str]) -> list[Document | None]:
        """The document of each id, or None."""
        return [self.index.get(name) for name in inputs]


def measure(encoder: Encoder, texts: Sequence[str], kind: Kind) -> list[tuple[Length, ...]]:
    """The length of each text to the encoder, or to each of the encoders joined in it, in their order."""
    prompt = encoder.prompts.get(kind, "")
    prompted = [prompt + text for text in texts]
    if encoder.parts:
        told = [measure(part, prompted, kind) for part in encoder.parts]
        return [sum(lengths, ()) for lengths in zip(*told, strict=True)]
    return [(Length(tokens, encoder.limit),) for tokens in encoder.text_tokenizer.encode(prompted).lengths.tolist()]
