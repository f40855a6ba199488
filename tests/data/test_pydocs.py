"""The documentation of a Python installation."""

from __future__ import annotations

import ast
import inspect
import sys
import time

import pytest

from retriever.data import pydocs
from retriever.data.corpus import open_corpus
from retriever.data.pydocs import docstrings, installation_fingerprint, pydocs_file, python_roots, read_pydocs


@pytest.fixture(autouse=True)
def short_bodies_count(monkeypatch):
    """Examples need not be long."""
    monkeypatch.setattr(pydocs, "LEAST_WORDS", 5)


BODY = "It has a body of at least five words"

MODULE = f'''
"""A module.

{BODY}, number 1.
"""
import warnings
warnings.warn("never imported")
raise SystemExit

class Outer:
    """A class.  {BODY}, number 2."""

    @property
    def size(self):
        """Get the size. {BODY}, number 3."""

    @size.setter
    def size(self, value):
        """Set the size. {BODY}, number 4."""

    class Inner:
        async def run(self):
            """Run on
            two lines. {BODY}, number 5.

                Indented.
            """

    def short(self):
        """Too little follows. Three words only."""

    def inherited(self):
        """Another title. {BODY}, number 2."""

    "\\d is an invalid escape"

if True:
    try:
        def late():
            """Defined late. {BODY}, number 6."""
            def nested():
                """Defined inside. {BODY}, number 7."""
    except ImportError:
        def late():
            """Defined later. {BODY}, number 8."""

match 1:
    case 1:
        def matched():
            """
            =======
            Heading
            =======

            {BODY}, number 9.
            """
'''


