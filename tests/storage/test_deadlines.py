"""Calls with a deadline: all are made by the same thread, unless it is abandoned."""

import gc
import io
import threading
import time
import weakref

import pytest

from pipeline.storage.deadlines import within


def test_calls_in_a_row_are_made_by_one_thread():
    threads = {within(10, threading.get_ident) for _ in range(20)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_an_error_is_raised_and_the_thread_goes_on():
    before = within(10, threading.get_ident)
    with pytest.raises(ZeroDivisionError):
        within(10, lambda: 1 / 0)
    assert within(10, threading.get_ident) == before


def test_calls_at_the_same_time_do_not_wait_for_each_other():
    together = threading.Barrier(8)
    callers = [threading.Thread(target=within, args=(10, together.wait)) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not together.broken


def test_a_response_after_the_deadline_is_closed_and_its_thread_ends():
    may_return, late, threads = threading.Event(), io.BytesIO(b"late"), []

    def call():
        threads.append(threading.current_thread())
        may_return.wait()
        return late

    with pytest.raises(OSError, match="no complete response in 0 s"):
        within(0.05, call)
    assert within(10, threading.get_ident) != threads[0].ident
    may_return.set()
    threads[0].join(10)
    assert not threads[0].is_alive()
    assert late.closed


def test_a_result_is_not_kept():
    class Result:
        pass

    result = within(10, Result)
    reference = weakref.ref(result)
    del result
    deadline = time.monotonic() + 5
    while reference() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
        gc.collect()
    assert reference() is None


def test_an_error_is_in_no_cycle():
    """Else the sockets in its traceback's frames would stay open until the next collection."""

    class Failure(Exception):
        pass

    def fail():
        raise Failure

    gc.disable()
    try:
        with pytest.raises(Failure) as raised:
            within(10, fail)
        reference = weakref.ref(raised.value)
        del raised
        deadline = time.monotonic() + 5
        while reference() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert reference() is None
    finally:
        gc.enable()
