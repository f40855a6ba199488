"""The geometry of a model's vectors: are pairs that mean the same close, and is the whole sphere used?

1. Encode each distinct text once; leave out vectors of zeros, which have no direction, and count them.
2. On the unit sphere (Wang & Isola 2020, arXiv 2005.10242): alignment is the mean squared distance of pairs whose gold
   score is above 4, uniformity the log of the mean Gaussian potential exp(−2‖x − y‖²) over all pairs of texts.
   Both are better when lower.
3. Anisotropy is the mean cosine over all pairs of texts (Ethayarajh 2019): 0 on an even sphere, 1 in collapse. No pair
   is drawn: (|Σx|² − N) / (N (N − 1)) over the N unit vectors is that mean.
4. The spectrum is the standard deviation of the vectors, as the model gives them, along each principal axis; the
   effective rank (Roy & Vetterli 2007) is the number of axes of an even spectrum with the same entropy.
5. Cosines of pairs are counted by gold score, one bucket a unit: a good model's buckets move right and overlap little.

Values depend on the texts: compare them over the same sets and splits only.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from retriever.data.sts import StsSet
from retriever.encoder.encoder import Encoder, Kind
from retriever.encoder.pairs import Array, compare, encode_sets
from retriever.errors import DataError, ModelError, refuse_text
from retriever.training import diagnostics

POSITIVE = 4.0  # pairs with a gold score above count as meaning the same
BUCKETS = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5))  # gold scores, the upper end excluded but for the last
EDGES = np.linspace(-1, 1, 41)  # of the histograms of cosines


@dataclass(frozen=True)
class Bucket:
    """Cosines of the pairs whose gold scores lie together.

    Attributes:
        pairs: How many there are.
        mean: Of their cosines; ``None`` without pairs.
        sd: Of their cosines, over all of them; ``None`` without pairs.
        counts: Pairs in each bin between ``EDGES``.
    """

    pairs: int
    mean: float | None
    sd: float | None
    counts: list[int]


@dataclass(frozen=True)
class Analysis:
    """What an analysis found.

    Attributes:
        texts: Distinct texts N behind the measures.
        zeros: Texts left out because their vector is all zeros.
        dimension: D.
        uniformity: Log of the mean Gaussian potential; at most 0, which is collapse.
        anisotropy: Mean cosine of two texts.
        effective_rank: From 1 to the smaller of D and N - 1.
        spectrum: Standard deviation along each principal axis, the largest first.
        alignment: Mean squared distance of positive pairs; ``None`` without such pairs.
        pairs: Pairs with a gold score; 0 for a plain corpus.
        positives: Those above 4.
        sets: Set → split, for STS sets.
        edges: Ends of the histograms' bins.
        buckets: ``0-1`` to ``4-5`` → cosines of its pairs; empty for a plain corpus.
    """

    texts: int
    zeros: int
    dimension: int
    uniformity: float
    anisotropy: float
    effective_rank: float
    spectrum: list[float]
    alignment: float | None
    pairs: int
    positives: int
    sets: dict[str, str]
    edges: list[float]
    buckets: dict[str, Bucket]

    @property
    def collapsed(self) -> bool:
        """Whether all texts have the same vector."""
        return not any(self.spectrum)

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain types that `json.dumps` takes."""
        return asdict(self)


def analyze_sts(
    encoder: Encoder,
    sets: Sequence[StsSet],
    *,
    kind: Kind = "document",
    dtype: str = "float32",
    progress: Callable[[int], None] | None = None,
) -> Analysis:
    """Analyse an encoder on the sentences and the pairs of STS sets, all together.

    Args:
        encoder: The encoder.
        sets: What :func:`retriever.data.sts.load_sts` gave.
        kind: Whose prompt is put before the sentences.
        dtype: Precision of encoding: ``float32``, ``bfloat16`` or ``auto``.
        progress: Called with the number of texts just encoded.

    Returns:
        All measures. Pairs in which a sentence has a vector of zeros count with cosine 0 in the buckets and are left
        out of alignment.

    Raises:
        DataError: The sets hold fewer than two distinct sentences.
        ModelError: Fewer than two of them have a vector other than zeros.
    """
    vectors, rows = encode_sets(encoder, sets, kind=kind, dtype=dtype, progress=progress)
    gold = np.concatenate([one.gold for one in sets])  # (P,)
    pairs = np.concatenate([of_subset for of_set in rows for of_subset in of_set])  # (P, 2)
    first, second = vectors[pairs[:, 0]], vectors[pairs[:, 1]]
    positive = (gold > POSITIVE) & first.any(1) & second.any(1)
    close = (torch.from_numpy(unit(side[positive])) for side in (first, second))
    return Analysis(
        **_geometry(vectors),
        alignment=float(diagnostics.alignment(*close)) if positive.any() else None,
        pairs=len(gold),
        positives=int(positive.sum()),
        sets={one.name: one.split for one in sets},
        edges=EDGES.round(2).tolist(),
        buckets=bucket_cosines(compare(first, second), gold),
    )


