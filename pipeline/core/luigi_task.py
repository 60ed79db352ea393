"""The base of all Luigi tasks of Quadrat: how they report progress, and how they fail."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import sys

import luigi
from luigi.rpc import RPCError

from pipeline.core import signals
from pipeline.core.errors import BY_NAME, QuadratError, TransientError
from pipeline.core.run_log import RUN

log = logging.getLogger("quadrat")

# Luigi reads these from [core], and warns nevertheless that core has no such parameters.
luigi.interface.core.ignore_unconsumed |= {"rpc_retry_attempts", "rpc_retry_wait"}


class ErrorFilter(logging.Filter):
    """Logs a QuadratError as its message, without the traceback that Luigi adds."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record; replace the traceback of a QuadratError by its message."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, QuadratError):
            record.msg, record.args, record.exc_info = str(error), (), None
        return True


if "luigi.cmdline" in sys.modules:  # the luigi command, not a stage or a worker
    signals.stop_on_signals()
    logging.getLogger("luigi-interface").addFilter(ErrorFilter())
    log.addHandler(logging.StreamHandler())
    log.setLevel(logging.INFO)
    log.propagate = False


class QuadratTask(luigi.Task):
    """A task that reports its progress, and whose errors reach the process that started the run."""

    run_name = luigi.Parameter(default=RUN, significant=False)

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
    if usr1 is not None and callable(signal.getsignal(usr1)):
        parent = multiprocessing.parent_process()
        os.kill(os.getpid() if parent is None else int(parent.pid or 0), usr1)
