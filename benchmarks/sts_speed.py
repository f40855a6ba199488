"""Speed of STS evaluation, as a ratio to sentence-transformers' evaluator run set by set.

    python benchmarks/sts_speed.py MODEL STS_FOLDER [--pairs 200] [--threads 2]

The same weights, threads and test pairs. Set by set, theirs and ours take turns, so that a busy machine slows both; CPU
seconds stand beside those of the clock, since other processes touch them less. The last lines are ours over all sets in
one call, which is what `retriever eval sts` does: a sentence that stands in several sets is encoded once. First in fp32
like everything above, then, where the processor computes in it, in bfloat16 (`--dtype auto`). Scores are printed too,
since speed counts at equal scores only.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

from retriever.data.sts import StsSet, load_sts
from retriever.encoder import Encoder
from retriever.encoder.loop import has_bfloat16
from retriever.eval.sts import evaluate_sts

Seconds: TypeAlias = NDArray[np.float64]
"""By the clock and of the CPU."""


def main() -> None:
    """Print seconds of each set, and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--pairs", type=int, help="at most so many pairs of each set, for a quick look")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=16, help="of sentence-transformers; its default")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sets = [first_pairs(one, options.pairs) for one in load_sts(options.data)]
    encoder, model = Encoder.load(options.model), SentenceTransformer(options.model)
    for warm in (encoder.encode, model.encode):
        warm(sets[0].first[:64])
    totals = np.zeros((2, 2))  # theirs and ours, by the clock and of the CPU
    for one in sets:
        peer, theirs = their_evaluation(model, one, options.batch)
        own, ours = our_evaluation(encoder, [one])
        totals += theirs, ours
        scores = f"Spearman {100 * peer['spearman_cosine']:.2f} and {100 * own[one.name]:.2f}"
        print(line(one.name, len(one), theirs, ours) + f"   {scores}", flush=True)
    print(line("sum", sum(map(len, sets)), *totals), flush=True)
    for dtype in ("float32", "bfloat16") if has_bfloat16(encoder.device) else ("float32",):
        own, ours = our_evaluation(encoder, sets, dtype)
        scores = f"Spearman {' '.join(f'{100 * score:.2f}' for score in own.values())}"
        print(line(dtype, sum(map(len, sets)), totals[0], ours) + f"   {scores}", flush=True)


def line(name: str, pairs: int, theirs: Seconds, ours: Seconds) -> str:
    """One row of the table."""
    clock, cpu = (f"{peer:6.1f} / {own:6.1f} = {peer / own:.2f} x" for peer, own in zip(theirs, ours, strict=True))
    return f"{name:<9}{pairs:>7,} pairs   theirs / ours {clock}   CPU {cpu}"


def timed(work: Callable[[], dict[str, float]]) -> tuple[dict[str, float], Seconds]:
    """What work gives, and its seconds by the clock and of the CPU."""
    clock, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, np.array([time.perf_counter() - clock, time.process_time() - cpu])


def first_pairs(one: StsSet, limit: int | None) -> StsSet:
    """A set cut to its first pairs, evenly over its subsets."""
    if limit is None:
        return one
    most = max(2, limit // len(one.subsets))
    cut = (replace(s, first=s.first[:most], second=s.second[:most], gold=s.gold[:most]) for s in one.subsets)
    return replace(one, subsets=tuple(cut))


def our_evaluation(encoder: Encoder, sets: list[StsSet], dtype: str = "float32") -> tuple[dict[str, float], Seconds]:
    """Scores and seconds of this project, without intervals, which theirs has not."""
    return timed(lambda: evaluate_sts(encoder, sets, resamples=0, dtype=dtype).metrics)


def their_evaluation(model: SentenceTransformer, one: StsSet, batch: int) -> tuple[dict[str, float], Seconds]:
    """Scores and seconds of sentence-transformers."""
    evaluator = EmbeddingSimilarityEvaluator(
        one.first, one.second, (one.gold / 5).tolist(), batch_size=batch, main_similarity="cosine", write_csv=False
    )
    return timed(lambda: evaluator(model))


if __name__ == "__main__":
    main()
