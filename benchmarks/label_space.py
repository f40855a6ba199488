"""Memory and speed of the losses over a whole label space, against the dense queries × labels loss.

    python benchmarks/label_space.py
    python benchmarks/label_space.py --plot memory.png

- memory: what the loss and its gradients add to their inputs, at 1,024 queries, a million labels and 128 dimensions;
  peak resident memory of a fresh process. The dense loss is measured where it fits and extended on the line through two
  smaller label spaces;
- speed: loss and gradients at 256 queries and 131,072 labels;
- soft top k: the solver against 32 steps of bisection, over all rows at once and row by row, in the cache.

With ``--plot`` only the peak memory is measured, over 10^4 to 10^6 labels, and drawn.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from retriever.training.objectives import Pairs, label_space_loss, soft_top_k, soft_top_k_loss

DIMENSIONS, TEMPERATURE, POSITIVES, REPEATS = 128, 0.05, 3, 4
MEMORY = (1024, 1_000_000)  # queries, labels
SPEED = (256, 131_072)
DENSE = (50_000, 150_000)  # labels at which the dense loss is measured
PLOTTED = (10_000, 30_000, 100_000, 300_000, 1_000_000)
MIXTURE = {"decoupled": 1.0, "soft_top_k": 0.5}
LOSSES = {"decoupled": {"decoupled": 1.0}, "softmax": {"softmax": 1.0}, "decoupled + soft top k": MIXTURE}


def inputs(queries: int, labels: int) -> tuple[Tensor, Tensor, Pairs]:
    """Unit vectors and a few positives of each query, to which it is drawn; labels are written in place."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.empty(n, DIMENSIONS).normal_(generator=generator) for n in (queries, labels))
    own = torch.randint(labels, (queries, POSITIVES), generator=generator)
    x.add_(y[own].mean(1))
    for part in (x, *y.split(10_000)):
        part.div_(part.norm(dim=1, keepdim=True))
    pairs = Pairs.of(torch.arange(queries).repeat_interleave(POSITIVES), own.flatten())
    return x.requires_grad_(), y.requires_grad_(), pairs


def ours(x: Tensor, y: Tensor, pairs: Pairs, terms: dict[str, float]) -> tuple[Tensor, ...]:
    """Gradients of the loss in chunks."""
    return torch.autograd.grad(label_space_loss(x, y, pairs, terms, temperature=TEMPERATURE), (x, y))


def dense(x: Tensor, y: Tensor, pairs: Pairs, terms: dict[str, float]) -> tuple[Tensor, ...]:
    """Gradients of the same loss from all scores at once, by autograd."""
    scores = (x / TEMPERATURE) @ y.T  # (B, L)
    own = scores[pairs.rows, pairs.labels]
    share = 1 / torch.bincount(pairs.rows)[pairs.rows]
    loss = torch.zeros(())
    if "softmax" in terms:
        loss = loss + (share * (scores.logsumexp(1)[pairs.rows] - own)).sum() / len(x)
    if "soft_top_k" in terms:
        targets = torch.zeros_like(scores).index_put((pairs.rows, pairs.labels), share)
        loss = loss + terms["soft_top_k"] * soft_top_k_loss(scores, targets, 5).mean()
    if "decoupled" in terms:
        z = scores.index_put_((pairs.rows, pairs.labels), torch.tensor(-torch.inf)).logsumexp(1)
        loss = loss + (share * F.softplus(z[pairs.rows] - own)).sum() / len(x)
    return torch.autograd.grad(loss, (x, y))


WAYS = {"ours": ours, "dense": dense}


def bisection(scores: Tensor, k: float, alpha: float = 2.0, steps: int = 32) -> Tensor:
    """Log-probabilities of the soft top k by bisection over all rows at once."""
    low, high = -scores.amax(1) - 10, -scores.amin(1) + 10
    for _ in range(steps):
        t = (low + high) / 2
        few = torch.sigmoid(alpha * (scores + t[:, None])).sum(1) < k
        low, high = torch.where(few, t, low), torch.where(few, high, t)
    return F.logsigmoid(alpha * (scores + ((low + high) / 2)[:, None]))


def fastest(*works: Callable[[], object]) -> list[float]:
    """CPU seconds of the fastest run of each, in turns; with one thread others on the machine count little."""
    seconds = [[] for _ in works]  # type: list[list[float]]
    for _ in range(REPEATS):
        for work, taken in zip(works, seconds, strict=True):
            began = time.process_time()
            work()
            taken.append(time.process_time() - began)
    return [min(taken) for taken in seconds]


