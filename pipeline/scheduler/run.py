"""Run one stage as DVC does: its Luigi task alone, one at a time in a checkout, with one verdict.

The exit code says which kind of stop it was, and one sentence says why (see core/errors.py).
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import multiprocessing
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import tasks
from pipeline.config.loader import Params, load
from pipeline.config.machine import machine
from pipeline.config.sections import USER_PLUGIN
from pipeline.core import rejects
from pipeline.core.errors import BY_NAME, QuadratError, SettingError, StorageError
from pipeline.index import fast_path
from pipeline.scheduler._luigi import RemoteScheduler, RPCError, luigi
from pipeline.scheduler.shard_tasks import workers
from pipeline.scheduler.summary import with_counts
from pipeline.storage import local_path, open_storage
from pipeline.store import outputs
from pipeline.store.context import FEATURES, INDEX
from pipeline.tasks import Stage

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("quadrat")

LOCK = Path(".quadrat/stage.lock")
ROUNDS = 3
"""How often Luigi is begun again where nothing failed and yet not all is done."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
DONE = {luigi.LuigiStatusCode.SUCCESS, luigi.LuigiStatusCode.SUCCESS_WITH_RETRY}


def stage(kind: type[Stage]) -> int:
    """Run one stage; give the exit code, having said what went wrong.

    The out's manifest is taken away first: DVC has found that the stage must run, so every file of
    the out is looked at again, and those that are right are left alone.
    """
    log_plainly()
    make_light()
    try:
        check_machine()
        params = load("params.yaml")
        with one_at_a_time(), remembering(kind, params):
            for folder in kind.folders:
                (folder / outputs.MANIFEST).unlink(missing_ok=True)
            return _build(kind(params=params, chain=False))
    except RPCError as error:
        return _said(StorageError(f"luigid: {error}; start it again, and run dvc repro again"))
    except QuadratError as error:
        return _said(error)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        place = error.filename or Path.cwd()
        return _said(
            StorageError(
                f"{place}: cannot be written ({error.strerror}); make room or give this user the "
                "right to write there, and run again"
            )
        )


def check_machine() -> None:
    """See that this process has what every stage needs of the system.

    Raises:
        SettingError: the locale is not UTF-8's, in which keys and labels would be other texts.
        StorageError: Luigi cannot have the semaphores that it speaks to its workers by.
    """
    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        raise SettingError(
            f"LC_ALL, LANG: the encoding of file names is {encoding!r}; set PYTHONUTF8=1, or a "
            "locale of UTF-8 as LC_ALL=C.UTF-8"
        )
    try:
        multiprocessing.Lock()
    except (OSError, ImportError) as error:
        why = getattr(error, "strerror", None) or error
        raise StorageError(
            f"shared memory: no semaphore can be made ({why}); have /dev/shm mounted so that it "
            "can be written, as docker run --shm-size=64m does"
        ) from error


def _said(error: QuadratError) -> int:
    log.error("%s", error)
    return error.exit_code


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait until no other process works on this checkout's outs.

    DVC has its own lock; but when only dvc is killed, its stage goes on. The lock is the open
    file's: it goes with the last process that has it, however that ends.
    """
    if fcntl is None:
        yield
        return
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("w", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("an earlier run still works in this checkout; waiting for its end")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def remembering(kind: type[Stage], params: Params) -> Iterator[None]:
    """Remember, after the index, what it was made of; see pipeline/index/fast_path.py.

    What could not be had of the bucket is asked for again by the next run: such an index is not
    remembered, and features that lack something lose their manifest, so that DVC makes them again.
    """
    if kind is not tasks.Index:
        yield
        if kind is tasks.Extract and _may_pass(FEATURES):
            fast_path.forget()
        return
    fast_path.forget()
    if _may_pass(FEATURES):
        (FEATURES / outputs.MANIFEST).unlink(missing_ok=True)
    bucket, files = params.bucket.url, _files(params)
    if "://" not in bucket:
        bucket = str(local_path(bucket))
    before = None if files is None else _snapshot(bucket, files)
    yield
    manifest = outputs.read_manifest(INDEX)
    if files is not None and before and manifest and not (_may_pass(INDEX) or _may_pass(FEATURES)):
        rows = sum(line["rows"] for line in manifest["shards"])
        rejected = pq.read_metadata(INDEX / "rejects.parquet").num_rows
        counts = {"rows": rows, "rejected": rejected, "runs": str(machine().runs)}
        fast_path.remember(before, {"bucket": bucket, "files": files, **counts})


def _may_pass(folder: Path) -> bool:
    """Say whether some of an out's rejects are such that the next run may not have."""
    try:
        return rejects.are_transient(pq.read_table(folder / "rejects.parquet", columns=["reason"]))
    except (OSError, pa.ArrowInvalid):
        return False  # there is none, or it is damaged and will be made again


