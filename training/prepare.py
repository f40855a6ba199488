"""From data to what a trainer needs: examples, their sources, and held-out queries.

1. Tokenise the corpus once; several corpora are one with a source for each, or a metadata field says the source.
2. Set known items aside for selection.
3. List the documents to train on by source, with the share of each: ``weight · size^exponent``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retriever.data.corpus import Corpus
from retriever.data.labelled import Labelled
from retriever.data.tokens import TokenStore, tokenise
from retriever.encoder import Encoder
from retriever.errors import DataError, RecipeError
from retriever.reporting import Reporter
from retriever.training import parallel
from retriever.training.examples import CorpusExamples, Examples, LabelledExamples
from retriever.training.points import PointExamples
from retriever.training.recipe import Mixing, Recipe
from retriever.training.sampler import ORDER, generator
from retriever.training.selection import Judge, hold_out, hold_out_queries
from retriever.training.sentence_selection import hold_out_views, load_dev
from retriever.training.structure import survey
from retriever.training.view_noise import mask_token

SHORTEST = 2  # tokens: a document with fewer has no two different crops

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Prepared:
    """What a trainer is given.

    Attributes:
        examples: All examples.
        sources: Numbers of those to train on, (N_s,) for each source.
        shares: How often each source is drawn from; None for a single one.
        held_out: What selection goes by, if there is anything.
        tokens: Tokens trained on.
    """

    examples: Examples | PointExamples
    sources: list[Ids]
    shares: list[float] | None
    held_out: Judge | None
    tokens: int


def prepare(
    corpora: Sequence[Corpus], encoder: Encoder, settings: Recipe, processes: int | None, reporter: Reporter
) -> Prepared:
    """Tokenise corpora, set known items aside, and list the documents to train on.

    Raises:
        DataError: A source has fewer than two documents to train on, or the field that tells sources apart is missing.
        RecipeError: A weight is given for a source that is not there.
    """
    assert settings.views is not None
    corpus = join(corpora)
    with reporter.stage("tokenise") as advance, parallel.main_first():
        store = tokenise(corpus, encoder.text_tokenizer, processes=processes, progress=advance)
    usable = store.lengths >= SHORTEST
    short = int((~usable).sum())
    held_out = _hold_out(corpus, store, encoder, settings, np.flatnonzero(usable))
    if held_out is not None:
        usable[held_out.rows] = False
    names, owner = _owners(corpora, corpus, settings.mixing, len(store))
    sources = [np.flatnonzero(usable & (owner == number)) for number in range(len(names))]
    for name, rows in zip(names, sources, strict=True):
        _check_source(name, len(rows))
    if short:
        reporter.note(f"{short:,} documents of fewer than {SHORTEST} tokens are left out of training.")
    if held_out is None and settings.selection.queries:
        reporter.note("No document is long enough to be held out, or there are too few: the last step is kept.")
    shares = source_shares(names, [len(rows) for rows in sources], settings.mixing)
    if shares is not None:
        parts = (f"{name} {100 * share:.1f} %" for name, share in zip(names, shares, strict=True))
        reporter.note(f"Sources: {', '.join(parts)}.")
    tokens = int(store.lengths[np.concatenate(sources)].sum())
    if set(settings.views.mix.weights) - {"crop", "cloze", "same"}:
        reporter.note(str(survey(store, np.concatenate(sources), settings.views)))
    prompts = encoder.prompt_tokens("query"), encoder.prompt_tokens("document")
    examples = CorpusExamples(store, settings.views, prompts, mask_token(encoder.text_tokenizer, settings.views))
    return Prepared(examples, sources, shares, held_out, tokens)


def prepare_labelled(
    labelled: Labelled, encoder: Encoder, settings: Recipe, processes: int | None, reporter: Reporter
) -> Prepared:
    """Tokenise labelled queries and their pool, and set some of the queries aside.

    Raises:
        DataError: There are fewer than two queries to train on.
    """
    chosen = settings.labels
    assert chosen is not None
    sts = settings.selection.sts
    splits = chosen.dev and sts is None
    train, dev = labelled.split_dev(chosen.dev, settings.seed) if splits else (labelled, None)
    if chosen.limit is not None:
        train = train.take(np.sort(generator(ORDER, settings.seed).permutation(len(train))[: chosen.limit]))
    if len(train) < 2:
        raise DataError(f"{labelled.name} has {len(train)} queries to train on; contrastive training needs at least 2.")
    with reporter.stage("tokenise") as advance, parallel.main_first():
        store = tokenise(labelled.documents, encoder.text_tokenizer, processes=processes, progress=advance)
    held_out: Judge | None = None if sts is None else load_dev(sts)
    if dev is not None and settings.selection.queries:
        held_out = hold_out_queries(dev, store, encoder, settings.selection, settings.seed, chosen.document_tokens)
    queries = encoder.text_tokenizer.encode(train.queries)
    prompts = encoder.prompt_tokens("query"), encoder.prompt_tokens("document")
    examples = LabelledExamples(queries, store, train.positives, train.negatives, chosen, prompts, train.fingerprint())
    with_hard = int((train.negatives.lengths > 0).sum())
    if chosen.explicit and chosen.hard and not with_hard:
        reporter.note("The data holds no hard negatives: random documents take their place; see `retriever mine`.")
    return Prepared(examples, [np.arange(len(train))], None, held_out, int(queries.offsets[-1] + store.offsets[-1]))


def _hold_out(corpus: Corpus, store: TokenStore, encoder: Encoder, settings: Recipe, usable: Ids) -> Judge | None:
    """What selection goes by, with the documents set aside for it, if there is anything."""
    if settings.selection.sts is not None:
        return load_dev(settings.selection.sts)
    if settings.selection.metric == "align_uniform":
        return hold_out_views(usable, store, encoder, settings)
    return hold_out(corpus, store, encoder, settings.selection, settings.seed)


def join(corpora: Sequence[Corpus]) -> Corpus:
    """Several corpora as one, their ids prefixed by the corpus' name."""
    return corpora[0] if len(corpora) == 1 else Corpus.join(corpora)


