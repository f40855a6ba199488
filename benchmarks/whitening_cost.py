"""What shuffled group whitening costs in a training step.

    python benchmarks/whitening_cost.py [--model FOLDER] [--batch 64] [--steps 8]

Steps of the same recipe with and without whitening take turns: `whitenedcse-cpu`, from nothing or from a model. Beside
them stands the head alone, forward and backward, on vectors of the same shape.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retriever.data.corpus import Corpus, open_corpus
from retriever.reporting import Reporter
from retriever.training.api import build_encoder
from retriever.training.prepare import prepare
from retriever.training.recipebook import load_recipe
from retriever.training.trainer import Trainer

SENTENCES = Path(__file__).parents[2] / "shared" / "data" / "text" / "sentences.txt.gz"
RECIPE, WARM, TEXTS = "whitenedcse-cpu", 2, 20_000


def trainer_of(corpus: Corpus, settings: dict[str, Any], folder: Path) -> Trainer:
    """A run about to begin."""
    recipe = load_recipe(RECIPE, settings)
    encoder = build_encoder(recipe, corpus, "cpu", Reporter())
    return Trainer(encoder, prepare([corpus], encoder, recipe, None, Reporter()), recipe, folder)


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a folder; a small transformer from nothing if omitted")
    parser.add_argument("--data", type=Path, default=SENTENCES)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    common: dict[str, Any] = {"batch.size": options.batch, "selection.queries": 0}
    if options.model:
        common |= {"encoder": {"family": "pretrained", "model": options.model}, "views.delete": 0.0}
    documents = [document for _, document in zip(range(TEXTS), open_corpus(options.data), strict=False)]
    corpus = Corpus.of(documents)
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            whiten: trainer_of(corpus, common | {"head.whiten": whiten}, Path(folder)) for whiten in ("group", None)
        }
        spent: dict[str | None, list[float]] = {name: [] for name in runs}
        for _ in range(WARM + options.steps):
            for name, run in runs.items():
                spent[name].append(seconds(lambda run=run: run.update(Reporter())))  # type: ignore[misc]
    step = {name: float(np.mean(values[WARM:])) for name, values in spent.items()}
    heads = {name: head_seconds(run, options) for name, run in runs.items()}
    whitening = heads["group"] - heads[None]
    print(f"a step with whitening     {1000 * step['group']:8.1f} ms")
    print(f"a step without            {1000 * step[None]:8.1f} ms")
    print(f"whitening alone           {1000 * whitening:8.1f} ms, {100 * whitening / step['group']:.1f} % of a step")


def head_seconds(run: Trainer, options: argparse.Namespace) -> float:
    """CPU seconds of the head alone."""
    assert run.work.head is not None
    views, width = run.work.positives, run.encoder.dimension
    queries = torch.randn(options.batch, width, requires_grad=True)
    documents = torch.randn(views * options.batch, width, requires_grad=True)

    def there_and_back() -> None:
        assert run.work.head is not None
        first, others = run.work.head(queries, documents, 0)
        (first.sum() + others.sum()).backward()

    times = [seconds(there_and_back) for _ in range(WARM + 4 * options.steps)]
    return float(np.mean(times[WARM:]))


if __name__ == "__main__":
    main()
