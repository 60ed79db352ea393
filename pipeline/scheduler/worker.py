"""Join the runs of other machines: take shards from a central scheduler and make them.

A joining machine plans nothing and writes no outs. It asks luigid which shards wait, takes those
that it would make to the same bytes (the recipe, with this machine's numerics in it, is the same),
and puts them into the shared store. It may come, go and be killed at any time.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pipeline import recipes
from pipeline.config.loader import Params, from_json
from pipeline.config.machine import machine
from pipeline.core.errors import BY_NAME, QuadratError, SettingError, StorageError
from pipeline.scheduler._luigi import RPCError, luigi
from pipeline.scheduler.run import central, check_machine, errors, log_plainly, make_light
from pipeline.scheduler.shard_tasks import ChipShard, ExtractShard, IndexShard, ShardTask, workers

log = logging.getLogger("quadrat")

LOOK_EVERY_S = 2.0
KINDS: Mapping[str, type[ShardTask]] = {
    kind.get_task_family(): kind for kind in (IndexShard, ChipShard, ExtractShard)
}


def join(idle_s: float | None) -> int:
    """Work until there has been nothing to do for *idle_s* seconds; None: until stopped."""
    log_plainly()
    make_light()
    try:
        check_machine()
        return _join(_scheduler(), math.inf if idle_s is None else idle_s)
    except RPCError as error:
        log.error("%s", StorageError(f"luigid: {error}; start it, and this again"))  # noqa: TRY400
        return StorageError.exit_code
    except QuadratError as error:
        log.error("%s", error)  # noqa: TRY400 - its sentence is enough
        return error.exit_code
    except KeyboardInterrupt:
        return 0


def _join(scheduler: Any, idle_s: float) -> int:
    # What fails here waits for others; the loop below comes back by itself.
    luigi.configuration.get_config().set("worker", "keep_alive", "false")
    log.info("joined; shards are kept in %s", machine().store_url)
    since = time.monotonic()
    while time.monotonic() - since < idle_s:
        signal.signal(signal.SIGUSR1, _leave)  # Luigi's worker has its own while it works
        waiting = list(_waiting(scheduler))
        if not waiting:
            time.sleep(LOOK_EVERY_S)
            continue
        result = luigi.build(waiting, workers=workers(machine()), detailed_summary=True)
        log.info("%s", result.one_line_summary)
        if result.worker._stop_requesting_work:  # noqa: SLF001 - told to leave, or failed for good
            return _last_words(result)
        since = time.monotonic()
    log.info("nothing to do for %.0f s; leaving", idle_s)
    return 0


def _leave(*_: Any) -> None:
    raise KeyboardInterrupt


def _last_words(result: Any) -> int:
    """Say what another try would meet again, if that is why the worker stops; give the code."""
    lasting = [error for error in errors(result) if not error["passing"]]
    for error in lasting:
        log.error("%s", error["message"])
    return BY_NAME[lasting[0]["kind"]].exit_code if lasting else 0


def _scheduler() -> Any:
    scheduler = central()
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
    """Give the tasks of shards that wait and that this machine can make."""
    found = scheduler.task_list(status="PENDING", upstream_status="", limit=False)
    for _, said in sorted(found.items()):
        kind = KINDS.get(said["name"])
        given = said["params"]
        if kind and _is_ours(said["name"], given["params"], given["recipe"]):
            yield kind.from_str_params(given)


@cache
def _is_ours(family: str, params: str, recipe: str) -> bool:
    """Say whether this machine would make shards of *recipe*; say so once where it would not."""
    ours = _recipe(family, from_json(params))
    if ours != recipe:
        log.warning(
            "%s by recipe %s… is left to others: with this machine's device, libraries, code and "
            "weights it would be recipe %s…",
            family,
            recipe[:8],
            ours[:8],
        )
    return ours == recipe


def _recipe(family: str, params: Params) -> str:
    if family == "IndexShard":
        return recipes.index(params).digest
    if family == "ChipShard":
        return recipes.chip(params).digest
    return recipes.extract(params, machine()).digest
