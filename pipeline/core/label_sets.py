"""Several labels of one chip, as the tables hold them: one string, in order, with a separator.

The separator is `annotations.label_separator`; without one a chip has one label, whatever its text.
"""

from __future__ import annotations

from collections.abc import Iterable


def split(text: str, separator: str | None) -> tuple[str, ...]:
    """Give the labels that *text* holds: none of "" where there can be several."""
    if separator is None:
        return (text,)
    return tuple(text.split(separator)) if text else ()


def join(labels: Iterable[str], separator: str) -> str:
    """Give *labels* as one text, each once, sorted: equal sets are equal texts."""
    return separator.join(sorted(set(labels)))
