"""Tasks in workers, however those were started."""

import multiprocessing
import pickle
import signal
import threading

import pytest

from pipeline.core import luigi_task
from pipeline.core.luigi_task import QuadratTask


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_worker_tells_the_process_that_runs_luigi_to_take_no_more_work(method):
    told = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: told.set())
    try:
        context = multiprocessing.get_context(method)
        worker = context.Process(target=luigi_task._stop_taking_work)
        worker.start()
        worker.join()
        assert told.wait(1)
        assert worker.exitcode == 0
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_task_takes_our_settings_along_and_nobodys_secrets(monkeypatch):
    """A fork server has the environment of its own start."""
    monkeypatch.setenv("QUADRAT_PROGRESS", "/a/folder")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    task = QuadratTask()
    assert task.__getstate__()["environment"]["QUADRAT_PROGRESS"] == "/a/folder"
    data = pickle.dumps(task)
    assert b"a-secret" not in data
    assert pickle.loads(data).run_name == task.run_name
