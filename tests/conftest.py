"""Every test runs offline, on the CPU, and with a cache of its own."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"  # read once, when the libraries are imported
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # tests compare with tensors of their own, which the CPU holds

import pytest


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """``$RETRIEVER_CACHE`` in a folder of this test session."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETRIEVER_CACHE", str(folder))
        yield folder
