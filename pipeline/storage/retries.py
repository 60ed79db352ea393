"""Retries of a request, with random waits in between that grow."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.core.errors import Missing, TransientError

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 20.0

QUIET_S = 5.0
"""What takes longer is said, so that nobody waits for a server that does not answer."""

WARN_EVERY_S = 30.0

log = logging.getLogger(__name__)
T = TypeVar("T")
last_warning = [-math.inf]
"""When this process last warned: many threads wait for the same server."""


def retry(attempt: Callable[[], T], *, tries: int, if_missing: int = 1) -> T:
    """Return what *attempt* returns.

    It is tried *tries* times in all if it raises a TransientError, *if_missing* times if what it
    asks for is Missing. Each wait is drawn from 0 to a limit that doubles, so that clients that
    fail together do not come back together.

    Source: Brooker 2015, "Exponential Backoff And Jitter" (full jitter), AWS Architecture Blog.
    """
    tried = 0
    begun = time.monotonic()
    while True:
        tried += 1
        try:
            return attempt()
        except (Missing, TransientError) as error:
            if tried >= (if_missing if isinstance(error, Missing) else tries):
                raise
            if time.monotonic() - begun > QUIET_S:
                _warn(f"{error.__cause__ or error}; trying again ({tried} of {tries} tries failed)")
        time.sleep(random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**tried)))


def _warn(message: str) -> None:
    now = time.monotonic()
    if now - last_warning[0] > WARN_EVERY_S:
        last_warning[0] = now
        log.warning(message)
