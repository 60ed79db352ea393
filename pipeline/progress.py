"""Progress of long work, on a terminal and in a log; and what it has taken in the end."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)

EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class Counts:
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
            f"{self.stage}: {self.rows:,} {self.unit}, {self.computed:,} computed, "
            f"{self.reused:,} reused, {self.rejected:,} rejected{more}"
        )

    def line(self) -> str:
        """Say it to a program: one JSON object in one line."""
        names = ("stage", "unit", "rows", "computed", "reused", "rejected")
        return json.dumps({name: getattr(self, name) for name in names})


def write_down(path: Path, run: str, counts: Counts) -> None:
    """Add what a stage took in *run* to the file *path*, one JSON object a line."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = {"run": run, "at": now, **json.loads(counts.line()), "said": counts.sentence()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
    except OSError as error:
        log.warning("%s: the counts are not written down (%s)", path, error.strerror)


class Progress:
    """Counts done units of work; use as a context manager.

    Args:
        what: the work's name and its unit, as "extract" and "chips".
        unit: see *what*.
        total: how many units there are.
        tell: called now and then with a percentage and a sentence, as for Luigi's status page.
    """

    def __init__(
        self, what: str, unit: str, total: int, tell: Callable[[int, str], None] | None = None
    ) -> None:
        self.what, self.unit, self.total, self.tell = what, unit, total, tell
        self.done = 0
        self.begun = self.said = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            import multiprocessing

            from tqdm import tqdm

            # Luigi's worker processes are numbered from 1; each has its own line of the terminal.
            worker = multiprocessing.current_process()._identity or (1,)  # noqa: SLF001
            self.bar = tqdm(
                total=self.total,
                desc=self.what,
                unit=f" {self.unit}",
                position=worker[0] - 1,
                leave=False,
                dynamic_ncols=True,
            )
        return self

    def step(self, count: int = 1) -> None:
        """Say that *count* more units are done."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        now = time.monotonic()
        if now - self.said >= EVERY_S:
            self.said = now
            self._say(now)

    def _say(self, now: float) -> None:
        rate = self.done / max(now - self.begun, 1e-9)
        left_s = (self.total - self.done) / max(rate, 1e-9)
        message = (
            f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, {rate:,.0f} a second, "
            f"{left_s:,.0f} s left"
        )
        if self.bar is None:
            log.info(message)
        if self.tell is not None:
            self.tell(100 * self.done // max(self.total, 1), message)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.tell is not None:
            self.tell(100 * self.done // max(self.total, 1), f"{self.done:,} {self.unit} done")
