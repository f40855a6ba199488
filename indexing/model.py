"""The model of an index: which one built it, and whether it is the one that is given.

1. A model is loaded at its first use, from where it was beside the index when that was built, or else from its absolute
   path, and must have the fingerprint that the index remembers.
2. An index that is built anew by another model while it is open goes on with that one, unless a model was given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retriever.errors import ModelError, OtherModelError, RetrieverError
from retriever.indexing.manifest import Manifest, model_places, read_manifest

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder


class IndexModel:
    """The encoder of one state of an index; threads that share it take turns.

    Args:
        manifest: What the index holds.
        folder: The index folder.
        given: The encoder, if it is open already; otherwise it is loaded at its first use.

    Raises:
        OtherModelError: Another encoder than the one given built the index.
    """

    def __init__(self, manifest: Manifest, folder: Path, given: Encoder | None = None) -> None:
        self._manifest, self._folder, self._is_given = manifest, folder, given is not None
        self._encoder = None if given is None else checked(given, manifest, folder)
        self._turn = threading.Lock()

    def of(self, manifest: Manifest) -> IndexModel:
        """The model of a newer state of the index.

        Raises:
            OtherModelError: Another encoder than the one given built it.
        """
        now, then = manifest.model, self._manifest.model
        if now == then or (now.fingerprint == then.fingerprint and self._encoder is not None):
            return self
        if self._encoder is not None and self._is_given:
            raise other_model(self._encoder, manifest, self._folder)
        return IndexModel(manifest, self._folder)

    @property
    def path(self) -> str | None:
        """Where it was when the index was built, or the name of a hub model; None if it was never saved."""
        return self._manifest.model.path

    @property
    def encoder(self) -> Encoder:
        """The encoder.

        Raises:
            IndexFolderError: It is not where it was, or not the one that built the index.
            ModelError: It cannot be read.
        """
        with self._turn:
            return self._opened()

    def encode(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Query vectors (Q, D), one call at a time: models and tokenizers are not made for threads."""
        with self._turn:
            return self._opened().encode(queries, "query")

    def _opened(self) -> Encoder:
        if self._encoder is None:
            self._encoder = _found(self._manifest, self._folder)
        return self._encoder


def load(model: str | Path, device: str | None = None) -> Encoder:
    """Load an encoder; importing it takes seconds, which a search for words need not spend."""
    from retriever.encoder.encoder import Encoder

    return Encoder.load(model, device)


def checked(encoder: Encoder, manifest: Manifest, folder: Path) -> Encoder:
    """The encoder, if it is the one that built the index; otherwise an :class:`OtherModelError`."""
    if encoder.fingerprint != manifest.model.fingerprint:
        raise other_model(encoder, manifest, folder)
    return encoder


def other_model(encoder: Encoder, manifest: Manifest, folder: Path) -> OtherModelError:
    """What is wrong with an encoder that did not build the index."""
    where = manifest.model.path
    if where and encoder.path and Path(where).resolve() == encoder.path.resolve():
        return OtherModelError(
            f"The model {where} has changed since it built the index {folder}: build the index again, or bring the "
            "model back as it was."
        )
    built_by = where or "one that was not saved"
    return OtherModelError(
        f"The index {folder} was built by another model ({built_by}) than {encoder.path or 'this one'}: "
        "open it with that model, or build it again."
    )


def opener(folder: Path, model: str | Path | Encoder | None, device: str | None = None) -> Callable[[], Encoder]:
    """What opens the model of an index, on a device if it is not open already."""

    def opened() -> Encoder:
        manifest = read_manifest(folder)
        if model is None:
            return _found(manifest, folder, device)
        return checked(load(model, device) if isinstance(model, (str, Path)) else model, manifest, folder)

    return opened


def _found(manifest: Manifest, folder: Path, device: str | None = None) -> Encoder:
    """The model that built an index, at the first place where it is."""
    wrong: list[RetrieverError] = []
    for place in model_places(manifest.model, folder):
        try:
            return checked(load(place, device), manifest, folder)
        except (ModelError, OtherModelError) as error:
            wrong.append(error)
    raise wrong[0]
