"""Cleaning the store: what is needed stays, what a task may be writing stays, the rest can go."""

from __future__ import annotations

import os
import shutil
import time

import pytest
from stage_counts import stage_counts

from pipeline.commands import gc
from pipeline.commands.gc import StoredPiece, removable
from pipeline.core.errors import InputError
from pipeline.storage import Object, open_storage
from pipeline.store.objects import Piece, Store

DAY = 86_400.0
TABLES = ("images", "chips", "features", "classifiers", "results")


def store(repo, *options, check=True):
    return repo.run("python", "-m", "stages.store", *options, check=check)


def committed(repo, message="done"):
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", message)


def computed(printed):
    return {row["stage"]: row["computed"] for row in stage_counts(printed)}


def pieces(repo):
    """The names of finished pieces, as table/recipe/shard/input."""
    root = repo.path / ".quadrat/store"
    found = [path for path in root.glob("*/*/*/*.json") if path.name.count(".") == 1]
    return {str(path.relative_to(root).with_suffix("")) for path in found}


@pytest.fixture
def done(copy_of_done):
    """A finished clone whose state is committed."""
    repo = copy_of_done()
    repo.run("dvc", "repro")  # its bucket has another address than the one it was copied from
    committed(repo)
    return repo


def test_nothing_that_the_working_tree_needs_is_removed(done):
    before = pieces(done)
    assert "0 B removed" in store(done, "--unneeded", "--grace", "0", "--remove").stdout
    assert pieces(done) == before
    said = store(done).stdout
    for table in TABLES:
        assert f"\n{table} " in said
    assert "here" in said


def test_what_a_branch_needs_stays_until_the_branch_goes(done):
    first = done.run("git", "branch", "--show-current").stdout.strip()
    before = pieces(done)
    done.run("git", "checkout", "-qb", "other")
    done.set(extract__batch=32)
    done.run("dvc", "repro", "extract")
    committed(done, "another batch")
    both = pieces(done)
    done.run("git", "checkout", "-q", first)
    done.run("dvc", "checkout")
    store(done, "--unneeded", "--grace", "0", "--remove")
    assert pieces(done) == both > before
    done.run("git", "branch", "-qD", "other")
    store(done, "--unneeded", "--grace", "0", "--remove")
    assert pieces(done) == before
    counts = computed(done.said("dvc", "repro", "--force"))
    assert set(counts) == {"index", "chip", "extract", "train", "validate"}
    assert not any(counts.values())


@pytest.mark.slow
def test_what_an_experiment_needs_stays_until_the_experiment_goes(done):
    before = pieces(done)
    done.run("dvc", "exp", "run", "--temp", "-n", "slower", "-S", "train.learning_rate=1e-4")
    tried = pieces(done)
    assert any(name.startswith("classifiers/") for name in tried - before)
    store(done, "--unneeded", "--grace", "0", "--remove")
    assert pieces(done) == tried
    done.run("dvc", "exp", "remove", "slower")
    shutil.rmtree(done.path / ".dvc/tmp/exps", ignore_errors=True)
    store(done, "--unneeded", "--grace", "0", "--remove")
    assert pieces(done) == before


def test_outs_that_are_missing_from_dvcs_cache_stop_the_removal(done):
    """Nobody knows what they need, so nothing is removed."""
    done.run("git", "branch", "other")
    done.set(train__learning_rate=1e-4)
    done.run("dvc", "repro")
    committed(done, "another rate")
    lock = done.run("git", "show", "other:dvc.lock").stdout
    md5 = lock.split("path: models/classifier\n")[1].split("md5: ")[1].split("\n")[0]
    (done.path / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).unlink()
    before = pieces(done)
    done.run("git", "checkout", "-q", "HEAD")
    found = store(done, "--unneeded", "--grace", "0", "--remove", check=False)
    assert found.returncode == 3
    assert "not in DVC's cache here" in found.stdout
    assert "dvc fetch --all-branches --all-tags" in found.stdout
    assert pieces(done) == before


@pytest.mark.slow
def test_pieces_that_were_not_used_for_some_days_go_and_a_use_is_recorded(done):
    root = done.path / ".quadrat/store"
    past = time.time() - 40 * DAY
    for path in root.rglob("*.*"):
        os.utime(path, (past, past))
    assert " 0 B can go" not in store(done, "--unused", "30").stdout
    (done.path / ".quadrat/index.json").unlink(missing_ok=True)
    done.run("dvc", "repro", "--force")  # uses every piece
    used = {name for name in pieces(done) if (root / f"{name}.json").stat().st_mtime > past + DAY}
    assert {name.split("/")[0] for name in used} == set(TABLES)
    store(done, "--unused", "30", "--remove")
    assert pieces(done) == used
    for path in root.rglob("*.*"):
        os.utime(path, (past, past))
    store(done, "--unused", "30", "--remove")
    assert pieces(done) == set()
    assert computed(done.said("dvc", "repro", "--force"))["extract"] == 0  # the outs hold the rows
    shutil.rmtree(root)
    for out in ("data/index", "data/chips", "data/features"):
        shutil.rmtree(done.path / out)
    assert computed(done.said("dvc", "repro", "--force"))["extract"] == 144


def group(shard, age, *, recipe="r", finished=True, waiting=False):
    piece = Piece("features", recipe, shard, "i")
    item = Object(piece.path("json"), 1, "", time.time() - age)
    return StoredPiece(piece, [item], finished, waiting)


ALL = {"unneeded": True, "unused_days": None, "grace_s": 0}


def test_a_recipe_with_unfinished_shards_is_left_alone():
    at_work = [group("p0", 5 * DAY), group("p1", 60, finished=False, waiting=True)]
    assert removable(at_work, {}, **ALL) == []
    other = group("p0", 5 * DAY, recipe="other")
    assert removable([*at_work, other], {}, **ALL) == [other]


def test_unfinished_work_that_is_days_old_can_go():
    abandoned = [group("p0", 5 * DAY), group("p1", 3 * DAY, finished=False, waiting=True)]
    assert removable(abandoned, {}, **ALL) == abandoned


def test_pieces_younger_than_the_grace_period_stay():
    young, old = group("p0", 3600), group("p1", 30 * 3600)
    assert removable([young, old], {}, **{**ALL, "grace_s": 24 * 3600}) == [old]


def test_without_options_nothing_can_go():
    assert removable([group("p0", 100 * DAY)], {}, **{**ALL, "unneeded": False}) == []


def test_needed_pieces_stay_unless_they_were_not_used_for_some_days():
    needed = group("p0", 10 * DAY)
    needs = {needed.piece: {"main"}}
    assert removable([needed], needs, **ALL) == []
    old = {"unneeded": False, "unused_days": 5, "grace_s": 0}
    assert removable([needed], needs, **old) == [needed]


def test_a_piece_loses_its_record_before_its_files(tmp_path):
    """So that whoever comes in between sees no piece, and not half of one."""
    kept = Store(open_storage(str(tmp_path)))
    piece = Piece("features", "a" * 64, "p0", "b" * 64)
    kept.put(piece, {"parquet": (b"rows", 1)}, {})
    gone = []
    kept.storage.delete = gone.append
    gc.remove(kept, gc.stored_pieces(kept))
    assert gone == [piece.path("json"), piece.path("parquet")]


def test_a_folder_that_is_not_a_checkout_is_an_error(tmp_path):
    with pytest.raises(InputError, match="has no dvc.yaml; name the root of a checkout"):
        gc.needs([tmp_path])
    (tmp_path / "dvc.yaml").touch()
    with pytest.raises(InputError, match="is not a Git repository with DVC"):
        gc.needs([tmp_path])