def analyze_texts(
    encoder: Encoder,
    texts: Iterable[str],
    *,
    kind: Kind = "document",
    dtype: str = "float32",
    progress: Callable[[int], None] | None = None,
) -> Analysis:
    """Analyse an encoder on texts without gold scores: no alignment and no buckets.

    Args:
        encoder: The encoder.
        texts: The texts; of equal ones, one counts.
        kind: Whose prompt is put before them.
        dtype: Precision of encoding: ``float32``, ``bfloat16`` or ``auto``.
        progress: Called with the number of texts just encoded.

    Returns:
        The measures over all texts.

    Raises:
        DataError: There are fewer than two distinct texts, or the texts are one.
        ModelError: Fewer than two of them have a vector other than zeros.
    """
    refuse_text("texts", texts)
    vectors = encoder.encode(list(dict.fromkeys(texts)), kind, dtype=dtype, progress=progress)
    measures = _geometry(vectors)
    return Analysis(
        **measures, alignment=None, pairs=0, positives=0, sets={}, edges=EDGES.round(2).tolist(), buckets={}
    )


def sample(texts: Iterable[str], count: int, seed: int = 0) -> list[str]:
    """At most ``count`` of a stream of texts, each with the same chance, in their order; only those are held."""
    rng = random.Random(seed)
    drawn = heapq.nsmallest(count, ((rng.random(), number, text) for number, text in enumerate(texts)))
    return [text for _, text in sorted((number, text) for _, number, text in drawn)]


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (N, D), none of them zero, at length 1."""
    scaled: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def anisotropy(units: NDArray[np.float32]) -> float:
    """The mean cosine over all pairs of N ≥ 2 unit vectors (N, D)."""
    total, count = units.sum(axis=0, dtype=np.float64), len(units)
    return float((total @ total - count) / (count * (count - 1)))


def bucket_cosines(cosines: Array, gold: Array) -> dict[str, Bucket]:
    """Cosines (P,) of pairs by their gold scores (P,), see ``BUCKETS``."""
    found = {}
    for low, high in BUCKETS:
        inside = cosines[(gold >= low) & ((gold < high) | (high == BUCKETS[-1][1]))]
        counts, _ = np.histogram(np.clip(inside, -1, 1), EDGES)
        mean, sd = (float(inside.mean()), float(inside.std())) if len(inside) else (None, None)
        found[f"{low}-{high}"] = Bucket(len(inside), mean, sd, counts.tolist())
    return found


def _geometry(vectors: NDArray[np.float32]) -> dict[str, Any]:
    """What needs no gold scores, of the vectors (N, D) of distinct texts."""
    if len(vectors) < 2:
        raise DataError(f"An analysis compares distinct texts, and was given {len(vectors)}: give two or more.")
    kept = vectors[vectors.any(axis=1)]
    if len(kept) < 2:
        raise ModelError(
            f"The model gives {len(vectors) - len(kept):,} of {len(vectors):,} texts a vector of zeros, so nothing is "
            "left to analyse: take texts of its language or another model."
        )
    units, spectrum = unit(kept), diagnostics.singular_values(torch.from_numpy(kept)) / len(kept) ** 0.5
    return {
        "texts": len(kept),
        "zeros": len(vectors) - len(kept),
        "dimension": vectors.shape[1],
        "uniformity": float(diagnostics.uniformity(torch.from_numpy(units))),
        "anisotropy": anisotropy(units),
        "effective_rank": float(diagnostics.effective_rank(spectrum)),
        "spectrum": spectrum.tolist(),
    }
