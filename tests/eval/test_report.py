"""The HTML report: well formed, escaped, self-contained, the same bytes every time."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retriever.errors import OutputError, RetrieverError
from retriever.eval.plots import bars_svg
from retriever.eval.report import (
    Found,
    Section,
    facts,
    figure_block,
    metrics_block,
    paragraph,
    searches_block,
    snippet,
    write_report,
)

HOSTILE = "<script>alert('x')</script> & \"quotes\" $title ${"
METRICS = {"dense": {"ndcg@10": 0.645, "map": 0.6}, "_bm25 $x$": {"ndcg@10": 0.679}}
INTERVALS = {"dense": {"ndcg@10": (0.6, 0.69)}}
VOID = {"meta", "br", "hr", "img", "link"}


class Outline(HTMLParser):
    """The tags, attributes and words of a page; fails where a tag is not closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.links, self.words = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


def full_report(path):
    sections = [
        Section(HOSTILE, [paragraph(HOSTILE), facts({HOSTILE: HOSTILE, "documents": 29123, "share": 0.5})]),
        Section("Scores", [metrics_block(METRICS | {HOSTILE: {"map": 0.1}}, INTERVALS, caption=HOSTILE)]),
        Section("Plot", [figure_block(bars_svg(METRICS, INTERVALS), HOSTILE)]),
        Section("Searches", [searches_block({HOSTILE: [Found(HOSTILE, 0.5, HOSTILE)], "nothing": []})]),
    ]
    return write_report(path, HOSTILE, sections, subtitle=HOSTILE)


def test_a_report_is_well_formed_escaped_and_self_contained(tmp_path):
    page = full_report(tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    outline = Outline(page)
    assert "script" not in outline.tags and "<script" not in page
    assert all(link.startswith("#") for link in outline.links)
    assert "@import" not in page and "src=" not in page
    assert outline.tags.count("svg") == 1 and outline.tags.count("h2") == 4
    text = "".join(outline.words)
    assert text.count(HOSTILE) == 13  # everywhere but the description attribute
    for shown in ("29,123", "0.645", "[0.60, 0.69]", "–", "Nothing found."):
        assert shown in text


def test_the_same_report_has_the_same_bytes(tmp_path):
    first, second = full_report(tmp_path / "a.html"), full_report(tmp_path / "b.html")
    assert first.read_bytes() == second.read_bytes()


def test_the_best_of_each_column_is_bold():
    block = metrics_block(METRICS)
    assert "<strong>0.679</strong>" in block and "<strong>0.600</strong>" in block and "<strong>0.645" not in block


def test_bars_are_a_drawing_in_the_readers_text_colour():
    svg = bars_svg(METRICS, INTERVALS)
    ElementTree.fromstring(svg)
    assert "currentColor" in svg and "#24292f" not in svg
    for label in ("dense", "bm25 $x$", "ndcg@10", "map"):
        assert label in svg
    assert svg == bars_svg(METRICS, INTERVALS)


def test_labels_that_matplotlib_has_no_glyph_for_are_drawn():
    assert "检索" in bars_svg({"检索": {"map": 0.5}})


def test_a_missing_matplotlib_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RetrieverError, match=r"pip install 'dense-retriever\[report\]'\."):
        bars_svg(METRICS)


@given(st.text(max_size=60), st.integers(1, 20))
def test_a_snippet_is_one_short_line(text, length):
    short = snippet(text, length)
    assert short == " ".join(short.split()) and len(short) <= length + 2
    if not short.endswith("…"):
        assert short == " ".join(text.split())


def test_a_snippet_ends_at_a_word():
    assert snippet("one  two\nthree", 9) == "one two …"
    assert snippet("abcdefgh", 5) == "abcde …"


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        write_report(tmp_path / "file" / "report.html", "title", [])
