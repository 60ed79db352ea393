"""Progress of a stage: one bar for all workers on a terminal, or a line in the log every 10 s.

Each worker writes its count to a file in a folder that an environment variable names, and the
process that started the run reads them. Files work for forked and for spawned workers.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

log = logging.getLogger(__name__)

FOLDER = "QUADRAT_PROGRESS"
"""The environment variable with the folder of the workers' files."""

TOTAL = "total"
LOG_EVERY_S = 10.0
DRAW_EVERY_S = 0.2
MINUTE_S = 60


class Progress:
    """Counts units of work that are done; use it as a context manager.

    Args:
        what: the name of the work, such as "extract".
        unit: what is counted, in the plural, such as "chips".
        total: how many units this process has to do.
        report: called every 10 s with a percentage and a message, for Luigi's status page.
    """

    def __init__(
        self, what: str, unit: str, total: int, report: Callable[[int, str], None] | None = None
    ) -> None:
        self.what, self.unit, self.total, self.report = what, unit, total, report
        self.done = self.resumed = 0
        self.begun = self.reported = self.written = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def resume(self, count: int) -> None:
        """Count *count* units that an interrupted run has done."""
        self.done += count
        self.resumed += count
        _write(self)

    def step(self, count: int = 1) -> None:
        """Count *count* more units."""
        self.done += count
        now = time.monotonic()
        if now - self.written >= DRAW_EVERY_S:
            self.written = now
            _write(self)
        if now - self.reported >= LOG_EVERY_S:
            self.reported = now
            counted = Counted(self.done, self.resumed, self.total, self.unit)
            self._report(line(self.what, counted, now - self.begun))

    def __exit__(self, *_: object) -> None:
        _write(self)
        self._report(f"{self.done:,} {self.unit} done")

    def _report(self, message: str) -> None:
        if self.report is not None:
            self.report(100 * self.done // max(self.total, 1), message)


class Counted(NamedTuple):
    """Units done, those of them that an interrupted run had done, all units, and their name."""

    done: int
    resumed: int
    total: int
    unit: str


def line(what: str, counted: Counted, seconds: float) -> str:
    """Return the progress in one line, with the rate and the time left once something is done."""
    done, resumed, total, unit = counted
    progress = f"{what}: {done:,} of {total:,} {unit}"
    if done == resumed or not seconds:
        return progress
    rate = (done - resumed) / seconds
    left_s = round((total - done) / rate)
    left = f"{left_s} s" if left_s < MINUTE_S else f"{left_s // MINUTE_S:,} min"
    return f"{progress}, {rate:,.{0 if rate >= 10 else 1}f} per second, {left} left"  # noqa: PLR2004


def expect(total: int, unit: str) -> None:
    """Write how many units there are for all workers together."""
    if folder := os.environ.get(FOLDER):
        Path(folder, TOTAL).write_text(f"{total} {unit}", encoding="utf-8")


def _write(progress: Progress) -> None:
    if folder := os.environ.get(FOLDER):
        # A worker may do several tasks, each with its own Progress.
        name = f"{os.getpid()}-{id(progress)}-{int(progress.begun * 1e6)}"
        with suppress(OSError):  # the run has ended, and its folder is deleted
            Path(folder, name).write_text(f"{progress.done} {progress.resumed}", encoding="utf-8")


@contextmanager
def shown(what: str) -> Iterator[None]:
    """Show the progress of all workers that are started inside this context."""
    with TemporaryDirectory(prefix="quadrat-") as folder:
        os.environ[FOLDER] = folder
        ended = threading.Event()
        show = _draw if sys.stderr.isatty() else _log
        thread = threading.Thread(target=show, args=(what, Path(folder), ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            del os.environ[FOLDER]


def _counted(folder: Path) -> Counted:
    """Return what all workers have counted."""
    done, resumed, total, unit = 0, 0, 0, ""
    for path in folder.iterdir():
        first, _, second = path.read_text(encoding="utf-8").partition(" ")
        if not first:
            continue  # a file is empty for a moment while it is written
        if path.name == TOTAL:
            total, unit = int(first), second
        else:
            done, resumed = done + int(first), resumed + int(second)
    return Counted(done, resumed, total, unit)


def _draw(what: str, folder: Path, ended: threading.Event) -> None:
    bar: Any = None
    while not ended.wait(DRAW_EVERY_S):
        done, resumed, total, unit = _counted(folder)
        if total and bar is None:
            from tqdm import tqdm

            bar = tqdm(total=total, desc=what, unit=f" {unit}", leave=False, dynamic_ncols=True)
        if bar is not None:
            bar.total, bar.n, bar.initial = total, done, resumed
            bar.refresh()
    if bar is not None:
        bar.close()


def _log(what: str, folder: Path, ended: threading.Event) -> None:
    begun = time.monotonic()
    while not ended.wait(LOG_EVERY_S):
        counted = _counted(folder)
        if counted.total:
            log.info(line(what, counted, time.monotonic() - begun))