@pytest.fixture
def roots(tmp_path):
    files = {
        "lib/alpha/__init__.py": MODULE,
        "lib/alpha/broken.py": "def (",
        "lib/alpha/nul.py": "x = '\0'",
        "lib/alpha/latin.py": b'# -*- coding: latin-1 -*-\n"""Caf\xe9. Une terrasse au bord de la mer."""\n',
        "lib/alpha/bytes.py": b'"""Not UTF-8 \xe9. Five words and some more words."""\n',
        "lib/alpha/half.py": '"""Half. A lone \\ud800 surrogate in five or more words."""\n',
        "lib/alpha/deep.py": "x = " + "-" * 100_000 + "1",
        "lib/alpha/tests/test_x.py": f'"""A test. {BODY} of a test."""',
        "lib/alpha/_vendor/x.py": f'"""A copy. {BODY} of a copy."""',
        "lib/site-packages/nested.py": f'"""Installed. {BODY} elsewhere."""',
        "site-packages/beta.py": f'"""Beta. {BODY}, number 10."""\n',
        "site-packages/alpha.py": f'"""Another alpha. {BODY}, number 11."""\n',
        "site-packages/retriever/x.py": f'"""Ours. {BODY}, number 12."""\n',
        "site-packages/beta-1.0.dist-info/METADATA": "Name: beta\n",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [tmp_path / "lib", tmp_path / "site-packages"]


def test_every_documented_definition_becomes_a_document_once(roots):
    found = [(d.id, d.title, d.text.splitlines()[0], d.metadata["kind"]) for d in read_pydocs(roots)]
    assert found == [
        ("alpha", "A module.", f"{BODY}, number 1.", "module"),
        ("alpha.Outer", "A class.", f"{BODY}, number 2.", "class"),
        ("alpha.Outer.size", "Get the size.", f"{BODY}, number 3.", "function"),
        ("alpha.Outer.size#2", "Set the size.", f"{BODY}, number 4.", "function"),
        ("alpha.Outer.Inner.run", "Run on two lines.", f"{BODY}, number 5.", "function"),
        ("alpha.late", "Defined late.", f"{BODY}, number 6.", "function"),
        ("alpha.late.nested", "Defined inside.", f"{BODY}, number 7.", "function"),
        ("alpha.late#2", "Defined later.", f"{BODY}, number 8.", "function"),
        ("alpha.matched", "Heading", f"{BODY}, number 9.", "function"),
        ("alpha.half", "Half.", "A lone ? surrogate in five or more words.", "module"),
        ("alpha.latin", "Café.", "Une terrasse au bord de la mer.", "module"),
        ("alpha#2", "Another alpha.", f"{BODY}, number 11.", "module"),
        ("beta", "Beta.", f"{BODY}, number 10.", "module"),
    ]
    assert {d.metadata["package"] for d in read_pydocs(roots)} == {"alpha", "beta"}


def test_short_docstrings_are_left_out(tmp_path, monkeypatch):
    monkeypatch.undo()
    for count in (39, 40):
        (tmp_path / f"m{count}.py").write_text(f'"""Module {count}.\n\n{"word " * count}"""\n')
    assert [d.id for d in read_pydocs([tmp_path])] == ["m40"]


def test_docstrings_are_cleaned_of_their_indent():
    source = "class A:\n    '''One.\n\n        Two.\n          Three.\n    '''\n"
    assert list(docstrings(source, "m")) == [("m.A", "class", "One.\n\nTwo.\n  Three.")]


def test_docstrings_agree_with_what_import_gives():
    found = {name: text for name, _, text in docstrings(inspect.getsource(ast), "ast")}
    for name in ("parse", "literal_eval", "NodeVisitor", "NodeVisitor.visit", "NodeTransformer"):
        value = ast
        for part in name.split("."):
            value = getattr(value, part)
        assert found[f"ast.{name}"] == inspect.cleandoc(value.__doc__)


def test_several_processes_give_the_same_as_one(tmp_path):
    for i in range(80):
        (tmp_path / f"m{i}.py").write_text(f'"""Module {i}. {BODY}, number {i // 2}."""\n')
    one = read_pydocs([tmp_path], processes=1)
    assert one == read_pydocs([tmp_path], processes=2)
    assert len(one) == 40


def test_the_file_is_cached_until_the_installation_changes(roots, monkeypatch):
    path = pydocs_file(roots)
    content = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(pydocs, "read_pydocs", lambda *_, **__: pytest.fail("read again"))
        assert pydocs_file(roots) == path
    path.unlink()
    assert pydocs_file(roots).read_bytes() == content
    (roots[1] / "beta-1.0.dist-info").rename(roots[1] / "beta-1.1.dist-info")
    assert pydocs_file(roots) != path


def test_our_own_version_does_not_matter(roots):
    before = installation_fingerprint(roots)
    (roots[1] / "dense_retriever-9.dist-info").mkdir()
    assert installation_fingerprint(roots) == before
    (roots[1] / "old-1.egg-info").write_text("")
    assert installation_fingerprint(roots) != before


def test_the_word_pydocs_opens_the_corpus(roots, monkeypatch, tmp_path):
    monkeypatch.setattr(pydocs, "python_roots", lambda: roots)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pydocs").mkdir()  # the word wins over a folder of that name
    corpus = open_corpus("pydocs")
    assert corpus.name == "pydocs"
    assert list(corpus) == read_pydocs(roots)
    assert [dict(d.metadata) for d in corpus] == [dict(d.metadata) for d in read_pydocs(roots)]
    assert corpus.fingerprint() == open_corpus("pydocs").fingerprint()


def test_the_roots_are_those_of_this_python():
    roots = python_roots()
    assert (roots[0] / "ast.py").is_file()
    assert any((root / "pytest").is_dir() for root in roots[1:])
    assert len(set(roots)) == len(roots)


@pytest.mark.slow
def test_this_python_has_a_corpus_to_train_on():
    start = time.monotonic()
    documents = read_pydocs()
    assert time.monotonic() - start < 300
    assert len(documents) > 20_000
    assert len({d.id for d in documents}) == len({d.text for d in documents}) == len(documents)
    known = {d.id: d for d in documents}
    assert (
        known["shutil.copyfileobj" if "shutil.copyfileobj" in known else "shutil.move"].metadata["package"] == "shutil"
    )
    assert known["json.dumps" if "json.dumps" in known else "json"].title
    assert not any(d.id == "retriever" or d.id.startswith("retriever.") for d in documents)
    assert "numpy" in {d.metadata["package"] for d in documents} or "numpy" not in sys.modules
