"""``retriever eval mteb``: tasks of the Massive Text Embedding Benchmark, by the mteb package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from retriever.cli import options
from retriever.cli.show import RichReporter, print_json


def mteb(
    model: Annotated[str, typer.Argument(help="A model folder or a hub name.")],
    tasks: Annotated[list[str], typer.Argument(metavar="TASK...", help="Names such as STS12, STSBenchmark, SICK-R.")],
    data: Annotated[
        Path | None, typer.Option(help="A folder with copies of the tasks' hub datasets: FOLDER/mteb/sts12-sts …")
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate on tasks of MTEB, with mteb's own data and scores; needs the extra `mteb`.

    retriever eval mteb model STS12 STSBenchmark --json
    """
    from retriever.encoder import Encoder
    from retriever.errors import DataError
    from retriever.eval.mteb import AVERAGE, evaluate_mteb
    from retriever.eval.tables import metrics_table

    if data is not None and not data.is_dir():
        raise DataError(f"There is no folder {data}: give one that holds copies of hub datasets, or leave --data out.")
    options.use_threads(threads)
    reporter = RichReporter(quiet)
    encoder = Encoder.load(model, device)
    with reporter.stage("encode") as advance:
        results = evaluate_mteb(encoder, tasks, data=data, name=model, dtype=dtype, progress=advance)
    options.note_truncated(encoder, reporter)
    if json:
        print_json(results.to_json())
        return
    rows = {
        f"{task} ({results.measures[task]})" if task != AVERAGE else task: {"score": score}
        for task, score in results.metrics.items()
    }
    Console().print(metrics_table(rows, title=f"mteb {results.version}"))
