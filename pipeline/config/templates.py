"""Templates: names with fields in braces, as `{site}/{date}_{n}.jpg`, written and read back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter

PART = r"[^/]+?"
"""What a field stands for unless it is said: a part of one folder's name, as short as can be."""

FIELD = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Template:
    """A name with fields: literal text, and `{field}` where a value stands.

    Attributes:
        text: the template as it was written; `{{` and `}}` are braces themselves.
        fields: names of the fields, in the order in which they first come.
        regex: what names by it look like. A field that comes again has the same value again.
    """

    text: str
    fields: tuple[str, ...]
    regex: re.Pattern[str] = field(repr=False, compare=False)

    def parse(self, name: str) -> dict[str, str] | None:
        """Give the fields' values in *name*, whole; None if it is no name by this template.

        Where several readings are possible, each field is as short as can be, the first one first.
        """
        found = self.regex.fullmatch(name)
        return None if found is None else found.groupdict()

    def format(self, values: Mapping[str, object]) -> str:
        """Write a name with *values*, which has every field."""
        return self.text.format_map(values)


def template(text: str, kinds: Mapping[str, str] | None = None) -> Template:
    """Read a template.

    Args:
        text: literal text, and fields of lower-case letters, digits and `_` in braces.
        kinds: regular expressions of fields that are not `PART`; null: any name may be a field.
            Given, other names are none.

    Raises:
        ValueError: it is none, or cannot be read back; the sentence says why.
    """
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"not a template: {error}") from error
    named = [name for _, name, _, _ in parts if name is not None]
    if not named:
        raise ValueError("has no field, as {site} is one")
    # If the first reading cannot be gone on with, no other can: the next field takes what stands
    # between. So none is tried, or a long key of separators alone would take for ever.
    is_sure = kinds is None and len(set(named)) == len(named)
    fields: list[str] = []
    regex, follows = "", False
    for literal, name, spec, conversion in parts:
        regex += re.escape(literal)
        if name is not None:
            regex += ")" if is_sure and fields else ""
            _check(name, f"{conversion or ''}{spec}", kinds)
            if follows and not literal:
                raise ValueError(f"{{{name}}} stands right behind a field: put text between them")
            kind = (kinds or {}).get(name, PART)
            group = f"(?P={name})" if name in fields else f"(?P<{name}>{kind})"
            fields += [] if name in fields else [name]
            regex += f"(?>{group}" if is_sure and len(fields) < len(named) else group
        follows = name is not None
    return Template(text, tuple(fields), re.compile(regex, re.DOTALL))


def _check(name: str, form: str, kinds: Mapping[str, str] | None) -> None:
    if form:
        raise ValueError(f"{{{name}}} has a format; a field is a name alone")
    if not FIELD.fullmatch(name):
        raise ValueError(f"{{{name}}}: a field is named by lower-case letters, digits and _")
    if kinds is not None and name not in kinds:
        raise ValueError(f"{{{name}}} is none of the fields {', '.join(kinds)}")
