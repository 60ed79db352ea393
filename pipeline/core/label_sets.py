"""Several labels of a chip as one string, as tables have them: sorted, and joined.

The separator is `annotations.label_separator`; without it a chip has one label, whatever its text.
"""

from __future__ import annotations

from collections.abc import Iterable


def split(text: str, separator: str | None) -> tuple[str, ...]:
    """Return the labels in *text*; with a *separator*, "" has none."""
    if separator is None:
        return (text,)
    return tuple(text.split(separator)) if text else ()


def join(labels: Iterable[str], separator: str) -> str:
    """Return *labels* as one text, each once, sorted: equal sets are equal texts."""
    return separator.join(sorted(set(labels)))
