"""One writer at a time, by name.

1. A writer holds an exclusive flock(2) on the index folder. The system takes it back when the process ends, however it
   ends: a dead writer blocks nobody.
2. Who holds it writes its process id, host and time into ``.writer.json``, for others to read, and removes the file
   when it is done. The file alone means nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from retriever.errors import BusyError, OutputError
from retriever.files import write_atomically

WRITER = ".writer.json"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of a folder.

    Args:
        folder: A folder that exists.

    Raises:
        BusyError: Another process is writing it.
        OutputError: It cannot be locked.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"Cannot write the index {folder}: {error.strerror}.") from error
    try:
        _lock(descriptor, folder)
        now = datetime.now(timezone.utc).isoformat(" ", "seconds")
        write_atomically(folder / WRITER, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now}))
        try:
            yield
        finally:
            (folder / WRITER).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BusyError(f"{_holder(folder)}: wait until it is done.") from error
    except OSError as error:
        raise OutputError(
            f"The file system cannot lock {folder} ({error.strerror}): put the index on a local disk."
        ) from error
    if not folder.exists() or not os.path.samestat(os.fstat(descriptor), folder.stat()):
        raise BusyError(f"Another process has just removed {folder}: run the command again.")


def _holder(folder: Path) -> str:
    try:
        told = json.loads((folder / WRITER).read_text(encoding="utf-8"))
        return f"Process {told['pid']} on {told['host']} has been writing the index {folder} since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it holds the lock and has not written its name yet
        return f"Another process is writing the index {folder}"
