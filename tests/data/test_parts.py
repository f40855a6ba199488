"""Parts of documents: titles, headings of every style, first sentences; and nothing lost."""

from __future__ import annotations

import time
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import SHARED, needs_shared

from retriever.data.corpus import open_corpus
from retriever.data.document import Document
from retriever.data.parts import LONGEST_HEADING, PartKind, Parts


def parts_of(text, title=""):
    parts = Parts()
    parts.split(Document("1", title, text))
    return list(zip(parts.kinds, parts.texts, strict=True))


def found(kind, text, title=""):
    return [piece.strip() for other, piece in parts_of(text, title) if other is kind]


MARKDOWN = """# The tool

It cuts text. Then it tokenises.

## Install it ##

Run `make`.
```sh
# no heading
```

### Use it
First this. Then that.
"""

RESTRUCTURED = """=========
 The tool
=========

It cuts text. Then
it tokenises.

Install it
----------
Run ``make``.

Use it
~~~~~~
First this.
"""


def test_a_markdown_page():
    assert found(PartKind.HEADING, MARKDOWN) == ["The tool", "Install it", "Use it"]
    assert found(PartKind.SENTENCE, MARKDOWN) == ["It cuts text."]
    assert found(PartKind.TEXT, MARKDOWN) == [
        "Then it tokenises.",
        "Run `make`.\n```sh\n# no heading\n```",
        "First this. Then that.",
    ]
    assert set(found(PartKind.MARKUP, MARKDOWN)) == {"#", "##", "###"}


def test_a_restructured_text_page():
    assert found(PartKind.HEADING, RESTRUCTURED) == ["The tool", "Install it", "Use it"]
    assert found(PartKind.SENTENCE, RESTRUCTURED) == ["It cuts text."]
    assert found(PartKind.TEXT, RESTRUCTURED) == ["Then\nit tokenises.", "Run ``make``.", "First this."]
    assert found(PartKind.MARKUP, RESTRUCTURED)[0] == "=" * 9


@pytest.mark.parametrize("page", [MARKDOWN, RESTRUCTURED])
def test_the_title_may_be_repeated_as_a_heading(page):
    assert found(PartKind.TITLE, page, "The Tool") == ["The Tool", "The tool"]
    assert found(PartKind.HEADING, page, "The Tool") == ["Install it", "Use it"]
    assert found(PartKind.SENTENCE, page, "The Tool") == ["It cuts text."]


def test_a_numpy_docstring():
    text = "Sum values.\n\nSlowly.\n\nParameters\n----------\nx : array\n    Of numbers.\n\nSee Also\n--------\nmean"
    assert [kind.name for kind, _ in parts_of(text)] == [
        *("SENTENCE", "TEXT"),
        *("HEADING", "MARKUP", "TEXT"),
        *("HEADING", "MARKUP", "TEXT"),
    ]
    assert found(PartKind.HEADING, text) == ["Parameters", "See Also"]


@pytest.mark.parametrize(
    ("text", "headings"),
    [
        ("", []),
        ("#hashtag", []),
        ("# ", []),
        ("# ###", []),
        ("    # indented code", []),
        ("####### seven", []),
        ("   ###### six", ["six"]),
        ("# Learn C#", ["Learn C#"]),
        ("# Learn C# #", ["Learn C#"]),
        ("#\ttab  \r\nbody", ["tab"]),
        ("# A\n## B\n# C", ["A", "B", "C"]),
        ("# A\nB\n---", ["A", "B"]),
        ("A\n=\nbody", []),
        ("A\n===\nbody", ["A"]),
        ("A\r\n===\r\nbody", ["A"]),
        ("\n\nA\n===", ["A"]),
        ("text\nA\n===", []),
        ("text\n \t\nA\n===", ["A"]),
        ("***\nA\n***", ["A"]),
        ("===\nA\n---", []),
        ("Long title\n---", ["Long title"]),
        ("Long title\n***", []),
        ("Long title\n**********", ["Long title"]),
        ("A\n=-=-=", []),
        ("===\n===", []),
        ("---", []),
        ("a   b\n=== ===\n1   2", []),
        ("A\n===\nB\n===\nC\n---", ["A", "B", "C"]),
        ("===\nA\n===\n===\nB\n===", ["A", "B"]),
        ("```\n# a\n```\n# b\n````\n# c\n```\n````\n# d", ["b", "d"]),
        ("```\n# never closed", []),
        ("日本\n====\n本文。", ["日本"]),
        (f"# {'x' * LONGEST_HEADING}", ["x" * LONGEST_HEADING]),
        (f"# {'x' * (LONGEST_HEADING + 1)}", []),
        (f"{'x' * (LONGEST_HEADING + 1)}\n===", []),
    ],
)
def test_headings(text, headings):
    assert found(PartKind.HEADING, text) == headings


