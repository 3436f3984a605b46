"""HTML of the reports: small pieces, joined to one page that needs no other file. All text is escaped here."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files

from bregma import __version__
from bregma.report import style
from bregma.report.style import Drawing

#: Colours of the figures follow the page, so that they suit a dark one too.
_COLORS = {
    style.INK: "ink",
    style.MUTED: "faint",
    style.RULE: "rule",
    style.BLUE: "blue",
    style.VERMILION: "vermilion",
    style.GREEN: "green",
    style.PURPLE: "purple",
    style.ORANGE: "orange",
    style.SKY: "sky",
}


def page(title: str, parts: Iterable[str]) -> str:
    """A whole HTML document.

    Args:
        title: plain text.
        parts: HTML of the body.
    """
    css = files("bregma.report").joinpath("report.css").read_text(encoding="utf-8")
    body = "\n".join(part for part in parts if part)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="bregma {escape(__version__)}">
<title>{escape(title)}</title>
<style>
{css}</style>
</head>
<body>
<main>
{body}
</main>
<footer><p>Made by bregma {escape(__version__)} from the files of the run folder alone.</p></footer>
</body>
</html>
"""


def header(over: str, title: str, lede: str, notes: Sequence[str] = ()) -> str:
    """The top of a page; all plain text."""
    boxes = "".join(f'<p class="note">{escape(note)}</p>\n' for note in notes)
    return (
        f'<header>\n<p class="over">{escape(over)}</p>\n<h1>{escape(title)}</h1>\n'
        f'<p class="lede">{escape(lede)}</p>\n{boxes}</header>'
    )


def numbers(pairs: Iterable[tuple[str, str]]) -> str:
    """Large figures, each a value and what it is; plain text."""
    items = "".join(f"<div><dt>{escape(what)}</dt><dd>{escape(value)}</dd></div>\n" for value, what in pairs)
    return f'<section aria-label="Key figures">\n<dl class="numbers">\n{items}</dl>\n</section>'


def figures(title: str, drawings: Iterable[Drawing]) -> str:
    """A section of figures side by side, as many as fit; empty without any."""
    items = "\n".join(_figure(drawing) for drawing in drawings)
    return f'<section>\n<h2>{escape(title)}</h2>\n<div class="figures">\n{items}\n</div>\n</section>' if items else ""


def _figure(drawing: Drawing) -> str:
    return (
        f"<figure>\n<h3>{escape(drawing.title)}</h3>\n{inline(drawing)}\n"
        f"<figcaption>{escape(drawing.caption)}</figcaption>\n</figure>"
    )


def inline(drawing: Drawing) -> str:
    """The SVG as part of a page: no prologue, no style of its own, ids and colours that fit the page."""

    def fit(tag: re.Match[str]) -> str:
        text = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{drawing.name}-", tag[0])
        text = re.sub(r"font-family: [^;\"]+;? ?", "", text)
        return re.sub("|".join(_COLORS), lambda color: css_color(color[0]), text)

    svg = drawing.svg[drawing.svg.index("<svg") :].strip()
    svg = re.sub(r"<(style|metadata)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<[^<>]*>", fit, svg)  # inside tags only: a class may well be called id="x"
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(drawing.alt)}" ', 1)


def css_color(color: str) -> str:
    """A colour of `bregma.report.style` as the page calls it."""
    return f"var(--{_COLORS[color]})"


def code(text: str) -> str:
    """A command to copy; plain text."""
    return f"<pre><code>{escape(text)}</code></pre>"


def paragraph(text: str) -> str:
    """Plain text."""
    return f"<p>{escape(text)}</p>"


def section(title: str, *parts: str) -> str:
    """A section of HTML parts below a heading of plain text."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def folded(title: str, values: Mapping[str, object]) -> str:
    """A table of names and values, closed at first; plain text."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>\n' for name, value in values.items()
    )
    return f"<details>\n<summary>{escape(title)}</summary>\n<table>\n<tbody>\n{rows}</tbody>\n</table>\n</details>"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Iterable[int]) -> str:
    """A table that scrolls by itself where the page is narrow.

    Args:
        caption: what it is, for those who cannot see it; plain text.
        head: names of the columns; plain text.
        rows: cells, as HTML.
        numeric: columns of numbers, set to the right.
    """
    right = set(numeric)

    def kind(column: int) -> str:
        return ' class="number"' if column in right else ""

    top = "".join(f'<th scope="col"{kind(k)}>{escape(name)}</th>' for k, name in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{kind(k)}>{cell}</td>" for k, cell in enumerate(row)) + "</tr>\n" for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">\n<table class="compare">\n'
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n</div>"
    )
