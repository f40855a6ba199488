"""From a corpus and a recipe to a model folder.

1. Validate the recipe and the output folder before anything is read.
2. Build the encoder (and train its tokenizer on the corpus, if it has one of its own), tokenise the corpus once, ask
   the teachers if there are any. Only then is the output folder made the run's own
   (:mod:`retriever.training.run_folder`), and no other process can train in it: a mistake in the data or the models
   leaves it as it was.
3. Set known items aside, train, and publish the best weights: the model's files appear in the output folder one by one,
   ``modules.json`` last, so a folder without it holds an unfinished run and nothing mistakes it for a model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from retriever.data.corpus import Corpus, open_corpus
from retriever.data.labelled import Labelled, open_labelled
from retriever.data.tokenizers import SubwordTokenizer, WordTokenizer
from retriever.data.xmc import load_xmc
from retriever.data.xmc_points import XmcDataset
from retriever.encoder import Encoder
from retriever.encoder.device import check_device
from retriever.errors import DataError, RecipeError
from retriever.reporting import Reporter
from retriever.training import parallel
from retriever.training.adapt import adapt
from retriever.training.contrast_step import ContrastStep
from retriever.training.examples import CorpusExamples
from retriever.training.outcome import Outcome, scores_of, write_outcome
from retriever.training.prepare import Prepared, join, prepare, prepare_labelled
from retriever.training.prepare_points import prepare_points, texts_of
from retriever.training.ranking import ask_teachers
from retriever.training.recipe import PretrainedTransformer, Recipe, SmallTransformer, StaticEncoder
from retriever.training.recipebook import load_recipe, refuse_settings
from retriever.training.run_folder import check_output, claimed, publish
from retriever.training.sentence_selection import load_dev
from retriever.training.trainer import LOG, Trainer
from retriever.training.view_examples import draw_examples, render

Data: TypeAlias = Corpus | Labelled | XmcDataset | str | Path
Given: TypeAlias = list[Corpus] | Labelled | XmcDataset


def train(
    recipe: Recipe | str | Path,
    data: Data | Sequence[Data],
    output: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    processes: int | None = None,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Encoder:
    """Train an encoder on a corpus.

    Args:
        recipe: A shipped recipe's name, a YAML file, or a resolved recipe.
        data: A corpus, or what :func:`retriever.data.corpus.open_corpus` takes; several of them are mixed as the recipe
            says. For a recipe with labels: what :func:`retriever.data.labelled.open_labelled` gives or takes.
        output: The model folder to write.
        resume: Go on from the checkpoint in ``output``; from the beginning if the run was stopped before its first one.
        overwrite: Replace the model or the unfinished run in ``output``.
        device: Such as ``cpu`` or ``cuda:0``; the best there is, if omitted.
        processes: For tokenising; all cores if omitted.
        reporter: Hears of progress.
        settings: Keys to change of a recipe given by name or file, by path or unique last part: ``steps=500``,
            ``**{"optimizer.lr": 1e-3}``.

    Returns:
        The trained encoder, also saved in ``output``.

    Raises:
        RecipeError: The recipe is wrong, or the run to resume had another one.
        ModelError: The device cannot be used, or the model to start from cannot be read.
        DataError: The corpus is missing, mangled or too small.
        OutputError: The output folder is taken or cannot be written, or another process trains in it.
        TrainingInterrupted: Ctrl-C; a checkpoint was written.
    """
    began = time.perf_counter()
    check_device(device)
    parallel.meet(device)
    reporter = (reporter or Reporter()) if parallel.rank() == 0 else Reporter()
    refuse_settings(recipe, settings)
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, settings)
    folder = Path(output).expanduser()
    if chosen.selection.sts is not None:
        load_dev(chosen.selection.sts)  # a mistake in it must not cost the tokenisation, or the folder
    with parallel.main_first():
        if parallel.rank() == 0:
            check_output(folder, chosen, resume, overwrite)
    given = open_data(chosen, data if isinstance(data, Iterable) and not isinstance(data, (Corpus, str)) else [data])
    corpus = _texts(given)
    encoder = build_encoder(chosen, corpus, device, reporter)
    with ExitStack() as run:
        devices = [encoder.device] if encoder.device.type == "cuda" else []
        run.enter_context(torch.random.fork_rng(devices))  # steps seed torch, whose random numbers are the caller's

        def claim() -> None:
            run.enter_context(claimed(folder, chosen, resume, overwrite))

        if chosen.distil is not None:
            claim()
            encoder, outcome = adapt(corpus, encoder, chosen, folder, reporter), Outcome(chosen.schedule.steps)
        else:
            outcome = _train(encoder, given, chosen, folder, claim, resume, processes, reporter)
        with parallel.main_first():
            if parallel.rank() == 0:
                write_outcome(folder / LOG, replace(outcome, seconds=round(time.perf_counter() - began, 3)))
                publish(encoder, folder, outcome.metric, reporter)
    return encoder


def _train(
    encoder: Encoder,
    given: Given,
    chosen: Recipe,
    folder: Path,
    claim: Callable[[], None],
    resume: bool,
    processes: int | None,
    reporter: Reporter,
) -> Outcome:
    """Train an encoder in place; ``claim`` makes the folder this run's own."""
    if isinstance(given, Labelled):
        prepared = prepare_labelled(given, encoder, chosen, processes, reporter)
    elif isinstance(given, XmcDataset):
        prepared = prepare_points(given, encoder, chosen, reporter)
    else:
        prepared = prepare(given, encoder, chosen, processes, reporter)
    held_out = prepared.held_out
    trainer = Trainer(encoder, prepared, chosen, folder)
    if chosen.ranking is not None:
        assert isinstance(given, list) and isinstance(trainer.work, ContrastStep)
        trainer.work.ranking = ask_teachers(join(given), trainer.rows(), chosen, encoder.device, reporter)
    claim()
    if trainer.batch < chosen.batch.size:
        reporter.note(
            f"Only {trainer.count:,} examples to train on: a batch has {trainer.batch:,} pairs, not "
            f"{chosen.batch.size:,}."
        )
    if resume and not trainer.resume():
        reporter.note(f"{folder} has no checkpoint yet: the run starts from the beginning.")
    reporter.note(_describe(trainer, prepared, chosen.schedule.steps))
    if chosen.negatives.queue and chosen.negatives.momentum is None:
        reporter.note(
            "The queue holds documents as the encoder saw them some steps ago, which often collapses; give "
            "negatives.momentum, such as 0.99, for keys that age slowly."
        )
    trainer.run(reporter)
    if held_out is None:
        return Outcome(trainer.state.step)
    metric, best = chosen.selection.measure, trainer.state
    reporter.note(f"Step {best.best_step} is kept: {metric} {best.best_score:.3f} on {held_out.what}.")
    if chosen.selection.average:
        reporter.note(f"Averaged with the start: a share of {trainer.share:g} of the training is kept.")
    share = trainer.share if chosen.selection.average else None
    scores = scores_of(folder / LOG, best.best_step, share) if parallel.rank() == 0 else {}
    return Outcome(best.best_step, metric, scores)


