"""The fast path of the index is taken only if nothing at all has changed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from stage_counts import stage_counts

from pipeline.core import code_version
from pipeline.index import fast_path


def index(repo):
    """Run the stage; return whether it took the fast path, and its counts."""
    done = repo.run("python", "-X", "importtime", "-m", "stages.index")
    (counts,) = stage_counts(done.stderr)
    return "pipeline.tasks" not in done.stderr, counts["computed"], counts["reused"]


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    """A clone whose index was made after all of its files had settled."""
    from conftest import new_repo, textures

    folder = tmp_path_factory.mktemp("settled")
    repo = new_repo(folder / "repo", textures(folder / "bucket", each=2))
    time.sleep(fast_path.SETTLED_S + 0.1)
    assert index(repo) == (False, 6, 0)
    return repo


@pytest.fixture
def unchanged(settled):
    """A clone in which the fast path is taken."""
    for _ in range(6):
        if index(settled)[0]:
            return settled
        time.sleep(0.7)
    pytest.fail("the fast path is not taken")


def test_an_unchanged_bucket_costs_no_import_and_counts_every_image_as_reused(unchanged):
    assert index(unchanged) == (True, 0, 6)
    last = (unchanged.path / ".quadrat/runs.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["reused"] == 6


def test_the_fast_path_imports_only_light_modules(unchanged):
    done = unchanged.run("python", "-X", "importtime", "-m", "stages.index")
    for heavy in (
        "luigi",
        "pyarrow",
        "numpy",
        "pydantic",
        "ruamel",
        "boto3",
        "pipeline.config.loader",
    ):
        assert f" {heavy}\n" not in done.stderr, heavy


def flip(path):
    """Change a byte in place and set the mtime back."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "what", ["image", "annotations", "params.yaml", "dvc.yaml", "luigi.cfg", "out", "manifest"]
)
def test_any_change_prevents_the_fast_path(unchanged, what):
    at = unchanged.path
    paths = {
        "image": unchanged.bucket.folder / "plain/000.png",
        "annotations": at / "points.csv",
        "out": at / "data/index/images.parquet",
        "manifest": at / "data/manifests/index.json",
    }
    path = paths.get(what, at / what)
    before = path.read_bytes()
    if what in {"image", "annotations"}:
        flip(path)
    elif what in {"out", "manifest"}:
        path.unlink()
    else:
        path.write_bytes(before + b"\n")
    assert not index(unchanged)[0]
    assert what not in {"out", "manifest"} or path.read_bytes() == before
    path.write_bytes(before)


def test_a_new_or_deleted_image_prevents_the_fast_path(unchanged):
    key = unchanged.bucket.add("noise", 7, points=0)
    assert index(unchanged) == (False, 1, 6)
    (unchanged.bucket.folder / key).unlink()
    assert index(unchanged)[0] is False


def test_all_files_of_the_codes_version_are_watched():
    assert (*code_version.SUFFIXES, code_version.LOCK.suffix) == fast_path.CODE_SUFFIXES


def test_the_index_is_made_once_a_day(unchanged):
    memory = unchanged.path / ".quadrat/index.json"
    before = json.loads(memory.read_text())
    memory.write_text(json.dumps({**before, "at": before["at"] - 90_000}))
    assert not index(unchanged)[0]


def test_another_environment_prevents_the_fast_path(unchanged):
    done = unchanged.run("python", "-X", "importtime", "-m", "stages.index", QUADRAT_WORKERS="1")
    assert "pipeline.tasks" in done.stderr


def test_changed_code_prevents_the_fast_path(unchanged, monkeypatch, tmp_path):
    files = [str(tmp_path / "code.py")]
    (tmp_path / "code.py").write_text("x = 1")
    before = fast_path.snapshot(str(unchanged.bucket.folder), files)[0]
    (tmp_path / "code.py").write_text("x = 2")
    assert fast_path.snapshot(str(unchanged.bucket.folder), files)[0] != before


def test_an_index_of_files_that_changed_just_now_is_not_remembered(tmp_path, monkeypatch):
    """It may change again within the file system's clock tick, and keep its stamp."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/index").mkdir(parents=True)
    (tmp_path / ".quadrat").mkdir()
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket/a.png").write_bytes(b"a")
    facts = {"bucket": str(tmp_path / "bucket"), "files": [], "rows": 1, "rejected": 0}
    fast_path.remember(fast_path.snapshot(facts["bucket"], [])[0], facts)
    assert not Path(fast_path.MEMORY).exists()


def test_an_index_of_files_that_changed_meanwhile_is_not_remembered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fast_path, "SETTLED_S", -1000.0)
    (tmp_path / "data/index").mkdir(parents=True)
    (tmp_path / ".quadrat").mkdir()
    (tmp_path / "bucket").mkdir()
    facts = {"bucket": str(tmp_path / "bucket"), "files": [], "rows": 1, "rejected": 0}
    before = fast_path.snapshot(facts["bucket"], [])[0]
    (tmp_path / "bucket/a.png").write_bytes(b"a")
    fast_path.remember(before, facts)
    assert not Path(fast_path.MEMORY).exists()
    fast_path.remember(fast_path.snapshot(facts["bucket"], [])[0], facts)
    assert Path(fast_path.MEMORY).exists()
