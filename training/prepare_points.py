"""From an extreme multi-label data set to what a trainer needs."""

from __future__ import annotations

import numpy as np

from retriever.data.corpus import Corpus
from retriever.data.document import Document
from retriever.data.xmc_points import XmcDataset, XmcPoints, split_validation
from retriever.encoder import Encoder
from retriever.errors import DataError
from retriever.reporting import Reporter
from retriever.training.label_ranking import HeldOutPoints
from retriever.training.label_tokens import give_tokens
from retriever.training.points import PointExamples, tokens_of
from retriever.training.prepare import Prepared
from retriever.training.recipe import Recipe
from retriever.training.selection import Judge
from retriever.training.sentence_selection import load_dev


def prepare_points(dataset: XmcDataset, encoder: Encoder, settings: Recipe, reporter: Reporter) -> Prepared:
    """Hold points out, tokenise, and list the points to train on.

    Raises:
        DataError: There are fewer than two points to train on, or two labels.
    """
    chosen = settings.label_space
    assert chosen is not None
    train, held_out = dataset.train, None
    if settings.selection.sts is None and settings.selection.queries and chosen.validation:
        train, held_out = split_validation(train, chosen.validation, 0)
    if chosen.own is not None:
        give_tokens(encoder, dataset.labels, chosen, settings.seed)
    with reporter.stage("tokenise") as advance:
        examples = PointExamples.of(train, dataset.labels, encoder, chosen)
        advance(len(examples.points) + len(examples.labels))
    rows = examples.trainable
    if len(rows) < 2 or len(examples.usable) < 2:
        raise DataError(
            f"{dataset.name} has {len(rows)} points and {len(examples.usable)} labels with a text to train on; "
            "contrastive training needs at least 2 of both (label_space.own=label does without texts of labels)."
        )
    if silent := len(dataset.labels) - len(examples.usable):
        reporter.note(
            f"{silent:,} labels have no text and are never found, unless label_space.own=label gives them tokens."
        )
    if without := len(examples.points) - len(rows):
        reporter.note(f"{without:,} points have no label with a text, and are left out of training.")
    judge: Judge | None = None
    if settings.selection.sts is not None:
        judge = load_dev(settings.selection.sts)
    elif held_out is not None:
        judge = _judge(held_out, examples, encoder)
    tokens = int(examples.points.offsets[-1] + examples.labels.offsets[-1])
    return Prepared(examples, [rows], None, judge, tokens)


def texts_of(dataset: XmcDataset) -> Corpus:
    """The texts of training points and labels, as a corpus to learn a vocabulary from."""
    texts = [*dataset.train.texts, *dataset.labels.texts]
    return Corpus.of([Document(str(row), "", text) for row, text in enumerate(texts)], name=dataset.name)


def _judge(points: XmcPoints, examples: PointExamples, encoder: Encoder) -> HeldOutPoints | None:
    """What selection goes by; None if no point held out has a label."""
    points = points.take(np.flatnonzero(points.labels_per_point))
    if not len(points):
        return None
    tokens = tokens_of(points.texts, encoder, "query", examples.settings.point_tokens)
    return HeldOutPoints(tokens, examples.labels, points.targets, points.forbidden, examples.usable)
