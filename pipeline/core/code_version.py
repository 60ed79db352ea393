"""The version of the code: git's id of the tree `pipeline/`.

The id of a commit cannot be part of a result: committing the result would change it.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

HERE = Path(__file__).parent.parent
SUFFIXES = (".py", ".j2", ".css", ".js")
"""Of the files that git tracks; others are left by editors and interpreters."""


def tree(folder: Path = HERE) -> str:
    """Return the id of *folder* as a git tree: 40 hex digits, `git rev-parse COMMIT:pipeline`.

    Source: Chacon and Straub 2014, "Pro Git", section 10.2.
    """
    entries: dict[bytes, bytes] = {}
    for path in folder.iterdir():
        name = path.name.encode()
        if path.is_dir():
            digest = tree(path)
            if digest != EMPTY:  # git sorts a folder as if its name ended in a slash
                entries[name + b"/"] = b"40000 %b\0%b" % (name, bytes.fromhex(digest))
        elif path.suffix in SUFFIXES:
            mode = b"100755" if os.access(path, os.X_OK) else b"100644"
            digest = _object_id("blob", path.read_bytes())
            entries[name] = b"%b %b\0%b" % (mode, name, bytes.fromhex(digest))
    return _object_id("tree", b"".join(entries[name] for name in sorted(entries)))


def _object_id(kind: str, data: bytes) -> str:
    head = f"{kind} {len(data)}\0".encode()
    return hashlib.sha1(head + data, usedforsecurity=False).hexdigest()


EMPTY = _object_id("tree", b"")
