"""The public face: sorted, complete, documented, and free until it is used."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest
import tiny
from mypy import api

import retriever
from retriever.eval.runs import read_run, write_run


def test_the_public_names_are_sorted_exist_and_are_documented():
    assert retriever.__all__ == sorted(retriever.__all__) == dir(retriever)
    for name in retriever.__all__:
        value = getattr(retriever, name)
        if name != "__version__":
            assert inspect.getdoc(value), name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = retriever.trian


def test_an_unknown_name_is_refused_by_a_type_checker(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("from retriever import Encoder, Trian\n", encoding="utf-8")
    options = [
        "--config-file=",
        "--follow-imports=skip",
        f"--cache-dir={tmp_path / 'cache'}",
    ]  # what it imports is slow
    output, errors, _ = api.run([*options, retriever.__file__, str(program)])
    assert not errors
    assert re.findall(r'has no attribute "(\w+)"', output) == ["Trian"], output


def test_what_is_written_to_the_home_folder_is_read_from_there(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny.run("static", "~/trained", overrides={"steps": 1}).save("~/model")
    retriever.Index.build(retriever.Encoder.load("~/model"), tiny.corpus(), "~/index").close()
    with retriever.Index.open("~/index", "~/trained") as index:
        assert index.model_path == str(tmp_path / "model")
    assert retriever.Index.damage("~/index") == retriever.Index.repair("~/index").lost == []
    assert read_run(write_run("~/bm25.run", {"q": {"d": 1.0}})) == read_run("~/bm25.run")
    assert not list((tmp_path / "work").iterdir())


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
