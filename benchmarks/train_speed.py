"""Training steps a minute: packs of similar length, one padded batch, and sentence-transformers' trainer.

    python benchmarks/train_speed.py MODEL BEIR_FOLDER [--texts crops|titles] [--dtype float32|bfloat16] [--steps 8]

All three fine-tune the same model on the same pairs with in-batch negatives, with the same batch, optimizer, precision,
dropout and length limit. The pairs are two crops of a document (each 5 to 50 % of its first 256 words, as in
Contriever), or its title and its text. They take turns, so that a busy machine slows all of them. What packs save is
padding: much of crops, little of texts that are nearly all cut at the model's limit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import TrainerCallback

from retriever.data.beir import load_beir
from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.labelled import Labelled, LabelledReport
from retriever.data.ragged import Ragged
from retriever.encoder import Encoder
from retriever.reporting import Reporter
from retriever.training.prepare import prepare_labelled
from retriever.training.recipebook import load_recipe
from retriever.training.trainer import Trainer

WARM = 2  # steps before the clock starts
WINDOW = 256  # words of a document that crops are cut from


def main() -> None:
    """Print steps a minute of each, and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--texts", choices=["crops", "titles"], default="crops")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    documents = [d for d in load_beir(arguments.data).corpus if d.title and d.text]
    documents = documents[: arguments.batch * (arguments.steps + WARM)]
    random = np.random.default_rng(0)
    pairs = [
        (d.title, d.text) if arguments.texts == "titles" else (crop(d, random), crop(d, random)) for d in documents
    ]
    ways: dict[str, Callable[[], float]] = {
        "packs": lambda: ours(arguments, pairs, None),
        "one padded batch": lambda: ours(arguments, pairs, 10**9),
        "sentence-transformers": lambda: theirs(arguments, pairs),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            seconds[name].append(way())
    best = {name: min(values) for name, values in seconds.items()}
    for name, value in best.items():
        print(f"{name:24}{60 / value:8.1f} steps a minute   packs are {value / best['packs']:.2f} times as fast")


def crop(document: Document, random: np.random.Generator) -> str:
    """A random span of a document's words."""
    words = document.text.split()[:WINDOW]
    length = max(int(random.uniform(0.05, 0.5) * len(words)), 1)
    start = int(random.integers(len(words) - length + 1))
    return " ".join(words[start : start + length])


def ours(arguments: argparse.Namespace, pairs: list[tuple[str, str]], pack: int | None) -> float:
    """Seconds a step of this project's trainer."""
    settings = {"encoder.model": str(arguments.model), "size": arguments.batch, "explicit": 0, "dev": 0}
    limits = {"query_tokens": 510, "document_tokens": 510, "pack_tokens": pack, "dtype": arguments.dtype, "steps": 1000}
    recipe = load_recipe("finetune", {**settings, **limits})
    encoder = Encoder.load(arguments.model)
    queries, texts = map(list, zip(*pairs, strict=True))
    names = [str(row) for row in range(len(pairs))]
    pool = Corpus.of([Document(name, "", text) for name, text in zip(names, texts, strict=True)])
    rows = Ragged.from_rows([[row] for row in range(len(pairs))])
    none = Ragged.from_rows([[] for _ in pairs])
    data = Labelled("pairs", names, queries, pool, rows, none, LabelledReport())
    prepared = prepare_labelled(data, encoder, recipe, None, Reporter())
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(encoder, prepared, recipe, Path(folder))
        times = []
        for _ in range(arguments.steps + WARM):
            began = time.perf_counter()
            trainer.update(Reporter())
            times.append(time.perf_counter() - began)
    return float(np.mean(times[WARM:]))


class Clock(TrainerCallback):
    """The time at the end of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        """Look at the clock."""
        self.times.append(time.perf_counter())


def theirs(arguments: argparse.Namespace, pairs: list[tuple[str, str]]) -> float:
    """Seconds a step of sentence-transformers' trainer."""
    model = SentenceTransformer(str(arguments.model), device="cuda" if torch.cuda.is_available() else "cpu")
    data = Dataset.from_dict(dict(zip(("anchor", "positive"), zip(*pairs, strict=True), strict=True)))
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        settings = SentenceTransformerTrainingArguments(
            folder,
            per_device_train_batch_size=arguments.batch,
            max_steps=arguments.steps + WARM,
            learning_rate=2e-5,
            weight_decay=0.01,
            max_grad_norm=1.0,
            bf16=arguments.dtype == "bfloat16",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        loss = MultipleNegativesRankingLoss(model, scale=20.0)
        SentenceTransformerTrainer(model, settings, train_dataset=data, loss=loss, callbacks=[clock]).train()
    return (clock.times[-1] - clock.times[WARM - 1]) / arguments.steps


if __name__ == "__main__":
    main()
