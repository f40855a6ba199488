"""Giving labels tokens of their own before training, one each or one a cluster.

Clusters are those of the labels' vectors before training (spherical k-means), so that labels whose texts resemble each
other share what they learn beyond them. A label that has a token already keeps it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retriever.data.xmc_points import XmcLabels
from retriever.encoder import Encoder
from retriever.encoder.own_tokens import NONE, OwnTokens, add_tokens
from retriever.kernels import faiss, faiss_threads
from retriever.training.label_settings import LabelSpace

ROUNDS = 20  # of k-means


def give_tokens(encoder: Encoder, labels: XmcLabels, settings: LabelSpace, seed: int) -> None:
    """Give labels tokens, as ``settings.own`` wants.

    Args:
        encoder: Changed in place: its token table and its list of own tokens.
        labels: L labels.
        settings: Says which labels share a token. Without a text, a label is in no cluster.
        seed: Of the clusters.

    Raises:
        ModelError: The encoder takes no more tokens.
    """
    known = encoder.own_tokens or OwnTokens({})
    tokens = known.find(labels.ids, labels.texts)  # (L,)
    lacking = np.flatnonzero(tokens == NONE)
    if settings.own == "cluster":
        lacking = np.intersect1d(lacking, labels.readable)
    if not len(lacking):
        return
    groups = np.arange(len(lacking))
    if settings.own == "cluster":
        vectors = encoder.encode([labels.texts[row] for row in lacking], "document", dtype="float32")
        groups = cluster(vectors, settings.clusters, seed)
    tokens[lacking] = add_tokens(encoder, int(groups.max()) + 1) + groups
    having = np.flatnonzero(tokens != NONE)
    ids, texts = ([values[row] for row in having] for values in (labels.ids, labels.texts))
    encoder.own_tokens = OwnTokens(known.tokens | OwnTokens.of(ids, texts, tokens[having]).tokens)


def cluster(vectors: NDArray[np.float32], count: int, seed: int) -> NDArray[np.int64]:
    """The cluster of each vector, (N,); the same at every call.

    Args:
        vectors: (N, D).
        count: Clusters; as many as there are vectors at most.
        seed: Of the first centres.
    """
    count = min(count, len(vectors))
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    means = faiss.Kmeans(unit.shape[1], count, niter=ROUNDS, seed=seed, spherical=True, min_points_per_centroid=1)
    with faiss_threads(1):  # sums of several threads differ in their last bits
        means.train(unit)
        found = means.index.search(unit, 1)[1][:, 0]
    return np.unique(found, return_inverse=True)[1].astype(np.int64)