@pytest.mark.parametrize(
    ("title", "text", "titles", "sentence"),
    [
        ("A title", "A text. More.", 1, ["A text."]),
        ("A title", "A title. A text. More.", 2, ["A text."]),
        ("A title", "A title: a text. More.", 2, ["a text."]),
        ("A title", "A titled text. More.", 1, ["A titled text."]),
        ("A title", "A title", 2, []),
        ("A title", "", 1, []),
        ("", "", 0, []),
        ("", "Only text", 0, ["Only text"]),
        ("A title", "Text first. More.\n\n# A title\nbody", 1, ["Text first."]),
    ],
)
def test_titles_and_first_sentences(title, text, titles, sentence):
    assert len(found(PartKind.TITLE, text, title)) == titles
    assert found(PartKind.SENTENCE, text, title) == sentence


line = st.one_of(
    st.sampled_from(["# A title", "## B ##", "```", "====", "----", "***", "", "A title", "Text. More.", "  c", "\r"]),
    st.text("#=-~`a .\r\t。", max_size=12),
)


@given(st.sampled_from(["", "A title", "a", "# A", " ", "x\ny"]), st.lists(line, max_size=12).map("\n".join))
def test_nothing_is_lost_or_empty_and_kinds_are_in_order(title, text):
    document = Document("1", title, text)
    parts = parts_of(text, title)
    assert "".join(piece for _, piece in parts) == document.content
    assert all(piece for _, piece in parts)
    kinds = [kind for kind, _ in parts]
    assert PartKind.LABEL not in kinds and kinds.count(PartKind.SENTENCE) <= 1
    if PartKind.TEXT in kinds:
        assert PartKind.SENTENCE in kinds[: kinds.index(PartKind.TEXT)]
    assert (PartKind.TEXT, PartKind.TEXT) not in pairwise(kinds)
    for kind, piece in parts:
        if kind in (PartKind.TEXT, PartKind.SENTENCE, PartKind.HEADING):
            assert piece.strip()
        if kind is PartKind.HEADING:
            assert "\n" not in piece and piece == piece.strip()


def test_documents_follow_each_other():
    parts = Parts()
    for text in ("# A\nb", "", "c. d."):
        parts.split(Document("1", "", text))
    assert [kind.name[0] for kind in parts.kinds] == ["M", "H", "S", "S", "T"] and len(parts) == 5


@pytest.mark.parametrize(
    "text",
    [
        "\n".join("`" * n for n in range(600, 3, -1)),
        "# " + " #" * 200_000,
        "#" * 400_000,
        "# a\n" * 100_000,
        "a\n---\n" * 100_000,
        ("-" * 100 + "\n") * 4_000,
        "\n" * 400_000,
        "a" * 400_000 + "\n===",
        " \t" * 200_000 + "\n---",
    ],
)
def test_hostile_texts_take_linear_time(text):
    start = time.process_time()
    parts_of(text, "a")
    assert time.process_time() - start < 5


@needs_shared
def test_package_descriptions_have_sentences_and_hardly_any_headings():
    parts = Parts()
    documents = list(islice(open_corpus(SHARED / "text" / "debian.jsonl.gz"), 3000))
    for document in documents:
        parts.split(document)
    assert "".join(parts.texts) == "".join(document.content for document in documents)
    assert parts.kinds.count(PartKind.SENTENCE) == sum(bool(document.text.strip()) for document in documents)
    assert parts.kinds.count(PartKind.HEADING) <= 3
