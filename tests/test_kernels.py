"""Which kernels FAISS is loaded with."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from retriever import kernels
from retriever.kernels import KERNELS, fitting, flags

ASK = """
import json, os, sys
import numpy
from retriever.kernels import faiss
from threadpoolctl import threadpool_info
loaded = [one["architecture"] for one in threadpool_info() if "faiss" in one["filepath"] and one["user_api"] == "blas"]
print(json.dumps([loaded, os.environ.get("OPENBLAS_CORETYPE")]))
"""


def asked(**environment):
    """The kernels that the OpenBLAS of FAISS has chosen in a new process, and what its environment says afterwards."""
    clean = {name: value for name, value in os.environ.items() if name != kernels.VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_faiss_gets_what_the_processor_can_do():
    loaded, left = asked()
    if not loaded or fitting(flags()) is None:
        pytest.skip("this FAISS carries no OpenBLAS that can be asked, or this processor leaves no choice")
    assert loaded == [fitting(flags())] and left is None


def test_what_the_user_chooses_counts():
    loaded, left = asked(OPENBLAS_CORETYPE="Nehalem")
    assert left == "Nehalem" and set(loaded) <= {"Nehalem"}


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        (KERNELS["SkylakeX"] | {"sse2", "amx_tile"}, "SkylakeX"),
        (KERNELS["SkylakeX"] - {"avx512vl"}, "Haswell"),  # Xeon Phi
        ({"avx2", "fma", "avx"}, "Haswell"),
        ({"avx", "sse4_2"}, None),
        ((), None),
    ],
)
def test_the_best_kernels_that_a_processor_can_run(able, expected):
    assert fitting(able) == expected


@pytest.mark.parametrize(("system", "machine"), [("darwin", "x86_64"), ("linux", "aarch64")])
def test_elsewhere_openblas_chooses(monkeypatch, system, machine):
    monkeypatch.setattr(kernels.sys, "platform", system)
    monkeypatch.setattr(kernels.platform, "machine", lambda: machine)
    assert flags() == frozenset()
