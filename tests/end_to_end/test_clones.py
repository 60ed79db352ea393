"""A second clone: what `dvc pull` brought is reused, though its store is empty."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest
from conftest import Repo, new_repo, texture, textures
from stage_counts import stage_counts

from pipeline.config.machine import machine
from pipeline.store import outputs
from pipeline.store.adoption import adopt
from pipeline.store.context import open_store

COUNTED = ("index", "chip", "extract")


def computed(done):
    """Rows that were computed, and all rows, by stage."""
    lines = {line["stage"]: line for line in stage_counts(done.stderr)}
    return {stage: (lines[stage]["computed"], lines[stage]["rows"]) for stage in COUNTED}


@pytest.mark.slow
def test_one_percent_is_computed_after_a_change_of_one_percent(tmp_path):
    bucket = textures(tmp_path / "bucket", each=33)
    repo = new_repo(tmp_path / "repo", bucket)
    bad = bucket.folder / "noise/032.png"
    bad.write_bytes(bad.read_bytes()[:-4000])  # a header and no pixels: 6 rejects
    (bucket.folder / "plain/none.png").write_bytes(b"no image")
    repo.run("dvc", "remote", "add", "-d", "shared", str(tmp_path / "remote"))
    repo.run("dvc", "repro", "extract")
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "made")
    repo.run("dvc", "push")
    repo.run("git", "clone", "-q", str(repo.path), str(tmp_path / "clone"))
    clone = Repo(tmp_path / "clone", bucket, dict(repo.env))
    clone.run("dvc", "pull", "extract", "chip", "index")
    assert not (clone.path / ".quadrat/store").exists()

    texture("plain", 999).save(bucket.folder / "plain/000.png")
    assert computed(clone.run("dvc", "repro", "extract")) == {
        "index": (1, 99),
        "chip": (6, 594),
        "extract": (6, 588),
    }
    fresh = new_repo(tmp_path / "fresh", bucket)
    fresh.run("dvc", "repro", "extract")
    assert clone.digests() == fresh.digests()
    rejects = pq.read_table(clone.path / "data/rejects/extract.parquet")
    assert rejects["reason"].to_pylist() == ["truncated"] * 6


OUTS = {"images": outputs.INDEX, "chips": outputs.CHIPS, "features": outputs.FEATURES}


def stored(store, table):
    """Every file of a table's pieces but the records, which name the run."""
    items = store.storage.list(f"{table}/")
    return {item.key: store.storage.read(item.key) for item in items if ".json" not in item.key}


def test_a_clones_outs_become_the_pieces_that_they_were_made_of(copy_of_done, monkeypatch):
    monkeypatch.chdir(copy_of_done().path)
    shutil.move(".quadrat/store", "earlier")
    for table, folder in OUTS.items():
        monkeypatch.delenv("QUADRAT_STORE", raising=False)
        assert adopt(open_store(machine()), table, outputs.read_manifest(folder)["recipe"], folder)
        adopted = stored(open_store(machine()), table)
        monkeypatch.setenv("QUADRAT_STORE", "earlier")
        assert adopted == stored(open_store(machine()), table) != {}
