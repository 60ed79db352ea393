"""Edited code: what it makes is computed anew, and comments cost nothing."""

import shutil
import sys

import pytest
from conftest import ROOT
from test_repro import counts

FILES = {
    "index": "index/stage.py",
    "chip": "chip/labels.py",
    "extract": "extract/engine.py",
    "train": "train/loop.py",
    "validate": "validate/metrics/scores.py",
}


@pytest.fixture
def with_code(copy_of_done):
    """A finished clone that has the code in it, as users' clones have."""
    repo = copy_of_done()
    for name in ("pipeline", "stages"):
        shutil.copytree(ROOT / name, repo.path / name, ignore=shutil.ignore_patterns("__pycache__"))
    repo.env["PYTHONPATH"] = str(repo.path)
    return repo


def edit(repo, name, old, new):
    path = repo.path / "pipeline" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def computed(repo):
    said = repo.said("dvc", "repro")
    return {stage: new for stage, (new, _) in counts(said).items()}, said


@pytest.mark.slow
def test_edited_code_computes_its_rows_and_comments_compute_none(with_code):
    repo = with_code
    for name in FILES.values():
        edit(repo, name, '"""', '"""In other words: ')
        edit(repo, name, "\nfrom __future__", "\n# a comment\nfrom __future__")
    found, said = computed(repo)
    assert not any(found.values())
    assert "code.lock" not in said
    model = (repo.path / "models/classifier/model.safetensors").read_bytes()
    edit(
        repo, FILES["validate"], "\nfrom __future__ import annotations\n", f"{FUTURE}\nEDITED = 1\n"
    )
    assert computed(repo)[0]["validate"] > 0
    edit(repo, FILES["train"], "beta1=0.9", "beta1=0.8")
    found, said = computed(repo)
    assert found["train"] > 0
    assert found["index"] == 0
    assert "pipeline/train/loop.py" in said
    assert (repo.path / "models/classifier/model.safetensors").read_bytes() != model
    edit(repo, FILES["train"], "beta1=0.8", "beta1=0.9")
    found, _ = computed(repo)
    assert found["train"] == 0
    assert (repo.path / "models/classifier/model.safetensors").read_bytes() == model
    for stage in ("extract", "chip", "index"):
        edit(
            repo, FILES[stage], "\nfrom __future__ import annotations\n", f"{FUTURE}\nEDITED = 1\n"
        )
    found, said = computed(repo)
    assert found["index"] == 24
    assert found["chip"] == found["extract"] == 144
    assert said.count("code.lock") == 1


FUTURE = "\nfrom __future__ import annotations\n"


@pytest.mark.slow
def test_after_a_move_and_a_new_lock_everything_is_reused(with_code):
    repo = with_code
    package = repo.path / "pipeline/train"
    (package / "balance.py").rename(package / "class_balance.py")
    for path in (repo.path / "pipeline").rglob("*.py"):
        path.write_text(
            path.read_text().replace("train.balance import", "train.class_balance import")
        )
    write = "from pipeline.core import code_version as c; c.LOCK.write_text(c.lock())"
    repo.run(sys.executable, "-c", write)
    found, _ = computed(repo)
    assert not any(found.values())
