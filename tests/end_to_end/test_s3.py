"""The same pipeline with its bucket on S3: the same features, to the byte."""

from __future__ import annotations

import shutil

import pytest
import servers
from conftest import ROOT, Bucket, new_repo

from demo import make_bucket, sample_points


@pytest.fixture(params=servers.SERVERS)
def endpoint(request, tmp_path, done_repo):
    """A server whose bucket holds the finished clone's images."""
    with servers.SERVERS[request.param](tmp_path / "server") as url:
        client = servers.client(url)
        for path in sorted(done_repo.bucket.folder.rglob("*.png")):
            key = path.relative_to(done_repo.bucket.folder).as_posix()
            client.put_object(Bucket=servers.BUCKET, Key=f"reef/{key}", Body=path.read_bytes())
        yield url


def on_s3(tmp_path, done_repo, endpoint):
    bucket = Bucket(done_repo.bucket.folder, done_repo.bucket.points)
    repo = new_repo(tmp_path / "repo", bucket)
    repo.set(bucket__url=f"s3://{servers.BUCKET}/reef")
    repo.env.update(servers.environment(endpoint))
    return repo


@pytest.mark.slow
def test_a_bucket_on_s3_gives_a_folders_features_to_the_byte(tmp_path, done_repo, endpoint):
    repo = on_s3(tmp_path, done_repo, endpoint)
    repo.said("dvc", "repro")
    for folder in ("data/index", "data/chips", "data/labels", "data/features", "models", "results"):
        assert repo.digests(folder) == done_repo.digests(folder), folder
    everything = b"".join(repo.digests("data", "models", "results").values())
    everything += (repo.path / "dvc.lock").read_bytes()
    assert servers.SECRET.encode() not in everything


@pytest.mark.slow
@pytest.mark.parametrize("name", servers.SERVERS)
def test_the_demo_on_s3_gives_the_demos_own_features_to_the_byte(tmp_path, name):
    """The sample bucket and the shipped settings, but for where the images are."""
    make_bucket.fill(tmp_path / "photographs")
    found = {}
    with servers.SERVERS[name](tmp_path / "server") as url:
        client = servers.client(url)
        for key in make_bucket.photographs():
            data = (tmp_path / "photographs" / key).read_bytes()
            client.put_object(Bucket=servers.BUCKET, Key=key, Body=data)
        for where in (str(tmp_path / "photographs"), f"s3://{servers.BUCKET}"):
            bucket = Bucket(tmp_path / "photographs")
            repo = new_repo(tmp_path / f"repo{len(found)}", bucket)
            shutil.copy(ROOT / "params.yaml", repo.path)
            repo.set(bucket__url=where, annotations__path=str(sample_points.POINTS))
            repo.env.update(servers.environment(url))
            repo.said("dvc", "repro", "extract")
            found[where] = repo.digests("data/features", "data/chips", "data/labels")
    one, other = found.values()
    assert one == other
    assert len(one) > 20


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ["moto"], indirect=True)
def test_the_store_can_be_on_s3_and_a_second_clone_takes_everything_from_it(
    tmp_path, done_repo, endpoint
):
    repo = on_s3(tmp_path, done_repo, endpoint)
    repo.env["QUADRAT_STORE"] = f"s3://{servers.BUCKET}/store"
    assert "144 computed, 0 reused" in repo.said("dvc", "repro", "extract")
    shutil.move(tmp_path / "repo", tmp_path / "first")
    other = on_s3(tmp_path, done_repo, endpoint)
    other.env["QUADRAT_STORE"] = f"s3://{servers.BUCKET}/store"
    said = other.said("dvc", "repro", "extract")
    assert "extract: 144 chips, 0 computed, 144 reused" in said
    assert other.digests("data/features") == done_repo.digests("data/features")


@pytest.mark.slow
@pytest.mark.parametrize("endpoint", ["rclone"], indirect=True)
def test_an_object_overwritten_after_the_index_is_never_mixed_in(tmp_path, done_repo, endpoint):
    repo = on_s3(tmp_path, done_repo, endpoint)
    repo.said("dvc", "repro", "chip")
    other = (done_repo.bucket.folder / "noise/001.png").read_bytes()
    servers.client(endpoint).put_object(Bucket=servers.BUCKET, Key="reef/plain/000.png", Body=other)
    done = repo.run("python", "-m", "stages.extract", check=False)
    assert done.returncode == 4
    assert "reef/plain/000.png: changed while it was read" in done.stderr
    assert "run dvc repro again" in done.stderr
    # The shards that were finished before stay; the one that the image lies in is made anew.
    assert "24 computed, 120 reused" in repo.said("dvc", "repro", "extract")