def source_shares(names: Sequence[str], sizes: Sequence[int], mixing: Mixing) -> list[float] | None:
    """``weight · size^exponent`` of each source, summing to 1; None for a single source.

    Raises:
        RecipeError: A weight is given for a source that is not there.
    """
    for name in mixing.weights:
        if name not in names:
            raise RecipeError(f"mixing.weights names {name!r}, but the sources are {', '.join(names)}.")
    if len(names) == 1:
        return None
    raw = [mixing.weights.get(name, 1.0) * size**mixing.exponent for name, size in zip(names, sizes, strict=True)]
    return [share / sum(raw) for share in raw]


def _owners(corpora: Sequence[Corpus], corpus: Corpus, mixing: Mixing, documents: int) -> tuple[list[str], Ids]:
    """The names of the sources, and the source of each document, (N,)."""
    if mixing.by is not None:
        values = []
        for document in corpus:
            if mixing.by not in document.metadata:
                raise DataError(
                    f"Document {document.id} of {corpus.name} has no field {mixing.by!r}, by which mixing.by tells "
                    "sources apart; its fields are " + (", ".join(document.metadata) or "none") + "."
                )
            values.append(str(document.metadata[mixing.by]))
        names, owner = np.unique(values, return_inverse=True)
        return names.tolist(), owner
    sizes = [documents] if len(corpora) == 1 else [_size(part) for part in corpora]
    return [part.name for part in corpora], np.repeat(np.arange(len(corpora)), sizes)


def _size(corpus: Corpus) -> int:
    return corpus.report.documents if corpus.report else sum(1 for _ in corpus)


def _check_source(name: str, documents: int) -> None:
    if documents < 2:
        raise DataError(
            f"The corpus {name} has {documents} document{'s' * (documents != 1)} of at least {SHORTEST} tokens to "
            "train on; contrastive training needs at least 2, and hundreds to learn anything."
        )
