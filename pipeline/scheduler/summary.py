"""What a run's stages took, as they have written it down, in the summary that Luigi writes."""

from __future__ import annotations

import json
import logging
import uuid

from pipeline.config.machine import machine
from pipeline.core.errors import QuadratError

RUN = uuid.uuid4().hex
"""The name of this run: rows that are computed for it, by whoever, are counted under it."""

SUMMARY = "===== Luigi Execution Summary ====="


class SummaryFilter(logging.Filter):
    """Adds what the stages took to Luigi's summary, and says our own errors as sentences."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, the summary with its counts, an error without its calls."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, QuadratError):
            record.msg, record.args, record.exc_info = str(error), (), None
        elif SUMMARY in str(record.msg):
            record.msg = with_counts(str(record.msg))
        return True


def with_counts(summary: str) -> str:
    """Put this run's counts before the end of Luigi's *summary*."""
    head, mark, tail = summary.rpartition(SUMMARY)
    return f"{head}{counted()}{mark}{tail}" if head else summary


def counted() -> str:
    """Give the counts that were written down for this run, a sentence a line."""
    path = machine().runs
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = (json.loads(line) for line in lines if RUN in line)
    return "".join(f"{row['said']}\n" for row in rows) + "\n"
