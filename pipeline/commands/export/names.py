"""Names of chips as files: a template with fields, as `{label}/{key_stem}_{row}_{col}`.

A value is written so that it is one part of a path on any system: what could be mistaken there
stands as `%` and two hex digits for each of its bytes, as in a web address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from pipeline.config.templates import Template, template
from pipeline.core.errors import SettingError, shorten

LONGEST = 255
"""Bytes of a file's or a folder's name: more no usual file system takes."""

SHOWN = 60
WHOLE = r"-?\d+"
PART = r"[^/]+?"
FIELDS: Mapping[str, str] = {
    "key": r".+?",
    "key_stem": PART,
    "label": PART,
    "group": PART,
    "split": PART,
    "chip_id": r"[0-9a-f]{32}",
    **dict.fromkeys(("row", "col", "top", "left", "height", "width"), WHOLE),
}
"""By name of a field what it looks like. `key` is the image's without its ending."""

Row = Mapping[str, Any]

UNSAFE = frozenset('%\\:*?"<>|/\x7f') | {chr(code) for code in range(32)}


def read(text: str, of_keys: Sequence[str] = ()) -> Template:
    """Read a template of names.

    Args:
        text: with any of FIELDS in braces.
        of_keys: more fields, those of `index.pattern`.

    Raises:
        SettingError: it is none.
    """
    try:
        found = template(text, {**FIELDS, **dict.fromkeys(of_keys, PART)})
    except ValueError as error:
        raise SettingError(f"--name: {text!r} {error}") from error
    parts = text.split("/")
    if any(part in {"", ".", ".."} for part in parts) or parts[0].startswith("."):
        raise SettingError(f"--name: {text!r} would leave the folder that chips go to")
    return found


def name(wanted: Template, row: Row) -> str:
    """Give the name of a chip.

    Args:
        wanted: the template.
        row: schemas.CHIPS with `label`, `group`, `split`, and the fields of `index.pattern`.

    Raises:
        SettingError: the name would be read as another chip's.
    """
    own = values(row)
    own |= {field: safe(str(row[field])) for field in wanted.fields if field not in own}
    given = wanted.format(own)
    back = wanted.parse(given) or {}
    if any(back.get(field) != own[field] for field in wanted.fields):
        chip = f"{row['key']} ({row['row']}, {row['col']})"
        raise SettingError(
            f"--name: {wanted.text!r} calls {chip} {given!r}, which reads as {back}; put other "
            "text, or a /, between its fields"
        )
    return given


def doubled(wanted: Template, one: Row, other: Row) -> SettingError:
    """Say that two chips have one name."""
    both = [f"{row['key']} ({row['row']}, {row['col']})" for row in (one, other)]
    return SettingError(
        f"--name: {wanted.text!r} calls {both[0]} and {both[1]} both {name(wanted, other)!r}; "
        "put {key}, {row} and {col}, or {chip_id}, into it"
    )


def in_the_way(wanted: Template, row: Row, given: str) -> SettingError:
    """Say that a chip's file would lie where an export's own file does."""
    chip = f"{row['key']} ({row['row']}, {row['col']})"
    own = given.partition("/")[0]
    return SettingError(
        f"--name: {wanted.text!r} calls {chip} {given!r}, and {own} is the export's own file; put "
        "text before the first field, as in chips/{label}/…"
    )


def fits(given: str) -> bool:
    """Say whether a file can have the name, with its ending."""
    return all(len(part.encode()) <= LONGEST for part in given.split("/"))


def too_long(wanted: Template, row: Row, given: str) -> SettingError:
    """Say that a chip's file would have a name that no file system takes."""
    chip = f"{row['key']} ({row['row']}, {row['col']})"
    size = max(len(part.encode()) for part in given.split("/"))
    return SettingError(
        f"--name: {wanted.text!r} gives {chip} a name of {size:,} bytes, "
        f"{shorten(given, SHOWN)!r}; a file or a folder has "
        f"{LONGEST} at most: put {{chip_id}} in a long field's place"
    )


def values(row: Row) -> dict[str, str]:
    """Give the fields of one chip as names have them."""
    key = PurePosixPath(row["key"])
    stem = key.name.removesuffix(key.suffix)
    found = {name: str(row[name]) for name in FIELDS if name in row}
    found |= {name: safe(str(row[name])) for name in ("label", "group", "split")}
    return found | {
        "chip_id": row["chip_id"].hex(),
        "key": "/".join(safe(part) for part in [*row["key"].split("/")[:-1], stem]),
        "key_stem": safe(stem),
    }


def safe(text: str) -> str:
    """Give *text* as one part of a path: not hidden, on no system anything else; see `plain`."""
    ends = {0} if text.startswith(".") else set()
    ends |= {len(text) - 1} if text.endswith((".", " ")) else set()
    return "".join(
        "".join(f"%{byte:02X}" for byte in letter.encode())
        if letter in UNSAFE or place in ends
        else letter
        for place, letter in enumerate(text)
    )


def plain(name: str) -> str:
    """Give the value that `safe` has written."""
    return unquote(name, errors="strict")
