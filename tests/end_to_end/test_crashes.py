"""Crashes: kill what you like whenever you like; the next run ends with the same bytes."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import time

import own
import psutil
import pytest
from conftest import new_repo, textures
from servers import luigid
from stage_counts import stage_counts

log = logging.getLogger(__name__)

SLOW = """
        with open("made.txt", "a") as stream:
            stream.write(f"{os.getpid()}\\n")
        time.sleep(float(os.environ.get("SLOW", "0.1")))
"""


def slow_repo(folder):
    """A clone with 24 images in 8 shards, whose features take a second or two."""
    repo = new_repo(folder / "repo", textures(folder / "bucket"))
    own.use(repo, SLOW, shards__count=8)
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "slow")
    return repo


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The bytes of every out after one run, and how long that took."""
    repo = slow_repo(tmp_path_factory.mktemp("undisturbed"))
    begun = time.monotonic()
    repo.run("dvc", "repro")
    return repo.digests(), time.monotonic() - begun


@pytest.fixture
def repo(tmp_path):
    found = slow_repo(tmp_path)
    yield found
    for process in at_work(found):
        process.kill()


def start(repo, *command, **env):
    """Start a command in a process group of its own."""
    return subprocess.Popen(
        command or ("dvc", "repro"),
        cwd=repo.path,
        env=repo.env | env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def at_work(repo):
    """Every process that works in the clone."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(repo.path):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(what, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def extracting(repo):
    """Wait until features are being made; give the stage's process and its workers'."""
    made = repo.path / "made.txt"
    made.unlink(missing_ok=True)
    wait_for(made.exists)
    stages = [p for p in at_work(repo) if "stages.extract" in " ".join(p.cmdline())]
    python = [p for p in stages if "python" in p.name()]
    parents = {p.pid for p in python}
    workers = [p for p in python if p.ppid() in parents]
    main = next(p for p in python if p.ppid() not in parents)
    assert workers
    return main, workers


def leftovers(repo):
    """Files that only a broken run leaves behind."""
    names = ("tmp", "input.parquet", "journal", "-wal", "-shm")
    return [
        str(path)
        for folder in ("data", "models", "results", ".quadrat")
        for path in (repo.path / folder).rglob("*")
        if path.is_file() and (path.name.endswith(names) or path.parent.name == ".quadrat-tmp")
    ]


def finished(repo):
    """The records of finished features, and when they were written."""
    store = repo.path / ".quadrat/store/features"
    return {path: path.stat().st_mtime_ns for path in store.rglob("*.json")}


def rows_of(record):
    return json.loads(record.read_text())["files"]["parquet"]["rows"]


TORN = re.compile(
    r"rwlock'\. JSON structure is corrupted|dvc\.lock' (validation failed|is invalid)"
)


def again(repo, *command):
    """Run again. If DVC tore a file of its own, do as docs/troubleshooting.md says."""
    command = command or ("dvc", "repro")
    done = repo.run(*command, check=False)
    if done.returncode and TORN.search(done.stderr):
        log.warning("DVC was killed while it wrote a file of its own:\n%s", done.stderr)
        for name in (".dvc/tmp/rwlock", "dvc.lock"):
            (repo.path / name).unlink(missing_ok=True)
        done = repo.run(*command, check=False)
    assert done.returncode == 0, done.stderr
    return done


def ends_well(repo, undisturbed, *command):
    """Run again at once: the bytes are right, nothing is left over, no finished shard is remade."""
    before = finished(repo)
    done = again(repo, *command)
    assert {path: finished(repo)[path] for path in before} == before
    lines = stage_counts(done.stderr)
    extract = next((line for line in lines if line["stage"] == "extract"), None)
    if extract:
        assert extract["computed"] == extract["rows"] - sum(map(rows_of, before))
    same(repo.digests(), undisturbed[0])
    assert leftovers(repo) == []
    assert at_work(repo) == []
    return done


def same(found, wanted):
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []


def kill_at(repo, moment):
    """Begin a run and kill all of it after *moment* seconds, if it has not ended by then."""
    run = start(repo)
    try:
        run.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()


def wipe(repo):
    """Forget everything that has been made."""
    for name in (".quadrat", ".dvc/cache", ".dvc/tmp", "dvc.lock", "data", "models", "results"):
        path = repo.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    repo.run("git", "checkout", "-q", ".")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_that_is_killed_ends_with_the_same_bytes(repo, undisturbed, seed):
    rng = random.Random(seed)
    for _ in range(2):
        kill_at(repo, rng.uniform(0.3, undisturbed[1]))
    ends_well(repo, undisturbed)


@pytest.mark.slow
def test_what_dvc_tore_can_be_removed_and_nothing_is_made_again(repo, undisturbed):
    repo.run("dvc", "repro")
    lock = (repo.path / "dvc.lock").read_text()
    for name, torn in ((".dvc/tmp/rwlock", ""), ("dvc.lock", ""), ("dvc.lock", lock[:-100] + '"')):
        (repo.path / name).write_text(torn)
        done = repo.run("dvc", "repro", check=False)
        assert TORN.search(done.stderr), done.stderr
        ends_well(repo, undisturbed)
        assert (repo.path / "dvc.lock").read_text() == lock


@pytest.mark.slow
def test_forty_kills_at_random_moments_change_no_byte(repo, undisturbed):
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    log.warning("SEED=%d", seed)  # what pytest shows of a test that fails
    rng = random.Random(seed)
    kills = 0
    while kills < 40:
        for _ in range(rng.randint(1, 4)):
            kill_at(repo, rng.uniform(0.3, undisturbed[1]))
            kills += 1
        ends_well(repo, undisturbed)
        wipe(repo)


@pytest.mark.slow
def test_when_only_dvc_is_killed_the_next_run_waits_for_its_stage(repo, undisturbed):
    run = start(repo, SLOW="2")  # longer than dvc takes to start
    extracting(repo)
    run.kill()
    run.wait()
    done = repo.run("dvc", "repro")
    assert "an earlier run still works in this checkout; waiting for its end" in done.stderr
    same(repo.digests(), undisturbed[0])
    assert leftovers(repo) == []


@pytest.mark.slow
def test_when_only_the_stage_is_killed_its_workers_end_too(repo, undisturbed):
    run = start(repo, SLOW="0.4")
    main, workers = extracting(repo)
    main.kill()
    assert run.wait(60) != 0
    wait_for(lambda: not any(worker.is_running() for worker in workers), 20)
    ends_well(repo, undisturbed)


@pytest.mark.slow
def test_when_only_a_worker_is_killed_the_run_goes_on_by_itself(repo, undisturbed):
    run = start(repo, SLOW="0.4")
    _, workers = extracting(repo)
    workers[0].kill()
    assert run.wait(120) == 0
    same(repo.digests(), undisturbed[0])
    assert leftovers(repo) == []


@pytest.mark.slow
def test_when_only_luigid_is_killed_a_new_one_goes_on(repo, undisturbed, tmp_path):
    """Killed, it has kept no state: the run lists what is missing and hands it out anew."""
    with luigid(tmp_path / "luigid") as server:
        text = (repo.path / "luigi.cfg").read_text()
        central = f"local_scheduler = false\nscheduler_port = {server.port}"
        (repo.path / "luigi.cfg").write_text(text.replace("local_scheduler = true", central))
        run = start(repo, SLOW="0.4")
        extracting(repo)
        server.kill()
        time.sleep(1)
        server.begin()
        run.wait(200)
        ends_well(repo, undisturbed)
