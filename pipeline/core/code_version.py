"""Which code this is, as git names it: the tree of `pipeline/`, whatever the commit around it.

A commit's own name cannot stand in a result: committing the result would change it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

HERE = Path(__file__).parent.parent
SUFFIXES = (".py", ".j2", ".ttf", ".txt")
"""Of the files that git has; others are an editor's or an interpreter's."""


def tree(folder: Path = HERE) -> str:
    """Give the name of *folder* as a git tree: 40 hex digits, `git rev-parse COMMIT:pipeline`.

    Source: Chacon and Straub 2014, "Pro Git", section 10.2.
    """
    entries = []
    for path in folder.iterdir():
        if path.is_dir():
            name = tree(path)
            if name != EMPTY:
                # Git sorts a folder as if its name ended in a slash.
                entries.append((f"{path.name}/".encode(), b"40000", path.name, name))
        elif path.suffix in SUFFIXES:
            mode = b"100755" if os.access(path, os.X_OK) else b"100644"
            entries.append((path.name.encode(), mode, path.name, _name("blob", path.read_bytes())))
    return _name(
        "tree",
        b"".join(
            b"%b %b\0%b" % (mode, name.encode(), bytes.fromhex(digest))
            for _, mode, name, digest in sorted(entries)
        ),
    )


def _name(kind: str, data: bytes) -> str:
    head = f"{kind} {len(data)}\0".encode()
    return hashlib.sha1(head + data, usedforsecurity=False).hexdigest()


EMPTY = _name("tree", b"")
