"""Run one stage, as DVC does: its Luigi task alone, and only one stage at a time in a checkout.

The exit code says what kind of error stopped the run, and one sentence says why (core/errors.py).
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luigi
import pyarrow as pa
import pyarrow.parquet as pq
from luigi.rpc import RemoteScheduler, RPCError

from pipeline import tasks
from pipeline.config.loader import Params, load
from pipeline.config.machine import machine
from pipeline.config.sections import USER_PLUGIN
from pipeline.core import checkout_lock, console, progress, rejects
from pipeline.core.errors import (
    BY_NAME,
    QuadratError,
    SettingError,
    StorageError,
    TransientError,
    cannot_write,
)
from pipeline.index import fast_path
from pipeline.storage import local_path, open_storage, scheme_of
from pipeline.store import outputs
from pipeline.store.outputs import FEATURES, INDEX, rejects_path
from pipeline.tasks import StageTask

log = logging.getLogger("quadrat")

ROUNDS = 3
"""How often Luigi is started again if nothing has failed and yet not all shards are finished."""

UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
DONE = {luigi.LuigiStatusCode.SUCCESS, luigi.LuigiStatusCode.SUCCESS_WITH_RETRY}


def main(kind: type[StageTask]) -> int:
    """Run one stage, print what went wrong, and return the exit code.

    The manifests of the outs are removed first: DVC has found that the stage must run, so every
    file of the outs is checked again. Files that are right are not touched.
    """
    name = kind.__name__.lower()
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{name}", description=kind.stage.__doc__
    )
    parser.add_argument("--verbose", action="store_true", help="show Luigi's own summary too")
    verbose: bool = parser.parse_args().verbose
    log_plainly()
    try:
        check_machine()
        params = load("params.yaml")
        with checkout_lock.acquire():
            task = kind(params=params, chain=False)
            with remembering(task):
                for folder in kind.folders:
                    outputs.set_manifest_aside(folder)
                return _build(task, verbose=verbose)
    except RPCError as error:
        return _fail(StorageError(f"luigid: {error}; start it again, and run dvc repro again"))
    except QuadratError as error:
        return _fail(error)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        return _fail(cannot_write(error.filename or Path.cwd(), error))


def log_plainly() -> None:
    """Log one line for each event, and keep Luigi from setting up its own log."""
    console.log_plainly()
    luigi.configuration.get_config().set("core", "no_configure_logging", "true")


def check_machine() -> None:
    """Check that the system gives this process what every stage needs.

    Raises:
        SettingError: the locale is not UTF-8, so keys and labels would be read wrongly.
        StorageError: Luigi cannot create the semaphores by which it talks to its workers.
    """
    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        raise SettingError(
            f"LC_ALL, LANG: the encoding of file names is {encoding!r}; set PYTHONUTF8=1, or a "
            "UTF-8 locale such as LC_ALL=C.UTF-8"
        )
    try:
        multiprocessing.Lock()
    except (OSError, ImportError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(
            f"shared memory: no semaphore can be created ({reason}); mount /dev/shm so that it can "
            "be written, as docker run --shm-size=64m does"
        ) from error


def _fail(error: QuadratError) -> int:
    log.error("%s", error)
    return error.exit_code


@contextlib.contextmanager
def remembering(task: StageTask) -> Iterator[None]:
    """Remember, after the index, what it was made of; see index/fast_path.py.

    Transient rejects are tried again in the next run: an index with some is not remembered, and
    features with some lose their manifest, so that DVC runs the extract stage again.
    """
    if not isinstance(task, tasks.Index):
        yield
        if isinstance(task, tasks.Extract) and _has_transient_rejects("extract"):
            fast_path.forget()
        return
    fast_path.forget()
    if _has_transient_rejects("extract"):
        outputs.set_manifest_aside(FEATURES)
    bucket, files = task.params.bucket.url, _files(task.params)
    is_remote = scheme_of(bucket) == "s3"
    if not is_remote:
        bucket = str(local_path(bucket))
    before = listed = ""
    if files is not None:
        with contextlib.suppress(OSError, StorageError):  # the index stage will say what is wrong
            before = fast_path.snapshot(bucket, files)[0]
    with contextlib.suppress(TransientError):  # then Luigi's worker lists it, and tries again
        listed = task.listing.digest
    yield
    manifest = outputs.read_manifest(INDEX)
    transient = _has_transient_rejects("index") or _has_transient_rejects("extract")
    if before and listed and manifest and not transient:
        rows = sum(line["rows"] for line in manifest["shards"])
        rejected = rejects.count_by_reason(pq.read_table(rejects_path("index")))
        counts = {"rows": rows, "rejected": rejected, "runs": str(machine().runs)}
        facts = {"bucket": bucket, "files": files, "listed": listed if is_remote else ""}
        fast_path.remember(before, facts | counts)


def _has_transient_rejects(stage: str) -> bool:
    try:
        return rejects.are_transient(pq.read_table(rejects_path(stage), columns=["reason"]))
    except (OSError, pa.ArrowInvalid):
        return False  # missing or damaged: it will be made again


def _files(params: Params) -> list[str] | None:
    """Return the files that shape the index besides the bucket; None if some are not local."""
    extract, path = params.extract, params.annotations.path
    if params.validate.compare or params.bucket.follow_symlinks:
        return None  # a revision may have moved; what a link leads to is not checked
    names = [name for name in (path, params.train.label_map, params.validate.sweep) if name]
    if extract.weights and not extract.weights_sha256:
        names.append(extract.weights)
    if any("://" in name for name in names):
        return None
    files = [str(local_path(name)) for name in names]
    if USER_PLUGIN.match(extract.extractor):
        from pipeline.config import registry

        plugin = registry.find_user_plugin(extract.extractor, key="extract.extractor")
        files += [str(file) for file in plugin.files.values()]
    return files


def _build(task: StageTask, *, verbose: bool) -> int:
    """Have Luigi run *task* and its shards, on as many machines as have joined."""
    _reenable_tasks()
    settings = machine()
    workers = settings.processes(embeds=isinstance(task, tasks.Extract))
    for _ in range(ROUNDS):
        with progress.shown(type(task).__name__.lower()):
            result = luigi.build([task], workers=workers, detailed_summary=True)
        if verbose or settings.is_verbose:
            log.info(result.summary_text.strip())
        if result.status in DONE or task.complete():  # other machines may have done the rest
            for place in (settings.store_url, str(settings.weights)):
                open_storage(place).tidy()
            return 0
        if result.status != luigi.LuigiStatusCode.NOT_RUN:
            break  # otherwise nothing has failed: other machines have left work undone
    return _show_errors(result)


def central_scheduler() -> Any:
    """Return the RemoteScheduler that luigi.cfg names; None if it says local_scheduler."""
    core = luigi.interface.core()
    if core.local_scheduler:
        return None
    url = core.scheduler_url or f"http://{core.scheduler_host}:{core.scheduler_port}/"
    return RemoteScheduler(url)


def _reenable_tasks() -> None:
    """Have a central scheduler forget the shards that have failed too often: a user tries again."""
    scheduler = central_scheduler()
    if scheduler is not None:
        for task_id in scheduler.task_list(status="DISABLED", upstream_status=""):
            scheduler.re_enable_task(task_id)


def _show_errors(result: Any) -> int:
    """Log each error of the failed tasks once, and return the exit code."""
    failures = errors(result)
    for error in failures:
        log.error("%s", error["message"])
    if not failures:
        log.error("%s", result.summary_text)
    return BY_NAME[failures[0]["kind"]].exit_code if failures else 1


def errors(result: Any) -> list[dict[str, Any]]:
    """Return the errors that `QuadratTask.on_failure` left with the scheduler, each once."""
    worker = result.worker
    scheduler = worker._scheduler  # noqa: SLF001 - the only way to the errors of failed tasks
    # Not only tasks that count as failed: after the retry delay the scheduler has them as pending.
    task_ids = sorted(worker._scheduled_tasks)  # noqa: SLF001 - the same
    texts = {scheduler.fetch_error(task_id)["error"] or "" for task_id in task_ids}
    return [error for error in map(_parsed, sorted(texts)) if error]


def _parsed(text: str) -> dict[str, Any] | None:
    """Parse the JSON of `QuadratTask.on_failure`, which Luigi has encoded once more."""
    try:
        error = json.loads(json.loads(text))
    except (ValueError, TypeError):
        return None
    return error if isinstance(error, dict) and error.get("kind") in BY_NAME else None