def preview(settings: Recipe, data: Sequence[Data], count: int, reporter: Reporter) -> str:
    """Some of the pairs a recipe would train on, as text.

    Raises:
        RecipeError: The recipe trains on labelled queries, which are to be read in their file.
        DataError: The corpus is missing, mangled or too small.
    """
    corpora = open_data(settings, data)
    if settings.views is None or not isinstance(corpora, list):
        raise RecipeError("The recipe has no section views, and draws no pairs from a corpus to look at.")
    encoder = build_encoder(settings, join(corpora), None, reporter)
    prepared = prepare(corpora, encoder, settings, None, reporter)
    assert isinstance(prepared.examples, CorpusExamples)
    rows, tokenizer = np.concatenate(prepared.sources), encoder.text_tokenizer
    assert isinstance(tokenizer, (WordTokenizer, SubwordTokenizer))
    return render(draw_examples(prepared.examples.store, rows, settings.views, tokenizer, count, settings.seed))


def open_data(settings: Recipe, data: Iterable[Data]) -> Given:
    """What a recipe trains on: corpora, labelled queries, or points and their labels.

    Raises:
        RecipeError: The recipe trains on the other kind.
        DataError: The data cannot be read, or is none.
    """
    data = list(data)
    unknown = [type(part).__name__ for part in data if not isinstance(part, (Corpus, Labelled, XmcDataset, str, Path))]
    if unknown or not data:
        raise DataError(
            f"The data to train on are {unknown[0] if unknown else 'none'}: give paths, or what open_corpus, "
            "Corpus.of, open_labelled or load_xmc gives."
        )
    if settings.label_space is not None:
        if len(data) == 1 and isinstance(data[0], (XmcDataset, str, Path)):
            return data[0] if isinstance(data[0], XmcDataset) else load_xmc(data[0])
        raise RecipeError(
            "The recipe has a section label_space: it trains on one data set of points and labels, such as an XMC "
            "folder or a .jsonl file of text and labels."
        )
    if settings.labels is not None:
        if len(data) == 1 and isinstance(data[0], (Labelled, str, Path)):
            return data[0] if isinstance(data[0], Labelled) else open_labelled(data[0])
        raise RecipeError(
            "The recipe has a section labels: it trains on one source of labelled queries, such as a BEIR folder or a "
            ".jsonl file of query, positive and negative."
        )
    corpora = [open_corpus(part) if isinstance(part, (str, Path)) else part for part in data]
    for part in corpora:
        if isinstance(part, Labelled):
            raise RecipeError("The recipe has no section labels: it trains on a corpus, not on labelled queries.")
        if isinstance(part, XmcDataset):
            raise RecipeError("The recipe has no section label_space: it does not train on points and labels.")
    return [part for part in corpora if isinstance(part, Corpus)]


