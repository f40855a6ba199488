"""``python -m retriever``."""

from retriever.cli import main

main()
