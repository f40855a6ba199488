"""Does whitening help? WhitenedCSE against SimCSE and against controls, over several seeds, on the seven STS sets.

    python benchmarks/whitening.py [--init scratch|FOLDER] [--steps 1500] [--seeds 5] [--groups 32 …] [--quick]

1. Every row starts from the same weights for the same seed, reads the same sentences in the same order, and takes the
   same number of steps. Rows differ in the number of views and in what stands between encoder and loss:
   SimCSE has two views; the others three, without whitening, with each channel standardised over the batch, or with
   shuffled group whitening, once for each of ``--groups``, ``--terms``, ``--gradient`` and ``--shrinkage``.
2. The step is chosen by STS-B dev, by alignment and uniformity, or is the last one (``--select``). STS-B dev has pairs
   in common with STS12 to STS16: the other two ways read no label.
3. The table has Spearman × 100 on each set and on STS-B dev, means over the seeds, and mean and standard deviation of
   the average over the sets. Below stand the differences of each row to SimCSE and to three views without whitening:
   95 % interval and Student's t-test, paired over the seeds.

Records are kept in the folder of ``--cache``, by settings, so that a stopped command goes on where it was; empty it
after a change of the code. ``--jobs`` runs are trained at a time, each by one thread. From scratch a run of 1,500 steps
takes about ten minutes of a core; ``--quick`` takes seconds a row, and shows only that all runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retriever.data.sts import SEVEN, load_sts
from retriever.eval.sts import evaluate_sts
from retriever.training.api import train
from retriever.training.outcome import Outcome
from retriever.training.recipebook import load_recipe, source
from retriever.training.seeds import SeedRuns, compare_runs
from retriever.training.sentence_selection import load_dev

SHARED = Path(__file__).parents[2] / "shared" / "data"
RECIPE = "simcse-cpu"
BASE, CONTROL = "SimCSE, two views", "three views, no whitening"
SHOWN = (*SEVEN, "avg", "dev")

Settings = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A variant: its name, and what it changes in the recipe."""

    name: str
    changes: Settings


def rows(options: argparse.Namespace) -> list[Row]:
    """SimCSE, the controls, and WhitenedCSE in all variants asked for."""
    three: Settings = {"views.positives": 2, "objective.terms": "sum"}
    found = [
        Row(BASE, {}),
        Row(CONTROL, three),
        Row("three views, standardised", three | {"head.whiten": "standardise"}),
    ]
    variants = product(options.groups, options.terms, options.gradient, options.shrinkage)
    for groups, terms, gradient, shrinkage in variants:
        name, changes = f"whitened, {groups} groups, {terms}", three | {"head.whiten": "group", "head.groups": groups}
        changes |= {"objective.terms": terms, "head.statistics_gradient": gradient == "on"}
        if gradient == "on":
            name += ", gradient through statistics"
        if shrinkage is not None:
            name, changes = f"{name}, shrinkage {shrinkage}", changes | {"head.shrinkage": shrinkage}
        found.append(Row(name, changes))
    return found


def settings_of(row: Row, seed: int, options: argparse.Namespace) -> Settings:
    """All that differs from the recipe."""
    common: Settings = {
        "seed": seed,
        "batch.size": options.batch,
        "schedule.steps": options.steps,
        "schedule.warmup": options.steps // 15,
        "schedule.epochs": None,
        "selection.every": options.every,
        "log_every": options.every,
    }
    if options.select == "sts":
        common["selection.sts"] = str(options.sts)
    elif options.select == "last":
        common["selection.queries"] = 0
    if options.init != "scratch":
        common["encoder"] = {"family": "pretrained", "model": options.init}
        common["views.delete"] = 0.0  # dropout alone, as in the papers
    if options.lr is not None:
        common["optimizer.lr"] = options.lr
    return common | row.changes


