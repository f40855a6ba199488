"""Adaptation: make a pretrained encoder better on one corpus, without labels and without losing what it can do.

1. Set known items aside (:mod:`retriever.data.knownitem`), draw a pool of documents and pseudo-queries from the rest
   (:mod:`retriever.training.pseudo`), and encode all of them once.
2. A teacher ranks the pool for every pseudo-query: the encoder itself together with BM25
   (:mod:`retriever.training.distil`).
3. Fit a linear map on top of the frozen encoder to the teacher (:mod:`retriever.training.head`).
4. Average the map with the identity, by the shares of ``selection.average``. A share is admitted if it agrees with the
   teacher on held-out pseudo-queries better than the start does, by more than noise, and finds the known items no
   worse. Of those the one that finds them best is taken; without known items, the largest up to
   ``selection.fallback``. If none is admitted, the encoder is left as it was.

Every step is a function of the corpus, the encoder and the seed: a run that is killed begins again and ends the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retriever.data.corpus import Corpus
from retriever.data.knownitem import KnownItems, known_items
from retriever.data.ragged import Ragged
from retriever.encoder import Encoder
from retriever.encoder.encoder import Kind
from retriever.errors import DataError
from retriever.reporting import Reporter
from retriever.training import parallel
from retriever.training.averaging import admitted_share, mean_weights
from retriever.training.distil import Lessons, mapped, teach
from retriever.training.head import train_map, with_map
from retriever.training.pseudo import pseudo_queries
from retriever.training.recipe import Recipe
from retriever.training.selection import query_metrics, ranks
from retriever.training.trainer import LOG

HELD_OUT = 0.15  # share of the pseudo-queries that training does not see
LEAST = 20  # pseudo-queries, and documents: fewer teach nothing

Floats = NDArray[np.float32]
Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Exam:
    """Known items as vectors of the start: Q queries, and N documents of which the first Q answer them."""

    queries: Tensor
    documents: Tensor

    def score(self, weight: Tensor, cosine: bool) -> Scores:
        """Metrics of each query, (Q,), with vectors mapped by ``weight``."""
        queries, documents = (mapped(part, weight, cosine).numpy() for part in (self.queries, self.documents))
        answers = Ragged.from_rows([[row] for row in range(len(queries))])
        return query_metrics(ranks(queries, documents, answers), answers.lengths)


def adapt(corpus: Corpus, encoder: Encoder, settings: Recipe, folder: Path, reporter: Reporter) -> Encoder:
    """Adapt an encoder to a corpus; see the module's header.

    Args:
        corpus: The documents to be searched later.
        encoder: Becomes part of the one returned.
        settings: With a section ``distil``.
        folder: Where the log goes.
        reporter: Hears of progress.

    Returns:
        The adapted encoder, or the one given if nothing better was found.

    Raises:
        DataError: The corpus is too small.
        RecipeError: The encoder cannot be adapted.
    """
    cosine = encoder.similarity == "cosine"
    items = known_items(corpus, settings.selection.queries, settings.seed) if settings.selection.queries else None
    lessons, exam = _prepare(corpus, items, encoder, settings, reporter)
    (folder / LOG).unlink(missing_ok=True)
    known = 0 if exam is None else len(exam.queries)
    train = len(lessons) - int(len(lessons) * HELD_OUT)
    reporter.note(
        f"{len(lessons.documents):,} documents, {train:,} pseudo-queries to train on; {len(lessons) - train:,} and "
        f"{known:,} known items to choose by."
    )

    def log(entry: dict[str, Any]) -> None:
        if parallel.rank() == 0:
            with (folder / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    with reporter.stage("train", settings.schedule.steps) as advance:

        def told(entry: dict[str, Any]) -> None:
            log(entry)
            advance(0, loss=entry["loss"])

        weight = train_map(lessons, train, cosine, settings, told)
        advance(settings.schedule.steps)
    share = _choose(weight, lessons, train, exam, cosine, settings, log, reporter)
    return with_map(encoder, _between(weight, share)) if share else encoder


def _prepare(
    corpus: Corpus, items: KnownItems | None, encoder: Encoder, settings: Recipe, reporter: Reporter
) -> tuple[Lessons, Exam | None]:
    """Draw and encode everything that training and choosing need."""
    chosen = settings.distil
    assert chosen is not None
    taken = np.empty(0, np.int64) if items is None else items.rows
    pseudo = pseudo_queries(corpus, taken, chosen.pool, chosen.queries, chosen.words, settings.seed)
    if min(len(pseudo.queries), len(pseudo.documents)) < LEAST:
        raise DataError(
            f"The corpus {corpus.name} yields {len(pseudo.queries)} pseudo-queries over {len(pseudo.documents)} "
            f"documents; adaptation needs at least {LEAST} of both: give a larger corpus."
        )

    def encode(texts: Sequence[str], kind: Kind) -> Floats:
        with reporter.stage(f"encode {kind}", len(texts)) as advance:
            vectors = encoder.encode(texts, kind, dtype=settings.dtype, progress=advance)
        return normalise(vectors) if encoder.similarity == "cosine" else vectors

    documents, queries = encode(pseudo.documents, "document"), encode(pseudo.queries, "query")
    lessons = teach(pseudo, queries, documents, chosen.lexical, chosen.candidates, settings.objective.temperature)
    if items is None or not len(items):
        return lessons, None
    own = encode(items.documents, "document")
    candidates = np.concatenate([own, documents[: settings.selection.pool]])
    return lessons, Exam(torch.from_numpy(encode(items.queries, "query")), torch.from_numpy(candidates))


def normalise(vectors: Floats) -> Floats:
    """Vectors (N, D) at length 1; zero stays zero."""
    unit: Floats = torch.nn.functional.normalize(torch.from_numpy(vectors)).numpy()
    return unit


def _choose(
    weight: Tensor,
    lessons: Lessons,
    train: int,
    exam: Exam | None,
    cosine: bool,
    settings: Recipe,
    log: Callable[[dict[str, Any]], None],
    reporter: Reporter,
) -> float:
    """The share of the map to keep, 0 for none; logs what each share scores."""
    rows, metric = torch.arange(train, len(lessons)), settings.selection.metric
    agreement: dict[float, NDArray[np.float64]] = {}
    found: dict[float, Scores] = {}
    for share in sorted({0.0, *settings.selection.average}):
        between = _between(weight, share)
        agreement[share] = -lessons.loss(between, rows, cosine).double().numpy()
        if exam is not None:
            found[share] = exam.score(between, cosine)
        log({"share": share, "agreement": float(agreement[share].mean()), **_means(found.get(share, {}))})
    chosen = admitted_share(agreement, {share: of[metric] for share, of in found.items()}, settings.selection.fallback)
    for step, share in ((0, 0.0), (settings.schedule.steps, chosen)) if found else ():
        scores = _means(found[share])
        log({"step": step, "evaluation": {metric: scores[metric], **scores}})  # the curve marks the best by the first
    verdict = ""
    if found:
        before, after = (found[share][metric].mean() for share in (0.0, chosen))
        verdict = f"; {metric} on known items {before:.3f} before, {after:.3f} after"
    reporter.note(f"Share of the training kept: {chosen:g}{verdict}.")
    return chosen


def _between(weight: Tensor, share: float) -> Tensor:
    """The average of the identity and the map."""
    name = "weight"
    return mean_weights({name: torch.eye(len(weight))}, {name: weight}, share)[name]


def _means(scores: Scores) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in scores.items()}
