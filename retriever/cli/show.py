"""What a person sees: progress bars and sentences on stderr, tables or one JSON object on stdout."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from retriever.reporting import Advance, Reporter

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def error_console() -> Console:
    """Where progress, notes and errors go; names between colons stay as they are."""
    return Console(stderr=True, soft_wrap=True, emoji=False)


def output_console() -> Console:
    """Where answers for people go; names between colons, as in an id ``a:x:b``, stay as they are."""
    return Console(soft_wrap=True, emoji=False)


def as_json(value: Any) -> str:  # noqa: ANN401 — any JSON value
    """A JSON object as it is printed and filed."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def print_json(value: Any) -> None:  # noqa: ANN401 — any JSON value
    """Exactly one JSON object on stdout, in ASCII where stdout does not know a character."""
    text = as_json(value)
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    print(text)  # noqa: T201 — the command's answer


def harmless(text: str) -> str:
    """A text from outside without the control characters by which it could steer a terminal."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


class RichReporter(Reporter):
    """Draws a bar a stage on a terminal, and writes a line a stage elsewhere."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = error_console()
        self.console.quiet = quiet

    def note(self, sentence: str) -> None:
        """Print a sentence."""
        self.console.print(sentence, markup=False, highlight=False)

    @contextmanager
    def stage(self, name: str, total: int | None = None, start: int = 0) -> Iterator[Advance]:
        """Show a stage while it runs, and one line of what it did afterwards."""
        began, done, shown = time.perf_counter(), start, dict[str, Any]()
        columns = (
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[values]}"),
        )
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(name, total=total, completed=start, values="")

            def advance(count: int = 1, **fields: Any) -> None:
                nonlocal done
                done += count
                shown.update(fields)
                progress.update(task, advance=count, values=_summary(shown))

            yield advance
        seconds = time.perf_counter() - began
        self.note(f"{name:<11} {done:>9,}   {seconds:6.1f} s   {_summary(shown)}".rstrip())


def _summary(fields: dict[str, Any]) -> str:
    """The few numbers that fit beside a bar."""
    names = {"loss": "loss", "accuracy": "accuracy", "tokens_per_second": "tokens/s"}
    shown = {label: fields[name] for name, label in names.items() if name in fields}
    shown |= {name: value for name, value in fields.items() if "@" in name or name in ("spearman", "align_uniform")}
    return "  ".join(
        f"{label} {value:,.3f}" if isinstance(value, float) else f"{label} {value:,}" for label, value in shown.items()
    )
