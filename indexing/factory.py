"""Which kind of FAISS index suits how many vectors.

1. As long as all vectors hold at most 20 million numbers (80 MB; 52,000 vectors of dimension 384), ``Flat``: exact, and
   a search reads them in a few milliseconds.
2. Beyond, inverted lists of 4-bit product-quantised codes, two dimensions a code: ``IVF{L},PQ{D/2}x4fs``. Codes only
   choose candidates, which full vectors score.
3. Where vectors differ little in many dimensions, as those of most transformers do, codes are made of half of the
   dimensions: ``PCAR{R},IVF{L},PQ{R/2}x4fs``, a vector taking D / 8 bytes. A principal component analysis keeps the
   R = D / 2 dimensions in which the vectors differ most and turns them so that they differ alike in each. It is taken
   where these hold 80 % of the variance, or no codes of all dimensions fit. On all-MiniLM-L6-v2 they hold 95 %; on a
   static encoder they hold 73 %, and codes of all dimensions answer 1.1 and 1.5 times as many queries at recall 0.95
   and 0.99.
4. L is the power of two next above 2 √N: centres of more lists take longer to learn and to compare with than searches
   gain. For codes of all dimensions it is that above √N / 2: where vectors differ alike in all of them, near ones lie
   in many lists, and fewer lists were faster on 100,000 vectors, at recall 0.95 and 0.99.
5. A vector takes its codes, its row number, and D fp16 values that candidates are scored by. These values lie in a
   memory map of which searches touch little: they need room on the disk. A budget of memory therefore counts codes and
   numbers, and lets 4 or 8 dimensions share a code until they fit. ``Flat`` counts in full.

R is the multiple of 8 at or next above D / 2. Where that is no less than D, or D no multiple of 8, vectors are padded
with zeros instead (``Pad``), which changes no inner product. A graph (``HNSW32_SQfp16``) is for whoever asks: it takes
many times as long to build.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from retriever.errors import IndexFolderError

AUTO = "auto"
EXACT = 20_000_000  # numbers up to which exact search is fast enough
SHARED = (2, 4, 8)  # dimensions that share a code: the first that fits
CENTRES = 16  # of a 4-bit code, which are learnt from as many vectors at least
NUMBER = 8  # bytes of a row's number in an inverted list
ENOUGH = 0.8  # of the variance that half of the dimensions must hold


def choose(count: int, dimension: int, memory: float | None = None, spectrum: NDArray[np.float64] | None = None) -> str:
    """The factory string of FAISS for an index.

    Args:
        count: N, vectors that it will hold.
        dimension: D.
        memory: Bytes that searches may hold in memory; as many as they want if not given.
        spectrum: Variances of the vectors along their principal components, falling (D,); if not given, half of the
            dimensions are taken to be enough.

    Returns:
        For example ``Flat`` or ``PCAR192,IVF2048,PQ96x4fs``.

    Raises:
        IndexFolderError: Not even the smallest codes fit.
    """
    room = math.inf if memory is None else memory
    if count * dimension <= EXACT and 4 * dimension * count <= room:
        return "Flat"
    half, whole = _divisible(dimension / 2), _divisible(dimension)
    of_half = (half, f"PCAR{half},IVF{_lists(2, count)}")
    of_whole = (whole, f"Pad{whole}," * (whole > dimension) + f"IVF{_lists(0.5, count)}")
    is_enough = spectrum is None or spectrum[:half].sum() >= ENOUGH * spectrum.sum()
    ways = [of_whole] if half >= dimension else [of_half] if is_enough else [of_whole, of_half]
    for kept, listed in ways if count >= CENTRES else []:
        for shared in SHARED:
            parts = kept // shared
            if count * (math.ceil(parts / 2) + NUMBER) <= room:
                return f"{listed},PQ{parts}x4fs"
    raise IndexFolderError(
        f"No index of {count:,} vectors of dimension {dimension} fits into {room:,.0f} bytes: give it more memory."
    )


def possible(factory: str, count: int, dimension: int, memory: float | None = None) -> set[str]:
    """What an index can turn out to be that was asked to be of a kind, given or ``auto``."""
    if factory != AUTO:
        return {factory}
    return {choose(count, dimension, memory, spectrum) for spectrum in (None, np.ones(dimension))}


def _divisible(dimensions: float) -> int:
    return SHARED[-1] * math.ceil(dimensions / SHARED[-1])


def _lists(share: float, count: int) -> int:
    """The power of two at or above a share of the square root of N."""
    return int(2 ** max(0, math.ceil(math.log2(share * math.sqrt(count)))))
