"""Ctrl-C: within two seconds, one line, no traceback, nobody left, nothing half written."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import own
import psutil
import pytest
from conftest import new_repo, textures
from faults import children, lives, wait_until

SLOW = """
        with open("made.txt", "a") as stream:
            stream.write("batch\\n")
        time.sleep(float(os.environ.get("SLOW", "0")))
"""
LINE = "stopped by Ctrl-C; finished work is kept, and the next run continues from there\n"
STAGES = ["index", "chip", "extract", "train", "validate"]


@pytest.fixture
def repo(tmp_path):
    found = new_repo(tmp_path / "repo", textures(tmp_path / "bucket"))
    own.use(found, SLOW, shards__count=8)
    return found


class Started:
    """A command in a process group of its own, as a terminal starts it."""

    def __init__(self, repo, *command, **env):
        self.repo = repo
        self.process = subprocess.Popen(
            command,
            cwd=repo.path,
            env=repo.env | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def stopped_by(self, number):
        """Send a signal to the group as a terminal does; give code, standard error, seconds."""
        below = [psutil.Process(self.process.pid), *children(self.process.pid)]
        begun = time.monotonic()
        os.killpg(self.process.pid, number)
        stderr = self.process.communicate(timeout=60)[1]
        took = time.monotonic() - begun
        assert not any(map(lives, below))
        return self.process.returncode, stderr, took


def half_written(repo):
    return [
        str(path)
        for folder in (".quadrat", "data", "models", "results")
        for path in (repo.path / folder).rglob("*")
        if path.is_file() and "quadrat-tmp" in str(path)
    ]


def extracting(repo):
    made = repo.path / "made.txt"
    made.unlink(missing_ok=True)
    return made.exists


EXTRACT = ("python", "-m", "stages.extract")
LUIGI = ("luigi", "--module", "pipeline.tasks", "Extract", "--workers")


@pytest.mark.parametrize(
    ("command", "workers"),
    [
        pytest.param(EXTRACT, "1", marks=pytest.mark.slow),
        (EXTRACT, "2"),
        pytest.param((*LUIGI, "1"), "1", marks=pytest.mark.slow),
        pytest.param((*LUIGI, "2"), "2", marks=pytest.mark.slow),
        pytest.param(("python", "-m", *LUIGI, "2"), "2", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_stops_a_stage_within_two_seconds_with_one_line(copy_of_done, command, workers):
    repo = copy_of_done()
    own.use(repo, SLOW)
    run = Started(repo, *command, SLOW="30", QUADRAT_WORKERS=workers)
    wait_until(extracting(repo), 60)
    time.sleep(0.3)
    code, stderr, took = run.stopped_by(signal.SIGINT)
    assert took < 2
    assert code == 128 + signal.SIGINT
    assert stderr.splitlines(keepends=True)[-1] == LINE
    assert stderr.count("stopped by") == 1
    assert "Traceback" not in stderr
    assert half_written(repo) == []


@pytest.mark.slow
def test_ctrl_c_stops_dvc_repro_within_two_seconds_and_the_next_goes_on(repo):
    run = Started(repo, "dvc", "repro", "extract", SLOW="30", QUADRAT_WORKERS="2")
    wait_until(extracting(repo), 60)
    time.sleep(0.3)
    code, stderr, took = run.stopped_by(signal.SIGINT)
    assert took < 2
    assert code != 0
    assert LINE in stderr
    assert stderr.splitlines()[-1].startswith("ERROR: failed to reproduce 'extract'")  # DVC's own
    assert "Traceback" not in stderr
    assert half_written(repo) == []
    done = repo.run("dvc", "repro", "extract")
    assert "144 chips" in done.stderr


DISTURBED = """
import multiprocessing, signal, sys, time
from pipeline.core import signals as stopping

def slow_to_end():
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping.SIGNALS)
    time.sleep(60)

stopping.stop_on_signals()
child = multiprocessing.get_context("fork").Process(target=slow_to_end)
child.start()
print(child.pid, flush=True)
while not stopping._ending.is_set():
    time.sleep(0.001)
if sys.argv[1] == "raise":
    raise EOFError("a child was gone")
raise SystemExit(1)
"""


@pytest.mark.parametrize("how", ["raise", "return"])
def test_what_fails_because_children_are_ended_says_nothing(how):
    command = [sys.executable, "-c", DISTURBED, how]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    child = psutil.Process(int(run.stdout.readline()))
    run.terminate()
    stderr = run.communicate(timeout=10)[1]
    assert run.returncode == 128 + signal.SIGTERM
    assert stderr.startswith("stopped by SIGTERM; ")
    assert stderr.count("\n") == 1
    assert not lives(child)


@pytest.mark.slow
def test_sigterm_to_the_stage_alone_ends_its_workers_too(repo):
    repo.run("dvc", "repro", "chip")
    run = Started(repo, "python", "-m", "stages.extract", SLOW="30", QUADRAT_WORKERS="2")
    wait_until(extracting(repo), 60)
    below = children(run.process.pid)
    assert below
    run.process.terminate()
    stderr = run.process.communicate(timeout=5)[1]
    assert run.process.returncode == 128 + signal.SIGTERM
    assert stderr.splitlines()[-1].startswith("stopped by SIGTERM; ")
    assert not any(map(lives, below))


@pytest.mark.slow
def test_a_stage_in_the_background_leaves_ctrl_c_alone(repo):
    """A shell's `&` has it ignored; it is meant for what runs in the foreground."""
    command = 'trap "" INT; exec python -m stages.index'
    run = Started(repo, "sh", "-c", command)
    time.sleep(0.5)
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.process.wait(60) == 0
    run.process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_stops_every_stage_at_every_moment(repo, stage):
    """Of the stages before it nothing is undone, and at the end the bytes are the same."""
    repo.run("dvc", "repro")
    wanted = repo.digests()
    for name in STAGES[STAGES.index(stage) :]:
        for table in {"index": ["images"], "chip": ["chips"], "extract": ["features"]}.get(
            name, ["classifiers" if name == "train" else "results", "checkpoints"]
        ):
            subprocess.run(["rm", "-rf", str(repo.path / ".quadrat/store" / table)], check=True)
    (repo.path / ".quadrat/index.json").unlink(missing_ok=True)
    rng = random.Random(stage)
    stopped = 0
    for moment in [0.15, 0.4, *(rng.uniform(0.5, 6) for _ in range(6))]:
        run = Started(repo, "python", "-m", f"stages.{stage}", SLOW="0.3")
        try:
            run.process.wait(moment)
        except subprocess.TimeoutExpired:
            code, stderr, took = run.stopped_by(signal.SIGINT)
            assert took < 2, moment
            assert "Traceback" not in stderr, (moment, stderr)
            if code and " computed, " not in stderr:  # else the interpreter was leaving
                assert code == 128 + signal.SIGINT, (moment, code, stderr)
                assert stderr.endswith(LINE)
                stopped += 1
        else:
            run.process.communicate()
        assert half_written(repo) == []
    assert stopped >= 2
    repo.run("dvc", "repro", "--force")
    assert repo.digests() == wanted
