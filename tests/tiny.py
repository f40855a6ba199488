"""A corpus and recipes small enough to train in a second; run as a program, it trains (for tests that kill it)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.xmc_points import XmcDataset, XmcLabels, XmcPoints, build_targets
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
    {**SMALL[1], "queue": 40, "momentum": 0.9, "symmetric": False, "gradient_cache": True, "pack_tokens": 100}
    | {"query_map": True},
)
SENTENCES = {"mix": {"same": 1.0}, "positives": 2, "window": 16}
HEAD = {"projection": "mlp", "whiten": "group", "groups": 4, "statistics_gradient": True}
WHITENED = (SMALL[0], {**SMALL[1], "lr": 0.01, "symmetric": False, "views": SENTENCES, "head": HEAD, "dropout": 0.2})
LABELS = (
    "dexml-cpu",
    {
        **{key: COMMON[key] for key in ("lr", "every", "log_every", "size")},
        **{"steps": 14, "warmup": 2, "dimension": 16, "candidates": "shortlist", "refresh": 5, "depth": 4},
        **{"positives": "one", "query_map": True},
    },
)
RECIPES = {"static": STATIC, "last": LAST, "small": SMALL, "moco": MOCO, "whitened": WHITENED, "labels": LABELS}


def corpus(documents=150):
    """Documents about one of ten topics each."""
    random = np.random.default_rng(0)
    topics = [[f"t{topic}w{word}" for word in range(30)] for topic in range(10)]
    texts = [" ".join(random.choice(topics[i % 10], random.integers(15, 40))) for i in range(documents)]
    return Corpus.of([Document(str(i), "", f"{text[:30]}. {text}") for i, text in enumerate(texts)], name="tiny")


def points(count=120, labels=20):
    """Points about one or two of the topics, each of which is two labels, with words the points do not share."""
    random = np.random.default_rng(1)
    texts, rows, columns = [], [], []
    for row in range(count):
        topics = random.choice(labels // 2, random.integers(1, 3), replace=False)
        texts.append(" ".join(f"t{topic}w{word}" for topic in topics for word in random.integers(0, 30, 8)))
        found = [2 * topic + half for topic in topics for half in (0, 1)]
        rows += [row] * len(found)
        columns += found
    targets = build_targets(rows, columns, [1.0] * len(rows), (count, labels))
    named = XmcLabels(
        [f"l{label}" for label in range(labels)], [f"l{label}x t{label // 2}y" for label in range(labels)]
    )
    filtered = np.array([[0, label] for label in range(labels) if not targets[0, label]][:2], np.int64)
    return XmcDataset("tiny", named, XmcPoints([str(row) for row in range(count)], texts, targets, filtered))


def run(family, output, **options):
    """Train the family's recipe on the tiny corpus, or on the tiny points."""
    name, overrides = RECIPES[family]
    changes = {**overrides, **options.pop("overrides", {})}
    return train(
        name, points() if name == "dexml-cpu" else corpus(), output, device="cpu", processes=1, **changes, **options
    )


def weights(folder):
    """The bytes of every file of a model folder that is no protocol of the run."""
    protocol = {"log.jsonl", "curve.png"}
    files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file() and path.name not in protocol]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))
