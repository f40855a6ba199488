"""What is served: an index, labels, or both, with the encoder that they share.

1. A folder with a manifest is an index; its model is found as a search finds it, and is loaded anew when another one
   has built the index anew, unless the model or its device was given. Anything else is read as labels, which need a
   model.
2. Labels are encoded when they are opened, and remember the training points of their data set on request, as
   ``retriever predict`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import retriever
from retriever.data.xmc import load_labels, load_xmc
from retriever.encoder.encoder import Encoder
from retriever.encoder.loop import arithmetic
from retriever.errors import DataError, ServerError
from retriever.indexing.index import Index
from retriever.indexing.label_memory import LabelMemory
from retriever.indexing.labels import LabelIndex
from retriever.indexing.manifest import MANIFEST
from retriever.indexing.model import opener
from retriever.reporting import Reporter


@dataclass(frozen=True)
class Service:
    """What a server answers from: an index, labels, or both.

    Attributes:
        index: Finds documents, if any are served.
        labels: Finds labels, if any are served.
        called: The model's name for clients; that of its folder if not given.
        dtype: Precision of encoding.
    """

    index: Index | None = None
    labels: LabelIndex | None = None
    called: str | None = None
    dtype: str = "auto"

    @property
    def encoder(self) -> Encoder:
        """Makes vectors of texts; it may have to be loaded first, where another model has built the index anew."""
        if self.index is not None:
            return self.index.encoder
        assert self.labels is not None
        return self.labels.encoder

    @property
    def name(self) -> str:
        """Of the model, as clients see it."""
        if self.called is not None:
            return self.called
        path = self.encoder.path if self.index is None else self.index.model_path
        return Path(path or "model").name

    def info(self) -> dict[str, Any]:
        """What is served, as plain values, without folders."""
        encoder = self.encoder
        facts: dict[str, Any] = {
            "version": retriever.__version__,
            "model": self.name,
            "fingerprint": self._fingerprint if self.index is None else self.index.manifest.model.fingerprint,
            "dimension": encoder.dimension,
            "similarity": encoder.similarity,
            "max_tokens": encoder.limit,
            "index": None,
            "labels": None,
        }
        if self.index is not None:
            told = self.index.info()
            facts["index"] = {name: told[name] for name in ("documents", "generation", "segments", "factory", "bytes")}
        if self.labels is not None:
            facts["labels"] = {"labels": len(self.labels.labels), "memory": isinstance(self.labels, LabelMemory)}
        return facts

    @cached_property
    def _fingerprint(self) -> str:
        return self.encoder.fingerprint

    def close(self) -> None:
        """Close the files."""
        if self.index is not None:
            self.index.close()


def open_service(
    folder: Path,
    *,
    model: str | Path | None = None,
    labels: Path | None = None,
    memory: bool = False,
    titles_only: bool = False,
    name: str | None = None,
    device: str | None = None,
    dtype: str = "auto",
    reporter: Reporter | None = None,
) -> Service:
    """Open what is to be served.

    Args:
        folder: An index folder; or labels, see :func:`retriever.data.xmc.load_labels`.
        model: The encoder; that of the index if omitted.
        labels: Labels to serve beside an index.
        memory: Whether labels also learn from the training points of their data set.
        titles_only: As in :func:`retriever.data.xmc.load_labels`.
        name: Of the model, as clients see it; that of its folder if omitted.
        device: Where the model runs, also that of the index.
        dtype: Precision of encoding.
        reporter: Told of the encoding of labels.

    Raises:
        ServerError: Labels come without a model, or ``memory`` or ``titles_only`` without labels.
        IndexFolderError: The index is damaged, or another model built it.
        ModelError: There is no such model, device or precision.
        DataError: The labels cannot be read.
    """
    _check_dtype(dtype)
    has_index = (folder / MANIFEST).exists() or labels is not None
    labels = labels if has_index else folder
    if not has_index and model is None:
        raise ServerError(
            f"{folder} holds no index, and labels need a model: build an index with `retriever index build`, or give "
            "--model."
        )
    if (memory or titles_only) and labels is None:
        option = "--memory" if memory else "--titles-only"
        raise ServerError(f"{option} says how to read labels: give them with --labels, or leave it out.")
    given = _given(folder, model, device)
    index = Index.open(folder, given) if has_index else None
    encoder = index.encoder if index is not None else given
    assert encoder is not None
    served = None if labels is None else _labels(encoder, labels, memory, titles_only, dtype, reporter or Reporter())
    return Service(index, served, name or (None if model is None else Path(model).name), dtype)


def _check_dtype(dtype: str) -> None:
    """Refuse an unknown precision before anything is loaded, as encoding would."""
    with arithmetic(torch.device("cpu"), dtype):
        pass


def _given(folder: Path, model: str | Path | None, device: str | None) -> Encoder | None:
    """The model that does not wait for its first use: one that is named, or that of an index on a device that is."""
    if model is not None:
        return Encoder.load(model, device)
    return None if device is None else opener(folder, None, device)()


def _labels(
    encoder: Encoder, labels: Path, memory: bool, titles_only: bool, dtype: str, reporter: Reporter
) -> LabelIndex:
    with reporter.stage("encode") as advance:
        if not memory:
            known = load_labels(labels, titles_only=titles_only)
            return LabelIndex.build(encoder, known, dtype=dtype, progress=advance)
        try:
            dataset = load_xmc(labels, titles_only=titles_only)
        except DataError as error:
            raise DataError(f"--memory takes training points from the labels' data set: {error}") from error
        index = LabelIndex.build(encoder, dataset.labels, dtype=dtype, progress=advance)
        return LabelMemory.remember(index, dataset.train, dtype=dtype, progress=advance)
