"""Which loss over labels, and which labels in it? A table over seeds on extreme multi-label data, tests included.

    python benchmarks/label_losses.py XMC_FOLDER … [--model MODEL …] [--seeds 3] [--rows NAME …] [--device cuda]

1. Every row is the recipe `dexml-cpu` with one thing changed: the loss, the labels that a step sees, the map of the
   texts' vectors, or tokens that labels have beside their texts. All rows take the same number of steps of the same
   number of points.
2. The step is chosen on a tenth of the training points. All numbers are those of the test points.
3. BM25 on the labels' texts, and the models of ``--model`` without training, stand beside them.
4. The table has means over the seeds and the standard deviation of P@1. Below stand the differences of every row to the
   first, by a paired randomisation test over the points, whose scores are means over the seeds.

Records are kept in the folder of ``--cache``, by settings, so that a stopped command goes on where it was; empty it
after a change of the code. ``--jobs`` runs are trained at a time, each by one thread: one takes four minutes of a core
for 20,000 labels, and about one for some hundred. ``--quick`` shows only that all runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from retriever.data.xmc import load_xmc
from retriever.encoder import Encoder
from retriever.eval.significance import paired_randomisation
from retriever.eval.xmc import evaluate_xmc
from retriever.training.api import train
from retriever.training.recipebook import load_recipe, source

RECIPE = "dexml-cpu"
SHOWN = ("p@1", "p@5", "psp@5", "recall@100")

Settings = dict[str, Any]
Scores = dict[str, NDArray[np.float64]]
"""Metric → value of each test point (Q,); their mean is the metric."""


@dataclass(frozen=True)
class Row:
    """A variant: its name, and what it changes in the recipe."""

    name: str
    changes: Settings


ROWS = [
    Row("decoupled, all labels", {}),
    Row("softmax, all labels", {"label_space.loss": "softmax"}),
    Row("BCE, all labels", {"label_space.loss": "bce"}),
    Row("soft top 5, all labels", {"label_space.loss": "soft_top_k"}),
    Row("decoupled + soft top 5", {"label_space.top": 0.5}),
    Row("decoupled, labels of the batch", {"label_space.candidates": "batch"}),
    Row("softmax, labels of the batch", {"label_space.candidates": "batch", "label_space.loss": "softmax"}),
    Row("decoupled, shortlist", {"label_space.candidates": "shortlist", "label_space.refresh": 50}),
    Row("decoupled, no map of queries", {"encoder.query_map": False}),
    Row("decoupled, labels' texts as points", {"label_space.augment": True}),
    Row("decoupled, a token a label", {"label_space.own": "label"}),
    Row("decoupled, a token a cluster", {"label_space.own": "cluster"}),
]


def measure(data: Path, row: Row, seed: int, options: argparse.Namespace) -> Scores:
    """Scores of a trained row, from the cache or made now and put there."""
    settings = {**row.changes, "seed": seed}
    if options.quick:
        settings |= {"schedule.steps": 4, "schedule.warmup": 0, "selection.every": 4}
    told = source(RECIPE).read_text(encoding="utf-8") + json.dumps(settings, sort_keys=True) + str(data)

    def make() -> Scores:
        with tempfile.TemporaryDirectory() as output:
            recipe, folder = load_recipe(RECIPE, settings), Path(output) / "model"
            encoder = train(recipe, data, folder, device=options.device, processes=1)
        return evaluated(encoder, data, "dense")

    return cached(options.cache, told, make)


def baseline(data: Path, model: str | None, options: argparse.Namespace) -> Scores:
    """Scores of a model without training, or of BM25."""
    mode = "bm25" if model is None else "dense"
    encoder = None if model is None else Encoder.load(model)
    return cached(options.cache, f"{model} {data}", lambda: evaluated(encoder, data, mode))


def evaluated(encoder: Encoder | None, data: Path, mode: Any) -> Scores:  # noqa: ANN401 — a literal
    """Scores of each test point."""
    found = evaluate_xmc(encoder, load_xmc(data), modes=[mode], resamples=0).scores[mode]
    return {metric: found[metric] for metric in SHOWN}


def cached(folder: Path, told: str, make: Any) -> Scores:  # noqa: ANN401 — a function without arguments
    """What ``make`` gives, kept by a hash of ``told``."""
    path = folder / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.npz"
    if not path.exists():
        scores: Scores = make()
        temporary = path.with_suffix(".part")
        with temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **scores)
        temporary.replace(path)
    with np.load(path) as kept:
        return {metric: kept[metric] for metric in SHOWN}


def fill(options: argparse.Namespace) -> None:
    """Put every run into the cache, several at a time; tells of each that is done."""
    tasks = [(data, row, seed) for seed in range(options.seeds) for data in options.data for row in options.rows]
    context = get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = {pool.submit(measure, *task, options): task for task in tasks}
        for number, done in enumerate(as_completed(waiting), 1):
            data, row, seed = waiting[done]
            value = 100 * done.result()["p@1"].mean()
            print(f"{number} of {len(tasks)}: {data.name}, {row.name}, seed {seed}: P@1 {value:.2f}", file=sys.stderr)


def table(found: dict[str, list[Scores]]) -> str:
    """Markdown: a line a row; means over the seeds, and the standard deviation of P@1."""
    lines = [["row", *SHOWN, "sd of p@1"]]
    for name, runs in found.items():
        means = [f"{100 * np.mean([run[metric].mean() for run in runs]):.2f}" for metric in SHOWN]
        spread = f"{100 * np.std([run['p@1'].mean() for run in runs], ddof=1):.2f}" if len(runs) > 1 else "–"
        lines.append([name, *means, spread])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [" | ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)) for line in lines]
    text.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in text)


def verdict(name: str, ours: list[Scores], theirs: list[Scores]) -> str:
    """The differences of two rows, and how sure they are."""
    parts = []
    for metric in SHOWN:
        one, two = (np.mean([run[metric] for run in runs], axis=0) for runs in (ours, theirs))
        parts.append(f"{metric} {100 * (one - two).mean():+.2f} (p = {paired_randomisation(one, two):.5f})")
    return f"{name} − {ROWS[0].name}: {', '.join(parts)}"


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="XMC folders")
    parser.add_argument("--model", nargs="*", default=[], help="models to evaluate without training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="*", default=[""], help="only rows whose names begin so; the first one always")
    parser.add_argument("--quick", action="store_true", help="a handful of steps")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="where the rows are trained, such as cuda")
    parser.add_argument("--cache", type=Path, default=Path("label-losses-cache"))
    options = parser.parse_args()
    options.rows = [row for row in ROWS if row is ROWS[0] or row.name.startswith(tuple(options.rows))]
    return options


def main() -> None:
    """Train, evaluate and print."""
    options = parse()
    options.cache.mkdir(parents=True, exist_ok=True)
    fill(options)
    for data in options.data:
        found = {"BM25": [baseline(data, None, options)]}
        found |= {f"{Path(model).name}, untrained": [baseline(data, model, options)] for model in options.model}
        found |= {
            row.name: [measure(data, row, seed, options) for seed in range(options.seeds)] for row in options.rows
        }
        first = found[ROWS[0].name]
        print(f"\n{data.name}, {len(first[0]['p@1']):,} test points, in percent\n\n{table(found)}\n")
        for name, runs in found.items():
            if runs is not first:
                print(verdict(name, runs, first))


if __name__ == "__main__":
    main()
