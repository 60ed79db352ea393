"""Join the runs of other machines: take shards from a central scheduler and compute them.

A machine that joins plans nothing and writes no outs. It asks luigid which shards are waiting,
computes those whose recipe would be the same here (a recipe includes the machine's numerics), and
puts them into the shared store. It may join, leave and be killed at any time.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import luigi
from luigi.rpc import RPCError

from pipeline.chip import recipe as chip_recipe
from pipeline.config.loader import Params, from_json
from pipeline.config.machine import machine
from pipeline.core.errors import BY_NAME, QuadratError, SettingError, StorageError
from pipeline.extract import recipe as extract_recipe
from pipeline.index import recipe as index_recipe
from pipeline.scheduler.run import central_scheduler, check_machine, errors, log_plainly
from pipeline.store.requests import read_request
from pipeline.store.shard_task import ShardTask
from pipeline.tasks import ChipShard, ExtractShard, IndexShard

log = logging.getLogger("quadrat")

POLL_S = 2.0
KINDS: Mapping[str, type[ShardTask]] = {
    kind.get_task_family(): kind for kind in (IndexShard, ChipShard, ExtractShard)
}


def join(idle_s: float | None) -> int:
    """Work until there has been nothing to do for *idle_s* seconds; None: until stopped."""
    log_plainly()
    try:
        check_machine()
        return _join(_scheduler(), math.inf if idle_s is None else idle_s)
    except RPCError as error:
        log.error("%s", StorageError(f"luigid: {error}; start it, and this again"))  # noqa: TRY400
        return StorageError.exit_code
    except QuadratError as error:
        log.error("%s", error)  # noqa: TRY400 - the message is enough
        return error.exit_code
    except KeyboardInterrupt:
        return 0


def _join(scheduler: Any, idle_s: float) -> int:
    # A task that fails here is left to others; the loop below comes back to it by itself.
    luigi.configuration.get_config().set("worker", "keep_alive", "false")
    log.info("joined; shards are kept in %s", machine().store_url)
    since = time.monotonic()
    while time.monotonic() - since < idle_s:
        signal.signal(signal.SIGUSR1, _leave)  # Luigi's worker has its own handler while it works
        waiting = list(_waiting(scheduler))
        if not waiting:
            time.sleep(POLL_S)
            continue
        result = luigi.build(waiting, workers=machine().processes(), detailed_summary=True)
        log.info("%s", result.one_line_summary)
        if result.worker._stop_requesting_work:  # noqa: SLF001 - asked to leave, or failed for good
            return _exit_code(result)
        since = time.monotonic()
    log.info("nothing to do for %.0f s; leaving", idle_s)
    return 0


def _leave(*_: Any) -> None:
    raise KeyboardInterrupt


def _exit_code(result: Any) -> int:
    """Log the errors that would happen again, if there are any, and return the exit code."""
    lasting = [error for error in errors(result) if not error["transient"]]
    for error in lasting:
        log.error("%s", error["message"])
    return BY_NAME[lasting[0]["kind"]].exit_code if lasting else 0


def _scheduler() -> Any:
    scheduler = central_scheduler()
    if scheduler is None:
        raise SettingError(
            "luigi.cfg: [core] local_scheduler is true; set it to false and scheduler_host to the "
            "machine where luigid runs"
        )
    if "://" not in machine().store_url:
        log.warning(
            "the store is the folder %s; other machines must see it under the same path, or set "
            "QUADRAT_STORE to s3://…",
            machine().store_url,
        )
    return scheduler


def _waiting(scheduler: Any) -> Iterator[ShardTask]:
    """Yield the waiting shard tasks that this machine can run."""
    pending = scheduler.task_list(status="PENDING", upstream_status="", limit=False)
    for _, task in sorted(pending.items()):
        kind = KINDS.get(task["name"])
        if kind and _is_same_recipe(task["name"], task["params"]["request"]):
            yield kind.from_str_params(task["params"])


@cache
def _is_same_recipe(family: str, name: str) -> bool:
    """Return True if this machine's recipe is the request's; warn once if it is not."""
    request = read_request(name)
    ours = _recipe(family, from_json(request.params))
    if ours != request.recipe:
        log.warning(
            "%s by recipe %s… is left to others: with this machine's device, libraries, code and "
            "weights it would be recipe %s…",
            family,
            request.recipe[:8],
            ours[:8],
        )
    return ours == request.recipe


def _recipe(family: str, params: Params) -> str:
    if family == "IndexShard":
        return index_recipe.recipe(params.bucket).digest
    if family == "ChipShard":
        return chip_recipe.chips(params.chip).digest
    return extract_recipe.embedding(params.extract, machine()).recipe.digest
