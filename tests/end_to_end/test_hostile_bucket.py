"""A bucket with anything in it: the run ends well, says what it left out and loses nothing else."""

from __future__ import annotations

import os
import shutil

import deadly
import pyarrow.parquet as pq
import pytest
from conftest import new_repo, textures


def add(repo, key, data, points=2):
    """Put an object into the bucket, with points on it."""
    path = repo.bucket.folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    for row in range(points):
        repo.bucket.points.append({"image": key, "row": row, "column": 9, "label": "noise"})
    repo.points()


def run(repo, *stages, **env):
    return [repo.run("python", "-m", f"stages.{stage}", **env) for stage in stages]


def rejects(repo, folder):
    rows = pq.read_table(repo.path / folder / "rejects.parquet").to_pylist()
    return [(row["key"], row["row"], row["reason"]) for row in rows]


def features(repo):
    tables = sorted((repo.path / "data/features").glob("0*.parquet"))
    return {row["key"]: row for table in tables for row in pq.read_table(table).to_pylist()}


@pytest.fixture
def armed(tmp_path):
    """A clone in which decoders die of deadly images."""
    repo = new_repo(tmp_path / "repo", textures(tmp_path / "bucket", each=3))
    repo.env["PYTHONPATH"] += os.pathsep + deadly.arm(tmp_path / "armed")
    return repo


def test_an_image_that_kills_its_decoder_is_a_reject_and_the_run_goes_on(armed):
    armed.env["QUADRAT_WORKERS"] = "1"
    add(armed, "noise/deadly.jpg", deadly.image("deadly"))
    *_, done = run(armed, "index", "chip", "extract")
    assert "died unexpectedly with exit code -11" in done.stderr
    assert "from now on images are read in processes of their own" in done.stderr
    assert rejects(armed, "data/features") == [
        ("noise/deadly.jpg", 0, "decoder_died"),
        ("noise/deadly.jpg", 1, "decoder_died"),
    ]
    assert len(features(armed)) == 9


@pytest.mark.slow
def test_what_is_read_with_care_has_the_same_bytes(armed):
    run(armed, "index", "chip", "extract")
    alone = features(armed)
    add(armed, "noise/deadly.jpg", deadly.image("deadly"))
    run(armed, "index", "chip", "extract")
    assert features(armed) == alone
    before = armed.digests("data/features")
    shutil.rmtree(armed.path / ".quadrat/store")
    *_, done = run(armed, "index", "chip", "extract", QUADRAT_CAREFUL="true")
    assert "died unexpectedly" not in done.stderr
    assert armed.digests("data/features") == before


@pytest.mark.slow
def test_a_header_that_kills_its_reader_is_a_reject_and_the_run_goes_on(armed):
    armed.set(bucket__max_rejects=0.5)
    run(armed, "index")
    before = pq.read_table(armed.path / "data/index/images.parquet")
    add(armed, "noise/deadly.jpg", deadly.image("at once"), points=0)
    (done,) = run(armed, "index")
    assert "died unexpectedly with exit code -7" in done.stderr
    assert rejects(armed, "data/index") == [("noise/deadly.jpg", None, "decoder_died")]
    assert pq.read_table(armed.path / "data/index/images.parquet").equals(before)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_image_that_is_never_decoded_is_a_reject_and_the_run_goes_on(armed):
    armed.env["QUADRAT_WORKERS"] = "1"
    add(armed, "noise/endless.jpg", deadly.image("endless"))
    *_, done = run(armed, "index", "chip", "extract")
    assert "noise/endless.jpg: not decoded after 60 s; this worker ends" in done.stderr
    assert {reason for _, _, reason in rejects(armed, "data/features")} == {"too_slow"}
    assert len(features(armed)) == 9
