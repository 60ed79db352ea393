"""Retries of a request, with random waits in between that grow."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.core.errors import Missing, TransientError

FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 20.0

T = TypeVar("T")


def retry(attempt: Callable[[], T], *, tries: int, if_missing: int = 1) -> T:
    """Return what *attempt* returns.

    It is tried *tries* times in all if it raises a TransientError, *if_missing* times if what it
    asks for is Missing. Each wait is drawn from 0 to a limit that doubles, so that clients that
    fail together do not come back together.

    Source: Brooker 2015, "Exponential Backoff And Jitter" (full jitter), AWS Architecture Blog.
    """
    tried = 0
    while True:
        tried += 1
        try:
            return attempt()
        except (Missing, TransientError) as error:
            if tried >= (if_missing if isinstance(error, Missing) else tries):
                raise
        time.sleep(random.uniform(0, min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**tried)))
