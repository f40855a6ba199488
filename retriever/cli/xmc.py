"""``retriever eval xmc`` and ``retriever predict``: which labels does a text get?"""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retriever.cli import options
from retriever.cli.show import RichReporter, harmless, output_console, print_json
from retriever.errors import DataError

if TYPE_CHECKING:
    from retriever.data.xmc_points import XmcDataset
    from retriever.eval.xmc_ranking import Mode


class Split(str, Enum):
    """Which points are evaluated."""

    test = "test"
    validation = "validation"


TitlesOnly = Annotated[
    bool, typer.Option("--titles-only", help="Read titles without contents, as LF-AmazonTitles data sets do.")
]


def xmc(
    model: Annotated[str, typer.Argument(help="A model folder or a hub name.")],
    data: Annotated[Path, typer.Argument(metavar="DIR", help="An XMC folder, or a JSONL file of texts with labels.")],
    split: Annotated[
        Split, typer.Option(help="test, or validation: a tenth of the training points, held out.")
    ] = Split.test,
    a: Annotated[float | None, typer.Option("--a", help="A of the propensity model; by the data set's name.")] = None,
    b: Annotated[float | None, typer.Option("--b", help="B of the propensity model; likewise.")] = None,
    depth: Annotated[int, typer.Option(help="Labels kept for each point, at least 100.")] = 100,
    bm25: Annotated[bool, typer.Option("--bm25/--no-bm25", help="BM25 on the labels' texts beside the model.")] = True,
    hybrid: Annotated[bool, typer.Option("--hybrid", help="Both of them fused, too.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="The training points as a memory, too.")] = False,
    keep_unlabelled: Annotated[
        bool, typer.Option("--keep-unlabelled", help="Let points without labels count, as 0.")
    ] = False,
    no_filter: Annotated[
        bool, typer.Option("--no-filter", help="Leave the pairs of the filter file in the predictions.")
    ] = False,
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate-labels", help="Make labels with the same text one label.")
    ] = False,
    titles_only: TitlesOnly = False,
    similarity: options.Compare = None,
    resamples: Annotated[int, typer.Option(min=0, help="Bootstrap resamples; 0 for no intervals.")] = 1_000,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate on extreme multi-label data: P, PSP, nDCG, PSnDCG and recall, by label frequency, beside BM25.

    retriever eval xmc model data/LF-AmazonTitles-131K --json
    """
    from retriever.data.xmc import load_xmc
    from retriever.data.xmc_points import deduplicate_labels
    from retriever.encoder import Encoder
    from retriever.eval.xmc import evaluate_xmc
    from retriever.eval.xmc_tables import conditions, group_table, sentences, xmc_table

    options.use_threads(threads)
    reporter = RichReporter(quiet)
    dataset = load_xmc(data, titles_only=titles_only)
    if deduplicate:
        dataset = deduplicate_labels(dataset)
    modes: list[Mode] = ["dense"]
    modes += ["memory"] if memory else []
    modes += ["bm25"] if bm25 else []
    modes += ["hybrid"] if hybrid else []
    encoder = Encoder.load(model, device)
    with reporter.stage("encode") as advance:
        results = evaluate_xmc(
            encoder,
            dataset,
            split=split.value,
            modes=modes,
            a=a,
            b=b,
            depth=depth,
            keep_unlabelled=keep_unlabelled,
            use_filter=not no_filter,
            similarity=None if similarity is None else similarity.value,
            resamples=resamples,
            dtype=dtype,
            progress=advance,
        )
    for sentence in sentences(results):
        reporter.note(sentence)
    options.note_truncated(encoder, reporter)
    if json:
        print_json(results.to_json())
        return
    console = output_console()
    console.print(f"{model} on {conditions(results)}", markup=False, highlight=False)
    console.print(xmc_table(results))
    console.print(group_table(results))


def predict(
    model: Annotated[str, typer.Argument(help="A model folder or a hub name.")],
    labels: Annotated[
        Path,
        typer.Argument(metavar="LABELS", help="An XMC folder, or a file of labels: a label a line, or JSON lines."),
    ],
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Texts to label; - reads one a line.")],
    k: Annotated[int, typer.Option("-k", "--top-k", min=1, help="Labels to show for each text.")] = 5,
    memory: Annotated[
        bool, typer.Option("--memory", help="Learn from the training points of LABELS, an XMC folder, too.")
    ] = False,
    titles_only: TitlesOnly = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Label texts: the labels whose text is nearest.

    retriever predict model data/reuters "Coffee exports rose in March" -k 3
    """
    from retriever.data.xmc import load_labels
    from retriever.encoder import Encoder
    from retriever.eval.report import snippet
    from retriever.indexing.label_memory import LabelMemory
    from retriever.indexing.labels import LabelIndex

    options.use_threads(threads)
    reporter = RichReporter(quiet)
    dataset = _remembered(labels, titles_only) if memory else None
    known = load_labels(labels, titles_only=titles_only) if dataset is None else dataset.labels
    texts = _read(texts)
    encoder = Encoder.load(model, device)
    with reporter.stage("encode") as advance:
        index = LabelIndex.build(encoder, known, dtype=dtype, progress=advance)
        if dataset is not None:
            index = LabelMemory.remember(index, dataset.train, dtype=dtype, progress=advance)
    found = index.predict(texts, k, dtype=dtype)
    options.note_truncated(encoder, reporter)
    if json:
        tagged = zip(texts, found, strict=True)
        print_json({"predictions": [{"text": text, "labels": [asdict(tag) for tag in tags]} for text, tags in tagged]})
        return
    console = output_console()
    for text, tags in zip(texts, found, strict=True):
        console.print(harmless(snippet(text, 100)), style="bold", markup=False, highlight=False)
        for tag in tags:
            about = "" if tag.text == tag.label else f"  {snippet(tag.text, 100)}"
            console.print(harmless(f"  {tag.score:7.3f}  {tag.label}{about}"), markup=False, highlight=False)
        if not tags:
            console.print("           no label")


def _read(texts: list[str]) -> list[str]:
    """The texts given, or those on standard input, one a line.

    Raises:
        DataError: One of them is not UTF-8.
    """
    if texts == ["-"]:
        lines = options.read_stdin().split("\n")
        texts = [line.removesuffix("\r") for line in lines if line.strip()]
    for number, text in enumerate(texts, 1):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"Text {number} is not UTF-8: convert it, for example with `iconv -t utf-8`.") from error
    return texts


def _remembered(data: Path, titles_only: bool) -> XmcDataset:
    """The data set whose training points are the memory."""
    from retriever.data.xmc import load_xmc

    try:
        return load_xmc(data, titles_only=titles_only)
    except DataError as error:
        raise DataError(f"--memory takes training points from LABELS, a data set: {error}") from error
