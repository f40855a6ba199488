"""Labels with tokens of their own: what a label is beyond its text.

1. The encoder's token table gets more rows, behind those of the tokenizer, all zero at first.
2. The tokens of a label begin with its own token, or with one that it shares with similar labels; those of its text
   follow. A bag of tokens adds a free vector to the text's so (as DEXA does; Dahiya et al. 2023, KDD); a transformer
   attends to it.
3. No text leads to such a token. Which label has which is saved beside the model by a hash of the label's id and text,
   so that another data set's labels do not take one by mistake.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.base.modules.transformer import Transformer

from retriever.data.ragged import Ragged, offsets_of
from retriever.data.xmc_points import XmcLabels
from retriever.encoder.static import TermEmbedding
from retriever.errors import ModelError

if TYPE_CHECKING:
    from retriever.encoder.encoder import Encoder

FILE = "own_tokens.json"
NONE = -1


@dataclass(frozen=True)
class OwnTokens:
    """Which labels have a token of their own.

    Attributes:
        tokens: Hash of a label's id and text → its token.
    """

    tokens: dict[str, int]

    @classmethod
    def of(cls, ids: Sequence[str], texts: Sequence[str], tokens: NDArray[np.int64]) -> OwnTokens:
        """The tokens (L,) of L labels."""
        return cls(dict(zip(map(_key, ids, texts), tokens.tolist(), strict=True)))

    @classmethod
    def load(cls, folder: Path) -> OwnTokens | None:
        """What :meth:`save` wrote into a model's folder; None if there is nothing.

        Raises:
            ModelError: The file is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            return cls({str(key): int(token) for key, token in json.loads(path.read_text(encoding="utf-8")).items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} is damaged; copy the model again or train it anew.") from error

    def save(self, folder: Path) -> None:
        """Write a file into a model's folder."""
        (folder / FILE).write_text(json.dumps(self.tokens), encoding="utf-8")

    def find(self, ids: Sequence[str], texts: Sequence[str]) -> NDArray[np.int64]:
        """The token of each label, (L,); −1 for a label that has none."""
        return np.array([self.tokens.get(_key(*label), NONE) for label in zip(ids, texts, strict=True)], np.int64)


def add_tokens(encoder: Encoder, count: int) -> int:
    """Add rows of zeros to the token table of an encoder.

    Args:
        encoder: Changed in place.
        count: Rows.

    Returns:
        The first of the new tokens; the others follow.

    Raises:
        ModelError: The encoder is no transformer and no static encoder of this project.
    """
    match encoder.stack[0]:
        case TermEmbedding() as module:
            return module.extend(count)
        case Transformer() as module:
            first = int(module.model.get_input_embeddings().num_embeddings)
            module.model.resize_token_embeddings(first + count, mean_resizing=False)
            with torch.no_grad():
                module.model.get_input_embeddings().weight[first:] = 0
            return first
        case module:
            raise ModelError(
                f"The model starts with a {type(module).__name__} module, which takes no tokens for labels; choose a "
                "transformer, or a static encoder trained here."
            )


def findable(encoder: Encoder, labels: XmcLabels) -> NDArray[np.int64]:
    """Rows of the labels that have a text or a token of their own, rising."""
    if encoder.own_tokens is None:
        return labels.readable
    having = encoder.own_tokens.find(labels.ids, labels.texts) != NONE
    return np.union1d(labels.readable, np.flatnonzero(having)).astype(np.int64)


def begin_with(tokens: NDArray[np.int64], rows: Ragged) -> Ragged:
    """Put a token (N,) before each of N rows; none where it is −1."""
    having = tokens != NONE
    return Ragged(np.insert(rows.ids, rows.offsets[:-1][having], tokens[having]), rows.offsets + offsets_of(having))


def encode_labels(
    encoder: Encoder,
    ids: Sequence[str],
    texts: Sequence[str],
    *,
    dtype: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float32]:
    """Vectors (L, D) of labels, as documents, with the tokens of their own that the encoder has for them.

    Args:
        encoder: The encoder.
        ids: Their ids, L.
        texts: Their texts, L; empty ones have the vector of their own token alone.
        dtype: ``float32``, ``bfloat16`` or ``auto``.
        progress: Called with the number of labels just encoded.
    """
    if encoder.own_tokens is None:
        return encoder.encode(texts, "document", dtype=dtype, progress=progress)
    prompt = encoder.prompts.get("document", "")
    rows = encoder.text_tokenizer.encode([prompt + text for text in texts])
    return encoder.embed(begin_with(encoder.own_tokens.find(ids, texts), rows), dtype=dtype, progress=progress)


def _key(label: str, text: str) -> str:
    return hashlib.blake2b(f"{label}\0{text}".encode(), digest_size=10).hexdigest()
