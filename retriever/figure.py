"""Pictures: matplotlib figures in one house style, as SVG text or image files.

Matplotlib is the optional extra ``[report]`` and is imported only when something is drawn. Embedded SVG keeps its text
as text and draws it, like the axes, in the reader's own text colour, so that it fits light and dark pages. The same
figure gives the same bytes: no date, and ids that depend on the content only.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retriever.errors import OutputError, RetrieverError
from retriever.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#24292f"  # text and axes; becomes the page's text colour in embedded SVG
PALETTE = (
    "#3b7dd8",
    "#e08e0b",
    "#1f9e77",
    "#8a8f98",
    "#c2567a",
    "#7a63c7",
    "#5aa9c9",
    "#a67c52",
)  # fit for light and dark

STYLE: Any = {  # not a dict to mypy: matplotlib types each key by its name
    "svg.fonttype": "none",
    "svg.hashsalt": "retriever",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": INK,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.size": 0,
    "legend.frameon": False,
}


@contextmanager
def house_style() -> Iterator[None]:
    """The house style, for everything drawn and saved inside the ``with`` block.

    Raises:
        RetrieverError: Matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise RetrieverError(
            "Drawing needs matplotlib, which is not installed: pip install 'dense-retriever[report]'."
        ) from error
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The reader's browser has fonts that matplotlib lacks, and text stays text in SVG.
        warnings.filterwarnings("ignore", message=r"(?s)Glyph .* missing from font", category=UserWarning)
        yield


def to_svg(figure: Figure) -> str:
    """A figure as an ``<svg>`` element to embed in HTML: transparent, in the text colour of the page."""
    svg = _rendered(figure, "svg", transparent=True).decode()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r' id="[a-z0-9.]+_[0-9]+"', "", svg)  # ids nothing refers to, which clash between the SVGs of a page


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure to a ``.svg`` or ``.png`` file on white, whole or not at all.

    Raises:
        OutputError: The name ends otherwise, or the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("svg", "png"):
        raise OutputError(f"Cannot draw into {path}: choose a file name that ends in .svg or .png.")
    return write_atomically(path, _rendered(figure, kind, facecolor="white"))


def _rendered(figure: Figure, kind: str, **options: Any) -> bytes:
    """The figure in an image format, without date or version."""
    metadata = dict.fromkeys({"svg": ("Date", "Creator", "Format", "Type"), "png": ("Software",)}[kind])
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata, dpi=160, bbox_inches="tight", **options)
    return buffer.getvalue()
