"""Files and folders that are either old or new, never half-written."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retriever.errors import OutputError, RetrieverError

FULL = os.strerror(errno.ENOSPC)
OF_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
BLOCK = 1 << 20  # bytes read at a time
LEAST = 1 << 20  # bytes: a disk with less room counts as full
AT_FDCWD, EXCHANGE = -100, 2  # renameat2(2): paths relative to the working folder; swap the two


def check_beginning(resume: bool, overwrite: bool) -> None:
    """See that a run or a build either goes on with what is there or replaces it.

    Raises:
        OutputError: It is to do both.
    """
    if resume and overwrite:
        raise OutputError("--resume goes on with what is there and --overwrite replaces it: pass one of the two.")


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
    path = Path(path).expanduser()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            sync(path.parent)
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

    Where the system can exchange two folders in one step (Linux), a process killed at any moment leaves the whole old
    folder or the whole new one. Elsewhere a kill between two renames can leave the old one as ``.NAME.old``.

    Raises:
        OutputError: The disk is full or the place cannot be written.
        OSError: The block met another one, as in reading.
    """
    folder = folder.resolve()  # a link to a folder stays a link
    temporary = folder.with_name(f".{folder.name}.tmp{os.getpid()}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process of the same id
        temporary.mkdir(parents=True)
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        _put(temporary, folder)
        sync(folder.parent)
    except RetrieverError:
        raise
    except Exception as error:
        if isinstance(error, OSError):
            if not (is_of(error, temporary) or is_of(error, folder)):
                raise
            reason = error.strerror or str(error)
        elif not (reason := _refusal(error, folder.parent)):
            raise
        raise OutputError(f"Cannot write {folder} ({reason}): choose a place with room.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refusal(error: Exception, place: Path) -> str:
    """Why the system let no more be written, if an error that is none of the system's tells of it; else nothing."""
    told = str(error)  # safetensors puts the system's words into its own, torch has none for a file cut short
    if found := [os.strerror(code) for code in sorted(OF_WRITING) if os.strerror(code) in told]:
        return found[0]
    if shutil.disk_usage(place).free < LEAST:
        return FULL
    return "no more could be written" if "inline_container" in told else ""


def is_of(error: OSError, place: Path) -> bool:
    """Whether an error is one of writing a file or a folder, and not of what was read or fetched meanwhile."""
    if not isinstance(error.filename, (str, bytes)):
        return error.errno in OF_WRITING
    path = Path(os.fsdecode(error.filename)).resolve()
    return path.is_relative_to(place) or place.is_relative_to(path)


def _put(new: Path, folder: Path) -> None:
    """Rename ``new`` to ``folder``; a folder that was there ends up under the name ``new`` or is gone."""
    if not folder.exists():
        new.rename(folder)
        return
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if _exchange(new, folder):
        return
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # in glibc since 2.28; Python has no binding
    return rename is not None and rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), EXCHANGE) == 0


def sha256(path: Path) -> str:
    """Hash of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Bring a file, or what a folder names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
