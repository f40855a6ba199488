"""The OpenAPI description of a server with keys: how a request brings one, and what needs none."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from retriever.server.guard import OPEN

WAYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "`X-API-Key: KEY`"},
}


def tell_keys(app: FastAPI) -> None:
    """Let the description of an application say that requests need a key, in either of two ways."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        told = plain()
        told["components"]["securitySchemes"] = WAYS
        told["security"] = [{way: []} for way in WAYS]
        for path in OPEN & told["paths"].keys():
            for operation in told["paths"][path].values():
                operation["security"] = []
        return told

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's way to extend it
