"""Checkpoints: everything a run needs to go on as if it had never stopped.

A checkpoint is a folder ``checkpoint-STEP`` that appears whole or not at all; the one before it is deleted only then.
Random numbers are no part of it: they are functions of the seed and the step.
"""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retriever.errors import ModelError
from retriever.files import replacing

FILE = "state.pt"


@dataclass
class State:
    """The state of a run after ``step`` updates."""

    step: int = 0
    model: dict[str, Tensor] = field(default_factory=dict)
    optimizers: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)  # weights of the best step; empty before the first evaluation
    best_step: int = 0
    best_score: float = -math.inf
    evaluated: int = -1  # the last step that was evaluated
    stale: int = 0  # evaluations since the best one
    flat: int = 0  # steps in a row whose loss was that of a guess
    momentum: dict[str, Tensor] = field(default_factory=dict)  # weights of the momentum encoder, if there is one
    queue: dict[str, Tensor] = field(default_factory=dict)  # keys remembered, if any are
    head: dict[str, Tensor] = field(default_factory=dict)  # weights of the training head, if it has any
    kept: dict[str, Tensor] = field(default_factory=dict)  # shortlists or vectors of labels, if any are
    data: str = ""  # fingerprint of the tokens trained on


def save_checkpoint(folder: Path, state: State) -> None:
    """Write a checkpoint and drop the older ones.

    Raises:
        OutputError: The disk is full or the folder cannot be written; the older checkpoint is then still there.
    """
    path = folder / f"checkpoint-{state.step:08d}"
    if not path.exists():
        with replacing(path) as temporary:
            torch.save(vars(state), temporary / FILE)
    for older in _checkpoints(folder):
        if older != path:
            shutil.rmtree(older, ignore_errors=True)


def load_checkpoint(folder: Path) -> State | None:
    """The newest checkpoint of a run, or None if it has none.

    Raises:
        ModelError: It cannot be read.
    """
    found = _checkpoints(folder)
    if not found:
        return None
    path = found[-1] / FILE
    try:
        return State(**torch.load(path, map_location="cpu", weights_only=True, mmap=True))
    except (OSError, RuntimeError, TypeError, ValueError, EOFError) as error:
        raise ModelError(f"The checkpoint {path} cannot be read: delete its folder and resume again.") from error


def remove_checkpoints(folder: Path) -> None:
    """Drop all checkpoints of a run that is complete."""
    for path in _checkpoints(folder):
        shutil.rmtree(path, ignore_errors=True)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d{8}", path.name))
