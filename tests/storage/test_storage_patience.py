"""Answers that are waited for in threads: the same thread, unless it is left behind."""

import gc
import io
import threading
import time
import weakref

import pytest

from pipeline.storage._patience import within


def test_one_after_the_other_is_asked_by_one_thread():
    threads = {within(10, threading.get_ident) for _ in range(20)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_what_fails_is_raised_and_the_thread_asks_on():
    before = within(10, threading.get_ident)
    with pytest.raises(ZeroDivisionError):
        within(10, lambda: 1 / 0)
    assert within(10, threading.get_ident) == before


def test_many_at_once_do_not_wait_for_each_other():
    together = threading.Barrier(8)
    callers = [threading.Thread(target=within, args=(10, together.wait)) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not together.broken


def test_an_answer_that_comes_too_late_is_closed_and_its_thread_ends():
    came, late, who = threading.Event(), io.BytesIO(b"late"), []

    def ask():
        who.append(threading.current_thread())
        came.wait()
        return late

    with pytest.raises(OSError, match="no whole answer came in 0 s"):
        within(0.05, ask)
    assert within(10, threading.get_ident) != who[0].ident
    came.set()
    who[0].join(10)
    assert not who[0].is_alive()
    assert late.closed


def test_nothing_is_held_that_was_given_or_raised():
    class Held:
        pass

    found = within(10, Held)
    gone = weakref.ref(found)
    del found
    deadline = time.monotonic() + 5
    while gone() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
        gc.collect()
    assert gone() is None
