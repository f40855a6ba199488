"""``retriever eval sts``: does the model order pairs of sentences as people do?"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json

if TYPE_CHECKING:
    from retriever.eval.sts import StsResults


class Aggregate(str, Enum):
    """How the subsets of a set make one score."""

    all = "all"
    mean = "mean"
    wmean = "wmean"


class PairSimilarity(str, Enum):
    """How two vectors are compared."""

    cosine = "cosine"
    dot = "dot"
    euclidean = "euclidean"


class Split(str, Enum):
    """Which pairs of STS-B, SICK and the sets of one language."""

    test = "test"
    dev = "dev"
    train = "train"
    all = "all"


def sts(
    model: Annotated[str, typer.Argument(help="A model folder or a hub name.")],
    data: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder of STS sets in SentEval's layout, or one of them."),
    ],
    aggregate: Annotated[
        Aggregate, typer.Option(help="all: one Spearman over all subsets of a set; mean, wmean: over their Spearmans.")
    ] = Aggregate.all,
    lower: Annotated[
        bool, typer.Option("--lower", help="Lower-case the texts, as SentEval's download script does.")
    ] = False,
    split: Annotated[Split, typer.Option(help="dev: STS-B dev and SICK trial; all: every pair there is.")] = Split.test,
    sick: Annotated[Split | None, typer.Option(help="Another split for SICK: all for the 9,927 pairs of MTEB.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="A set to evaluate, such as STSB; can be repeated.")] = None,
    similarity: Annotated[PairSimilarity, typer.Option(help="How vectors are compared.")] = PairSimilarity.cosine,
    kind: Annotated[options.Kind, typer.Option(help="Whose prompt both sentences get, if the model has any.")] = (
        options.Kind.document
    ),
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples; 0 for no intervals.")] = 1_000,
    report: Annotated[Path | None, typer.Option(help="An HTML report to write.")] = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate on STS12 to STS16, STS-B, SICK-R and STS-B of other languages: Spearman, with bootstrap intervals.

    retriever eval sts model data/sts --json
    """
    from retriever.data.sts import load_sts
    from retriever.encoder import Encoder
    from retriever.eval.report import write_report
    from retriever.eval.sts import evaluate_sts
    from retriever.eval.sts_published import published
    from retriever.eval.sts_tables import conditions, sts_sections, sts_table

    options.use_threads(threads)
    reporter = RichReporter(quiet)
    sets = load_sts(data, split=split.value, sick=None if sick is None else sick.value, only=only or ())
    encoder = Encoder.load(model, device)
    with reporter.stage("encode") as advance:
        results = evaluate_sts(
            encoder,
            sets,
            aggregate=aggregate.value,
            similarity=similarity.value,
            lower=lower,
            kind=kind.value,
            resamples=resamples,
            dtype=dtype,
            progress=advance,
        )
    _note(data, results, reporter, told=not only and split in (Split.test, Split.all))
    options.note_truncated(encoder, reporter)
    comparable = results.aggregate == "all" and results.similarity == "cosine"
    known = published(model, results.splits) if comparable else {}
    if report is not None:
        write_report(report, f"Evaluation of {model}", sts_sections(results, known))
    if json:
        print_json(results.to_json() | ({"published": known} if known else {}))
    else:
        console = Console(soft_wrap=True)
        console.print(f"{model} on {data}: {conditions(results)}; correlations × 100", markup=False, highlight=False)
        console.print(sts_table(results, known))


def _note(data: Path, results: StsResults, reporter: RichReporter, *, told: bool) -> None:
    """Say which rows were dropped, and which of the seven sets are lacking where some are there and all are wanted."""
    from retriever.data.sts import SEVEN

    if dropped := [f"{count:,} of {name}" for name, count in results.dropped.items() if count]:
        reporter.note(f"Rows without a gold score, dropped: {', '.join(dropped)}.")
    if told and 0 < len(results.missing) < len(SEVEN):
        reporter.note(f"{data} lacks {', '.join(results.missing)}: no average over the seven sets.")
