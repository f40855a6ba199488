"""``retriever eval``: how good is a model, beside BM25 and the hybrid of both."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json

if TYPE_CHECKING:
    from retriever.eval.beir import Results
    from retriever.eval.macro import Macro

app = typer.Typer(no_args_is_help=True, help="Evaluate a model.")


@app.callback()
def _group() -> None:
    pass


SHOWN = ("ndcg@10", "recall@10", "recall@100", "mrr@10", "map")  # in the table of a data set; JSON and report have all
SUMMARY = ("ndcg@10", "recall@100")  # in the table over several data sets


@app.command("beir")
def beir(
    model: Annotated[str, typer.Argument(help="A model folder or a hub name.")],
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="BEIR folders, or folders of BEIR folders (languages, forums)."),
    ],
    split: Annotated[str, typer.Option(help="Which judgments: qrels/SPLIT.tsv.")] = "test",
    similarity: options.Compare = None,
    normalise_text: Annotated[
        bool, typer.Option("--normalise-text", help="Map look-alike quotes, dashes and the like to ASCII first.")
    ] = False,
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
    """Evaluate on BEIR folders: dense, BM25 and hybrid, with 95 % bootstrap intervals, and the mean over the sets.

    retriever eval beir model data/scifact data/mrtydi --json
    """
    from retriever.encoder import Encoder
    from retriever.eval.beir import evaluate_beir
    from retriever.eval.macro import macro_means, open_datasets
    from retriever.eval.tables import metrics_table, summary_table

    options.use_threads(threads)
    reporter = RichReporter(quiet)
    datasets = open_datasets(data, split)
    encoder = Encoder.load(model, device)
    found = []
    for dataset in datasets:
        with reporter.stage(dataset.name) as advance:
            results = evaluate_beir(
                encoder,
                dataset,
                similarity=None if similarity is None else similarity.value,
                normalise_text=normalise_text,
                dtype=dtype,
                progress=advance,
            )
        options.note_counts(dataset.corpus, encoder, reporter)
        if run_files is not None:
            results.write_runs(run_files)
        if not json:
            shown = {mode: {name: of_mode[name] for name in SHOWN} for mode, of_mode in results.metrics.items()}
            asked = options.counted(results.queries, "query", "queries")
            title = f"{results.dataset} ({results.split}, {asked})"
            Console().print(metrics_table(shown, results.intervals, title=title))
        found.append(results)
    means = macro_means(found)
    rows = {results.dataset: results.metrics for results in found} | {macro.label: macro.metrics for macro in means}
    if report is not None:
        _write_report(report, model, found, means)
    if json:
        documents = [results.to_json() for results in found]
        print_json(documents[0] if len(documents) == 1 else {"results": documents, **_averages(means)})
    elif means:
        Console().print(summary_table(rows, SUMMARY, title=f"{len(found)} data sets"))


def _averages(means: list[Macro]) -> dict[str, Any]:
    """The mean over everything, and those of groups."""
    groups = {"groups": [macro.to_json() for macro in means[:-1]]} if len(means) > 1 else {}
    return groups | {"macro": means[-1].to_json()}


def _write_report(path: Path, model: str, found: list[Results], means: list[Macro]) -> None:
    """A summary of several data sets, then one section a data set."""
    from retriever.eval.plots import bars_svg
    from retriever.eval.report import Section, figure_block, metrics_block, write_report

    rows = {results.dataset: results.metrics for results in found} | {macro.label: macro.metrics for macro in means}
    summary = [
        metrics_block(
            {mode: {row: metrics[mode][name] for row, metrics in rows.items()} for mode in found[0].metrics},
            caption=name,
        )
        for name in found[0].metrics["dense"]
    ]
    sections = [Section("Summary", summary)] if means else []
    sections += [
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
