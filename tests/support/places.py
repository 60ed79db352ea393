"""Buckets that tests fill: a folder, or S3 on a server of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import servers

NAMES = ("folder", *servers.SERVERS)


class Folder:
    """A bucket that is a folder."""

    def __init__(self, root: Path):
        self.root, self.url, self.env = root, str(root), {}

    def put(self, key: str, data: bytes) -> None:
        """Put an image there."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def overwrite(self, key: str, data: bytes) -> None:
        """Write other bytes into the same file, and set its time back."""
        path = self.root / key
        stat = path.stat()
        with path.open("r+b") as stream:
            stream.write(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    def delete(self, key: str) -> None:
        """Take an image away."""
        (self.root / key).unlink()


class Objects:
    """A bucket on S3."""

    def __init__(self, endpoint: str):
        self.client = servers.client(endpoint)
        self.url, self.env = f"s3://{servers.BUCKET}/reef", servers.environment(endpoint)

    def put(self, key: str, data: bytes) -> None:
        """Put an image there."""
        self.client.put_object(Bucket=servers.BUCKET, Key=f"reef/{key}", Body=data)

    overwrite = put

    def delete(self, key: str) -> None:
        """Take an image away."""
        self.client.delete_object(Bucket=servers.BUCKET, Key=f"reef/{key}")


@contextmanager
def place(name: str, folder: Path) -> Iterator[Folder | Objects]:
    """An empty bucket: `folder`, or on one of `servers.SERVERS`."""
    if name == "folder":
        yield Folder(folder / "images")
        return
    with servers.SERVERS[name](folder / "server") as endpoint:
        yield Objects(endpoint)
