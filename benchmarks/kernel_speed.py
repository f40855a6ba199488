"""What do kernels that fit the processor gain where FAISS's own OpenBLAS does not know it?

    python benchmarks/kernel_speed.py

Three processes in turns, ROUNDS times, on one thread: FAISS with the kernels that its OpenBLAS takes for a processor
that it does not know, with those that it chooses here by itself, and with those of retriever/kernels.py. Each compares
256 queries with 100,000 vectors of dimension 384, finds the 32 nearest of 1,024 lists of dimension 192 for 3,000
queries, and learns 256 lists. Printed: CPU milliseconds, the best of all rounds.

One CPU minute.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

ROUNDS = 3
UNKNOWN = "Prescott"  # what OpenBLAS 0.3.15 takes for them
CHOICES = {
    "of an unknown processor": ("import faiss", {"OPENBLAS_CORETYPE": UNKNOWN}),
    "that OpenBLAS chooses": ("import faiss", {}),
    "that fit": ("from retriever.kernels import faiss", {}),
}


def cost(work: Callable[[], object]) -> float:
    """CPU milliseconds."""
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


def measure() -> dict[str, float]:
    """CPU milliseconds of each work in this process."""
    faiss = sys.modules["faiss"]
    faiss.omp_set_num_threads(1)
    faiss.cvar.distance_compute_blas_threshold = 1_000
    rng = np.random.default_rng(0)
    vectors, queries = (rng.standard_normal((count, 384), np.float32) for count in (100_000, 3_000))
    exact, lists = faiss.IndexFlatIP(384), faiss.IndexFlatIP(192)
    exact.add(vectors)
    lists.add(vectors[:1_024, :192].copy())
    halves = queries[:, :192].copy()
    return {
        "exact search": cost(lambda: exact.search(queries[:256], 10)),
        "nearest lists": cost(lambda: lists.search(halves, 32)),
        "learning lists": cost(lambda: faiss.Kmeans(384, 256, niter=5).train(vectors[:20_000])),
    }


def main() -> None:
    """Measure in processes of their own, and print."""
    best: dict[str, dict[str, float]] = {}
    for _ in range(ROUNDS):
        for choice, (load, told) in CHOICES.items():
            command = f"{load}; import json, kernel_speed; print(json.dumps(kernel_speed.measure()))"
            where = os.pathsep.join([os.path.dirname(__file__), *sys.path])  # noqa: PTH120
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": where, **told}
            done = subprocess.run(
                [sys.executable, "-c", command], env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            found, known = json.loads(done.stdout), best.get(choice, {})
            best[choice] = {work: min(value, known.get(work, value)) for work, value in found.items()}
    works = next(iter(best.values()))
    print(f"{'kernels':<26}", *(f"{work:>16}" for work in works))
    for choice, costs in best.items():
        print(f"{choice:<26}", *(f"{value:>13.0f} ms" for value in costs.values()))
    slow, fit = best["of an unknown processor"], best["that fit"]
    print(f"{'gained':<26}", *(f"{slow[work] / fit[work]:>15.1f}x" for work in works))


if __name__ == "__main__":
    main()
