"""Keys: who may read, and who may also write.

1. A key is at least 16 characters long and is given to one client. A file holds ``read KEY`` or ``write KEY`` a line,
   and comments after ``#``; the environment variables ``RETRIEVER_READ_KEY`` and ``RETRIEVER_WRITE_KEY`` hold one each.
2. Only hashes are kept. What a request brings is compared with all of them, each in constant time, so that how long it
   takes tells nothing.
3. A key's name, the beginning of its hash, is what the log and the limits know of it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retriever.errors import ServerError

SHORTEST = 16
READ, WRITE = "read", "write"
VARIABLES = {"RETRIEVER_READ_KEY": READ, "RETRIEVER_WRITE_KEY": WRITE}


@dataclass(frozen=True, slots=True)
class Key:
    """A key that a server knows: its hash, and whether it may write."""

    digest: bytes = field(repr=False)
    may_write: bool

    @property
    def name(self) -> str:
        """What the log calls it."""
        return self.digest.hex()[:8]

    @classmethod
    def of(cls, secret: str, scope: str, place: str) -> Key:
        """A key from its text.

        Args:
            secret: The text.
            scope: ``read`` or ``write``.
            place: Where it was found, for the error.

        Raises:
            ServerError: It is too short, or the scope is unknown.
        """
        if scope not in (READ, WRITE):
            raise ServerError(f"{place} grants neither read nor write: write `read KEY` or `write KEY`.")
        if len(secret) < SHORTEST or not secret.isascii():
            raise ServerError(f"{place} holds no key of {SHORTEST} ASCII characters or more: choose another one.")
        return cls(_digest(secret), scope == WRITE)


def read_keys(path: Path | None, environment: Mapping[str, str]) -> tuple[Key, ...]:
    """The keys of a file and of the environment.

    Raises:
        ServerError: The file cannot be read, a line of it is no key, or there is no key in it.
    """
    told = {name: environment.get(name, "").strip() for name in VARIABLES}  # a secret's file ends in a line end
    keys = [Key.of(secret, VARIABLES[name], name) for name, secret in told.items() if secret]
    if path is None:
        return tuple(keys)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ServerError(f"Cannot read the keys {path}: {reason}.") from error
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if words and len(words) != 2:
            raise ServerError(f"{path}, line {number} is no key: write `read KEY` or `write KEY`.")
        if words:
            keys.append(Key.of(words[1], words[0], f"{path}, line {number}"))
    if not keys:
        raise ServerError(f"{path} holds no key: write `read KEY` or `write KEY` a line.")
    return tuple(keys)


def find_key(keys: Sequence[Key], secret: str) -> Key | None:
    """The key of a text, in a time that does not depend on which it is or how much of it is right."""
    digest = _digest(secret)
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
