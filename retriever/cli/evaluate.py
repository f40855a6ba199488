"""``retriever eval``: how good is a model, beside BM25 and the hybrid of both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json

if TYPE_CHECKING:
    from retriever.eval.beir import Results

app = typer.Typer(no_args_is_help=True, help="Evaluate a model.")


@app.callback()
def _group() -> None:
    pass


@app.command("beir")
def beir(
    model: Annotated[str, typer.Argument(help="A model folder or a hub name.")],
    data: Annotated[list[Path], typer.Argument(metavar="DIR...", help="BEIR folders.")],
    split: Annotated[str, typer.Option(help="Which judgments: qrels/SPLIT.tsv.")] = "test",
    run_files: Annotated[
        Path | None, typer.Option("--run-files", help="Folder for the TREC run files DATASET.MODE.run.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="An HTML report to write.")] = None,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate on BEIR folders: dense, BM25 and hybrid, with 95 % bootstrap intervals.

    retriever eval beir model data/scifact --json
    """
    from retriever.data.beir import load_beir
    from retriever.encoder import Encoder
    from retriever.eval.beir import evaluate_beir
    from retriever.eval.tables import metrics_table

    options.use_threads(threads)
    reporter = RichReporter(quiet)
    datasets = [load_beir(folder, split) for folder in data]
    encoder = Encoder.load(model, device)
    found = []
    for dataset in datasets:
        with reporter.stage(dataset.name) as advance:
            results = evaluate_beir(encoder, dataset, dtype=dtype, progress=advance)
        options.note_counts(dataset.corpus, encoder, reporter)
        if run_files is not None:
            results.write_runs(run_files)
        if not json:
            title = f"{results.dataset} ({results.split}, {results.queries:,} queries)"
            Console().print(metrics_table(results.metrics, results.intervals, title=title))
        found.append(results)
    if report is not None:
        _write_report(report, model, found)
    if json:
        documents = [results.to_json() for results in found]
        print_json(documents[0] if len(documents) == 1 else {"results": documents})


def _write_report(path: Path, model: str, found: list[Results]) -> None:
    """One section a data set."""
    from retriever.eval.plots import bars_svg
    from retriever.eval.report import Section, figure_block, metrics_block, write_report

    sections = [
        Section(
            f"{results.dataset} ({results.split})",
            [
                metrics_block(results.metrics, results.intervals, caption=f"{results.queries:,} judged queries."),
                figure_block(bars_svg(results.metrics, results.intervals), f"All modes on {results.dataset}."),
            ],
        )
        for results in found
    ]
    write_report(path, f"Evaluation of {model}", sections)
