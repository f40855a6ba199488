"""One self-contained HTML report: results, plots and example searches in a file that opens offline.

A report is a list of sections, and a section a list of blocks made by the functions here. `Html` marks text that is
escaped already; the block functions escape whatever they are given. No script, no font and no picture is fetched, and
the same sections give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import NewType

from retriever.eval.tables import Intervals, Metrics, best, columns
from retriever.files import write_atomically

Html = NewType("Html", str)

TEMPLATE = Path(__file__).with_name("report.html")
SNIPPET = 240  # characters of a hit's text that a reader will look at


@dataclass(frozen=True)
class Section:
    """A heading and its blocks."""

    title: str
    blocks: Sequence[Html]


@dataclass(frozen=True)
class Found:
    """One hit of an example search, as shown."""

    title: str
    score: float
    text: str = ""


def write_report(path: str | Path, title: str, sections: Sequence[Section], *, subtitle: str = "") -> Path:
    """Write a report, whole or not at all.

    Args:
        path: The HTML file; missing parent folders are made.
        title: The heading of the page.
        sections: What it shows, in order.
        subtitle: A sentence below the heading.

    Returns:
        The path.

    Raises:
        OutputError: The file cannot be written.
    """
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        subtitle=paragraph(subtitle) if subtitle else "",
        sections="\n".join(_section(section) for section in sections),
        footer="Scores are fractions. Brackets and thin lines are 95 % bootstrap intervals over queries.",
    )
    return write_atomically(path, page)


def paragraph(text: str) -> Html:
    """A paragraph."""
    return Html(f"<p>{escape(text)}</p>")


def facts(values: Mapping[str, object]) -> Html:
    """A row of small tiles, name and value; whole numbers get thousands separators."""
    tiles = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(f'{value:,}' if isinstance(value, int) else str(value))}</dd></div>"
        for name, value in values.items()
    )
    return Html(f"<dl>{''.join(tiles)}</dl>")


def metrics_block(metrics: Metrics, intervals: Intervals | None = None, *, caption: str = "") -> Html:
    """The table of `retriever.eval.tables.metrics_table`, as HTML: the best of each column is bold."""
    highest = best(metrics)
    head = "".join(f'<th scope="col">{escape(metric)}</th>' for metric in columns(metrics))
    body = []
    for row, values in metrics.items():
        cells = (
            _cell(values.get(metric), (intervals or {}).get(row, {}).get(metric), highest[metric])
            for metric in columns(metrics)
        )
        body.append(f'<tr><th scope="row">{escape(row)}</th>{"".join(cells)}</tr>')
    note = f'<div class="note">{escape(caption)}</div>' if caption else ""
    return Html(
        f'<div class="wide"><table><thead><tr><th scope="col"><span hidden>system</span></th>{head}</tr></thead>'
        f"<tbody>\n{chr(10).join(body)}\n</tbody></table></div>{note}"
    )


def figure_block(svg: str, caption: str) -> Html:
    """A plot and what it shows.

    Args:
        svg: An ``<svg>`` element as `bars_svg` or `curve_svg` make it; it is embedded as it is.
        caption: The sentence below the plot, which is also its description for screen readers.
    """
    described = svg.replace("<svg", f'<svg role="img" aria-label="{escape(caption)}"', 1)
    return Html(f"<figure>\n{described}\n<figcaption>{escape(caption)}</figcaption>\n</figure>")


def searches_block(searches: Mapping[str, Sequence[Found]]) -> Html:
    """Example searches: query → hits in rank order, each with title, score and the beginning of its text."""
    blocks = []
    for query, hits in searches.items():
        items = (
            f'<li><span class="rank">{rank}</span><span class="name">{escape(hit.title)}</span>'
            f'<span class="score">{hit.score:.3f}</span><span class="snippet">{escape(snippet(hit.text))}</span></li>'
            for rank, hit in enumerate(hits, start=1)
        )
        listed = f"<ol>\n{chr(10).join(items)}\n</ol>" if hits else '<div class="note">Nothing found.</div>'
        blocks.append(f'<div class="search"><h3>{escape(query)}</h3>{listed}</div>')
    return Html("\n".join(blocks))


def snippet(text: str, length: int = SNIPPET) -> str:
    """The beginning of a text as one line, cut at a word where there is one, with an ellipsis."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    return (line[:length].rsplit(" ", 1)[0] or line[:length]) + " …"


def _section(section: Section) -> str:
    blocks = "\n".join(section.blocks)
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{blocks}\n</section>"


def _cell(value: float | None, interval: Sequence[float] | None, highest: float) -> str:
    """One table cell: the value, and its interval in small type below."""
    if value is None:
        return "<td>–</td>"
    number = f"<strong>{value:.3f}</strong>" if round(value, 3) == highest else f"{value:.3f}"
    return f"<td>{number}" + (f"<small>[{interval[0]:.2f}, {interval[1]:.2f}]</small>" if interval else "") + "</td>"
