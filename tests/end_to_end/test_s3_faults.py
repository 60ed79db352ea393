"""S3 that fails while the whole pipeline runs: the same bytes, or a reject, or a sentence."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest
from conftest import new_repo, textures
from faults import Flip, Less, Proxy, Reset, Short, Slow, Status, at_random
from servers import BUCKET, SECRET, client, environment, rclone
from stage_counts import stage_counts

AT_RANDOM = [
    Status(503, "SlowDown"),
    Status(500, "InternalError"),
    Reset(),
    Short(40),
    Less(7),
    Flip(),
]


@pytest.fixture
def on_s3(tmp_path):
    """A clone with bucket and store on S3, behind a proxy."""
    repo = new_repo(tmp_path / "repo", textures(tmp_path / "bucket"))
    shutil.copytree(repo.bucket.folder, tmp_path / "s3" / BUCKET / "in")
    with rclone(tmp_path / "s3") as endpoint, Proxy(endpoint) as proxy:
        repo.env |= environment(proxy.endpoint)
        repo.env["QUADRAT_STORE"] = f"s3://{BUCKET}/store"
        repo.set(bucket__url=f"s3://{BUCKET}/in", shards__count=2)
        yield repo, proxy


def forbid(key):
    return lambda method, path, number: Status(403, "AccessDenied") if key in path else None


def undisturbed(method, path, number):
    return None


def rejected(repo, stage):
    rows = pq.read_table(repo.path / f"data/rejects/{stage}.parquet").to_pylist()
    return {(row["key"], row["reason"]) for row in rows}


def lists(proxy):
    """How often the bucket of images, which has one page, was listed."""
    return sum("list-type" in path and "prefix=in" in path for _, path in proxy.requests)


def computed(done):
    lines = stage_counts(done.stderr)
    return {line["stage"]: line["computed"] for line in lines}


@pytest.mark.slow
def test_a_refused_object_is_a_reject_and_the_next_run_asks_again_for_it_alone(on_s3):
    repo, proxy = on_s3
    proxy.rule = forbid("plain/003.png")
    done = repo.run("python", "-m", "stages.index")
    assert rejected(repo, "index") == {("plain/003.png", "forbidden")}
    assert computed(done) == {"index": 23}
    before = repo.digests("data/index")
    assert computed(repo.run("python", "-m", "stages.index")) == {"index": 0}
    assert repo.digests("data/index") == before
    proxy.rule = undisturbed
    assert computed(repo.run("python", "-m", "stages.index")) == {"index": 1}
    assert rejected(repo, "index") == set()
    assert lists(proxy) == 3
    client(proxy.endpoint).delete_object(Bucket=BUCKET, Key="in/plain/000.png")
    done = repo.run("python", "-m", "stages.index")  # begins with the fast path, which lists it
    assert computed(done) == {"index": 0}
    assert "index: 23 images" in done.stderr
    assert lists(proxy) == 4
    assert computed(repo.run("python", "-m", "stages.index")) == {"index": 0}
    assert lists(proxy) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [(Status(403, "AccessDenied"), "forbidden"), (Status(404, "NoSuchKey"), "vanished")],
)
def test_what_only_extract_could_not_have_is_asked_for_again_by_dvc_repro(on_s3, fault, reason):
    repo, proxy = on_s3
    repo.set(chip__max_rejects=0.5, extract__max_rejects=0.5)
    repo.run("dvc", "repro", "chip")
    proxy.rule = lambda method, path, number: fault if "plain/003.png" in path else None
    repo.run("python", "-m", "stages.extract")
    repo.run("dvc", "repro", "extract")
    assert rejected(repo, "extract") == {("plain/003.png", reason)}
    proxy.rule = undisturbed
    assert computed(repo.run("dvc", "repro", "extract"))["extract"] == 6
    assert rejected(repo, "extract") == set()
    assert computed(repo.run("dvc", "repro", "extract")) == {"index": 0}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_faults_at_random_for_a_whole_run_change_no_byte(on_s3, seed, tmp_path):
    repo, proxy = on_s3
    repo.run("dvc", "repro")
    wanted = repo.digests()
    other = new_repo(tmp_path / "other", repo.bucket)
    other.env |= environment(proxy.endpoint) | {"QUADRAT_STORE": f"s3://{BUCKET}/other-store"}
    other.set(bucket__url=f"s3://{BUCKET}/in", shards__count=2)
    rule, ordered, slow = at_random(seed, 0.15, AT_RANDOM), [], [Slow(33)]

    def faulty(method, path, number):
        """Bits are turned in whole objects alone: of a part or a listing nothing tells."""
        fault = rule(method, path, number)
        if slow and number >= begun + 40:
            fault = slow.pop()
        if isinstance(fault, Flip) and (method != "GET" or "list-type" in path):
            fault = None
        if fault is not None:
            ordered.append(fault)
        return fault

    begun = len(proxy.requests)
    proxy.rule = faulty
    done = other.run("dvc", "repro")
    assert {type(fault) for fault in ordered} == {Status, Reset, Short, Less, Flip, Slow}
    assert len(ordered) > 20
    assert other.digests() == wanted
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    everything = b"".join(other.digests().values()) + said.encode()
    assert SECRET.encode() not in everything


@pytest.mark.slow
def test_credentials_that_expire_midway_stop_with_a_sentence_and_the_rest_stays(on_s3):
    repo, proxy = on_s3
    repo.run("dvc", "repro", "chip")
    read = []

    def expire(method, path, number):
        if "/in/" in path:
            read.append(path)
        return Status(400, "ExpiredToken") if len(read) > 14 else None

    proxy.rule = expire
    done = repo.run("python", "-m", "stages.extract", check=False, QUADRAT_WORKERS="1")
    assert done.returncode == 4
    assert "the AWS credentials have expired (ExpiredToken); renew them, run again" in done.stderr
    assert "Traceback" not in done.stderr
    proxy.rule = undisturbed
    found = computed(repo.run("dvc", "repro", "extract"))
    assert found["extract"] <= 144


@pytest.mark.slow
def test_an_endpoint_that_is_down_stops_every_stage_with_a_sentence(on_s3):
    repo, _ = on_s3
    repo.env["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    done = repo.run("python", "-m", "stages.index", check=False)
    assert done.returncode == 4
    assert "6 tries failed" in done.stderr
    assert "check the endpoint and the network" in done.stderr
    assert "Traceback" not in done.stderr
