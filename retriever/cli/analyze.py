"""``retriever analyze``: how a model's vectors lie on the sphere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console

from retriever.cli import options
from retriever.cli.show import RichReporter, as_json, print_json

if TYPE_CHECKING:
    from retriever.data.sts import Split
    from retriever.eval.analysis import Analysis

FALLBACK = "STSB"  # the set to analyse where a folder holds several


def analyze(
    model: Annotated[str, typer.Argument(help="A model folder or a hub name.")],
    data: Annotated[str, typer.Argument(help=f"A folder of STS sets, one of them, or a corpus: {options.DATA_HELP}")],
    split: Annotated[
        str | None, typer.Option(help="Of STS sets train, dev, test or all (test if omitted); of a dataset its own.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help=f"An STS set, {FALLBACK} if omitted; can be repeated to pool several.")
    ] = None,
    texts: Annotated[int, typer.Option(min=2, help="Texts of a corpus to look at, drawn at random.")] = 5_000,
    seed: Annotated[int, typer.Option(help="Seed of that draw.")] = 0,
    kind: Annotated[options.Kind, typer.Option(help="Whose prompt the texts get, if the model has any.")] = (
        options.Kind.document
    ),
    output: Annotated[Path | None, typer.Option(help="Folder for the pictures and analysis.json.")] = None,
    text_field: options.TextField = None,
    title_field: options.TitleField = None,
    id_field: options.IdField = None,
    skip_bad_lines: options.SkipBadLines = False,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Alignment, uniformity, anisotropy, effective rank and cosines by gold score, on STS sets or on a corpus.

    retriever analyze model data/sts --output analysis
    """
    from retriever.data.sts import find_sts, load_sts
    from retriever.encoder import Encoder
    from retriever.errors import DataError
    from retriever.eval.analysis import analyze_sts, analyze_texts, sample

    options.use_threads(threads)
    reporter = RichReporter(quiet)
    found = find_sts(Path(data).expanduser())
    fields = (text_field, title_field, id_field)
    if found:
        if any(fields) or skip_bad_lines:
            raise DataError(
                f"{data} holds STS sets, which have no fields to name and no lines to skip: leave that out."
            )
        sets = load_sts(
            data, split=cast("Split", split or "test"), only=only or ([FALLBACK] if FALLBACK in found else ())
        )
    elif only:
        raise DataError(f"--only names an STS set, and {data} holds none: leave it out.")
    else:
        corpus = options.read_corpus(data, *fields, skip_bad_lines, split or "train")
        drawn = sample((document.content for document in corpus if document.content), texts, seed)
        options.note_counts(corpus, None, reporter)
    encoder = Encoder.load(model, device)
    with reporter.stage("encode") as advance:
        if found:
            analysis = analyze_sts(encoder, sets, kind=kind.value, dtype=dtype, progress=advance)
        else:
            analysis = analyze_texts(encoder, drawn, kind=kind.value, dtype=dtype, progress=advance)
    _note(analysis, reporter)
    options.note_truncated(encoder, reporter)
    if output is not None:
        _write(analysis, output, reporter)
    if json:
        print_json(analysis.to_json())
    else:
        _print(analysis, model, data)


def _note(analysis: Analysis, reporter: RichReporter) -> None:
    """Say what the measures alone do not tell."""
    if analysis.zeros:
        reporter.note(f"Texts left out because their vector is all zeros: {analysis.zeros:,}.")
    if analysis.pairs and not analysis.positives:
        reporter.note("No pair has a gold score above 4: there is no alignment.")
    if analysis.collapsed:
        reporter.note("The model gives all texts the same vector: it has collapsed.")


def _write(analysis: Analysis, folder: Path, reporter: RichReporter) -> None:
    """Pictures and numbers into a folder."""
    from retriever.eval.analysis_plots import draw_analysis
    from retriever.files import write_atomically

    pictures = draw_analysis(analysis, folder)
    write_atomically(folder / "analysis.json", as_json(analysis.to_json()) + "\n")
    reporter.note(f"{folder} holds analysis.json, {', '.join(path.name for path in pictures)}.")


def _print(analysis: Analysis, model: str, data: str) -> None:
    """Tables on stdout."""
    from retriever.eval.analysis_tables import buckets_table, measures_table

    console = Console(soft_wrap=True)
    sets = ", ".join(f"{name} {split}" for name, split in analysis.sets.items())
    heading = f"{model} on {data}" + (f", {sets}" if sets else "") + f": {analysis.texts:,} distinct texts"
    console.print(heading, markup=False, highlight=False)
    console.print(measures_table(analysis))
    if analysis.buckets:
        console.print(buckets_table(analysis))
