"""Shard tasks: what a worker makes, when it is complete, and how many shards it takes at once."""

from __future__ import annotations

from types import SimpleNamespace

import luigi
import pytest
from conftest import ROOT
from store_rows import chips

from pipeline.config.loader import load
from pipeline.config.machine import machine
from pipeline.core import hardware
from pipeline.core.rejects import Reject
from pipeline.store import requests, shard_task, shards
from pipeline.store.context import open_store
from pipeline.store.objects import Piece
from pipeline.store.shard_task import ShardTask, shard_tasks

RECIPE = "5" * 64
KEYS = [f"{name}.png" for name in "abcdefgh"]
WINDOW_S = 2.0


def finish(store, piece, run, rejected=()):
    rows = shards.input_rows(store, piece)
    shards.finish(store, piece, rows, rejected, shards.Provenance(run, rows.num_rows))


def make(context, pieces, report):
    """A stage whose rows are its input rows."""
    for number, piece in enumerate(pieces):
        finish(context.store, piece, context.run)
        report(number, f"{context.params.shards.count} shards on {context.machine.store}")


class CopyShard(ShardTask):
    """A task of that stage."""

    stage = SimpleNamespace(make=make)
    unit = "chips"


class EmbedShard(CopyShard):
    """One that needs the device."""

    embeds = True


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The store that this machine names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUADRAT_STORE", str(tmp_path / "shared"))
    CopyShard.clear_instance_cache()
    requests.read_request.cache_clear()
    shard_task._finished.cache_clear()
    return open_store(machine())


@pytest.fixture
def plans(store):
    rows = chips(KEYS)
    plans = shards.plan("chips", RECIPE, shards.split(rows, 4), rows.schema)
    shards.put_inputs(store, plans)
    return plans


@pytest.fixture
def request_name(store, plans):
    return requests.put(store, load(ROOT / "params.yaml").to_json(), plans)


@pytest.fixture
def clock(monkeypatch):
    """The clock that tells when a new listing is due; the test sets it."""
    clock = SimpleNamespace(now=10 * WINDOW_S)
    monkeypatch.setattr(shard_task, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def task_of(name, plans, run="run"):
    names = ",".join(map(requests.name_of, reversed(plans)))
    return CopyShard(run_name=run, request=name, shards=names, batch_size=3)


def test_a_task_makes_its_shards_and_reports(store, plans, request_name):
    task = task_of(request_name, plans)
    said = []
    task.set_progress_percentage = said.append
    task.set_status_message = said.append
    assert task.pieces == [plan.piece for plan in plans]
    assert not task.complete()
    task.run()
    assert task.complete()
    assert said[:2] == [0, f"16 shards on {store.storage.url}"]
    for plan in plans:
        assert store.record(plan.piece).note == {"run": "run", "computed": plan.size}
        assert store.read(plan.piece, "parquet") == plan.rows()


@pytest.mark.usefixtures("clock")
def test_a_task_that_has_run_asks_the_store_itself(store, plans, request_name):
    """Its shards are newer than the listing; and one may have been damaged since."""
    task = task_of(request_name, plans)
    assert not task.complete()
    task.run()
    assert task.complete()
    store.storage.delete(plans[-1].piece.path("json"))
    assert not task.complete()


def test_one_listing_serves_all_tasks_for_two_seconds(store, plans, request_name, clock):
    first, others = task_of(request_name, plans[:1]), task_of(request_name, plans[1:])
    finish(store, plans[0].piece, "run")
    assert first.complete()
    assert not others.complete()
    for plan in plans[1:]:
        finish(store, plan.piece, "run")
    clock.now += WINDOW_S - 0.1
    assert not others.complete()
    clock.now += 0.1
    assert first.complete()
    assert others.complete()


def test_a_task_is_complete_only_with_every_shard(store, plans, request_name, clock):
    task = task_of(request_name, plans)
    for number, plan in enumerate(plans, 1):
        finish(store, plan.piece, "run")
        clock.now += WINDOW_S
        assert task.complete() == (number == len(plans))


def test_faults_of_the_bucket_leave_a_task_to_the_next_run(store, plans, request_name, clock):
    finish(store, plans[0].piece, "this run", [Reject("extract", "a.png", "vanished", "gone")])
    assert task_of(request_name, plans[:1], "this run").complete()
    clock.now += WINDOW_S
    assert not task_of(request_name, plans[:1], "next run").complete()


@pytest.fixture
def luigi_settings():
    """Luigi's settings, which are as they were after the test."""
    settings = luigi.configuration.get_config()
    was = settings.get("core", "local_scheduler", None)
    yield settings
    settings.remove_option("core", "local_scheduler")
    if was is not None:
        settings.set("core", "local_scheduler", was)


@pytest.mark.parametrize(
    ("local", "missing", "batch"),
    [
        ("true", 30, 10),
        ("true", 31, 11),
        ("true", 1000, 256),
        ("false", 30, 2),
        ("false", 24, 1),
        ("false", 1000, 8),
        (None, 1000, 8),
    ],
)
def test_each_of_three_workers_takes_its_share_of_the_shards(
    monkeypatch, luigi_settings, local, missing, batch
):
    """At a central scheduler an eighth of it, for machines that join; and never too many."""
    monkeypatch.setenv("QUADRAT_WORKERS", "3")
    luigi_settings.remove_option("core", "local_scheduler")
    if local:
        luigi_settings.set("core", "local_scheduler", local)
    pieces = [Piece("chips", RECIPE, "p", f"{n:064d}") for n in range(missing)]
    plans = [shards.ShardPlan(n, piece, bytes, 1) for n, piece in enumerate(pieces)]
    tasks = shard_tasks(CopyShard, "a run", "a request", plans)
    assert [task.shards for task in tasks] == list(map(requests.name_of, plans))
    of_all = {(type(task), task.run_name, task.request, task.max_batch_size) for task in tasks}
    assert of_all == {(CopyShard, "a run", "a request", batch)}


def test_processes_of_a_card_share_only_the_shards_that_need_it(store, monkeypatch, luigi_settings):
    """Each process takes its part of 256 shards at once; the card limits only extract."""
    luigi_settings.set("core", "local_scheduler", "true")
    monkeypatch.setattr(hardware, "device", lambda _: "cuda")
    monkeypatch.setattr(hardware, "processes", {"cuda": 2, "cpu": 16}.__getitem__)
    pieces = [Piece("chips", RECIPE, "p", f"{n:064d}") for n in range(256)]
    plans = [shards.ShardPlan(n, piece, bytes, 1) for n, piece in enumerate(pieces)]
    batches = [shard_tasks(kind, "r", "r", plans)[0].batch_size for kind in (CopyShard, EmbedShard)]
    assert batches == [16, 128]
