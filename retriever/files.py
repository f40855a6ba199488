"""Files and folders that are either old or new, never half-written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retriever.errors import OutputError


def write_atomically(path: str | Path, content: str | bytes) -> Path:
    """Write a whole file: a crash or a full disk leaves the old file, or none.

    Args:
        path: The file; missing parent folders are made.
        content: Text, written as UTF-8 with its line ends as they are, or bytes.

    Returns:
        The path.

    Raises:
        OutputError: The place cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot write {path} ({error.strerror}): choose a place with room and write access."
        ) from error
    return path


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A temporary sibling folder that takes the folder's place if the block succeeds and vanishes if it does not.

    Raises:
        OutputError: The disk is full or the place cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.tmp{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            _sync(path)
        old = folder.with_name(f".{folder.name}.old{os.getpid()}")
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        _sync(folder.parent)
    except OSError as error:
        raise OutputError(f"Cannot write {folder}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


