"""Which model an index wants, and whether it is the one that is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from retriever.errors import OtherModelError
from retriever.indexing.manifest import Manifest, find_model, read_manifest

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder


def load(model: str | Path) -> Encoder:
    """Load an encoder; importing it takes seconds, which a search for words need not spend."""
    from retriever.encoder.encoder import Encoder

    return Encoder.load(model)


def checked(encoder: Encoder, manifest: Manifest, folder: Path) -> Encoder:
    """The encoder, if it is the one that built the index; otherwise an :class:`OtherModelError`."""
    if encoder.fingerprint != manifest.model.fingerprint:
        built_by = manifest.model.path or "one that was not saved"
        raise OtherModelError(
            f"The index {folder} was built by another model ({built_by}) than {encoder.path or 'this one'}: "
            "open it with that model, or build it again."
        )
    return encoder


def opener(folder: Path, model: str | Path | Encoder | None) -> Callable[[], Encoder]:
    """What opens the model of an index."""

    def opened() -> Encoder:
        manifest = read_manifest(folder)
        found = find_model(manifest.model, folder) if model is None else model
        return checked(load(found) if isinstance(found, (str, Path)) else found, manifest, folder)

    return opened
