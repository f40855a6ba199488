"""Speed of the static encoder, as ratios within one run.

    python benchmarks/static_speed.py CORPUS

- encoding: documents a second, against sentence-transformers' own loop over the plain variant of the same model;
- training: pairs a minute at batch 1,024 and 512 dimensions, sparse Adam against the same step with a dense gradient.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from retriever.data.corpus import Corpus, open_corpus
from retriever.encoder import Encoder
from retriever.reporting import Reporter
from retriever.training.api import build_encoder
from retriever.training.prepare import prepare
from retriever.training.recipebook import load_recipe
from retriever.training.trainer import Trainer

REPEATS = 3
STEPS = 10


class DenseAdam(torch.optim.Adam):
    """Adam that moves every row of the table at every step."""

    def step(self) -> None:
        """Make the gradients dense, then step."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = parameter.grad.to_dense()
        super().step()


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of a few runs, after one to warm up."""
    work()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def encoding(encoder: Encoder, texts: list[str]) -> None:
    """Our loop against sentence-transformers'."""
    plain = encoder.plain()
    theirs = best(lambda: plain.stack.encode(texts, batch_size=1024, show_progress_bar=False))
    for name, model in (("log tf", encoder), ("plain", plain)):
        ours = best(partial(model.encode, texts))
        print(f"encode {name:<7} {len(texts) / ours:>9,.0f} documents/s   {theirs / ours:.2f} x sentence-transformers")


def training(corpus: Corpus) -> None:
    """Sparse against dense gradients of the same table."""
    settings = load_recipe("contriever-cpu", {"selection.queries": 0, "log_every": 10_000})
    encoder = build_encoder(settings, corpus, None, Reporter())
    prepared = prepare([corpus], encoder, settings, None, Reporter())
    seconds = {}
    with tempfile.TemporaryDirectory() as place:
        for kind in ("sparse", "dense"):
            trainer = Trainer(encoder, prepared, settings, Path(place))
            if kind == "dense":
                trainer.optimizers = [DenseAdam([encoder.stack[0].table], settings.optimizer.lr)]
            seconds[kind] = best(partial(steps, trainer)) / STEPS
    pairs = settings.batch.size * 60 / seconds["sparse"]
    ratio = seconds["dense"] / seconds["sparse"]
    print(f"train  sparse  {pairs:>9,.0f} pairs/minute   {ratio:.2f} x dense gradients")


def steps(trainer: Trainer) -> None:
    """A few updates."""
    for _ in range(STEPS):
        trainer.update(Reporter())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="anything `retriever train --data` takes")
    options = parser.parse_args()
    corpus = open_corpus(options.corpus)
    encoder = build_encoder(load_recipe("contriever-cpu"), corpus, None, Reporter())
    encoding(encoder, [document.content for document in itertools.islice(corpus, 20_000)])
    training(corpus)


if __name__ == "__main__":
    main()
