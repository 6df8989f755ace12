"""Parts of a page in HTML: its style, tables, and pictures that it carries inside."""

import base64
import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

MOST_BYTES = 80_000  # of a picture that is taken as it is
MOST_PIXELS = 1200  # a side, of a picture that is made smaller

STYLE = """\
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: break-word; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; }
th, td { padding: .2rem 1rem .2rem 0; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
td { font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
pre { overflow-x: auto; background: #f6f6f6; padding: .5rem 1rem; }
pre.command { user-select: all; white-space: pre-wrap; }
.pictures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)); }
figure { margin: 0; }
.pictures img { width: 100%; image-rendering: pixelated; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole page, which needs no other file, site or script."""
    title = html.escape(title)
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>\n{STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        *parts,
        "</body></html>",
    ]
    return "\n".join(lines) + "\n"


# The functions below return parts of a page as lists of lines.


def heading(text: str) -> list[str]:
    """Return the heading of a section."""
    return [f"<h2>{html.escape(text)}</h2>"]


def paragraph(text: str) -> list[str]:
    """Return a paragraph; nothing where there is no text."""
    return [f"<p>{html.escape(text)}</p>"] if text else []


def table(rows: Iterable[Sequence[Any]], head: Sequence[str] = ()) -> list[str]:
    """Return a table; the first cell of each row is its heading."""
    lines = ["<table>"]
    if head:
        cells = (f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
        lines.append(f"<tr>{''.join(cells)}</tr>")
    for name, *cells in rows:
        cells = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{html.escape(name)}</th>{cells}</tr>')
    return [*lines, "</table>"]


def command(text: str) -> list[str]:
    """Return a command that one click selects."""
    return [f'<pre class="command">{html.escape(text)}</pre>']


def folded(summary: str, text: str) -> list[str]:
    """Return text that shows when its summary is opened."""
    return [
        f"<details><summary>{html.escape(summary)}</summary>",
        f"<pre>{html.escape(text)}</pre></details>",
    ]


def picture(path: Path, alt: str) -> list[str]:
    """Return an image that holds the file; one that cannot be read is named."""
    try:
        source = _data_uri(path)
    except Exception as error:  # Pillow raises many kinds
        return paragraph(f"{alt}: {path.name} cannot be read ({error})")
    return [f'<img src="{source}" alt="{html.escape(alt)}">']


def figure(path: Path, caption: str, alt: str) -> list[str]:
    """Return an image with a caption below it."""
    below = f"<figcaption>{html.escape(caption)}</figcaption>"
    return ["<figure>", *picture(path, alt), below, "</figure>"]


def _data_uri(path: Path) -> str:
    data, kind = path.read_bytes(), "png"
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # one that is cut short must not reach the page
        if len(data) > MOST_BYTES:
            image = image.convert("RGB")
            image.thumbnail((MOST_PIXELS, MOST_PIXELS))
            smaller = io.BytesIO()
            image.save(smaller, format="webp", quality=85)
            data, kind = smaller.getvalue(), "webp"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
