"""The counts of a stage: how many rows its table has, were computed, reused or rejected.

The index of an unchanged bucket imports this module and little else, so it imports only light parts
of the standard library.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

RUN = os.urandom(6).hex()
"""The name of this run: all of its processes count the rows that they compute under it."""


class Counts(NamedTuple):
    """The rows of a stage's table.

    Attributes:
        stage: its name.
        unit: what a row is, in the plural.
        rows: all rows of the table.
        computed: those that this run computed; the others were reused.
        rejected: the number of rejects by reason.
        more: text to add to the summary.
    """

    stage: str
    unit: str
    rows: int
    computed: int
    rejected: Mapping[str, int] = {}
    more: str = ""

    @property
    def reused(self) -> int:
        """The number of rows that were available already."""
        return self.rows - self.computed

    def summary(self) -> str:
        """Return the counts in one line, for people."""
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in self.rejected.items())
        return (
            f"{self.stage}: {pluralize(self.rows, self.unit)}, {self.computed:,} computed, "
            f"{self.reused:,} reused, {sum(self.rejected.values()):,} rejected"
            f"{f' ({reasons})' if reasons else ''}{f'; {self.more}' if self.more else ''}"
        )

    def values(self) -> dict[str, object]:
        """Return the counts as JSON values, for programs."""
        return {
            "stage": self.stage,
            "unit": self.unit,
            "rows": self.rows,
            "computed": self.computed,
            "reused": self.reused,
            "rejected": sum(self.rejected.values()),
            "reasons": dict(self.rejected),
        }


def pluralize(n: int, things: str) -> str:
    """Return a number with its unit, given in the plural: `1 image`, `1,234 images`."""
    one = things.removesuffix("es" if things.endswith("sses") else "s")
    return f"{n:,} {one if n == 1 else things}"


def append_run_log(path: str | os.PathLike[str], run: str, counts: Counts) -> None:
    """Append the counts of a stage in *run* to the file *path*, as one JSON object in one line."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    line = {"run": run, "at": now, **counts.values(), "summary": counts.summary()}
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        sys.stderr.write(f"{path}: the counts could not be written ({error.strerror})\n")
