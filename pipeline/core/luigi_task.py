"""The base of all Luigi tasks of Quadrat: how they report progress, and how they fail."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys
from typing import Any

import luigi
from luigi.rpc import RPCError

from pipeline.core import checkout_lock, console, signals
from pipeline.core.errors import BY_NAME, QuadratError, TransientError
from pipeline.core.run_log import RUN

log = logging.getLogger("quadrat")

# Luigi reads these from [core], and warns nevertheless that core has no such parameters.
luigi.interface.core.ignore_unconsumed |= {"rpc_retry_attempts", "rpc_retry_wait"}


IS_LUIGI_COMMAND = "luigi.cmdline" in sys.modules
"""Whether the luigi command started this run, and not a stage or a worker."""

IS_MAIN_PROCESS = multiprocessing.current_process().name == "MainProcess"
"""Whether this is no worker that was started without a fork, which imports everything anew.

While it does, `multiprocessing.parent_process` does not know the parent yet."""

if IS_LUIGI_COMMAND:
    console.log_as_luigi()
    if IS_MAIN_PROCESS:
        signals.stop_on_signals()
        lock = checkout_lock.acquire()  # for as long as the command runs


class QuadratTask(luigi.Task):
    """A task that reports its progress, and whose errors reach the process that started the run."""

    run_name = luigi.Parameter(default=RUN, significant=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return the task for a process that is not forked (macOS), with what that would inherit.

        The rest of the environment such a process has from its start; a fork server's is old.
        """
        ours = {name: value for name, value in os.environ.items() if name.startswith("QUADRAT_")}
        return {**self.__dict__, "environment": ours}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set this process up as the forked ones are, and the task."""
        if not IS_MAIN_PROCESS:
            os.environ.update(state["environment"])
            signals.begin_child()
            if not IS_LUIGI_COMMAND:
                console.log_plainly()
        self.__dict__.update(state)

    def report(self, share: int, message: str) -> None:
        """Show progress on the scheduler's page; go on if no scheduler answers."""
        if callable(self.set_progress_percentage) and callable(self.set_status_message):
            try:
                self.set_progress_percentage(share)
                self.set_status_message(message)
            except RPCError as error:
                log.warning("the scheduler does not answer: %s", error)

    def on_failure(self, exception: BaseException) -> str:
        """Return the error as JSON, for the process that started the run.

        A TransientError is retried as luigi.cfg says. Any other error would happen again: the
        worker is told to finish its current tasks and to take no more.
        """
        is_transient = isinstance(exception, TransientError)
        if not is_transient:
            _stop_taking_work()
        if not isinstance(exception, QuadratError):
            return str(super().on_failure(exception))
        kind = next(name for name, error in BY_NAME.items() if isinstance(exception, error))
        return json.dumps({"kind": kind, "message": str(exception), "transient": is_transient})


@QuadratTask.event_handler(luigi.Event.PROCESS_FAILURE)  # type: ignore[untyped-decorator]
def _isolate_decoding(task: QuadratTask, message: str) -> None:  # noqa: ARG001 - Luigi passes both
    """Have workers decode in separate processes from now on: an image may have crashed this one."""
    log.warning("%s; from now on, images are decoded in separate processes", message)
    os.environ["QUADRAT_ISOLATE_DECODING"] = "true"


def _stop_taking_work() -> None:
    """Send SIGUSR1 to Luigi's worker, which is this process or its parent."""
    usr1 = getattr(signal, "SIGUSR1", None)
    parent = multiprocessing.parent_process()
    if usr1 is None or luigi.worker.worker().no_install_shutdown_handler:
        return
    if parent is not None:
        os.kill(int(parent.pid or 0), usr1)
    elif callable(signal.getsignal(usr1)):
        os.kill(os.getpid(), usr1)
