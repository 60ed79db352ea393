"""Render the report as one HTML file, and its drawings as PNG files.

The page needs no network, contains no time and no path, and is the same, to the byte, for the same
results.
"""

from __future__ import annotations

import base64
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from anyascii import anyascii
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.validate.report.blocks import Cell, Estimate, Kind, Page
from pipeline.validate.report.drawings import Drawing

FOLDER = Path(__file__).parent
DASH = "–"
PNG_SCALE = 2
FONT = "Liberation Sans"
"""Of the PNG files; the converter brings it along, so that no machine's own fonts are used."""

LETTERS = (
    "\x00-\u036f\u0374-\u0375\u037a-\u03ce\u03d0-\u0513\u1e00-\u1e9b\u1ea0-\u1ef9\u2012-\u2022\u2026"
    "\u202f\u2030\u2032-\u2034\u2039-\u203a\u2190-\u2195\u2211-\u2212\u221e\u2248\u2260-\u2262\u2264-\u2265"
)
"""What FONT has: Latin, Greek, Cyrillic, punctuation and some symbols."""


INVISIBLE = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
"""Control characters except tab and line feed, and those that set the direction of writing."""


def render(page: Page) -> str:
    """Return *page* as HTML; texts are escaped unless they are Markup."""
    return visible(_environment().get_template("page.html.j2").render(page=page))


def visible(text: str) -> str:
    """Show control characters and those that reverse what follows by their code: ⟨U+202E⟩.

    A label may have them. Browsers leave out the first, and the others let a name look like another
    one. A PNG cannot be drawn with them.
    """
    return re.sub(f"[{INVISIBLE}]", lambda found: f"⟨U+{ord(found[0]):04X}⟩", text)


def plots(drawings: Mapping[str, tuple[str, Sequence[Drawing]]]) -> dict[str, bytes]:
    """Return PNG files by name.

    Args:
        drawings: title and panels by name; those without panels are left out.
    """
    from vl_convert import svg_to_png

    found = {}
    template = _environment().get_template("plot.svg.j2")
    for name, (title, panels) in drawings.items():
        if panels:
            svg = template.render(title=title, panels=panels, font=FONT)
            found[name] = bytes(
                svg_to_png(_with_literal_colours(_transliterated(visible(svg))), PNG_SCALE)
            )
    return found


def _with_literal_colours(svg: str) -> str:
    """Replace the CSS variables, which the converter does not know, by the light theme's values."""
    root = re.search(r":root \{(.*?)\}", svg, re.DOTALL)
    values = dict(re.findall(r"(--[\w-]+): ([^;]+);", root[1])) if root else {}
    return re.sub(r"var\((--[\w-]+)\)", lambda name: values[name[1]], svg)


def _transliterated(text: str) -> str:
    """Write other scripts in Latin letters: 珊瑚 as ShanHu."""
    composed = unicodedata.normalize("NFC", text)
    return re.sub(f"[^{LETTERS}]+", lambda other: str(escape(anyascii(other[0]))), composed)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "breakable": breakable,
        "cell": cell,
        "inline": _inline,
        "json": _json,
    }
    return environment


def number(kind: str, value: float) -> str:
    """Return *value* as a column of *kind* shows it; a dash if it is NaN."""
    if math.isnan(value):
        return DASH
    match kind:
        case "count":
            text = f"{value:,.0f}"
        case "share":
            text = f"{100 * value:.1f}\u202f%"
        case "points":
            text = f"{100 * value:+.1f}"
        case "percent":
            text = f"{100 * value:.1f}"
        case "signed":
            text = f"{value:+.4f}"
        case "r2":
            text = f"{value:.2f}"
        case "p":
            text = f"{value:.3g}"
        case _:
            text = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
    return text.replace("-", "\u2212")


def share(value: float) -> str:
    """Return a share as per cent."""
    return number("share", value)


def cell(value: Any, kind: Kind) -> Markup:
    """Return a cell of a table's body; numbers carry the value by which the column is sorted."""
    if kind in ("text", "long"):
        return Markup('<td class="{}">{}</td>').format(kind, breakable(str(value)))
    if isinstance(value, Cell):
        return Markup(
            '<td class="n" data-v="{}"><button type="button" class="browse" data-label="{}" '
            'data-predicted="{}" title="show these chips">{:,}</button></td>'
        ).format(value.n, value.label, value.predicted, value.n)
    estimate = value if isinstance(value, Estimate) else Estimate(value, math.nan, math.nan)
    amount, low, high = estimate
    content, style = escape(number(kind, amount)), Markup("")
    classes = ["n"]
    if kind == "share" and not math.isnan(amount):
        classes.append("bar")
        style = Markup("--v:{}").format(round(amount, 4))
    if not math.isnan(low):
        if kind == "share":
            classes.append("range")
            style += Markup(";--l:{};--h:{}").format(round(low, 4), round(high, 4))
            ends = f"{100 * low:.0f} to {100 * high:.0f}"
        else:
            ends = f"{number(kind, low)} to {number(kind, high)}"
        content += Markup("<small>{}</small>").format(ends)
    key = -1e9 if math.isnan(amount) else amount
    attribute = Markup(' style="{}"').format(style) if style else ""
    return Markup('<td class="{}" data-v="{}"{}>{}</td>').format(
        " ".join(classes), key, attribute, content
    )


def breakable(text: str) -> Markup:
    """Let a long name break after a character that joins its words.

    It is isolated, since a name in a script that is written from the right would reverse the
    numbers after it.
    """
    broken = re.sub(r"([_/.])(?=\w)", r"\1<wbr>", str(escape(text)))
    return Markup(f"<bdi>{broken}</bdi>")  # noqa: S704 - just escaped


def _inline(webp: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(webp).decode()


def _json(value: Any) -> Markup:
    """Return JSON that is safe inside a script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # An escaped control character, which no backslash before it makes a text of its own.
    text = re.sub(
        r"(?<!\\)((?:\\\\)*)\\u00([01][0-9a-f])",
        lambda found: f"{found[1]}⟨U+00{found[2].upper()}⟩",
        text,
    )
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - nothing in it can end the element
