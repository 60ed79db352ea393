"""Faults midway: what may pass is tried again, what does not stops the stage; the rest stays."""

from __future__ import annotations

import json
import shutil

import own
import pytest
from conftest import new_repo, textures
from faults import Proxy, Reset, Status, can_unshare, full_disk
from servers import BUCKET, environment, rclone
from stage_counts import stage_counts

FUSSY = """
        with open("made.txt", "a") as stream:
            stream.write("batch\\n")
        if Path("bad").exists():
            raise RuntimeError("this card is broken")
"""


def fussy_repo(folder):
    repo = new_repo(folder / "repo", textures(folder / "bucket"))
    own.use(repo, FUSSY, shards__count=8)
    return repo


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    repo = fussy_repo(tmp_path_factory.mktemp("undisturbed"))
    repo.run("dvc", "repro", "extract")
    return repo.digests("data/features")


@pytest.fixture
def repo(tmp_path):
    return fussy_repo(tmp_path)


def extract(done):
    rows = stage_counts(done.stderr)
    return next((row for row in rows if row["stage"] == "extract"), None)


def records(store):
    return sorted(path for path in store.glob("features/*/*/*.json") if path.name.count(".") == 1)


@pytest.mark.slow
@pytest.mark.skipif(not can_unshare(), reason="mounting a small disk is not permitted here")
def test_a_full_disk_stops_the_run_and_with_more_room_it_goes_on(repo, undisturbed, tmp_path):
    store, kept = tmp_path / "store", tmp_path / "kept"
    store.mkdir()
    kept.mkdir()
    repo.env["QUADRAT_STORE"] = str(store)
    again = 'cp -a "$0/." "$1"; dvc repro extract; code=$?; cp -a "$1/." "$0"; exit $code'
    for size in ("64k", "200k", "340k"):
        small = full_disk(size, store)
        done = repo.run(*small, "sh", "-c", again, str(kept), str(store), check=False)
        assert done.returncode != 0
        assert "cannot be written (No space left on device); make room there" in done.stderr
        assert "Traceback" not in done.stderr
    shutil.copytree(kept, store, dirs_exist_ok=True)
    finished = records(store)
    found = extract(repo.run("dvc", "repro", "extract"))
    rows = sum(json.loads(path.read_text())["files"]["parquet"]["rows"] for path in finished)
    assert found["computed"] == found["rows"] - rows
    assert repo.digests("data/features") == undisturbed


@pytest.fixture
def on_s3(repo, tmp_path):
    """The same with bucket and store on S3, behind a proxy that fails by rule."""
    shutil.copytree(repo.bucket.folder, tmp_path / "s3" / BUCKET / "in")
    with rclone(tmp_path / "s3") as endpoint, Proxy(endpoint) as proxy:
        repo.env |= environment(proxy.endpoint)
        repo.env["QUADRAT_STORE"] = f"s3://{BUCKET}/store"
        repo.set(bucket__url=f"s3://{BUCKET}/in")
        repo.store = tmp_path / "s3" / BUCKET / "store"
        yield repo, proxy


@pytest.mark.slow
def test_a_store_that_refuses_writes_midway_stops_the_run_and_the_next_goes_on(on_s3, undisturbed):
    repo, proxy = on_s3
    repo.run("dvc", "repro", "chip")
    written = []

    def refuse(method, path, number):
        if method == "PUT" and "/features/" in path and "input" not in path:
            written.append(path)
            return Status(403, "AccessDenied") if len(written) > 12 else None
        return None

    proxy.rule = refuse
    done = repo.run("dvc", "repro", "extract", check=False)
    assert done.returncode != 0
    assert "access refused (AccessDenied); check the AWS credentials" in done.stderr
    assert "Traceback" not in done.stderr
    finished = records(repo.store)
    assert 0 < len(finished) < 8
    proxy.rule = lambda *_: None
    found = extract(repo.run("dvc", "repro", "extract"))
    rows = sum(json.loads(path.read_text())["files"]["parquet"]["rows"] for path in finished)
    assert found["computed"] == found["rows"] - rows > 0
    assert repo.digests("data/features") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Status(503, "SlowDown"), Reset()], ids=["503", "reset"])
def test_luigi_tries_again_what_outlasts_the_tries_of_a_request(on_s3, undisturbed, fault):
    """Each of boto3's tries fails for one request after another; then all is well."""
    repo, proxy = on_s3
    repo.run("dvc", "repro", "chip")
    failed = []

    def busy(method, path, number):
        if "/features/" in path and method == "GET" and "input" in path and len(failed) < 14:
            failed.append(path)
            return fault
        return None

    proxy.rule = busy
    done = repo.run("dvc", "repro", "extract", QUADRAT_VERBOSE="1")
    assert len(failed) == 14
    assert "failed" in done.stderr.split("===== Luigi Execution Summary =====")[1]
    assert extract(done)["computed"] == 144
    assert repo.digests("data/features") == undisturbed


@pytest.mark.slow
def test_a_service_that_stays_away_stops_the_stage_with_its_reason(on_s3):
    repo, proxy = on_s3
    repo.set(shards__count=2)
    repo.run("dvc", "repro", "chip")
    config = repo.path / "luigi.cfg"
    config.write_text(config.read_text().replace("retry_count = 5", "retry_count = 2"))
    proxy.rule = lambda method, path, number: (
        Status(503, "SlowDown") if "/features/" in path and "input" in path else None
    )
    done = repo.run("python", "-m", "stages.extract", check=False)
    assert done.returncode == 4
    assert "SlowDown" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_would_fail_again_is_tried_once_and_the_finished_shards_stay(repo, undisturbed):
    repo.env["QUADRAT_WORKERS"] = "1"
    repo.run("dvc", "repro", "chip")
    (repo.path / "bad").touch()
    done = repo.run("dvc", "repro", "extract", check=False)
    assert done.returncode != 0
    assert "this card is broken" in done.stderr
    assert (repo.path / "made.txt").read_text().count("batch") == 1
    assert "failed to reproduce 'extract'" in done.stderr
    (repo.path / "bad").unlink()
    assert extract(repo.run("dvc", "repro", "extract"))["computed"] == 144
    assert repo.digests("data/features") == undisturbed


@pytest.mark.slow
def test_an_image_that_goes_after_the_index_stops_the_stage_and_only_its_shard_is_left(repo):
    repo.run("dvc", "repro", "chip")
    (repo.bucket.folder / "plain/002.png").unlink()
    done = repo.run("dvc", "repro", "--single-item", "extract", check=False)
    assert done.returncode != 0
    assert "plain/002.png: no such file (1 image changed); run dvc repro again" in done.stderr
    assert len(records(repo.path / ".quadrat/store")) == 7
