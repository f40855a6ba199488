"""``retriever mine``: hard negatives for labelled training data."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json
from retriever.errors import DataError

if TYPE_CHECKING:
    from retriever.data.labelled import Labelled
    from retriever.indexing.mining_report import MiningReport

MAX_RATIO = 0.95  # NV-Retriever's


class Sampling(str, Enum):
    """Which of the candidates to take."""

    top = "top"
    random = "random"


def mine(
    model: Annotated[str, typer.Argument(help="A model folder or a hub name.")],
    data: Annotated[
        str,
        typer.Argument(help="A BEIR folder, a file of queries and positives (JSONL, DPR JSON …), or triples of ids."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .jsonl file to write.")] = ...,  # type: ignore[assignment]
    corpus: Annotated[
        Path | None, typer.Option(help="What to mine from beside the texts of DATA; for triples, their BEIR folder.")
    ] = None,
    split: Annotated[str, typer.Option(help="Which judgments of a BEIR folder: qrels/SPLIT.tsv.")] = "train",
    negatives: Annotated[int, typer.Option(help="Negatives a query, at most.")] = 7,
    ranks: Annotated[str, typer.Option(help="Ranks to take, FIRST:LAST, positives not counted.")] = "10:100",
    margin: Annotated[
        float | None, typer.Option(help="A negative scores at most the lowest positive minus this.")
    ] = None,
    max_ratio: Annotated[
        float | None,
        typer.Option(
            "--max-ratio",
            help=f"… at most this share of it; {MAX_RATIO} if no margin is given, inf for no limit.",
            show_default=False,
        ),
    ] = None,
    bm25: Annotated[str, typer.Option(help="Negatives from BM25: a number, or a share such as 0.5.")] = "0",
    sampling: Annotated[Sampling, typer.Option(help="top takes the best ranks, random any.")] = Sampling.top,
    seed: Annotated[int, typer.Option(min=0, help="Of random sampling.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with OUTPUT.part.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    skip_bad_lines: options.SkipBadLines = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Mine hard negatives: what the model ranks high for a training query although it is no answer.

    retriever mine model data/scifact --output hard.jsonl
    """
    from retriever.data.labelled import open_labelled
    from retriever.encoder import Encoder
    from retriever.indexing.mining import MiningOptions
    from retriever.indexing.mining import mine as run
    from retriever.indexing.mining_part import part_folder

    options.use_threads(threads)
    reporter = RichReporter(quiet)
    if margin is None and max_ratio is None:
        max_ratio = MAX_RATIO
    first, last = _ranks(ranks)
    chosen = MiningOptions(
        negatives=negatives,
        first=first,
        last=last,
        margin=margin,
        max_ratio=None if max_ratio == float("inf") else max_ratio,
        bm25=_count(bm25, negatives),
        sampling=sampling.value,
        seed=seed,
    )
    labelled = open_labelled(data, split=split, corpus=corpus, skip_bad_lines=skip_bad_lines)
    _note_counts(labelled, reporter)
    encoder = Encoder.load(model, device)
    try:
        report = run(
            encoder, labelled, output, chosen, dtype=dtype, resume=resume, overwrite=overwrite, reporter=reporter
        )
    except KeyboardInterrupt as stop:
        part = part_folder(output)
        if not part.exists():
            raise
        raise KeyboardInterrupt(
            f"Stopped; what is done is in {part}. Go on with:\n  {options.resume_command()}"
        ) from stop
    options.note_counts(labelled.documents, encoder, reporter)
    if bare := report.queries - report.with_negatives:
        asked = options.counted(bare, "query", "queries")
        reporter.note(f"{asked} got no negative: nothing in the ranks asked for scores low enough.")
    if json:
        print_json(report.to_json())
        return
    _print(report)
    reporter.note(
        f"The negatives are in {output}. Next: retriever train finetune --data {output} --output MODEL model={model}"
    )


def _ranks(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None:
        raise DataError(f"--ranks is {text!r}: give the first and the last rank, such as 10:100.")
    return int(match[1]), int(match[2])


def _count(text: str, negatives: int) -> int:
    """A number of negatives, or a share of them."""
    try:
        return int(text) if text.isdecimal() else round(_share(float(text)) * negatives)
    except ValueError as error:
        raise DataError(
            f"--bm25 is {text!r}: give a number of negatives such as 2, or a share of them such as 0.5."
        ) from error


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(value)
    return value


def _note_counts(labelled: Labelled, reporter: RichReporter) -> None:
    """Say what reading the data met."""
    counts = {
        "repeated, joined": labelled.report.repeated,
        "without a positive, left out": labelled.report.without_positives,
        "negatives that are positives, dropped": labelled.report.contradictions,
        "bad lines": labelled.report.bad_lines,
    }
    parts = [f"{name}: {count:,}" for name, count in counts.items() if count]
    asked = options.counted(len(labelled), "query", "queries")
    reporter.note(f"{labelled.name}: {asked}" + (f" ({'; '.join(parts)})." if parts else "."))


def _print(report: MiningReport) -> None:
    """The statistics as a table."""
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for heading in ("", "mean", "5 %", "median", "95 %"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, spread in report.spreads.items():
        beyond = f">{report.last}" if name == "positive rank" and report.found < 1 else "–"
        digits = 3 if name.endswith("score") else 0
        values = (spread.mean, spread.p5, spread.p50, spread.p95)
        table.add_row(name, *(beyond if value is None else f"{value:,.{digits}f}" for value in values))
    sources = ", ".join(f"{count:,} {source}" for source, count in report.sources.items())
    facts = {
        "queries": f"{report.queries:,}, {report.with_negatives:,} with negatives",
        "negatives": f"{report.negatives:,} ({sources}), {report.negatives / report.queries:.1f} a query",
        "left out": f"{report.false_negatives:,} likely false negatives: they score too near the positive",
        "pool": f"{report.documents:,} documents, {report.duplicates:,} of them copies",
        "positives": f"{report.found:.1%} ranked {report.last} or better",
    }
    for name, value in facts.items():
        console.print(f"{name:<10} {value}", highlight=False)
    console.print(table)
