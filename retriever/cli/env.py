"""``retriever env``: what a bug report needs."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import typer

from retriever.cli import options
from retriever.cli.show import print_json

PACKAGES = (
    "dense-retriever",
    "torch",
    "transformers",
    "sentence-transformers",
    "datasets",
    "faiss-cpu",
    "beir",
    "accelerate",
    "numpy",
)


def env(json: options.Json = False) -> None:
    """Versions, threads and devices."""
    import torch

    from retriever.data.cache import cache_dir
    from retriever.encoder.loop import has_bfloat16

    devices = [torch.device("cpu"), *(torch.device("cuda", i) for i in range(torch.cuda.device_count()))]
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _version(name) for name in PACKAGES},
        "cores": os.cpu_count(),
        "torch threads": torch.get_num_threads(),
        "devices": [str(device) for device in devices],
        "bfloat16": [str(device) for device in devices if has_bfloat16(device)],
        "cache": str(cache_dir()),
    }
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        typer.echo(f"{name:<22} {', '.join(value) if isinstance(value, list) else value}")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
