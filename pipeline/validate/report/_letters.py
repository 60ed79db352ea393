"""The letters of the PNG plots: a font of our own, and what is written where it has no letter.

A font that a machine happens to have would change the bytes, and so would a library that lays out
Arabic or Thai: what is not written letter by letter from the left is written in Latin letters.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from pathlib import Path

from anyascii import anyascii
from PIL import ImageFont

FILE = Path(__file__).parent / "letters" / "DejaVuSans.ttf"

LETTERS = (
    (0x0020, 0x007E),
    (0x00A0, 0x024F),
    (0x0259, 0x0259),
    (0x02BB, 0x02BC),
    (0x0300, 0x034E),
    (0x0370, 0x03FF),
    (0x0400, 0x04FF),
    (0x1E00, 0x1EFB),
    (0x2010, 0x2027),
    (0x202F, 0x203A),
    (0x2080, 0x2089),
    (0x2190, 0x2193),
    (0x2212, 0x2212),
    (0x2260, 0x2260),
    (0x2264, 0x2265),
)
"""What the font has: Latin with accents, Greek, Cyrillic, and signs. letters/LICENSE.txt says how
the file was made."""


@cache
def font(size: float) -> ImageFont.FreeTypeFont:
    """Give the font, *size* pixels high."""
    # The other layout asks a library of the machine, where there is one.
    return ImageFont.truetype(FILE, size, layout_engine=ImageFont.Layout.BASIC)


def drawable(text: str) -> str:
    """Write *text* in the letters that the font has.

    Of other scripts Latin letters are given that sound or are called alike, as 珊瑚 is ShanHu.
    """
    whole = unicodedata.normalize("NFC", text)
    return "".join(sign if _has(sign) else anyascii(sign) for sign in whole)


def fitted(text: str, size: float, width: float) -> str:
    """Write *text* as `drawable`, and cut off, with dots, what is more than *width* pixels wide."""
    whole, letters = drawable(text), font(size)
    shown, kept = whole, len(whole)
    while kept and letters.getlength(shown) > width:
        kept -= 1
        shown = whole[:kept] + "…"
    return shown


def _has(sign: str) -> bool:
    return any(first <= ord(sign) <= last for first, last in LETTERS)
