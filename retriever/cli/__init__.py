"""The command line: one thin file a command. Arguments in, library calls, tables or one JSON object out."""

from __future__ import annotations

import os


def main() -> None:
    """The console script ``retriever``."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other on busy machines
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # errors of Milvus are told in our own words
    from retriever.cli.app import app

    app()
