"""The documentation inside the running Python: a corpus everyone has.

1. Find the ``.py`` files of the standard library and of the installed packages, in sorted order.
2. Parse each in a worker process and collect the docstrings of modules, classes and functions. Nothing is imported; a
   file that does not parse is left out.
3. A docstring's first sentence becomes the title, the rest the text. One with fewer than 40 words after that is
   left out: too little to search in.
4. Drop texts that occurred before (inherited documentation), and number ids that several definitions share, such as
   the getter and the setter of a property.

The outcome is cached as gzipped JSON lines under a hash of what is installed.
"""

from __future__ import annotations

import ast
import gc
import gzip
import hashlib
import json
import platform
import re
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from retriever.data.cache import cache_dir
from retriever.data.document import Document
from retriever.data.sentences import first_sentence
from retriever.data.words import WORD
from retriever.data.workers import cores, worker_pool
from retriever.files import write_atomically

FORMAT = "3"  # raise it when the same installation gives another corpus
LEAST_WORDS = 40  # after the first sentence
SITE_FOLDERS = ("site-packages", "dist-packages")
SKIPPED_FOLDERS = {*SITE_FOLDERS, "__pycache__", "test", "tests", "_vendor"}
OWN_PACKAGE, OWN_DISTRIBUTION = "retriever", "dense_retriever"
RULE = re.compile(r"[=\-~^*#]{3,}")  # under and over a title in reStructuredText
FILES_A_TASK = 32

BLOCKS = ("body", "handlers", "orelse", "finalbody", "cases")  # where statements hold statements

Definition: TypeAlias = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def pydocs_file(roots: Sequence[Path] | None = None) -> Path:
    """The corpus as a cached ``.jsonl.gz`` file, made by :func:`read_pydocs` if it is not there yet.

    Args:
        roots: Folders that hold packages; by default those of the running Python.

    Raises:
        OutputError: The cache cannot be written.
    """
    roots = python_roots() if roots is None else roots
    path = cache_dir() / "pydocs" / f"{installation_fingerprint(roots)}.jsonl.gz"
    if not path.is_file():
        lines = map(_line, read_pydocs(roots))
        write_atomically(path, gzip.compress("".join(lines).encode(), compresslevel=6, mtime=0))
    return path


def read_pydocs(roots: Sequence[Path] | None = None, processes: int | None = None) -> list[Document]:
    """Extract the docstrings of all files below the roots, in a fixed order.

    Args:
        roots: Folders that hold packages; by default those of the running Python.
        processes: Worker processes; all cores if omitted.

    Returns:
        Documents whose metadata are the top-level ``package`` and the ``kind``: module, class or function.
    """
    roots = python_roots() if roots is None else roots
    files = [(root, path) for root in roots for path in _files(root)]
    documents: list[Document] = []
    bodies: set[bytes] = set()
    uses: Counter[str] = Counter()
    for found in _map(files, processes or cores()):
        for document in found:
            body = hashlib.blake2b(document.text.encode(), digest_size=16).digest()
            if body not in bodies:
                bodies.add(body)
                documents.append(_numbered(document, uses))
    return documents


def python_roots() -> list[Path]:
    """The standard library and every folder of installed packages on the search path."""
    sites = [path for path in map(Path, sys.path) if path.name in SITE_FOLDERS and path.is_dir()]
    return list(dict.fromkeys([Path(sysconfig.get_path("stdlib")), *sites]))


def installation_fingerprint(roots: Sequence[Path]) -> str:
    """Hash of the Python version and of the names and versions of the packages installed below the roots."""
    installed = sorted(
        path.name
        for root in roots
        for path in root.glob("*-info")  # NAME-VERSION.dist-info, or .egg-info of old
        if not path.name.startswith(f"{OWN_DISTRIBUTION}-")
    )
    return hashlib.sha256("\n".join([FORMAT, platform.python_version(), *installed]).encode()).hexdigest()[:32]


def docstrings(source: str | bytes, module: str) -> Iterator[tuple[str, str, str]]:
    """Dotted name, kind and docstring of a module's source and of everything defined in it, in source order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        tree = ast.parse(source)
    yield from _visit(tree, module)


def _visit(node: ast.AST, name: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(node, ast.Module | Definition) and (text := ast.get_docstring(node)):
        yield name, _kind(node), text
    for block in BLOCKS:
        for child in getattr(node, block, ()):
            yield from _visit(child, f"{name}.{child.name}" if isinstance(child, Definition) else name)


def _kind(node: ast.Module | Definition) -> str:
    if isinstance(node, ast.Module):
        return "module"
    return "class" if isinstance(node, ast.ClassDef) else "function"


def _files(root: Path) -> list[Path]:
    """The Python files below a root, relative to it and sorted; tests and our own package left out."""
    found = [path.relative_to(root) for path in root.rglob("*.py") if path.is_file()]
    return sorted(
        (path for path in found if path.parts[0] != OWN_PACKAGE and SKIPPED_FOLDERS.isdisjoint(path.parts[:-1])),
        key=Path.as_posix,
    )


def _map(files: Sequence[tuple[Path, Path]], processes: int) -> Iterator[list[Document]]:
    if processes == 1 or len(files) <= FILES_A_TASK:
        yield from map(_documents, files)
        return
    with worker_pool(processes, gc.disable) as pool:  # syntax trees hold no cycles: searching for them costs a third
        yield from pool.map(_documents, files, chunksize=FILES_A_TASK)


def _documents(file: tuple[Path, Path]) -> list[Document]:
    """The documents of one file; none if it cannot be read or parsed."""
    root, path = file
    parts = path.with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
    document = partial(_document, package=parts[0])
    try:
        found = list(docstrings((root / path).read_bytes(), module))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [made for name, kind, text in found if (made := document(name, kind, text)) is not None]


def _document(name: str, kind: str, docstring: str, *, package: str) -> Document | None:
    text = docstring.encode(errors="replace").decode()  # a docstring may hold half a surrogate pair
    sentence, rest = first_sentence(text)
    title = " ".join(word for word in sentence.split() if not RULE.fullmatch(word))
    if not title or len(WORD.findall(rest)) < LEAST_WORDS:
        return None
    return Document(name, title, rest, {"package": package, "kind": kind})


def _numbered(document: Document, uses: Counter[str]) -> Document:
    """The same document under an id of its own: the second of a name gets ``#2``."""
    uses[document.id] += 1
    if uses[document.id] == 1:
        return document
    return Document(f"{document.id}#{uses[document.id]}", document.title, document.text, document.metadata)


def _line(document: Document) -> str:
    record = {"_id": document.id, "title": document.title, "text": document.text, **document.metadata}
    return json.dumps(record, ensure_ascii=False) + "\n"
