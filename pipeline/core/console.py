"""What a person sees of a run: one line for each event, on standard error."""

from __future__ import annotations

import logging
import sys

from pipeline.core.errors import QuadratError

LUIGI = ("luigi", "luigi-interface", "luigi.scheduler")
"""Luigi's loggers."""


def log_plainly() -> None:
    """Log our events, and Luigi's own only from warnings up, in every process of a run."""
    clear_bar = "\r\x1b[K" if sys.stderr.isatty() else ""
    logging.basicConfig(level=logging.WARNING, format=f"{clear_bar}%(message)s", stream=sys.stderr)
    for name in ("pipeline", "quadrat"):
        logging.getLogger(name).setLevel(logging.INFO)
    for name in LUIGI:
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).addFilter(_is_not_ours)


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Drop the traceback of an error whose message the stage prints at the end."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, QuadratError)


def log_as_luigi() -> None:
    """Log our events beside those of the luigi command, and our errors without a traceback."""
    logging.getLogger("luigi-interface").addFilter(ErrorFilter())
    log = logging.getLogger("quadrat")
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
    log.propagate = False


class ErrorFilter(logging.Filter):
    """Logs a QuadratError as its message, without the traceback that Luigi adds."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record; replace the traceback of a QuadratError by its message."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, QuadratError):
            record.msg, record.args, record.exc_info = str(error), (), None
        return True
