"""A folder of text and Markdown files: a document a file, named by its path below the folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from retriever.data.readers import Record, Reject, cannot_read, not_utf8
from retriever.errors import DataError

MARKDOWN = (".md", ".markdown")
ENDINGS = (".txt", ".rst", *MARKDOWN)
HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*")
FENCE = ("```", "~~~")


def text_files(folder: Path) -> list[Path]:
    """The text files below a folder, sorted by path; hidden files and folders are left out.

    Raises:
        DataError: There is none.
    """
    files = [
        path
        for path in sorted(folder.rglob("*"), key=lambda path: path.relative_to(folder).as_posix())
        if path.suffix.lower() in ENDINGS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not files:
        raise DataError(
            f"The folder {folder} holds nothing to read: give one with {', '.join(ENDINGS)} files, a BEIR folder with "
            "corpus.jsonl, or a data set saved by `datasets`."
        )
    return files


def read_files(folder: Path, files: Sequence[Path], reject: Reject) -> Iterator[Record]:
    """Each file as a record with an id, a text and, for Markdown, the first heading as its title.

    Raises:
        DataError: A file cannot be read.
    """
    for path in files:
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise cannot_read(path, error) from error
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            reject(not_utf8(f"{path}:{line}", error))
            continue
        title, text = split_heading(text) if path.suffix.lower() in MARKDOWN else ("", text)
        yield str(path), {"id": path.relative_to(folder).as_posix(), "title": title, "text": text.strip()}


def split_heading(text: str) -> tuple[str, str]:
    """The first ``#`` heading outside a code block, and the text without its line; ``""`` if there is none."""
    lines = text.splitlines(keepends=True)
    fenced = False
    for number, line in enumerate(lines):
        if line.lstrip().startswith(FENCE):
            fenced = not fenced
        elif not fenced and (match := HEADING.fullmatch(line.rstrip("\r\n"))):
            return match[1], "".join(lines[:number] + lines[number + 1 :])
    return "", text