def _snapshot(bucket: str, files: list[str]) -> str | None:
    try:
        return fast_path.snapshot(bucket, files)[0]
    except (OSError, StorageError):
        return None  # the index will say what is wrong


def _files(params: Params) -> list[str] | None:
    """Give the files that shape the index beside the bucket; None if some are no local files."""
    extract, path = params.extract, params.annotations.path
    if params.validate.compare or params.bucket.follow_symlinks:
        return None  # a revision may have moved; a link leads to what is not looked at
    found = [name for name in (path, params.train.label_map) if name]
    if extract.weights and not extract.weights_sha256:
        found.append(extract.weights)
    if any("://" in name for name in found):
        return None
    files = [str(local_path(name)) for name in found]
    if USER_PLUGIN.match(extract.extractor):
        from pipeline.config import registry

        own = registry.find_user_plugin(extract.extractor, key="extract.extractor")
        files += [str(file) for file in own.files.values()]
    return files


def _build(task: Stage) -> int:
    """Have Luigi do it, on as many machines as have come to help."""
    _allow_again()
    processes = workers(machine(), embeds=isinstance(task, tasks.Extract))
    for _ in range(ROUNDS):
        result = luigi.build([task], workers=processes, detailed_summary=True)
        if result.status in DONE or task.complete():  # others may have done the rest
            log.info(with_counts(result.summary_text).strip())
            for place in (machine().store_url, str(machine().state / "weights")):
                open_storage(place).tidy()
            return 0
        if result.status != luigi.LuigiStatusCode.NOT_RUN:
            break  # else nothing has failed: the scheduler has forgotten, or others have gone
    return _say_why(result)


def central() -> Any:
    """Give the RemoteScheduler that luigi.cfg names; None where it says local_scheduler."""
    core = luigi.interface.core()
    if core.local_scheduler:
        return None
    url = core.scheduler_url or f"http://{core.scheduler_host}:{core.scheduler_port}/"
    return RemoteScheduler(url)


def _allow_again() -> None:
    """Have a central scheduler forget that shards have failed too often: a person tries again."""
    scheduler = central()
    if scheduler is not None:
        for task_id in scheduler.task_list(status="DISABLED", upstream_status=""):
            scheduler.re_enable_task(task_id)


def _say_why(result: Any) -> int:
    """Log each error that failed tasks left with the scheduler, once; give the exit code."""
    found = errors(result)
    for error in found:
        log.error("%s", error["message"])
    if not found:
        log.error("%s", result.summary_text)
    return BY_NAME[found[0]["kind"]].exit_code if found else 1


def errors(result: Any) -> list[dict[str, Any]]:
    """Give what `Work.on_failure` left with the scheduler for the tasks of a run, each once."""
    worker = result.worker
    scheduler = worker._scheduler  # noqa: SLF001 - the only way to the failed tasks' errors
    # Not only tasks that count as failed: after the retry's delay the scheduler has them pending.
    known = sorted(worker._scheduled_tasks)  # noqa: SLF001 - the same
    texts = {scheduler.fetch_error(task_id)["error"] or "" for task_id in known}
    return [error for error in map(_parsed, sorted(texts)) if error]


def _parsed(text: str) -> dict[str, Any] | None:
    """Read the JSON of `Work.on_failure`, which Luigi has encoded once more."""
    try:
        found = json.loads(json.loads(text))
    except (ValueError, TypeError):
        return None
    return found if isinstance(found, dict) and found.get("kind") in BY_NAME else None


def log_plainly() -> None:
    """One line an event on standard error; Luigi's own only from warnings up."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for name in ("pipeline", "quadrat"):
        logging.getLogger(name).setLevel(logging.INFO)
    luigi.configuration.get_config().set("core", "no_configure_logging", "true")
    for name in ("luigi", "luigi-interface", "luigi.scheduler"):
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).addFilter(_is_ours_to_tell)


def _is_ours_to_tell(record: logging.LogRecord) -> bool:
    """Let no traceback through for an error whose sentence `stage` tells at the end."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, QuadratError)


def make_light() -> None:
    """Keep pyarrow from importing pandas, a second's work at the first array made from a list.

    It asks whether the list is one of pandas' own. Nothing of ours hands tables from one to the
    other; pandas itself can be imported afterwards.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    too_old = ModuleType("pandas")
    too_old.__version__ = "0"  # type: ignore[attr-defined]
    sys.modules["pandas"] = too_old
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pyarrow says that it goes on without
        pa.array([0])
    del sys.modules["pandas"]