def _texts(given: Given) -> Corpus:
    """The texts a vocabulary is learnt from."""
    if isinstance(given, Labelled):
        return given.documents
    return texts_of(given) if isinstance(given, XmcDataset) else join(given)


def build_encoder(settings: Recipe, corpus: Corpus, device: str | None, reporter: Reporter) -> Encoder:
    """The untrained encoder a recipe asks for.

    Raises:
        ModelError: The pretrained model cannot be opened.
        DataError: The corpus holds no words to train a tokenizer on.
        RecipeError: A prompt fills all that the encoder reads of a text.
    """
    match settings.encoder:
        case PretrainedTransformer() as chosen:
            if chosen.pooling is None and chosen.template is None:
                encoder = Encoder.load(chosen.model, device, max_length=chosen.max_length)
            else:
                fields = chosen.model_dump(exclude={"family", "model", "query_map"}, exclude_none=True)
                encoder = Encoder.pretrained(chosen.model, **fields)
        case StaticEncoder() as chosen:
            tokenizer = _trained_tokenizer(chosen, corpus, reporter)
            fields = chosen.model_dump(exclude={"family", "tokenizer", "stemmer", "vocabulary", "query_map"})
            encoder = Encoder.static(tokenizer, **fields, seed=settings.seed)
        case SmallTransformer() as chosen:
            subwords = _trained_tokenizer(chosen, corpus, reporter)
            assert isinstance(subwords, SubwordTokenizer)
            fields = chosen.model_dump(exclude={"family", "vocabulary", "query_map"})
            encoder = Encoder.small(subwords, **fields, seed=settings.seed)
    if settings.encoder.query_map:
        encoder = encoder.with_query_map()
    if device is not None:
        encoder.stack.to(device)
    if prompts := {kind: text for kind, text in settings.prompts.model_dump().items() if text}:
        encoder.prompts = prompts
        _check_prompts(encoder)
    return encoder


def _check_prompts(encoder: Encoder) -> None:
    """See that prompts leave room for a text.

    Raises:
        RecipeError: One does not.
    """
    if encoder.limit is None or encoder.parts:
        return
    for kind, text in encoder.prompts.items():
        tokens = len(encoder.text_tokenizer.encode([text]).ids)
        if tokens >= encoder.limit:
            raise RecipeError(
                f"prompts.{kind} has {tokens} tokens, and the encoder reads {encoder.limit}: nothing of a text would "
                "be left; shorten it, or raise encoder.max_length."
            )


def _trained_tokenizer(
    chosen: StaticEncoder | SmallTransformer, corpus: Corpus, reporter: Reporter
) -> WordTokenizer | SubwordTokenizer:
    with reporter.stage("vocabulary") as advance:

        def texts() -> Any:  # noqa: ANN401 — a generator of strings
            for document in corpus:
                yield document.content
                advance(1)

        if isinstance(chosen, StaticEncoder) and chosen.tokenizer == "words":
            return WordTokenizer.train(texts(), max_size=chosen.vocabulary, stemmer=chosen.stemmer)
        return SubwordTokenizer.train(texts(), size=chosen.vocabulary)


def _describe(trainer: Trainer, prepared: Prepared, wanted: int) -> str:
    """What is about to happen, in one sentence; ``wanted`` steps were asked for."""
    accumulate = trainer.recipe.batch.accumulate
    more = f"; {accumulate} batches a step average the gradient and add no negatives" if accumulate > 1 else ""
    queue = trainer.recipe.negatives.queue
    later = f" and up to {queue:,} of earlier batches" if queue else ""
    schedule = trainer.recipe.schedule
    cut = f" (schedule.epochs {schedule.epochs:g})" if schedule.steps < wanted else ""
    return (
        f"{schedule.steps:,} steps{cut}, {trainer.count:,} examples, {prepared.tokens:,} tokens, "
        f"vocabulary {trainer.encoder.text_tokenizer.size:,}, {trainer.encoder.dimension} dimensions, "
        f"{trainer.work.negatives:,} negatives per query{later}{more}."
    )
