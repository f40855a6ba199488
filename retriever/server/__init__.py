"""Serving an index or labels over HTTP: routes, micro-batching, keys, limits, metrics.

What is served is opened by :mod:`retriever.server.service`; nothing here trains, judges or prints.
"""
