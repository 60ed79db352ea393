"""What a stage has taken: rows of its table, and how many of them were computed.

The index of an unchanged bucket imports this and little else: hence no dataclass, path or logger.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import NamedTuple


class Counts(NamedTuple):
    """What a stage took: rows of its table, and how many of them this run computed.

    Attributes:
        stage: its name.
        unit: what a row is, in the plural.
        rows: all of the table.
        computed: those that this run computed; the others were reused.
        rejected: what could not be used.
        more: said after the counts, for a person.
    """

    stage: str
    unit: str
    rows: int
    computed: int
    rejected: int = 0
    more: str = ""

    @property
    def reused(self) -> int:
        """Rows that were there already."""
        return self.rows - self.computed

    def sentence(self) -> str:
        """Say it to a person, in one line."""
        more = f"; {self.more}" if self.more else ""
        return (
            f"{self.stage}: {pluralize(self.rows, self.unit)}, {self.computed:,} computed, "
            f"{self.reused:,} reused, {self.rejected:,} rejected{more}"
        )

    def line(self) -> str:
        """Say it to a program: one JSON object in one line."""
        names = ("stage", "unit", "rows", "computed", "reused", "rejected")
        return json.dumps({name: getattr(self, name) for name in names})


def pluralize(n: int, things: str) -> str:
    """Say how many there are of *things*, which is a plural: `1 image`, `1,234 images`."""
    one = things.removesuffix("es" if things.endswith("sses") else "s")
    return f"{n:,} {one if n == 1 else things}"


def append_run_log(path: str | os.PathLike[str], run: str, counts: Counts) -> None:
    """Add what a stage took in *run* to the file *path*, one JSON object a line."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    line = {"run": run, "at": now, **json.loads(counts.line()), "said": counts.sentence()}
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        sys.stderr.write(f"{path}: the counts are not written down ({error.strerror})\n")