def peak(way: str, queries: int, labels: int) -> float:
    """GB that the loss and its gradients add to their inputs, measured in a fresh process."""
    command = [sys.executable, __file__, "--child", way, str(queries), str(labels)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def child(way: str, queries: int, labels: int) -> None:
    """Print the peak in GB."""
    WAYS[way](*inputs(64, 512), {"decoupled": 1.0})  # libraries load what they need
    x, y, pairs = inputs(queries, labels)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    WAYS[way](x, y, pairs, {"decoupled": 1.0})
    print(status("VmHWM") - before)


def status(field: str) -> float:
    """Resident memory now (VmRSS) or at its peak (VmHWM), in GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e9


def dense_line(queries: int) -> tuple[float, float]:
    """Peak of the dense loss as GB + GB a label, through two measured label spaces."""
    low, high = (peak("dense", queries, labels) for labels in DENSE)
    slope = (high - low) / (DENSE[1] - DENSE[0])
    print(f"dense, measured: {low:.3f} GB at {DENSE[0]:,} labels, {high:.3f} GB at {DENSE[1]:,}")
    return low - slope * DENSE[0], slope


def memory() -> None:
    """Ours measured, the dense loss extended."""
    queries, labels = MEMORY
    base, slope = dense_line(queries)
    whole = base + slope * labels
    own = peak("ours", queries, labels)
    print(f"dense, extended: {base:.3f} + {slope * 1e6:.3f} GB a million labels x {labels:,} = {whole:.2f} GB")
    print(
        f"ours,  measured: {own:.3f} GB at {labels:,} labels, of which the labels' gradient {gradient(labels):.3f} GB"
    )
    print(f"memory: {whole / own:.1f} x below dense")


def gradient(labels: int) -> float:
    """GB of the labels' gradient."""
    return labels * DIMENSIONS * 4 / 1e9


def speed() -> None:
    """CPU seconds a loss and its gradients."""
    x, y, pairs = inputs(*SPEED)
    for name, terms in LOSSES.items():
        theirs, own = fastest(partial(dense, x, y, pairs, terms), partial(ours, x, y, pairs, terms))
        furthest = max(
            float((a - b).abs().max() / b.abs().max())
            for a, b in zip(ours(x, y, pairs, terms), dense(x, y, pairs, terms), strict=True)
        )
        print(f"{name:<23} dense {theirs:.3f} s   ours {own:.3f} s   {theirs / own:.2f} x   off by {furthest:.0e}")


def solver() -> None:
    """Newton against bisection, on the scores of cosines."""
    x, y, _ = inputs(*SPEED)
    scores = (x.detach() / TEMPERATURE) @ y.detach().T
    theirs, rows, own = fastest(
        lambda: bisection(scores, 5),
        lambda: torch.cat([bisection(row, 5) for row in scores.split(1)]),
        lambda: soft_top_k(scores, 5),
    )
    exact = bisection(scores.double(), 5, steps=64).exp_()
    off, off_own = (float((log_p.exp() - exact).abs().max()) for log_p in (bisection(scores, 5), soft_top_k(scores, 5)))
    print(f"soft top 5, solver      bisection {theirs:.3f} s, row by row {rows:.3f} s   ours {own:.3f} s", end="   ")
    print(f"{theirs / own:.1f} x, {rows / own:.1f} x")
    print(f"                        off by    {off:.1e} and ours {off_own:.1e}, against 64 steps in fp64")


def plot(file: str) -> None:
    """Peak memory over the number of labels."""
    from matplotlib.figure import Figure

    queries = MEMORY[0]
    base, slope = dense_line(queries)
    peaks = [peak("ours", queries, labels) for labels in PLOTTED]
    for labels, own in zip(PLOTTED, peaks, strict=True):
        print(f"{labels:>9,} labels   ours {own:.3f} GB   labels' gradient {gradient(labels):.3f} GB")
    axes = (figure := Figure(figsize=(6, 4), layout="constrained")).subplots()
    axes.loglog(PLOTTED, [base + slope * n for n in PLOTTED], "--", color="#8a8f98", label="dense, extended")
    axes.loglog(DENSE, [base + slope * n for n in DENSE], "s", color="#8a8f98", label="dense, measured")
    axes.loglog(PLOTTED, peaks, "o-", color="#3b7dd8", label="in chunks, measured")
    axes.loglog(PLOTTED, [gradient(n) for n in PLOTTED], ":", color="#e08e0b", label="gradient of the labels alone")
    axes.set(xlabel="labels", ylabel="peak memory beyond the inputs, GB", title=f"{queries:,} queries, fp32")
    axes.legend(frameon=False)
    figure.savefig(file, dpi=120)


def main() -> None:
    """Measure and print, or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", metavar="FILE", help="draw peak memory over the number of labels instead")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        child(options.child[0], int(options.child[1]), int(options.child[2]))
    elif options.plot:
        plot(options.plot)
    else:
        speed()
        solver()
        memory()


if __name__ == "__main__":
    main()
