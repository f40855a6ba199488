"""The log of a run, JSON lines, the last of which tells what came of it: the step that was kept and how it scored."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from retriever.errors import DataError
from retriever.training import parallel


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
        step: Whose weights the model has.
        metric: What chose it; None where there was nothing to choose by.
        metrics: All scores of these weights; none where nothing was evaluated.
        seconds: From the start of the process that finished the run to the end of training.
    """

    step: int
    metric: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def add_line(log: Path, entry: dict[str, Any]) -> None:
    """Append an entry to a log; of several processes the first one does."""
    if parallel.rank() == 0:
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def write_outcome(log: Path, outcome: Outcome) -> None:
    """Append it to a log."""
    told = asdict(outcome)
    add_line(log, {"step": told.pop("step"), "kept": told})


def cut_torn_line(log: Path) -> None:
    """Cut off the end of a log that is no whole line: a full disk tore it."""
    written = log.read_bytes() if log.exists() else b""
    if not written.endswith(b"\n") and written:
        os.truncate(log, written.rfind(b"\n") + 1)


def read_outcome(log: Path) -> Outcome:
    """Read the last line of a log.

    Raises:
        DataError: There is no such log, or the run has not ended.
    """
    try:
        last = json.loads(log.read_text(encoding="utf-8").rstrip("\n").rpartition("\n")[2])
        return Outcome(last["step"], **last["kept"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{log.parent} holds no finished run; finish it with `retriever train … --resume`.") from error


def scores_of(log: Path, step: int, share: float | None) -> dict[str, float]:
    """What a step scored, or a share of its weights averaged with those before training; nothing if it has no score."""
    found: dict[str, float] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if share is None and entry.get("step") == step:
            found = entry.get("evaluation", found)
        elif share is not None and entry.get("share") == share:
            found = {name: value for name, value in entry.items() if name != "share"}
    return found
