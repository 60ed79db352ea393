"""Retries: what a person sees of a server that does not answer."""

import math
import time

import pytest

from pipeline.core.errors import TransientError
from pipeline.storage import retries


def test_a_server_that_does_not_answer_is_named_after_seconds(monkeypatch, caplog):
    monkeypatch.setattr(retries, "QUIET_S", 0.02)
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(retries, "last_warning", [-math.inf])

    def attempt():
        time.sleep(0.03)
        raise TransientError("x: failed") from OSError("http://x does not answer")

    for _ in range(2):
        with pytest.raises(TransientError):
            retries.retry(attempt, tries=3)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["http://x does not answer; trying again (1 of 3 tries failed)"]


def test_what_fails_at_once_and_then_works_is_not_worth_a_line(monkeypatch, caplog):
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.0)
    answers = iter([TransientError("no"), TransientError("no"), None])

    def attempt():
        if error := next(answers):
            raise error
        return 1

    assert retries.retry(attempt, tries=3) == 1
    assert not caplog.records
