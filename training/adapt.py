"""Adaptation: make a pretrained encoder better on one corpus, without labels and without losing what it can do.

1. Set known items aside: documents with their title or first sentence as a query, or, where the documents have
   neither, with some words cut out of them. Draw a pool of documents and pseudo-queries from the rest
   (:mod:`retriever.training.pseudo`). Encode all of them once.
2. A teacher ranks the pool for every pseudo-query: the encoder itself together with BM25
   (:mod:`retriever.training.distil`).
3. Fit a linear map on top of the frozen encoder to the teacher (:mod:`retriever.training.head`).
4. Average the map with the identity by the shares of ``selection.average``. A share must be ahead of the start, by more
   than noise, in agreement with the teacher on held-out pseudo-queries and in the mean logarithm of the rank at which
   known items are found. Of those, the one that finds them best is taken. Words cut out of documents are less like
   queries than titles are: on their word no share above ``selection.fallback`` is taken.
5. If no share passes, the encoder is left as it was.

Every step is a function of the corpus, the encoder and the seed: a run that is killed begins again and ends the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retriever.data.corpus import Corpus
from retriever.data.knownitem import KnownItems, known_items
from retriever.data.ragged import Ragged
from retriever.encoder import Encoder
from retriever.encoder.encoder import Kind
from retriever.errors import DataError, RecipeError
from retriever.reporting import Reporter
from retriever.training.averaging import admitted_share, mean_weights
from retriever.training.distil import Lessons, mapped, teach
from retriever.training.head import train_map, with_map
from retriever.training.outcome import add_line
from retriever.training.pseudo import cloze_items, pseudo_queries
from retriever.training.recipe import Recipe
from retriever.training.selection import metrics, ranks
from retriever.training.trainer import LOG

HELD_OUT = 0.15  # share of the pseudo-queries that training does not see
LEAST = 20  # pseudo-queries, and documents: fewer teach nothing
FEW = 30  # known items with names: fewer are no test if there are more of the other kind

Floats = NDArray[np.float32]
Log: TypeAlias = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Exam:
    """Known items as vectors of the start: Q queries, and N documents of which the first Q answer them.

    Attributes:
        queries: (Q, D).
        documents: (N, D).
        named: The queries are names, not words cut out.
    """

    queries: Tensor
    documents: Tensor
    named: bool

    def ranks(self, weight: Tensor, cosine: bool) -> NDArray[np.int64]:
        """Rank of the answer to each query, (Q,), with vectors mapped by ``weight``."""
        queries, documents = (mapped(part, weight, cosine).numpy() for part in (self.queries, self.documents))
        return ranks(queries, documents, Ragged.from_rows([[row] for row in range(len(queries))]))


@dataclass(frozen=True)
class Material:
    """What is trained on, and what decides how much of it is kept.

    Attributes:
        lessons: What the teacher says; the first ``train`` pseudo-queries are for training, the others to choose by.
        train: How many that are.
        exam: Known items, if there are any.
        cosine: The encoder compares by cosine, not by dot product.
    """

    lessons: Lessons
    train: int
    exam: Exam | None
    cosine: bool

    def __str__(self) -> str:
        known = "no known items" if self.exam is None else f"{len(self.exam.queries):,} known items"
        return (
            f"{len(self.lessons.documents):,} documents, {self.train:,} pseudo-queries to train on; "
            f"{len(self.lessons) - self.train:,} and {known} to choose by."
        )


def adapt(corpus: Corpus, encoder: Encoder, settings: Recipe, folder: Path, reporter: Reporter) -> Encoder:
    """Adapt an encoder to a corpus; see the module's header.

    Args:
        corpus: The documents to be searched later.
        encoder: Becomes part of the one returned.
        settings: With a section ``distil``.
        folder: Where the log goes; one that is there is replaced.
        reporter: Hears of progress.

    Returns:
        The adapted encoder, or the one given if nothing better was found.

    Raises:
        DataError: The corpus is too small.
        RecipeError: The encoder cannot be adapted, or the loss is no longer finite.
    """
    if encoder.parts:
        raise RecipeError("A joined encoder cannot be adapted; adapt its transformer, and boost that again.")
    material = gather(corpus, encoder, settings, reporter)
    reporter.note(str(material))
    (folder / LOG).unlink(missing_ok=True)
    log = partial(add_line, folder / LOG)
    with reporter.stage("train", settings.schedule.steps) as advance:
        weight = train_map(material.lessons, material.train, material.cosine, settings, log)
        advance(settings.schedule.steps)
    share = _choose(weight, material, settings, log, reporter)
    return with_map(encoder, _between(weight, share)) if share else encoder


def gather(corpus: Corpus, encoder: Encoder, settings: Recipe, reporter: Reporter) -> Material:
    """Draw and encode everything that training and choosing need.

    Raises:
        DataError: The corpus is too small.
    """
    chosen = settings.distil
    assert chosen is not None
    items, named = _items(corpus, settings.selection.queries, chosen.words, settings.seed)
    pseudo = pseudo_queries(corpus, items.rows, chosen.documents, chosen.pseudo_queries, chosen.words, settings.seed)
    if min(len(pseudo.queries), len(pseudo.documents)) < LEAST:
        raise DataError(
            f"The corpus {corpus.name} yields {len(pseudo.queries)} pseudo-queries over {len(pseudo.documents)} "
            f"documents; adaptation needs at least {LEAST} of both: give a larger corpus."
        )
    cosine = encoder.similarity == "cosine"

    def encode(texts: Sequence[str], kind: Kind) -> Tensor:
        with reporter.stage(f"encode {kind}", len(texts)) as advance:
            vectors = torch.from_numpy(encoder.encode(texts, kind, dtype=settings.dtype, progress=advance))
        return torch.nn.functional.normalize(vectors) if cosine else vectors

    documents, queries = encode(pseudo.documents, "document"), encode(pseudo.queries, "query")
    lessons = teach(pseudo, queries, documents, chosen.lexical, chosen.candidates, settings.objective.temperature)
    exam = None
    if len(items):
        competing = torch.cat([encode(items.documents, "document"), documents[: settings.selection.pool]])
        exam = Exam(encode(items.queries, "query"), competing, named)
    return Material(lessons, len(lessons) - int(len(lessons) * HELD_OUT), exam, cosine)


def _items(corpus: Corpus, count: int, words: tuple[int, int], seed: int) -> tuple[KnownItems, bool]:
    """Known items, and whether their queries are names."""
    if not count:
        return KnownItems([], [], np.empty(0, np.int64)), False
    named = known_items(corpus, count, seed)
    if len(named) >= FEW:
        return named, True
    clozes = cloze_items(corpus, count, words, seed)
    return (clozes, False) if len(clozes) > len(named) else (named, True)


def _choose(weight: Tensor, material: Material, settings: Recipe, log: Log, reporter: Reporter) -> float:
    """The share of the map to keep, 0 for none; logs what each share scores."""
    lessons, exam, metric = material.lessons, material.exam, settings.selection.metric
    rows = torch.arange(material.train, len(lessons))
    most = 1.0 if exam is not None and exam.named else settings.selection.fallback
    agreement, places, scores = {}, {}, {}
    for share in sorted({0.0, *(share for share in settings.selection.average if share <= most)}):
        between = _between(weight, share)
        agreement[share] = -lessons.loss(between, rows, material.cosine).double().numpy()
        if exam is not None:
            found = exam.ranks(between, material.cosine)
            places[share], scores[share] = -np.log(found), metrics(found, np.ones(len(found), np.int64))
        log({"share": share, "agreement": float(agreement[share].mean()), **scores.get(share, {})})
    chosen = admitted_share([agreement, places] if places else [agreement])
    for step, share in ((0, 0.0), (settings.schedule.steps, chosen)) if scores else ():
        first = {metric: scores[share][metric]}  # the curve marks the best step by it
        log({"step": step, "evaluation": first | scores[share]})
    verdict = f"; {metric} {scores[0.0][metric]:.3f} before, {scores[chosen][metric]:.3f} after" if scores else ""
    reporter.note(f"Share of the training kept: {chosen:g}{verdict}.")
    return chosen


def _between(weight: Tensor, share: float) -> Tensor:
    """The average of the identity and the map."""
    return mean_weights({"map": torch.eye(len(weight))}, {"map": weight}, share)["map"]
