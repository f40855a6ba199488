"""Train, index, evaluate and search with your own dense retriever."""

__version__ = "0.1.0"
