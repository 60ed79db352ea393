"""Progress of long work, on a terminal and in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)

EVERY_S = 10.0


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
