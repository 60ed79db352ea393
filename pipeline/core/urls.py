"""Addresses that may contain credentials: what messages show of them, and which are refused."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit, urlunsplit

SECRET = re.compile(
    r"sig|sign(ed|ature)?|.*(signature|token|secret|passw|credential|api_?key|access_?key|auth).*"
    r"|key|pwd",
    re.IGNORECASE,
)
"""Names in an address's query whose values are secret."""


def redacted(url: str) -> str:
    """Return *url* for a message: without user, password and query, which may be credentials."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition('://')[0]}://…"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def holds_credentials(text: str) -> bool:
    """Return True if *text* is an address with a user, a password, a token or a signature."""
    if "://" not in text:
        return False
    try:
        parts = urlsplit(text)
    except ValueError:  # such as a bracket that is not closed
        return "@" in text or "?" in text
    names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    return "@" in parts.netloc or any(map(SECRET.fullmatch, names))
