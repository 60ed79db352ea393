"""Templates of names, such as `{site}/{date}_{n}.jpg`: names are parsed and formatted by them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter

PART = r"[^/]+?"
"""What a field matches by default: part of a folder's or file's name, as short as possible."""

FIELD = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Template:
    """A name with fields: literal text, and `{field}` in place of each value.

    Attributes:
        text: the template; `{{` and `}}` are literal braces.
        fields: the names of the fields, in the order of their first use.
        regex: matches names. A field that is used twice has the same value twice.
    """

    text: str
    fields: tuple[str, ...]
    regex: re.Pattern[str] = field(repr=False, compare=False)

    def parse(self, name: str) -> dict[str, str] | None:
        """Return the values of the fields in *name*; None if it does not match.

        If it matches in several ways, fields are as short as possible, the first one first.
        """
        match = self.regex.fullmatch(name)
        return None if match is None else match.groupdict()

    def format(self, values: Mapping[str, object]) -> str:
        """Return the name with these *values*, which has all fields."""
        return self.text.format_map(values)


def template(text: str, kinds: Mapping[str, str] | None = None) -> Template:
    """Read a template.

    Args:
        text: literal text, and fields of lower-case letters, digits and `_` in braces.
        kinds: the fields that are allowed, with regular expressions; None: any, each a PART.

    Raises:
        ValueError: it is not a template, or the names could not be parsed; with the reason.
    """
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"not a template: {error}") from error
    named = [name for _, name, _, _ in parts if name is not None]
    if not named:
        raise ValueError("has no field, such as {site}")
    # If the shortest match of a field does not lead to a match of the whole, no longer one does:
    # the next field could take the rest. With atomic groups, the regex does not try them, or a
    # long key of separators would take forever.
    is_atomic = kinds is None and len(set(named)) == len(named)
    fields: list[str] = []
    regex, follows = "", False
    for literal, name, spec, conversion in parts:
        regex += re.escape(literal)
        if name is not None:
            regex += ")" if is_atomic and fields else ""
            _check(name, f"{conversion or ''}{spec}", kinds)
            if follows and not literal:
                raise ValueError(f"{{{name}}} directly follows a field; put text between them")
            kind = (kinds or {}).get(name, PART)
            group = f"(?P={name})" if name in fields else f"(?P<{name}>{kind})"
            fields += [] if name in fields else [name]
            regex += f"(?>{group}" if is_atomic and len(fields) < len(named) else group
        follows = name is not None
    return Template(text, tuple(fields), re.compile(regex, re.DOTALL))


def _check(name: str, form: str, kinds: Mapping[str, str] | None) -> None:
    if form:
        raise ValueError(f"{{{name}}} has a format; a field is only a name")
    if not FIELD.fullmatch(name):
        raise ValueError(f"{{{name}}}: a field's name is of lower-case letters, digits and _")
    if kinds is not None and name not in kinds:
        raise ValueError(f"{{{name}}} is none of the fields {', '.join(kinds)}")
