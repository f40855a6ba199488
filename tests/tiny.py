"""A corpus and recipes small enough to train in a second; run as a program, it trains (for tests that kill it)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.training.api import train

COMMON = {"lr": 0.05, "every": 4, "queries": 12, "pool": 50, "log_every": 3, "size": 16}
STATIC = ("contriever-cpu", {**COMMON, "steps": 14, "dimension": 16, "learn_weights": True, "keep": "best"})
SMALL = (
    "contriever-small",
    {**COMMON, "steps": 10, "warmup": 2, "dimension": 16, "layers": 2, "heads": 2, "vocabulary": 200, "max_length": 24},
)
LAST = (STATIC[0], {**STATIC[1], "queries": 0})  # keeps the weights of the last step
MOCO = (
    SMALL[0],
    {**SMALL[1], "queue": 40, "momentum": 0.9, "symmetric": False, "gradient_cache": True, "pack_tokens": 100},
)
SENTENCES = {"mix": {"same": 1.0}, "positives": 2, "window": 16}
HEAD = {"projection": "mlp", "whiten": "group", "groups": 4, "statistics_gradient": True}
WHITENED = (SMALL[0], {**SMALL[1], "lr": 0.01, "symmetric": False, "views": SENTENCES, "head": HEAD, "dropout": 0.2})
RECIPES = {"static": STATIC, "last": LAST, "small": SMALL, "moco": MOCO, "whitened": WHITENED}


def corpus(documents=150):
    """Documents about one of ten topics each."""
    random = np.random.default_rng(0)
    topics = [[f"t{topic}w{word}" for word in range(30)] for topic in range(10)]
    texts = [" ".join(random.choice(topics[i % 10], random.integers(15, 40))) for i in range(documents)]
    return Corpus.of([Document(str(i), "", f"{text[:30]}. {text}") for i, text in enumerate(texts)], name="tiny")


def run(family, output, **options):
    """Train the family's recipe on the tiny corpus."""
    name, overrides = RECIPES[family]
    changes = {**overrides, **options.pop("overrides", {})}
    return train(name, corpus(), output, device="cpu", processes=1, **changes, **options)


def weights(folder):
    """The bytes of every file of a model folder that is no protocol of the run."""
    protocol = {"log.jsonl", "curve.png"}
    files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file() and path.name not in protocol]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))
