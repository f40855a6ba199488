"""Linear maps after a finished encoder, from the vectors of a set of texts: nothing is trained, no label is read.

1. Of the N vectors of the texts come the mean μ and the second moment ``M = Xᵀ X / N``, in fp64.
2. Whitening (BERT-whitening; Su et al. 2021, arXiv 2103.15316): the covariance is ``M − μ μᵀ = U Λ Uᵀ``, and a vector
   becomes ``Λ_k^{-1/2} U_kᵀ (x − μ)``, with the k largest eigenvalues.
3. Common components (Arora et al. 2017, "A simple but tough-to-beat baseline for sentence embeddings"): with u the
   eigenvectors of M of the c largest eigenvalues, a vector becomes ``x − u uᵀ x``.
4. SIF weights (the same paper): before that a word of relative frequency p counts ``a / (a + p)`` times. Only a static
   encoder has vectors of words to weigh.

Each is one matrix and one bias, a dense layer at the end of the encoder: the vector of a text does not depend on its
batch mates, and sentence-transformers opens the folder as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, StaticEmbedding
from torch import Tensor, nn

from retriever.encoder.encoder import Encoder
from retriever.encoder.static import TermEmbedding
from retriever.errors import ModelError

SIF_A = 1e-3  # a, as in the paper
RANK = 1e-8  # relative; an eigenvalue below is near fp32's rounding, and whitening would blow that up
FLOOR = 1e-12  # a largest eigenvalue below is no variance at all

CHUNK = 8_192  # texts encoded at a time

Array: TypeAlias = NDArray[np.float64]
Method: TypeAlias = Literal["bert-whitening", "common-component", "sif"]


@dataclass(frozen=True)
class Moments:
    """Of N vectors: their mean (D,) and second moment (D, D)."""

    count: int
    mean: Array
    second: Array


def linear_map(
    encoder: Encoder,
    texts: Sequence[str],
    method: Method = "bert-whitening",
    *,
    dimension: int | None = None,
    components: int = 1,
    dtype: str = "float32",
    progress: Callable[[int], None] | None = None,
) -> Encoder:
    """The encoder followed by the linear map that the texts give; it compares by cosine.

    Args:
        encoder: Its modules become part of the new encoder, with ``sif`` other weights of words.
        texts: N of them.
        method: ``bert-whitening``, ``common-component`` or ``sif``.
        dimension: Dimensions whitening keeps; all that the vectors vary in if omitted.
        components: Directions the other methods remove.
        dtype: ``float32``, ``bfloat16`` or ``auto``, of the arithmetic.
        progress: Called with the number of texts just encoded.

    Raises:
        ModelError: The encoder is joined from several, or has no words to weigh; or there are too few texts.
    """
    if method != "bert-whitening" and dimension is not None:
        raise ModelError(f"{method} keeps all dimensions; leave --dimension out, or choose bert-whitening.")
    if not texts:
        raise ModelError("There are no texts to take the statistics of; give some.")
    if method == "sif":
        weigh_words(encoder, texts)
    starts = range(0, len(texts), CHUNK)
    parts = (encoder.encode(texts[start : start + CHUNK], dtype=dtype, progress=progress) for start in starts)
    found = moments(parts)
    weight, bias = whitening(found, dimension) if method == "bert-whitening" else without_common(found, components)
    used = torch.from_numpy(bias) if bias.any() else None
    return with_linear(encoder, torch.from_numpy(weight), used, cosine=True)


def moments(chunks: Iterable[NDArray[np.float32]]) -> Moments:
    """The moments of vectors that come in chunks (n, D), at least one of them."""
    count, total, second = 0, np.zeros(()), np.zeros(())
    for chunk in chunks:
        x = chunk.astype(np.float64)
        count, total, second = count + len(x), total + x.sum(0), second + x.T @ x
    return Moments(count, total / count, second / count)


def whitening(found: Moments, dimension: int | None = None) -> tuple[Array, Array]:
    """The map to vectors of mean 0 and covariance I.

    Args:
        found: Of vectors of D dimensions.
        dimension: k; as many as the vectors vary in if omitted.

    Returns:
        Matrix (k, D) and bias (k,).

    Raises:
        ModelError: The vectors have fewer than k dimensions, or do not vary in so many.
    """
    width = len(found.mean)
    if dimension is not None and not 1 <= dimension <= width:
        raise ModelError(
            f"The vectors have {width} dimensions, of which {dimension} cannot be kept; lower --dimension."
        )
    values, basis = np.linalg.eigh(found.second - np.outer(found.mean, found.mean))
    rank = int((values > RANK * values[-1]).sum()) if values[-1] > FLOOR else 0
    kept = max(rank, 1) if dimension is None else dimension
    if rank < kept:
        fewer = f", or --dimension {rank} at most" if rank else ""
        raise ModelError(
            f"The vectors of {found.count:,} texts vary in {rank} dimensions only; give more texts{fewer}."
        )
    values, basis = values[::-1][:kept], basis[:, ::-1][:, :kept]
    weight = (basis / np.sqrt(values)).T  # (k, D)
    return weight, -weight @ found.mean


def without_common(found: Moments, components: int = 1) -> tuple[Array, Array]:
    """The map that removes the directions most vectors share.

    Args:
        found: Of vectors of D dimensions.
        components: c directions, fewer than D.

    Returns:
        Matrix (D, D) and bias (D,), which is 0.

    Raises:
        ModelError: Nothing would be left.
    """
    width = len(found.mean)
    if not 1 <= components < width:
        raise ModelError(f"Of {width} dimensions {components} components cannot be removed; change --components.")
    _, basis = np.linalg.eigh(found.second)
    common = basis[:, -components:]  # (D, c)
    return np.eye(width) - common @ common.T, np.zeros(width)


def with_linear(encoder: Encoder, weight: Tensor, bias: Tensor | None = None, *, cosine: bool) -> Encoder:
    """The encoder followed by a linear map.

    Args:
        encoder: Of D dimensions; its modules become part of the new encoder.
        weight: (k, D).
        bias: (k,); none if omitted.
        cosine: End with an L2 normalisation and compare by cosine; otherwise as the encoder compares.

    Raises:
        ModelError: The encoder is joined from several.
    """
    if encoder.parts:
        raise ModelError("Nothing can follow a joined encoder; give one of its parts, and join the outcome again.")
    outputs, width = weight.shape
    layer = Dense(
        width,
        outputs,
        bias=bias is not None,
        activation_function=None,
        init_weight=weight.float().to(encoder.device),
        init_bias=None if bias is None else bias.float().to(encoder.device),
    )
    modules: list[nn.Module] = [*encoder.stack, layer, *([Normalize()] if cosine else [])]
    similarity = "cosine" if cosine else encoder.similarity
    stack = SentenceTransformer(modules=modules, similarity_fn_name=similarity, device=str(encoder.device))
    changed = Encoder(stack, own_tokens=encoder.own_tokens)
    changed.prompts = encoder.prompts
    return changed


def weigh_words(encoder: Encoder, texts: Sequence[str], a: float = SIF_A) -> None:
    """Give the words of a static encoder their SIF weights, in place.

    Args:
        encoder: A static encoder.
        texts: Where words are counted.
        a: Words much rarer than this all count alike.

    Raises:
        ModelError: The encoder has no word vectors.
    """
    first = encoder.stack[0]
    if not isinstance(first, (TermEmbedding, StaticEmbedding)):
        raise ModelError("SIF weighs words, and only a static encoder has vectors of them; choose common-component.")
    ids = encoder.text_tokenizer.encode(texts).ids
    counts = np.bincount(ids, minlength=encoder.text_tokenizer.size)
    weights = torch.from_numpy(a / (a + counts / max(counts.sum(), 1))).float()
    with torch.no_grad():
        if isinstance(first, TermEmbedding):
            first.weights.fill_(1.0)  # of tokens of labels, which no text has
            first.weights[: len(weights)] = weights.to(first.weights.device)
        else:
            first.embedding.weight.mul_(weights[: len(first.embedding.weight), None])
    encoder.path = None
