"""The output folder of a run: what lies in it, and whose it is.

It holds ``recipe.yaml``, ``log.jsonl``, ``curve.png`` and the model; during the run, a checkpoint. A run has it for
itself, under a lock that the system takes back when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from retriever.encoder import Encoder
from retriever.encoder.own_tokens import FILE as OWN_TOKENS
from retriever.errors import DataError, OutputError, RecipeError, RetrieverError
from retriever.files import check_beginning, write_atomically
from retriever.reporting import Reporter
from retriever.training import parallel
from retriever.training.checkpoint import remove_checkpoints
from retriever.training.curve import draw_curve
from retriever.training.outcome import cut_torn_line
from retriever.training.recipe import Recipe
from retriever.training.recipebook import load_recipe, to_yaml
from retriever.training.trainer import LOG

RECIPE, CURVE, MARK = "recipe.yaml", "curve.png", "modules.json"


def publish(encoder: Encoder, folder: Path, metric: str | None, reporter: Reporter) -> None:
    """Move the finished model into the run's folder, its mark last, and drop the checkpoints.

    Raises:
        OutputError: The folder cannot be written.
    """
    staged = folder / ".model"
    encoder.save(staged, overwrite=True)
    try:
        draw_curve(folder / LOG, folder / CURVE, metric)
    except DataError:
        pass  # a run too short to log
    except RetrieverError as error:
        reporter.note(str(error))
    for path in sorted(staged.iterdir(), key=lambda path: path.name == MARK):
        target = folder / path.name
        if target.is_dir():
            shutil.rmtree(target)
        path.replace(target)
    staged.rmdir()
    remove_checkpoints(folder)
    encoder.path = folder


def check_output(folder: Path, settings: Recipe, resume: bool, overwrite: bool) -> None:
    """See that the output folder can be this run's own.

    Raises:
        OutputError: It holds a model or a run that is not to be replaced, something else, or nothing to resume; or it
            is both to be resumed and to be replaced.
        RecipeError: The run to resume had another recipe.
    """
    check_beginning(resume, overwrite)
    finished, begun = (folder / MARK).exists(), (folder / RECIPE).exists()
    if resume:
        if finished:
            raise OutputError(f"The run in {folder} is complete; there is nothing to resume.")
        if not begun:
            raise OutputError(f"There is no run in {folder} to resume; leave --resume out to start one.")
        if load_recipe(folder / RECIPE) != settings:
            raise RecipeError(
                f"The run in {folder} had another recipe; resume it with {folder / RECIPE} as the recipe, or start "
                "anew with --overwrite."
            )
        return
    if not overwrite and (finished or begun):
        what, way = ("a model", "choose") if finished else ("an unfinished run", "pass --resume to go on, choose")
        raise OutputError(f"{folder} already holds {what}; {way} another folder, or pass --overwrite.")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not finished and not begun):
        raise OutputError(f"{folder} holds something else than a model; choose another folder.")


@contextmanager
def claimed(folder: Path, settings: Recipe, resume: bool, overwrite: bool) -> Iterator[None]:
    """Make the output folder this run's own: locked, without what another one left, and with the recipe.

    Raises:
        OutputError: Another process trains in it, or it is not this run's to have.
        RecipeError: As :func:`check_output`.
    """
    with ExitStack() as lock:
        with parallel.main_first():
            if parallel.rank() == 0:
                lock.enter_context(_locked(folder))
                check_output(folder, settings, resume, overwrite)  # another run may have been faster
                if resume:
                    cut_torn_line(folder / LOG)
                else:
                    _clear(folder)
                    write_atomically(folder / RECIPE, to_yaml(settings))
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder, which is made; where the file system has no locks, nothing does.

    Raises:
        OutputError: Another process trains in it, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise OutputError(
            f"Cannot write {folder} ({error.strerror}): choose a place with room and write access."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise OutputError(
            f"Another process is training in {folder}: wait until it is done, or choose another folder."
        ) from error
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def _clear(folder: Path) -> None:
    """Remove what another run left."""
    if (folder / MARK).exists():
        _remove_modules(folder)
    for name in (MARK, LOG, CURVE, OWN_TOKENS):
        (folder / name).unlink(missing_ok=True)
    remove_checkpoints(folder)


def _remove_modules(folder: Path) -> None:
    """Remove the sub-folders of a model's modules, which a model with other modules would not replace.

    Raises:
        OutputError: The list of the modules is damaged.
    """
    try:
        modules = json.loads((folder / MARK).read_text(encoding="utf-8"))
        parts = [folder / module["path"] for module in modules]
    except (ValueError, TypeError, KeyError) as error:
        raise OutputError(f"{folder / MARK} is damaged: remove {folder}, or choose another folder.") from error
    for part in parts:
        if part.parent == folder and part.is_dir():
            shutil.rmtree(part)
