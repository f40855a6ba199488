"""The public face: sorted, complete, documented, and free until it is used."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import retriever


def test_the_public_names_are_sorted_exist_and_are_documented():
    assert retriever.__all__ == sorted(retriever.__all__) == dir(retriever)
    for name in retriever.__all__:
        value = getattr(retriever, name)
        if name != "__version__":
            assert inspect.getdoc(value), name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = retriever.trian


def test_importing_the_package_and_asking_for_help_loads_no_heavy_library():
    code = (
        "import sys, retriever, retriever.cli.app\n"
        "heavy = {'torch', 'faiss', 'transformers', 'datasets', 'matplotlib', 'sklearn'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", sorted(set(retriever.__all__) - {"__version__", "objectives"}))
def test_public_parameters_are_typed(name):
    value = getattr(retriever, name)
    for function in [value] if inspect.isfunction(value) else []:
        signature = inspect.signature(function)
        assert all(parameter.annotation is not inspect.Parameter.empty for parameter in signature.parameters.values())
        assert signature.return_annotation is not inspect.Signature.empty