def measure(row: Row, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """The record of a run from the cache, or made now and put there."""
    settings = settings_of(row, seed, options)
    told = source(RECIPE).read_text(encoding="utf-8") + json.dumps(settings, sort_keys=True) + str(options.data)
    path = options.cache / f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.json"
    if path.exists():
        kept: dict[str, float] = json.loads(path.read_text())
        return kept
    began = time.process_time()
    with tempfile.TemporaryDirectory() as output:
        recipe = load_recipe(RECIPE, settings)
        encoder = train(recipe, options.data, Path(output) / "model", device="cpu", processes=1)
    seconds = time.process_time() - began
    record = evaluate_sts(encoder, load_sts(options.sts), resamples=0).metrics
    record |= {"dev": load_dev(str(options.sts)).score(encoder, "float32")["spearman"], "seconds": seconds}
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(record))
    temporary.replace(path)
    return record


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Markdown: a line a row; means over the seeds, and the standard deviation of the average."""
    lines = [["row", *SHOWN, "sd of avg", "seconds"]]
    for name, records in found.items():
        means = [f"{100 * np.mean([record[part] for record in records]):.2f}" for part in SHOWN]
        spread = f"{100 * np.std([record['avg'] for record in records], ddof=1):.2f}" if len(records) > 1 else "–"
        lines.append([name, *means, spread, f"{np.mean([record['seconds'] for record in records]):.0f}"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [" | ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)) for line in lines]
    text.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in text)


def verdict(found: dict[str, list[dict[str, float]]], ours: str, theirs: str, metric: str) -> str:
    """The difference of two rows, and how sure it is."""
    runs = [
        SeedRuns(Path(name), {seed: Outcome(0, metric, record) for seed, record in enumerate(found[name])})
        for name in (theirs, ours)
    ]
    gap = compare_runs(*runs)
    low, high = gap.interval
    return (
        f"{ours} − {theirs}, {metric}: {100 * gap.difference:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}], "
        f"p = {gap.p_value:.3f}"
    )


def fill(tasks: list[tuple[Row, int]], options: argparse.Namespace) -> None:
    """Put every run into the cache, several at a time; tells of each that is done."""
    context = get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = {pool.submit(measure, row, seed, options): (row, seed) for row, seed in tasks}
        for number, done in enumerate(as_completed(waiting), 1):
            row, seed = waiting[done]
            scores = done.result()
            print(f"{number} of {len(tasks)}: {row.name}, seed {seed}: {100 * scores['avg']:.2f}", file=sys.stderr)


def parse() -> argparse.Namespace:
    """The options, ``--quick`` applied."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init", default="scratch", help="scratch, or a model folder such as MiniLM's")
    parser.add_argument("--data", type=Path, default=SHARED / "text" / "sentences.txt.gz", help="a sentence a line")
    parser.add_argument("--sts", type=Path, default=SHARED / "sts", help="a folder with the seven sets")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--every", type=int, default=125, help="steps between evaluations")
    parser.add_argument("--lr", type=float, help="the recipe's, 3e-4, if omitted; about 1e-5 from a pretrained model")
    parser.add_argument("--select", choices=["sts", "align_uniform", "last"], default="sts")
    parser.add_argument("--groups", type=int, nargs="+", default=[32], help="1: full ZCA, for a batch wider than D")
    parser.add_argument("--terms", choices=["sum", "all_pairs"], nargs="+", default=["sum"])
    parser.add_argument("--gradient", choices=["off", "on"], nargs="+", default=["off"], help="through the statistics")
    parser.add_argument("--shrinkage", type=float, nargs="+", default=[None], help="the recipe's if omitted")
    parser.add_argument("--quick", action="store_true", help="two seeds and a handful of steps")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("whitening-cache"))
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.steps, options.every = 2, 6, 3
    return options


def main() -> None:
    """Train, evaluate and print."""
    options = parse()
    options.cache.mkdir(parents=True, exist_ok=True)
    wanted = rows(options)
    fill([(row, seed) for seed in range(options.seeds) for row in wanted], options)
    found = {row.name: [measure(row, seed, options) for seed in range(options.seeds)] for row in wanted}
    print(table(found))
    if options.seeds > 1:
        for other, metric in product((BASE, CONTROL), ("avg", "dev")):
            for row in wanted:
                if row.name not in (BASE, other):
                    print(verdict(found, row.name, other, metric))


if __name__ == "__main__":
    main()
