"""File names of chips: a template with fields, such as `{label}/{key_stem}_{row}_{col}`.

A value is written so that it is one part of a path on any system: characters that have a meaning in
paths are written as `%` and two hex digits for each of their bytes, as in a web address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from pipeline.config.templates import Template, template
from pipeline.core.errors import SettingError

MAX_BYTES = 255
"""Of the name of a file or folder, on the usual file systems."""

INTEGER = r"-?\d+"
PART = r"[^/]+?"
FIELDS: Mapping[str, str] = {
    "key": r".+?",
    "key_stem": PART,
    "label": PART,
    "group": PART,
    "split": PART,
    "chip_id": r"[0-9a-f]{32}",
    **dict.fromkeys(("row", "col", "top", "left", "height", "width"), INTEGER),
}
"""The regular expression of each field. `key` is the image's without its ending."""

UNSAFE = frozenset('%\\:*?"<>|/\x7f') | {chr(code) for code in range(32)}

Row = Mapping[str, Any]


def read(text: str, key_fields: Sequence[str] = ()) -> Template:
    """Read a template of names.

    Args:
        text: with any of FIELDS in braces.
        key_fields: more fields, those of `index.pattern`.

    Raises:
        SettingError: it is not one.
    """
    try:
        names = template(text, {**FIELDS, **dict.fromkeys(key_fields, PART)})
    except ValueError as error:
        raise SettingError(f"--name: {text!r} {error}") from error
    parts = text.split("/")
    if any(part in {"", ".", ".."} for part in parts) or parts[0].startswith("."):
        raise SettingError(f"--name: {text!r} would lead out of the target folder")
    return names


def name(names: Template, row: Row) -> str:
    """Return the name of a chip.

    Args:
        names: the template.
        row: schemas.CHIPS with `label`, `group`, `split`, and the fields of `index.pattern`.

    Raises:
        SettingError: the name could be read back as another chip's.
    """
    fields = values(row)
    fields |= {field: safe(str(row[field])) for field in names.fields if field not in fields}
    text = names.format(fields)
    parsed = names.parse(text) or {}
    if any(parsed.get(field) != fields[field] for field in names.fields):
        problem = f"which reads as {parsed}; put other text, or a /, between its fields"
        raise invalid(names, row, f"{text!r}, {problem}")
    return text


def invalid(names: Template, row: Row, problem: str) -> SettingError:
    """Return the error for a name that a chip cannot have."""
    return SettingError(f"--name: {names.text!r} gives {chip(row)} the name {problem}")


def chip(row: Row) -> str:
    """Return key and place of a chip, for a message."""
    return f"{row['key']} ({row['row']}, {row['col']})"


def values(row: Row) -> dict[str, str]:
    """Return the fields of one chip as they are written in names."""
    key = PurePosixPath(row["key"])
    stem = key.name.removesuffix(key.suffix)
    return {
        **{name: str(row[name]) for name in FIELDS if name in row},
        **{name: safe(str(row[name])) for name in ("label", "group", "split")},
        "chip_id": row["chip_id"].hex(),
        "key": "/".join(safe(part) for part in [*row["key"].split("/")[:-1], stem]),
        "key_stem": safe(stem),
    }


def safe(text: str) -> str:
    """Return *text* as one part of a path, not hidden; `urllib.parse.unquote` gives it back."""
    ends = {0} if text.startswith(".") else set()
    ends |= {len(text) - 1} if text.endswith((".", " ")) else set()
    return "".join(
        "".join(f"%{byte:02X}" for byte in letter.encode())
        if letter in UNSAFE or place in ends
        else letter
        for place, letter in enumerate(text)
    )
