"""Workers that are not forked: `spawn` is macOS's way, and `forkserver` that of later Pythons."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess

import own
import pytest
from conftest import ROOT, new_repo, textures
from faults import Proxy, Status, children, lives, wait_until
from servers import BUCKET, environment, rclone
from stage_counts import stage_counts

METHODS = ("spawn", "forkserver")
KEY = "plain/001.png"


def with_workers(repo, method):
    repo.env["PYTHONPATH"] += f":{ROOT}/tests/support/start_method"
    repo.env |= {"START_METHOD": method, "QUADRAT_WORKERS": "1"}
    return repo


@pytest.mark.slow
def test_a_run_with_a_refused_object_has_the_counts_and_the_bytes_of_forked_workers(tmp_path):
    bucket = textures(tmp_path / "bucket", each=3)
    shutil.copytree(bucket.folder, tmp_path / "s3" / BUCKET)
    outs = {}
    with rclone(tmp_path / "s3") as endpoint, Proxy(endpoint) as proxy:
        proxy.rule = lambda method, path, _: Status(403, "AccessDenied") if KEY in path else None
        for method in METHODS:
            repo = with_workers(new_repo(tmp_path / method, bucket), method)
            repo.env |= environment(proxy.endpoint)
            repo.set(bucket__url=f"s3://{BUCKET}", shards__count=1)
            repo.set(bucket__max_rejects=0.2, chip__max_rejects=0.2)
            proxy.forget()
            done = repo.run("dvc", "repro")
            assert sum("list-type" in path for _, path in proxy.requests) == 1
            counts = {line["stage"]: line for line in stage_counts(done.stderr)}
            assert list(counts) == ["index", "chip", "extract", "train", "validate"]
            assert all(line["computed"] == line["rows"] > 0 for line in counts.values())
            assert (counts["index"]["rows"], counts["index"]["rejected"]) == (8, 1)
            assert counts["extract"]["rows"] == 48
            assert "Traceback" not in done.stderr
            runs = (repo.path / ".quadrat/runs.jsonl").read_text().splitlines()
            logged = [json.loads(line) for line in runs]
            for line, run in zip(counts.values(), logged, strict=True):
                assert {name: run[name] for name in line} == line
            outs[method] = repo.digests()
    assert outs["spawn"] == outs["forkserver"]


SLOW = """
        open("made.txt", "a").close()
        time.sleep(30)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "number"), [("spawn", signal.SIGINT), ("forkserver", signal.SIGKILL)]
)
def test_these_workers_end_with_the_stage_that_is_stopped_or_killed(copy_of_done, method, number):
    repo = with_workers(copy_of_done(), method)
    own.use(repo, SLOW)
    command = ("python", "-m", "stages.extract")
    run = subprocess.Popen(command, cwd=repo.path, env=repo.env, stderr=subprocess.PIPE, text=True)
    wait_until((repo.path / "made.txt").exists, 60)
    below = children(run.pid)
    assert len(below) > 1
    run.send_signal(number)
    stderr = run.communicate(timeout=10)[1]
    wait_until(lambda: not any(map(lives, below)), 5)
    assert "Traceback" not in stderr
    if number == signal.SIGINT:
        assert run.returncode == 128 + signal.SIGINT
        assert stderr.endswith("the next run continues from there\n")
