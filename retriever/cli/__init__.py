"""The command line: one thin file a command. Arguments in, library calls, tables or one JSON object out."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """The console script ``retriever``."""
    if not os.environ.get("COLUMNS", "").strip("0"):
        os.environ.pop("COLUMNS", None)  # no width is an unknown one, not one of nothing
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: a file opened later would take its place
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # characters that a terminal does not know
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other on busy machines
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors of Milvus are told in our own words
    from retriever.cli.app import app

    app()
