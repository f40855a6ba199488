"""``retriever train``: from a corpus and a recipe to a model folder."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json

if TYPE_CHECKING:
    from retriever.data.corpus import Corpus
    from retriever.data.labelled import Labelled
    from retriever.data.xmc_points import XmcDataset
    from retriever.training.recipe import Recipe
    from retriever.training.seeds import SeedRuns

DATA_HELP = (
    f"{options.DATA_HELP} Several --data are mixed. For a recipe with labels: a BEIR folder with judgments, or a file "
    "of query, positive and negative. With label_space: an XMC folder, or a file of text and labels."
)


def train(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="A recipe's name (`retriever recipes ls`) or a .yaml file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value]...", help="Settings to change, such as lr=0.005.")
    ] = None,
    data: Annotated[list[str], typer.Option(help=DATA_HELP)] = ...,  # type: ignore[assignment]
    output: Annotated[Path, typer.Option("--output", "-o", help="The model folder to write.")] = ...,  # type: ignore[assignment]
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the output folder.")] = False,
    overwrite: options.Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
    show_pairs: Annotated[int, typer.Option(min=0, help="Print this many training pairs and stop.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Short for seed=N.")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=2, help="Train with so many seeds, in OUTPUT/seed-0 …, and tell mean and sd.")
    ] = None,
    text_field: options.TextField = None,
    title_field: options.TitleField = None,
    id_field: options.IdField = None,
    skip_bad_lines: options.SkipBadLines = False,
    split: Annotated[
        str, typer.Option(help="Split of a Hugging Face dataset, or judgments of a BEIR folder.")
    ] = "train",
    corpus: Annotated[Path | None, typer.Option(help="BEIR folder with the texts of labels given by id.")] = None,
    streaming: options.Streaming = False,
    device: options.Device = None,
    dtype: Annotated[str | None, typer.Option(help="Short for dtype=auto, float32 or bfloat16.")] = None,
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train an encoder on a corpus, on several, or on labelled queries.

    retriever train contriever-cpu --data notes.jsonl --output model
    """
    from retriever.data.labelled import open_labelled
    from retriever.data.xmc import load_xmc
    from retriever.training.api import preview
    from retriever.training.recipebook import load_recipe, to_yaml

    short = {"seed": seed, "dtype": dtype}
    changes = [*(overrides or []), *(f"{key}={value}" for key, value in short.items() if value is not None)]
    settings = load_recipe(recipe, changes)
    if dry_run:
        typer.echo(to_yaml(settings), nl=False)
        return
    _refuse_unread(context, settings)
    options.use_threads(threads)
    speaks = os.environ.get("RANK", "0") == "0"  # one process of several
    reporter = RichReporter(quiet or json or not speaks)
    fields = (text_field, title_field, id_field)

    def read(source: str) -> Corpus | Labelled | XmcDataset:
        if settings.label_space:
            return load_xmc(source)
        if settings.labels:
            return open_labelled(source, split=split, corpus=corpus, skip_bad_lines=skip_bad_lines)
        return options.read_corpus(source, *fields, skip_bad_lines, split, streaming)

    given = [read(source) for source in data]
    if show_pairs:
        typer.echo(preview(settings, given, show_pairs, reporter))
        return
    how = {"resume": resume, "overwrite": overwrite, "device": device, "reporter": reporter}
    runs = _run(settings, given, output, seeds, how)
    if speaks and runs is not None:
        _print_seeds(runs, json)
    elif speaks and json:
        _print_outcome(output)
    _note_end(given, data[0], output, seeds, reporter)


def _refuse_unread(context: typer.Context, settings: Recipe) -> None:
    """Refuse options on data that the recipe does not train on."""
    of_corpora = ("text_field", "title_field", "id_field", "streaming")
    if settings.label_space:
        unread = (*of_corpora, "skip_bad_lines", "split", "corpus")
        options.refuse_given(context, *unread, why="is not for points and their labels")
    elif settings.labels:
        options.refuse_given(context, *of_corpora, why="is for a corpus, not for labelled queries")
    else:
        options.refuse_given(context, "corpus", why="is for labelled queries, not for a corpus")


def _run(
    settings: Recipe,
    given: list[Corpus | Labelled | XmcDataset],
    output: Path,
    seeds: int | None,
    how: dict[str, Any],
) -> SeedRuns | None:
    """Train once, or with several seeds and say what came of each."""
    from retriever.training.api import train as run
    from retriever.training.seeds import train_seeds
    from retriever.training.trainer import TrainingInterrupted

    try:
        if seeds is not None:
            return train_seeds(settings, given, output, seeds, **how)
        run(settings, given, output, **how)
    except TrainingInterrupted as stop:
        raise KeyboardInterrupt(f"{stop} Go on with:\n  {options.resume_command()}") from stop
    return None


def _print_outcome(output: Path) -> None:
    from retriever.training.outcome import read_outcome
    from retriever.training.trainer import LOG

    print_json(asdict(read_outcome(output / LOG)) | {"model": str(output)})


def _print_seeds(runs: SeedRuns, json: bool) -> None:
    """Mean and standard deviation of what chose the steps, and in JSON each run as well."""
    outcomes = {seed: asdict(outcome) for seed, outcome in runs.outcomes.items()}
    scored = all(outcome.metric for outcome in runs.outcomes.values())
    metric, scores = runs.scores() if scored else (None, None)
    if json:
        each = [outcome | {"seed": seed, "model": f"{runs.folder}/seed-{seed}"} for seed, outcome in outcomes.items()]
        summary = {} if scores is None else {"mean": float(scores.mean()), "sd": float(scores.std(ddof=1))}
        print_json({"metric": metric, **summary, "runs": each})
    elif scores is None:
        typer.echo(f"{len(outcomes)} seeds; nothing was held out, so there is no score.")
    else:
        listed = ", ".join(f"{score:.4f}" for score in scores)
        typer.echo(f"{metric} over {len(scores)} seeds: {scores.mean():.4f} ± {scores.std(ddof=1):.4f} ({listed})")


def _note_end(
    given: list[Corpus | Labelled | XmcDataset], source: str, output: Path, seeds: int | None, reporter: RichReporter
) -> None:
    """What reading the data dropped, and where to go from here."""
    from retriever.data.corpus import Corpus
    from retriever.data.labelled import Labelled
    from retriever.data.xmc_points import XmcDataset

    for part in given:
        if isinstance(part, Corpus):
            options.note_counts(part, None, reporter)
    if seeds is None:
        following = {
            Corpus: f"index build {output} {source} --output INDEX",
            Labelled: f"index build {output} CORPUS --output INDEX",
            XmcDataset: f"eval xmc {output} {source}",
        }[type(given[0])]
        reporter.note(f"The model is in {output}. Next: retriever {following}")
    else:
        reporter.note(f"The models are in {output}. Next: retriever compare {output} OTHER")
