"""First sentences."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.data.sentences import first_sentence, sentence_end


@pytest.mark.parametrize(
    ("text", "first", "rest"),
    [
        ("", "", ""),
        ("  \n ", "", ""),
        ("One sentence.", "One sentence.", ""),
        ("No end here", "No end here", ""),
        ("One. Two.", "One.", "Two."),
        ("Really?! Yes.", "Really?!", "Yes."),
        ("Return the\n    sum. It\nis exact.", "Return the sum.", "It\nis exact."),
        ("Title line\n\nBody. More.", "Title line", "Body. More."),
        ("Title line\n \t\n Body", "Title line", "Body"),
        ("Title line\r\n\r\nBody", "Title line", "Body"),
        ("Use a dot, e.g. This one. Next.", "Use a dot, e.g. This one.", "Next."),
        ("That is (i.e. Never) so. Next.", "That is (i.e. Never) so.", "Next."),
        ("Lists, tuples, etc. Are fine. Next.", "Lists, tuples, etc. Are fine.", "Next."),
        ("By J. Smith et al. In 1990. Next.", "By J. Smith et al. In 1990.", "Next."),
        ("Dr. No is a film. It is old.", "Dr. No is a film.", "It is old."),
        ("Version 1.5 is out. Get it.", "Version 1.5 is out.", "Get it."),
        ("Call foo.bar() now. Then stop.", "Call foo.bar() now.", "Then stop."),
        ("It goes on. like this. Then stops.", "It goes on. like this.", "Then stops."),
        ("all lower case. like old files. here", "all lower case.", "like old files. here"),
        ("spaced out . as in cranfield .", "spaced out .", "as in cranfield ."),
        ('He said "stop." She did.', 'He said "stop."', "She did."),
        ("It works (mostly.) And then?", "It works (mostly.)", "And then?"),
        ("Ends. 3 items follow.", "Ends.", "3 items follow."),
        ("Ends. `code` follows.", "Ends.", "`code` follows."),
        ("Wait... What?", "Wait...", "What?"),
        ("第一句。第二句。", "第一句。", "第二句。"),
        ("真的吗？」他说。", "真的吗？」", "他说。"),
        ("Plan B. Next.", "Plan B. Next.", ""),
        ("etc.", "etc.", ""),
    ],
)
def test_examples(text, first, rest):
    assert first_sentence(text) == (first, rest)


@given(st.text('aB .!?\n")。é', max_size=40))
def test_no_word_is_lost_and_the_first_part_is_one_line(text):
    first, rest = first_sentence(text)
    assert "".join((first + rest).split()) == "".join(text.split())
    assert first == " ".join(first.split()) and rest == rest.strip()
    assert bool(first) == bool(text.strip())


@pytest.mark.parametrize(
    "text", ["a." * 200_000 + "\n" * 200_000 + "." * 200_000, "e.g. A " * 100_000, "x. a " * 100_000]
)
def test_a_hostile_text_takes_linear_time(text):
    start = time.process_time()
    assert first_sentence(text)[0]
    assert time.process_time() - start < 5


@given(st.text('aB .!?\n")。é', max_size=40))
def test_the_end_is_where_the_sentence_ends(text):
    end = sentence_end(text)
    first, rest = first_sentence(text)
    assert " ".join(text[:end].split()) == first and text[end:].strip() == rest
