"""FAISS, loaded with the kernels for products of matrices that fit the processor.

1. FAISS compares vectors one by one, finds the nearest lists and learns codes with OpenBLAS. Its wheels carry one of
   2021, which chooses kernels by the model of the processor. Any later model gets kernels without AVX, which take three
   times as long: ``benchmarks/kernel_speed.py``.
2. So OpenBLAS is told what to choose while FAISS is loaded, by what the processor can do: AVX-512 or AVX2. It is not
   where ``OPENBLAS_CORETYPE`` is set, nor elsewhere than on Linux on x86-64.

FAISS must be imported from here: whoever loads it first decides.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["faiss", "faiss_threads", "use_threads"]

VARIABLE = "OPENBLAS_CORETYPE"
KERNELS = {
    "SkylakeX": {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"},
    "Haswell": {"avx2", "fma"},
}
"""OpenBLAS's name of its kernels, the best first, and the flags of the processors that they are for."""


def flags() -> frozenset[str]:
    """What the processor can do, in the words of Linux; nothing elsewhere than on x86-64."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return frozenset()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def fitting(flags: Collection[str]) -> str | None:
    """The best kernels for a processor with these flags, None where OpenBLAS may choose."""
    return next((name for name, needed in KERNELS.items() if needed <= set(flags)), None)


@contextmanager
def _told(kernels: str | None) -> Iterator[None]:
    """Let OpenBLAS, where it is loaded in the block, choose these kernels, unless the user has chosen."""
    if kernels is None or VARIABLE in os.environ:
        yield
        return
    os.environ[VARIABLE] = kernels
    try:
        yield
    finally:
        del os.environ[VARIABLE]


with _told(fitting(flags())):
    import faiss  # noqa: TID251


def use_threads(count: int) -> None:
    """Let FAISS and torch use so many CPU threads; both keep the number for each thread that calls them."""
    import torch

    faiss.omp_set_num_threads(count)
    torch.set_num_threads(count)


@contextmanager
def faiss_threads(count: int) -> Iterator[None]:
    """Let FAISS use so many threads in the block; the number counts for the calling thread only."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
